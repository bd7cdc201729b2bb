/// A VGA with the Bochs display interface, 1234:1111: what SeaBIOS's VGA BIOS expects.
///
/// It answers at the legacy ports and at 0xA0000 whatever its PCI command register says, so that text output works
/// for a guest started without firmware. Base address register 0 is all of its memory, 2 has its registers.
package final class VGA: PortDevice, Archivable {
    /// Bytes of display memory.
    package static let memorySize = 16 << 20
    /// The guest-physical addresses of the window that all VGAs have.
    package static let legacyWindow: Range<UInt64> = 0xA_0000..<0xC_0000
    private typealias Port = VGARegisters.Port

    /// The configuration space, for a device of the bus.
    package let function = PCIFunction(vendor: 0x1234, device: 0x1111, classCode: 0x030000, revision: 2)
    private let clock: VirtualClock
    let memory = VideoMemory(size: VGA.memorySize)
    private(set) var registers = VGARegisters()
    private var planes = VGAPlanes()
    private(set) var display = BochsDisplay(memorySize: VGA.memorySize)
    private var views: [View] = []

    /// `rom` is the VGA BIOS that firmware finds in the expansion ROM; empty for none.
    package init(clock: VirtualClock, ports: PortBus, mmio: MMIOBus, rom: [UInt8]) {
        self.clock = clock
        function.preset(PCIConfig.subsystemVendorID, 0x1100_1AF4, size: 4)
        function.allowWrites(PCIConfig.command, mask: 0x0003, size: 2)
        let framebuffer = View(self, .framebuffer)
        let control = View(self, .control)
        let legacy = View(self, .legacy)
        views = [framebuffer, control, legacy]
        function.addBAR(0, .memory(prefetchable: true), size: UInt32(Self.memorySize), target: .memory(framebuffer))
        function.addBAR(2, .memory(prefetchable: false), size: 0x1000, target: .memory(control))
        if !rom.isEmpty {
            let image = ROMImage(rom)
            function.addBAR(0, .rom, size: image.size, target: .memory(image))
        }
        function.onReset = { [unowned self] in self.reset() }
        mmio.map(legacy, Self.legacyWindow)
        for range in [Port.monochromeCRTC, Port.fixed, Port.colourCRTC] { ports.attach(self, range, width: 1) }
        for port in [Port.monochromeStatus, Port.colourStatus] { ports.attach(self, port...port, width: 1) }
        ports.attach(self, BochsDisplay.indexPort...BochsDisplay.dataPorts.upperBound, width: 2)
    }

    private func reset() {
        registers = VGARegisters()
        planes = VGAPlanes()
        display = BochsDisplay(memorySize: Self.memorySize)
        memory.clear(Self.memorySize)
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        if port <= BochsDisplay.dataPorts.upperBound {
            return size == 2 ? UInt32(display.read(port)) : UInt32(display.read(port) & 0xFF)
        }
        return UInt32(readRegister(port))
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        if port <= BochsDisplay.dataPorts.upperBound {
            if size == 2 { memory.clear(display.write(port, UInt16(truncatingIfNeeded: value))) }
            return
        }
        registers.write(port, UInt8(truncatingIfNeeded: value), dacBits: display.dacBits)
    }

    private func readRegister(_ port: UInt16) -> UInt8 {
        let isStatus = port == Port.monochromeStatus || port == Port.colourStatus
        return registers.read(port, inputStatus1: isStatus ? registers.inputStatus1(at: clock.now) : 0)
    }

    // MARK: Memory

    /// The place in the planes of an offset into the legacy window; nil where the window is closed.
    private func legacyOffset(_ offset: Int) -> Int? {
        guard registers.misc & VGARegisters.Misc.memoryEnable != 0 else { return nil }
        let window: Range<Int>
        switch registers.graphics[VGARegisters.Graphics.misc] >> 2 & 3 {
        case 0: window = 0..<0x2_0000
        case 1: window = 0..<0x1_0000
        case 2: window = 0x1_0000..<0x1_8000
        default: window = 0x1_8000..<0x2_0000
        }
        return window.contains(offset) ? offset - window.lowerBound : nil
    }

    private func readLegacy(_ offset: Int) -> UInt8 {
        if display.isPacked { return offset < 0x1_0000 ? memory[display.bankOffset + offset] : 0xFF }
        guard let place = legacyOffset(offset) else { return 0xFF }
        return planes.read(place, registers, memory)
    }

    private func writeLegacy(_ offset: Int, _ value: UInt8) {
        if display.isPacked {
            if offset < 0x1_0000 { memory[display.bankOffset + offset] = value }
        } else if let place = legacyOffset(offset) {
            planes.write(place, value, registers, memory)
        }
    }

    /// The registers as base address register 2 shows them: the ports from 0x3C0 on, then the display interface.
    private static let registerArea = 0x400..<0x420
    private static let displayArea = 0x500..<0x500 + BochsDisplay.registerCount * 2

    private func readControl(_ offset: Int) -> UInt8 {
        if Self.registerArea.contains(offset) { return readRegister(0x3C0 + UInt16(offset & 0x1F)) }
        guard Self.displayArea.contains(offset) else { return 0 }
        let value = display.read(register: (offset - Self.displayArea.lowerBound) >> 1)
        return UInt8(truncatingIfNeeded: value >> (offset & 1 == 0 ? 0 : 8))
    }

    private func writeControl(_ offset: Int, _ value: UInt64, size: Int) {
        if Self.registerArea.contains(offset) {
            for index in 0..<min(size, 2) {
                let byte = UInt8(truncatingIfNeeded: value >> UInt64(index * 8))
                registers.write(0x3C0 + UInt16((offset + index) & 0x1F), byte, dacBits: display.dacBits)
            }
        } else if Self.displayArea.contains(offset), size == 2, offset & 1 == 0 {
            let register = (offset - Self.displayArea.lowerBound) >> 1
            memory.clear(display.write(register: register, UInt16(truncatingIfNeeded: value)))
        }
    }

    /// One of the ranges of memory in which the device shows itself.
    private final class View: MMIODevice, NamedRegisters {
        enum Kind { case legacy, framebuffer, control }
        private unowned let vga: VGA
        private let kind: Kind

        init(_ vga: VGA, _ kind: Kind) {
            self.vga = vga
            self.kind = kind
        }

        var deviceName: String { "VGA" }

        func registerName(offset: UInt64) -> String? {
            switch kind {
            case .legacy: "text and planes"
            case .framebuffer: "frame buffer"
            case .control: "registers"
            }
        }

        func readMMIO(_ offset: UInt64, size: Int) -> UInt64 {
            var value: UInt64 = 0
            for index in 0..<size {
                let place = Int(truncatingIfNeeded: offset) + index
                let byte =
                    switch kind {
                    case .legacy: vga.readLegacy(place)
                    case .framebuffer: vga.memory[place]
                    case .control: vga.readControl(place)
                    }
                value |= UInt64(byte) << UInt64(index * 8)
            }
            return value
        }

        func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int) {
            let place = Int(truncatingIfNeeded: offset)
            if kind == .control { return vga.writeControl(place, value, size: size) }
            for index in 0..<size {
                let byte = UInt8(truncatingIfNeeded: value >> UInt64(index * 8))
                if kind == .legacy { vga.writeLegacy(place + index, byte) } else { vga.memory[place + index] = byte }
            }
        }
    }

    // MARK: Starting without firmware

    /// Leaves the display in mode 3, 80 by 25 characters in colour and a blank screen, as a VGA BIOS does.
    package func presetTextMode() {
        registers.misc = 0x67
        registers.sequencer = [0x03, 0x00, 0x03, 0x00, 0x02, 0, 0, 0]
        registers.crtc = [
            0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28,
            0x1F, 0x96, 0xB9, 0xA3, 0xFF,
        ]
        registers.graphics = [0, 0, 0, 0, 0, 0x10, 0x0E, 0, 0xFF]
        registers.attribute = [0, 1, 2, 3, 4, 5, 0x14, 7] + [UInt8](0x38...0x3F) + [0x0C, 0, 0x0F, 0x08, 0]
        let videoOn: UInt8 = 0x20
        registers.attributeIndex = videoOn
        for colour in 0..<64 {
            // Bits 2 to 0 are two thirds of red, green and blue, bits 5 to 3 one third.
            for component in 0..<3 {
                let (strong, weak) = (colour >> (2 - component) & 1, colour >> (5 - component) & 1)
                registers.palette[colour * 3 + component] = UInt8(strong * 42 + weak * 21)
            }
        }
        let (blank, greyOnBlack): (UInt32, UInt32) = (0x20, 0x07)
        for cell in 0..<0x4000 { memory.setPlanes(cell * 2, blank | greyOnBlack << 8, mask: 0b0011) }
    }

    /// The configuration registers are archived with the bus.
    package func archive(_ archive: StateArchive) {
        archive.section("registers") { registers.archive(archive) }
        archive.field("latch", &planes.latch)
        archive.section("display") { display.archive(archive) }
        archive.section("memory") { memory.archive(archive) }
    }
}

