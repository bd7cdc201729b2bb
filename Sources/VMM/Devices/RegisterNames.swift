/// A device that can say what its registers are called. Names are for people: nothing in the machine depends on them.
package protocol NamedRegisters: AnyObject {
    /// What the device is called.
    var deviceName: String { get }
    /// The register at an I/O port.
    func registerName(port: UInt16) -> String?
    /// The register at an offset from the start of the device's memory range.
    func registerName(offset: UInt64) -> String?
    /// Where in the range the register begins that an offset belongs to.
    func registerStart(_ offset: UInt64) -> UInt64
}

extension NamedRegisters {
    package func registerName(port: UInt16) -> String? { nil }
    package func registerName(offset: UInt64) -> String? { nil }
    package func registerStart(_ offset: UInt64) -> UInt64 { 0 }
}

/// A register as the guest reaches it.
package struct NamedRegister: Equatable {
    /// The port, or the physical address at which the register begins.
    package var address: UInt64
    package var device: String
    package var name: String
}

extension Machine {
    /// The register at an I/O port as the buses are now; nil where no device is.
    package func register(port: UInt16) -> NamedRegister? {
        guard let device = processor.ports.device(at: port) as? any NamedRegisters else { return nil }
        return NamedRegister(
            address: UInt64(port), device: device.deviceName, name: device.registerName(port: port) ?? "register")
    }

    /// The register at a physical address as the buses are now, with the range of the device; nil where no device is.
    package func register(memory address: UInt64) -> (register: NamedRegister, range: Range<UInt64>)? {
        guard let (device, range) = processor.mmio.device(at: address) else { return nil }
        let named = device as? any NamedRegisters
        let offset = address - range.lowerBound
        let start = named?.registerStart(offset) ?? 0
        return (
            NamedRegister(
                address: range.lowerBound + start, device: named?.deviceName ?? "device",
                name: named?.registerName(offset: offset) ?? "memory"), range
        )
    }

    /// Where a register begins that `register(memory:)` names.
    package func registerStart(memory address: UInt64, in range: Range<UInt64>) -> UInt64 {
        let named = processor.mmio.device(at: range.lowerBound)?.device as? any NamedRegisters
        return range.lowerBound + (named?.registerStart(address - range.lowerBound) ?? 0)
    }
}
