/// Offsets and bits of the type 0 configuration header (PCI Local Bus Specification 2.1, chapter 6).
package enum PCIConfig {
    package static let vendorID = 0x00
    package static let deviceID = 0x02
    package static let command = 0x04
    package static let status = 0x06
    package static let revisionID = 0x08
    package static let programmingInterface = 0x09
    package static let subclass = 0x0A
    package static let classCode = 0x0B
    package static let headerType = 0x0E
    package static let baseAddress0 = 0x10
    package static let subsystemVendorID = 0x2C
    package static let subsystemID = 0x2E
    package static let expansionROM = 0x30
    package static let interruptLine = 0x3C
    package static let interruptPin = 0x3D

    package static let commandIO: UInt16 = 1 << 0
    package static let commandMemory: UInt16 = 1 << 1
    package static let commandBusMaster: UInt16 = 1 << 2
    package static let commandInterruptDisable: UInt16 = 1 << 10
    package static let statusInterrupt: UInt8 = 1 << 3
    package static let multifunction: UInt8 = 0x80
}

/// The configuration space of one PCI function: 256 bytes, which of their bits the guest may write, and the
/// windows of port or memory space that its registers open.
package final class PCIFunction: Archivable {
    /// Which device answers a window, and on which bus.
    package enum Target {
        case port(any PortDevice, width: Int)
        case memory(any MMIODevice)
    }

    /// The kinds of base address register.
    package enum BARKind: Equatable {
        case io
        case memory(prefetchable: Bool)
        case rom
    }

    private struct BAR {
        var kind: BARKind
        var offset: Int
        var size: UInt32
    }

    private struct Window {
        var target: Target
        var range: () -> Range<UInt64>?
    }

    /// The 256 bytes as the guest reads them.
    package private(set) var bytes = [UInt8](repeating: 0, count: 256)
    private var resetBytes: [UInt8] = []
    private var writable = [UInt8](repeating: 0, count: 256)
    private var clearedByOne = [UInt8](repeating: 0, count: 256)
    private var bars: [BAR] = []
    private var windows: [Window] = []
    /// What was open when the windows were last mapped, whether or not an overlap kept it from being mapped.
    private var wantedAtMapping: [Range<UInt64>] = []
    private var mapped: [(target: Target, range: Range<UInt64>)] = []
    /// The level that the function drives on its interrupt pin, before the command register's gate.
    private var interruptRequested = false

    /// Called after a configuration write has changed the bytes in this range.
    package var onWrite: (Range<Int>) -> Void = { _ in }
    /// Called after a reset has put every register back.
    package var onReset: () -> Void = {}
    /// Called after a write that may have moved a window; the bus maps every function's windows anew.
    var onWindowsChanged: () -> Void = {}
    /// Called with the level of the interrupt pin (1 is INTA#).
    var onInterrupt: (_ pin: Int, _ level: Bool) -> Void = { _, _ in }

    /// A function with its identity; `classCode` is the 24 bits base class, subclass, programming interface.
    package init(vendor: UInt16, device: UInt16, classCode: UInt32, revision: UInt8 = 0) {
        preset(PCIConfig.vendorID, UInt32(vendor), size: 2)
        preset(PCIConfig.deviceID, UInt32(device), size: 2)
        preset(PCIConfig.revisionID, classCode << 8 | UInt32(revision), size: 4)
        allowWrites(PCIConfig.command, mask: 0x0547, size: 2)
        allowWrites(PCIConfig.interruptLine, mask: 0xFF, size: 1)
        clearedByOne[PCIConfig.status + 1] = 0xF9
    }

    // MARK: Shape, fixed at construction

    /// Sets the value that a register has at reset, whatever its write mask.
    package func preset(_ offset: Int, _ value: UInt32, size: Int) {
        for index in 0..<size { bytes[(offset + index) & 0xFF] = UInt8(truncatingIfNeeded: value >> (index * 8)) }
    }

    /// Lets the guest write the bits in `mask` of the register at `offset`.
    package func allowWrites(_ offset: Int, mask: UInt32, size: Int) {
        for index in 0..<size { writable[(offset + index) & 0xFF] = UInt8(truncatingIfNeeded: mask >> (index * 8)) }
    }

    /// Adds base address register `index` (0 to 5; ignored for the expansion ROM) of `size` bytes, a power of two.
    package func addBAR(_ index: Int, _ kind: BARKind, size: UInt32, target: Target) {
        precondition(size.nonzeroBitCount == 1 && index < 6)
        let offset = kind == .rom ? PCIConfig.expansionROM : PCIConfig.baseAddress0 + index * 4
        let bar = BAR(kind: kind, offset: offset, size: size)
        bars.append(bar)
        switch kind {
        case .io: preset(offset, 1, size: 4)
        case .memory(let prefetchable): preset(offset, prefetchable ? 8 : 0, size: 4)
        case .rom: preset(offset, 0, size: 4)
        }
        allowWrites(offset, mask: (0 &- size) | (kind == .rom ? 1 : 0), size: 4)
        addWindow(target) { [unowned self] in self.range(of: bar) }
    }

    /// Adds a window whose place a device-specific register gives; `range` is nil while the window is closed.
    package func addWindow(_ target: Target, range: @escaping () -> Range<UInt64>?) {
        windows.append(Window(target: target, range: range))
    }

    /// Lets go of the devices behind the windows, which hold the function.
    func release() {
        windows = []
        mapped = []
    }

    /// Ends construction: the registers as they are now are what a reset restores.
    func seal() { resetBytes = bytes }

    /// Puts every register back to its value at power-on; the bus then maps the windows anew.
    func reset() {
        bytes = resetBytes
        interruptRequested = false
        onReset()
    }

    // MARK: Registers

    /// The byte at `offset`, as the guest reads it.
    package subscript(_ offset: Int) -> UInt8 { bytes[offset & 0xFF] }

    /// The 16-bit register at `offset`.
    package func word(_ offset: Int) -> UInt16 {
        UInt16(self[offset]) | UInt16(self[offset &+ 1]) << 8
    }

    /// The 32-bit register at `offset`.
    package func dword(_ offset: Int) -> UInt32 {
        UInt32(word(offset)) | UInt32(word(offset &+ 2)) << 16
    }

    /// The command register.
    package var command: UInt16 { word(PCIConfig.command) }

    /// What the guest reads; bytes past the end of the configuration space are ones.
    package func read(_ offset: Int, size: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<size {
            let byte = offset + index < bytes.count ? bytes[offset + index] : 0xFF
            value |= UInt32(byte) << (index * 8)
        }
        return value
    }

    /// What a configuration write by the guest does, masks and side effects included.
    package func write(_ offset: Int, _ value: UInt32, size: Int) {
        let range = offset..<min(offset + size, bytes.count)
        for (index, place) in range.enumerated() {
            let byte = UInt8(truncatingIfNeeded: value >> (index * 8))
            let kept = bytes[place] & ~writable[place] & ~(byte & clearedByOne[place])
            bytes[place] = kept | byte & writable[place]
        }
        onWrite(range)
        if range.overlaps(PCIConfig.command..<PCIConfig.command + 2) { driveInterrupt() }
        onWindowsChanged()
    }

    /// Drives the interrupt pin that the header names; the command register may hold it back.
    package func setInterrupt(_ level: Bool) {
        interruptRequested = level
        driveInterrupt()
    }

    private func driveInterrupt() {
        let pin = Int(bytes[PCIConfig.interruptPin])
        guard (1...4).contains(pin) else { return }
        let status = bytes[PCIConfig.status] & ~PCIConfig.statusInterrupt
        bytes[PCIConfig.status] = status | (interruptRequested ? PCIConfig.statusInterrupt : 0)
        onInterrupt(pin, interruptRequested && command & PCIConfig.commandInterruptDisable == 0)
    }

    // MARK: Windows

    private func range(of bar: BAR) -> Range<UInt64>? {
        let register = dword(bar.offset)
        let base = UInt64(register & (0 &- bar.size))
        let isIO = bar.kind == .io
        let enable = isIO ? PCIConfig.commandIO : PCIConfig.commandMemory
        guard command & enable != 0, base != 0, bar.kind != .rom || register & 1 != 0 else { return nil }
        // A register being sized holds the highest address; a window there would cover the reset vector.
        let end = base + UInt64(bar.size)
        return end <= (isIO ? 0x1_0000 : 0xFFFF_FFFF) ? base..<end : nil
    }

    /// The windows that are open now.
    private var openWindows: [(target: Target, range: Range<UInt64>)] {
        windows.compactMap { window in window.range().map { (window.target, $0) } }
    }

    /// Whether some window has moved since the windows were last mapped.
    var windowsMoved: Bool {
        let wanted = openWindows
        return wanted.count != wantedAtMapping.count || zip(wanted, wantedAtMapping).contains { $0.range != $1 }
    }

    func unmapWindows(ports: PortBus, mmio: MMIOBus) {
        for (target, range) in mapped {
            switch target {
            case .port: ports.detach(UInt16(range.lowerBound)...UInt16(range.upperBound - 1))
            case .memory(let device): mmio.unmap(device)
            }
        }
        mapped = []
    }

    /// Maps what is open; a window that would overlap something already mapped stays closed.
    func mapWindows(ports: PortBus, mmio: MMIOBus) {
        let open = openWindows
        wantedAtMapping = open.map(\.range)
        for (target, range) in open {
            switch target {
            case .port(let device, let width):
                let portRange = UInt16(range.lowerBound)...UInt16(range.upperBound - 1)
                guard ports.isFree(portRange) else { continue }
                ports.attach(device, portRange, width: width)
            case .memory(let device):
                guard mmio.map(device, range) else { continue }
            }
            mapped.append((target, range))
        }
    }

    /// The base address registers without an address, as firmware or an allocator sees them.
    package var unassignedBARs: [(offset: Int, kind: BARKind, size: UInt32)] {
        bars.filter { dword($0.offset) & (0 &- $0.size) == 0 }.map { ($0.offset, $0.kind, $0.size) }
    }

    package func archive(_ archive: StateArchive) {
        archive.fixed("config", &bytes)
        archive.field("interruptRequested", &interruptRequested)
    }
}