/// An expansion ROM: read-only bytes, padded with ones to a power of two.
final class ROMImage: MMIODevice {
    let size: UInt32
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        var size: UInt32 = 0x800
        while size < bytes.count { size <<= 1 }
        self.size = size
    }

    func readMMIO(_ offset: UInt64, size: Int) -> UInt64 {
        (0..<size).reduce(0) { value, index in
            let place = Int(truncatingIfNeeded: offset) + index
            return value | UInt64(bytes.indices.contains(place) ? bytes[place] : 0xFF) << UInt64(index * 8)
        }
    }

    func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int) {}
}

extension VGA: NamedRegisters {
    package var deviceName: String { "VGA" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Port.attribute, Port.attributeRead: "attribute"
        case Port.misc: "miscellaneous/status 0"
        case Port.enable: "enable"
        case Port.sequencerIndex: "sequencer index"
        case Port.sequencerData: "sequencer data"
        case Port.dacMask: "DAC mask"
        case Port.dacReadIndex: "DAC read index"
        case Port.dacWriteIndex: "DAC write index"
        case Port.dacData: "DAC data"
        case Port.monochromeStatus, Port.colourStatus: "status 1"
        case Port.monochromeCRTC, Port.colourCRTC: port & 1 == 0 ? "CRTC index" : "CRTC data"
        case BochsDisplay.indexPort: "display index"
        case BochsDisplay.dataPorts: "display data"
        default: "register \(port & 0xF)"
        }
    }
}
