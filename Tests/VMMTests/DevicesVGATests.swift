import Testing
import VMM

private final class Screen {
    let ports = PortBus()
    let mmio = MMIOBus()
    let clock = VirtualClock()
    let pci: PCIBus
    let vga: VGA

    init() {
        pci = PCIBus(ports: ports, mmio: mmio)
        vga = VGA(clock: clock, ports: ports, mmio: mmio, rom: [0x55, 0xAA, 5])
        pci.add(vga.function, device: 2)
        pci.assignResources(memory: 0xE000_0000..<0xF000_0000, io: 0xC000..<0xD000)
    }

    func out(_ port: UInt16, _ value: UInt32) { ports.write(port, value, size: value > 0xFF ? 2 : 1) }
    func set(_ port: UInt16, _ index: UInt8, _ value: UInt8) {
        ports.write(port, UInt32(index) | UInt32(value) << 8, size: 2)
    }
    func dispi(_ index: UInt16, _ value: UInt16) {
        ports.write(0x1CE, UInt32(index), size: 2)
        ports.write(0x1CF, UInt32(value), size: 2)
    }
    func dispi(_ index: UInt16) -> UInt32 {
        ports.write(0x1CE, UInt32(index), size: 2)
        return ports.read(0x1CF, size: 2)
    }
    func type(_ text: String, row: Int, column: Int = 0) {
        for (index, code) in text.utf8.enumerated() {
            mmio.write(0xB8000 + UInt64((row * 80 + column + index) * 2), 0x0700 | UInt64(code), size: 2)
        }
    }
    func visit(_ archive: StateArchive) {
        clock.archive(archive)
        pci.archive(archive)
        vga.archive(archive)
    }
    func saved() -> [UInt8] {
        let archive = StateArchive()
        visit(archive)
        return archive.bytes
    }
}

@Suite struct DevicesVGATests {
    @Test func textIsRead() {
        let screen = Screen()
        #expect(screen.vga.screenText().joined().isEmpty)
        screen.vga.presetTextMode()
        #expect(screen.vga.screenText() == [String](repeating: "", count: 25))
        screen.type("Hello, world", row: 0)
        screen.type("last", row: 24, column: 76)
        screen.mmio.write(0xB8000 + 160, 0xC9, size: 1)
        screen.mmio.write(0xB8000 + 162, 0xCD, size: 1)
        var text = screen.vga.screenText()
        #expect(text[0] == "Hello, world" && text[1] == "╔═" && text[24] == String(repeating: " ", count: 76) + "last")
        #expect(screen.mmio.read(0xB8000, size: 4) == 0x0765_0748)
        // Scrolled by a row through the start address, then split so that the last row comes from address 0.
        screen.set(0x3D4, 0x0D, 80)
        text = screen.vga.screenText()
        #expect(text[0] == "╔═" && text[23].hasSuffix("last") && text[24].isEmpty)
        screen.set(0x3D4, 0x18, 0x7F)
        screen.set(0x3D4, 0x07, 0x0F)
        screen.set(0x3D4, 0x09, 0x0F)
        text = screen.vga.screenText()
        #expect(text[0] == "╔═" && text[8] == "Hello, world")
    }

    @Test func graphicsModesHaveNoText() {
        let screen = Screen()
        screen.vga.presetTextMode()
        #expect(screen.vga.isTextMode)
        screen.set(0x3CE, 6, 0x05)
        #expect(!screen.vga.isTextMode && screen.vga.screenText().isEmpty)
    }

