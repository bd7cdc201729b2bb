/// The SMBus host controller of the PIIX4 (82371AB datasheet, section 7.3), with nothing on its bus: each transaction
/// ends at once with a device error, which is what a missing address acknowledgement gives.
package final class PIIX4SMBus: PortDevice, Archivable {
    private static let hostStatus = 0x0
    private static let hostControl = 0x2
    private static let deviceError: UInt8 = 1 << 2
    private static let clearableStatus: UInt8 = 0x1E
    private static let start: UInt8 = 1 << 6
    private static let interruptEnable: UInt8 = 1 << 0

    /// Called after a write that may have changed the interrupt.
    var onChange: () -> Void = {}
    private var registers = [UInt8](repeating: 0, count: 16)

    /// Whether a finished transaction asks for an interrupt.
    var interruptPending: Bool {
        registers[Self.hostControl] & Self.interruptEnable != 0
            && registers[Self.hostStatus] & Self.clearableStatus != 0
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<size { value |= UInt32(registers[(Int(port) + index) & 15]) << (index * 8) }
        return value
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        for index in 0..<size {
            let byte = UInt8(truncatingIfNeeded: value >> (index * 8))
            let offset = (Int(port) + index) & 15
            switch offset {
            case Self.hostStatus:
                registers[offset] &= ~(byte & Self.clearableStatus)
            case Self.hostControl:
                registers[offset] = byte & ~Self.start
                if byte & Self.start != 0 { registers[Self.hostStatus] |= Self.deviceError }
            default:
                registers[offset] = byte
            }
        }
        onChange()
    }

    func reset() {
        for index in registers.indices { registers[index] = 0 }
    }

    package func archive(_ archive: StateArchive) {
        archive.fixed("registers", &registers)
    }
}

extension PIIX4SMBus: NamedRegisters {
    package var deviceName: String { "SMBus" }

    package func registerName(port: UInt16) -> String? {
        switch Int(port & 0xF) {
        case Self.hostStatus: "host status"
        case Self.hostControl: "host control"
        default: "register \(port & 0xF)"
        }
    }
}
