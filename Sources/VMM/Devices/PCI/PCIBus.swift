/// PCI bus 0 behind configuration mechanism 1 (PCI Local Bus Specification 2.1, section 3.7.4.1).
///
/// CONFADD at 0xCF8 answers 32-bit accesses only; narrower ones are ordinary port accesses, so that port 0xCF9
/// stays free for the reset control register.
package final class PCIBus: PortDevice, Archivable {
    package static let addressPort: UInt16 = 0xCF8
    package static let dataPorts: ClosedRange<UInt16> = 0xCFC...0xCFF
    private static let addressMask: UInt32 = 0x80FF_FFFC
    private static let enableBit: UInt32 = 1 << 31

    private struct Entry {
        /// Device number in bits 7:3, function number in bits 2:0.
        var devfn: Int
        var function: PCIFunction
    }

    private let ports: PortBus
    private let mmio: MMIOBus
    /// Sorted by `devfn`.
    private var entries: [Entry] = []
    private var address: UInt32 = 0

    /// Called with the level of an interrupt pin: device number, pin (1 is INTA#), level.
    package var onInterrupt: (_ device: Int, _ pin: Int, _ level: Bool) -> Void = { _, _, _ in }

    /// A bus whose functions open windows on `ports` and `mmio`; attaches the configuration ports.
    package init(ports: PortBus, mmio: MMIOBus) {
        self.ports = ports
        self.mmio = mmio
        ports.attach(self, Self.addressPort...Self.addressPort, width: 4)
        ports.attach(self, Self.dataPorts, width: 4)
    }

    /// Puts `function` at device number `device` (0 to 31), function number `number` (0 to 7).
    package func add(_ function: PCIFunction, device: Int, function number: Int = 0) {
        let devfn = device << 3 | number
        precondition((0..<256).contains(devfn) && !entries.contains { $0.devfn == devfn })
        entries.append(Entry(devfn: devfn, function: function))
        entries.sort { $0.devfn < $1.devfn }
        function.seal()
        function.onWindowsChanged = { [unowned self] in self.remapIfMoved() }
        function.onInterrupt = { [unowned self] pin, level in self.onInterrupt(device, pin, level) }
        remap()
    }

    /// The function at a device and function number, if there is one.
    package func function(device: Int, function number: Int = 0) -> PCIFunction? {
        entries.first { $0.devfn == device << 3 | number }?.function
    }

    // MARK: Configuration mechanism 1

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        let ones: UInt32 = ~0 >> (32 - size * 8)
        if port == Self.addressPort { return size == 4 ? address : ones }
        guard let function = selected else { return ones }
        let lane = Int(port & 3)
        // Bytes past 0xCFF belong to no register of this bus.
        let inside = min(size, 4 - lane)
        let value = function.read(Int(address & 0xFC) + lane, size: inside)
        return inside == size ? value : (value | ~0 << (inside * 8)) & ones
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        if port == Self.addressPort {
            if size == 4 { address = value & Self.addressMask }
            return
        }
        let lane = Int(port & 3)
        selected?.write(Int(address & 0xFC) + lane, value, size: min(size, 4 - lane))
    }

    private var selected: PCIFunction? {
        guard address & Self.enableBit != 0, address >> 16 & 0xFF == 0 else { return nil }
        let devfn = Int(address >> 8 & 0xFF)
        return entries.first { $0.devfn == devfn }?.function
    }

    // MARK: Windows

    private func remapIfMoved() {
        if entries.contains(where: { $0.function.windowsMoved }) { remap() }
    }

    /// Maps every window anew, lowest function first, so that who wins an overlap depends on the registers only
    /// and not on the order in which they were written.
    private func remap() {
        for entry in entries { entry.function.unmapWindows(ports: ports, mmio: mmio) }
        for entry in entries { entry.function.mapWindows(ports: ports, mmio: mmio) }
    }

    /// Lets go of what lies behind the functions' windows, when the machine goes.
    func release() {
        for entry in entries { entry.function.release() }
    }

    /// PCIRST#: every function's registers go back to their values at power-on.
    package func reset() {
        address = 0
        for entry in entries { entry.function.reset() }
        remap()
    }

    /// Does what firmware does before it starts a kernel: gives each base address register without an address one
    /// from `memory` or `io` and enables decoding. Expansion ROMs stay closed.
    package func assignResources(memory: Range<UInt32>, io: Range<UInt16>) {
        var nextMemory = UInt64(memory.lowerBound)
        var nextIO = UInt64(io.lowerBound)
        for entry in entries {
            let function = entry.function
            for (offset, kind, size) in function.unassignedBARs where kind != .rom {
                let mask = UInt64(size) - 1
                let isIO = kind == .io
                let base = ((isIO ? nextIO : nextMemory) + mask) & ~mask
                guard base + mask < (isIO ? UInt64(io.upperBound) : UInt64(memory.upperBound)) else { continue }
                function.write(offset, UInt32(base), size: 4)
                if isIO { nextIO = base + mask + 1 } else { nextMemory = base + mask + 1 }
                let enable = isIO ? PCIConfig.commandIO : PCIConfig.commandMemory
                function.write(PCIConfig.command, UInt32(function.command | enable), size: 2)
            }
        }
    }

    package func archive(_ archive: StateArchive) {
        archive.field("address", &address)
        for entry in entries {
            archive.section("function\(entry.devfn)") { entry.function.archive(archive) }
        }
        if archive.isRestoring { remap() }
    }
}

extension PCIBus: NamedRegisters {
    package var deviceName: String { "PCI" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Self.addressPort: "configuration address"
        case Self.dataPorts: "configuration data"
        default: nil
        }
    }
}