    @Test func fontPlaneIsReadable() {
        let screen = Screen()
        screen.vga.presetTextMode()
        screen.set(0x3C4, 2, 4)
        screen.set(0x3C4, 4, 7)
        screen.set(0x3CE, 4, 2)
        screen.set(0x3CE, 5, 0)
        screen.set(0x3CE, 6, 0)
        for row in 0..<16 { screen.mmio.write(0xA0000 + UInt64(0x41 * 32 + row), UInt64(row * 3), size: 1) }
        for row in 0..<16 { #expect(screen.mmio.read(0xA0000 + UInt64(0x41 * 32 + row), size: 1) == UInt64(row * 3)) }
        screen.set(0x3CE, 4, 0)
        #expect(screen.mmio.read(0xA0000 + 0x41 * 32, size: 1) == 0x20)
    }

    private func planar() -> Screen {
        let screen = Screen()
        screen.vga.presetTextMode()
        screen.set(0x3C4, 2, 0x0F)
        screen.set(0x3C4, 4, 6)
        screen.set(0x3CE, 5, 0)
        screen.set(0x3CE, 6, 5)
        return screen
    }

    private func plane(_ screen: Screen, _ plane: UInt8, _ offset: UInt64) -> UInt64 {
        screen.set(0x3CE, 4, plane)
        return screen.mmio.read(0xA0000 + offset, size: 1)
    }

    @Test func writeModes() {
        let screen = planar()
        // Mode 0: set/reset in planes 0 and 1, rotated data in the others, bit mask over the latch.
        screen.mmio.write(0xA0010, 0xFF, size: 1)
        screen.set(0x3CE, 0, 0b0001)
        screen.set(0x3CE, 1, 0b0011)
        screen.set(0x3CE, 3, 4)
        screen.set(0x3CE, 8, 0x3C)
        _ = screen.mmio.read(0xA0010, size: 1)
        screen.mmio.write(0xA0010, 0x0F, size: 1)
        #expect((0..<4).map { plane(screen, $0, 0x10) } == [0xFF, 0xC3, 0xF3, 0xF3])
        // Mode 1 copies the latch.
        screen.set(0x3CE, 5, 1)
        _ = screen.mmio.read(0xA0010, size: 1)
        screen.mmio.write(0xA0020, 0, size: 1)
        #expect((0..<4).map { plane(screen, $0, 0x20) } == [0xFF, 0xC3, 0xF3, 0xF3])
        // Mode 2: a colour, exclusive-ored with the latch.
        screen.set(0x3CE, 5, 2)
        screen.set(0x3CE, 3, 0x18)
        screen.set(0x3CE, 8, 0xF0)
        _ = screen.mmio.read(0xA0020, size: 1)
        screen.mmio.write(0xA0020, 0b0101, size: 1)
        #expect((0..<4).map { plane(screen, $0, 0x20) } == [0x0F, 0xC3, 0x03, 0xF3])
        // Mode 3: the data are the mask, the colour is set/reset.
        screen.set(0x3CE, 5, 3)
        screen.set(0x3CE, 3, 0)
        screen.set(0x3CE, 8, 0xFF)
        screen.set(0x3CE, 0, 0b1010)
        _ = screen.mmio.read(0xA0031, size: 1)
        screen.mmio.write(0xA0031, 0x81, size: 1)
        #expect((0..<4).map { plane(screen, $0, 0x31) } == [0, 0x81, 0, 0x81])
        // Read mode 1 compares colours.
        screen.set(0x3CE, 5, 8)
        screen.set(0x3CE, 2, 0b1010)
        screen.set(0x3CE, 7, 0b1111)
        #expect(screen.mmio.read(0xA0031, size: 1) == 0x81)
    }

    @Test func chainFour() {
        let screen = planar()
        screen.set(0x3C4, 4, 0x0E)
        for pixel in 0..<8 { screen.mmio.write(0xA0000 + UInt64(pixel), UInt64(pixel + 1), size: 1) }
        #expect(screen.mmio.read(0xA0000, size: 8) == 0x0807_0605_0403_0201)
        screen.set(0x3C4, 4, 6)
        #expect(plane(screen, 1, 0) == 2 && plane(screen, 1, 4) == 6)
    }

    @Test func registersReadBack() {
        let screen = Screen()
        screen.vga.presetTextMode()
        _ = screen.ports.read(0x3DA, size: 1)
        screen.out(0x3C0, 0x10)
        screen.out(0x3C0, 0x0C)
        screen.out(0x3C0, 0x30)
        #expect(screen.ports.read(0x3C1, size: 1) == 0x0C && screen.ports.read(0x3C0, size: 1) == 0x30)
        screen.out(0x3C8, 5)
        for value: UInt32 in [1, 2, 0xFF, 4, 5, 6] { screen.out(0x3C9, value) }
        screen.out(0x3C7, 5)
        #expect((0..<6).map { _ in screen.ports.read(0x3C9, size: 1) } == [1, 2, 0x3F, 4, 5, 6])
        #expect(screen.ports.read(0x3C7, size: 1) == 3)
        // Registers 0 to 7 are protected, line compare bit 8 is not.
        screen.set(0x3D4, 0, 0x11)
        screen.set(0x3D4, 7, 0)
        screen.out(0x3D4, 0)
        #expect(screen.ports.read(0x3D5, size: 1) == 0x5F)
        screen.out(0x3D4, 7)
        #expect(screen.ports.read(0x3D5, size: 1) == 0x0F)
        // The monochrome address is not decoded now.
        #expect(screen.ports.read(0x3B5, size: 1) == 0xFF)
        screen.out(0x3C2, 0x66)
        #expect(screen.ports.read(0x3D5, size: 1) == 0xFF && screen.ports.read(0x3B4, size: 1) == 7)
    }

    @Test func retraceFollowsVirtualTime() {
        let screen = Screen()
        screen.vga.presetTextMode()
        var edges = 0
        var last: UInt32 = 0
        for step in 0..<10_000 {
            screen.clock.skip(to: UInt64(step) * 100_000 / 10)
            let status = screen.ports.read(0x3DA, size: 1)
            if status & 8 != 0, last & 8 == 0 { edges += 1 }
            last = status
        }
        // 0.1 s at 70 Hz.
        #expect(edges == 7)
    }

    @Test func displayInterface() {
        let screen = Screen()
        screen.vga.presetTextMode()
        #expect(screen.dispi(0) == 0xB0C5 && screen.dispi(10) == 256)
        screen.dispi(4, 2)
        #expect(screen.dispi(1) == 2560)
        screen.dispi(4, 0)
        screen.dispi(1, 800)
        screen.dispi(2, 600)
        screen.dispi(3, 32)
        screen.dispi(4, 0x41)
        #expect(screen.dispi(6) == 800 && screen.dispi(1) == 800)
        #expect(screen.mmio.read(0xE000_0000, size: 4) == 0)
        screen.mmio.write(0xE003_0004, 0x1122_3344, size: 4)
        screen.dispi(5, 3)
        #expect(screen.mmio.read(0xA0004, size: 4) == 0x1122_3344)
        #expect(screen.mmio.read(0xE100_0500, size: 2) == 0xB0C5)
        screen.dispi(4, 0)
        #expect(screen.vga.isTextMode)
    }

    @Test func expansionROM() {
        let screen = Screen()
        screen.vga.function.write(0x30, 0xFFFF_FFFF, size: 4)
        #expect(screen.vga.function.read(0x30, size: 4) == 0xFFFF_F801)
        screen.vga.function.write(0x30, 0xEFFF_0001, size: 4)
        #expect(screen.mmio.read(0xEFFF_0000, size: 4) == 0xFF05_AA55)
    }

    private func disturb(_ screen: Screen, _ random: inout DeviceTestRandom) -> UInt64 {
        let size = 1 << random.below(4)
        let value = random.next()
        let address: UInt64 =
            switch random.below(4) {
            case 0: 0xE000_0000 + UInt64(random.below(1 << 24))
            case 1: 0xE100_0000 + UInt64(random.below(0x700))
            default: 0xA_0000 + UInt64(random.below(0x2_0000))
            }
        switch random.below(5) {
        case 0: screen.mmio.write(address, value, size: size)
        case 1: return screen.mmio.read(address, size: size)
        case 2: screen.clock.skip(to: screen.clock.now + UInt64(random.below(1 << 24)))
        default:
            let port = [0x3B0, 0x3C0, 0x3D0, 0x1C8][random.below(4)] + UInt16(random.below(16))
            if random.below(2) == 0 { return UInt64(screen.ports.read(port, size: min(size, 4))) }
            screen.ports.write(port, UInt32(truncatingIfNeeded: value), size: min(size, 4))
        }
        return 0
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func randomAccessesNeverTrapAndStateIsComplete(seed: UInt64) {
        print("DevicesVGATests seed \(seed)")
        var random = DeviceTestRandom(state: seed)
        let screen = Screen()
        screen.vga.presetTextMode()
        for step in 0..<20_000 {
            _ = disturb(screen, &random)
            if step % 500 == 0 { _ = screen.vga.screenText() }
        }
        let bytes = screen.saved()
        let copy = Screen()
        let archive = StateArchive(restoring: bytes)
        copy.visit(archive)
        #expect(archive.failure == nil)
        #expect(copy.saved() == bytes)
        var twin = random
        for _ in 0..<5000 where disturb(screen, &random) != disturb(copy, &twin) {
            Issue.record("the restored display answers differently")
        }
        #expect(screen.saved() == copy.saved())
    }
}
