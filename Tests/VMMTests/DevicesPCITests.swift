import Testing
import VMM

/// A seeded generator (SplitMix64).
struct DeviceTestRandom {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

/// Host bridge, ISA bridge and power management on one bus.
private final class Chipset {
    let ports = PortBus()
    let mmio = MMIOBus()
    let clock = VirtualClock()
    let queue = EventQueue()
    let pci: PCIBus
    let host = I440FX(ramBytes: 64 << 20)
    private(set) var isa: PIIX3!
    private(set) var pm: PIIX4PM!
    var irqs = [Bool](repeating: false, count: 16)
    var sci = false
    var segments = [(Bool, Bool)](repeating: (false, false), count: I440FX.segmentCount)
    var smis: [UInt8] = []
    var poweredOff = false

    init(smm: Bool = true) {
        pci = PCIBus(ports: ports, mmio: mmio)
        isa = PIIX3 { [unowned self] irq, level in irqs[irq] = level }
        pm = PIIX4PM(
            clock: clock, queue: queue, ports: ports, sci: InterruptLine { [unowned self] in sci = $0 },
            smmAvailable: smm)
        host.onPAMChange = { [unowned self] in segments[$0] = ($1, $2) }
        pm.onSMI = { [unowned self] in smis.append($0) }
        pm.onPowerOff = { [unowned self] in poweredOff = true }
        pci.add(host.function, device: 0)
        pci.add(isa.function, device: 1)
        pci.add(pm.function, device: 1, function: 3)
        pci.onInterrupt = { [unowned self] in isa.setInterrupt(device: $0, pin: $1, level: $2) }
    }

    func select(_ device: Int, _ function: Int, _ offset: Int) {
        ports.write(0xCF8, 0x8000_0000 | UInt32(device << 11 | function << 8 | offset & 0xFC), size: 4)
    }
    func read(_ device: Int, _ function: Int, _ offset: Int, size: Int = 4) -> UInt32 {
        select(device, function, offset)
        return ports.read(0xCFC + UInt16(offset & 3), size: size)
    }
    func write(_ device: Int, _ function: Int, _ offset: Int, _ value: UInt32, size: Int = 4) {
        select(device, function, offset)
        ports.write(0xCFC + UInt16(offset & 3), value, size: size)
    }
    func advance(to nanoseconds: UInt64) {
        while let due = queue.nextDeadline, due <= nanoseconds {
            clock.skip(to: due)
            queue.run(now: clock.now)
        }
        clock.skip(to: nanoseconds)
    }
    func saved() -> [UInt8] {
        let archive = StateArchive()
        visit(archive)
        return archive.bytes
    }
    func visit(_ archive: StateArchive) {
        clock.archive(archive)
        queue.archive(archive)
        pci.archive(archive)
        host.archive(archive)
        isa.archive(archive)
        pm.archive(archive)
    }
}

private final class Probe: PortDevice, MMIODevice {
    func readPort(_ port: UInt16, size: Int) -> UInt32 { 0x55 }
    func writePort(_ port: UInt16, _ value: UInt32, size: Int) {}
    func readMMIO(_ offset: UInt64, size: Int) -> UInt64 { offset }
    func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int) {}
}

@Suite struct DevicesPCITests {
    @Test func identitiesAndMissingFunctions() {
        let chipset = Chipset()
        #expect(chipset.read(0, 0, 0) == 0x1237_8086)
        #expect(chipset.read(1, 0, 0) == 0x7000_8086)
        #expect(chipset.read(1, 3, 0) == 0x7113_8086)
        #expect(chipset.read(1, 3, 8) == 0x0680_0003)
        #expect(chipset.read(2, 0, 0) == 0xFFFF_FFFF)
        #expect(chipset.read(1, 0, 0x0E, size: 1) == 0x80)
    }

    @Test func addressPortTakesDwordsOnly() {
        let chipset = Chipset()
        chipset.select(1, 0, 0)
        chipset.ports.write(0xCF8, 0x12, size: 1)
        chipset.ports.write(0xCFB, 0x01, size: 1)
        chipset.ports.write(0xCF8, 0x1234, size: 2)
        #expect(chipset.ports.read(0xCF8, size: 4) == 0x8000_0800)
        #expect(chipset.ports.read(0xCF8, size: 1) == 0xFF)
        #expect(chipset.ports.isFree(0xCF9...0xCFB))
        chipset.ports.write(0xCF8, 0x0000_0800, size: 4)
        #expect(chipset.ports.read(0xCFC, size: 4) == 0xFFFF_FFFF)
        chipset.select(1, 0, 0)
        #expect(chipset.ports.read(0xCFE, size: 2) == 0x7000)
        #expect(chipset.ports.read(0xCFD, size: 4) == 0xFF70_0080)
    }

    @Test func barsSizeAndMoveTheirWindows() {
        let chipset = Chipset()
        let probe = Probe()
        let function = PCIFunction(vendor: 0x1AF4, device: 1, classCode: 0xFF0000)
        function.addBAR(0, .io, size: 16, target: .port(probe, width: 4))
        function.addBAR(1, .memory(prefetchable: true), size: 0x1000, target: .memory(probe))
        chipset.pci.add(function, device: 3)
        chipset.write(3, 0, 0x10, 0xFFFF_FFFF)
        chipset.write(3, 0, 0x14, 0xFFFF_FFFF)
        #expect(chipset.read(3, 0, 0x10) == 0xFFFF_FFF1)
        #expect(chipset.read(3, 0, 0x14) == 0xFFFF_F008)
        chipset.write(3, 0, 0x10, 0xC001)
        chipset.write(3, 0, 0x14, 0xE000_0000)
        #expect(chipset.ports.read(0xC000, size: 1) == 0xFF)
        chipset.write(3, 0, 4, 3, size: 2)
        #expect(chipset.ports.read(0xC00F, size: 1) == 0x55)
        #expect(chipset.mmio.read(0xE000_0010, size: 4) == 0x10)
        chipset.write(3, 0, 0x10, 0xD001)
        #expect(chipset.ports.read(0xC000, size: 1) == 0xFF)
        #expect(chipset.ports.read(0xD000, size: 1) == 0x55)
        // On top of the configuration ports: refused, and back when it moves away.
        chipset.write(3, 0, 0x10, 0xCF1)
        #expect(chipset.read(3, 0, 0) == 0x0001_1AF4)
        chipset.write(3, 0, 0x10, 0xD001)
        #expect(chipset.ports.read(0xD000, size: 1) == 0x55)
        // Sizing with decoding left on must not open a window anywhere.
        chipset.write(3, 0, 0x14, 0xFFFF_FFFF)
        #expect(chipset.mmio.read(0xFFFF_F000, size: 4) == 0xFFFF_FFFF)
    }

    @Test func overlappingWindowsDoNotDependOnOrder() {
        func build(_ order: [Int]) -> [UInt64] {
            let chipset = Chipset()
            let probes = [Probe(), Probe()]
            for index in 0..<2 {
                let function = PCIFunction(vendor: 1, device: 1, classCode: 0xFF0000)
                function.addBAR(0, .memory(prefetchable: false), size: 0x1000 << index, target: .memory(probes[index]))
                chipset.pci.add(function, device: 3 + index)
            }
            for index in order {
                chipset.write(3 + index, 0, 0x10, index == 0 ? 0xE000_1000 : 0xE000_0000)
                chipset.write(3 + index, 0, 4, 2, size: 2)
            }
            return [chipset.mmio.read(0xE000_0010, size: 4), chipset.mmio.read(0xE000_1010, size: 4)]
        }
        #expect(build([0, 1]) == [0xFFFF_FFFF, 0x10])
        #expect(build([1, 0]) == [0xFFFF_FFFF, 0x10])
    }

    @Test func pamSegmentsAreReported() {
        let chipset = Chipset()
        chipset.write(0, 0, 0x59, 0x10, size: 1)
        #expect(chipset.segments[12] == (true, false))
        chipset.write(0, 0, 0x5A, 0x31, size: 1)
        #expect(chipset.segments[0] == (true, false))
        #expect(chipset.segments[1] == (true, true))
        chipset.write(0, 0, 0x5C, 0x3333_3333)
        for segment in 4..<12 { #expect(chipset.segments[segment] == (true, true)) }
        chipset.pci.reset()
        for segment in 0..<13 { #expect(chipset.segments[segment] == (false, false)) }
        chipset.host.shadowAll()
        for segment in 0..<13 { #expect(chipset.segments[segment] == (true, true)) }
    }

    @Test func smramLockHolds() {
        let chipset = Chipset()
        chipset.write(0, 0, 0x72, 0x4A, size: 1)
        #expect(chipset.host.smramState.enabled && chipset.host.smramState.open)
        chipset.write(0, 0, 0x72, 0x5A, size: 1)
        #expect(chipset.host.smramState.locked && !chipset.host.smramState.open)
        chipset.write(0, 0, 0x72, 0x4A, size: 1)
        #expect(chipset.host.smramState.locked && !chipset.host.smramState.open)
        #expect(chipset.read(0, 0, 0x72, size: 1) == 0x1A)
    }

    @Test func interruptsAreSwizzledAndShared() {
        let chipset = Chipset()
        let cards = [3, 7].map { device in
            let function = PCIFunction(vendor: 1, device: 1, classCode: 0xFF0000)
            function.preset(PCIConfig.interruptPin, 1, size: 1)
            chipset.pci.add(function, device: device)
            return function
        }
        // Devices 3 and 7 both wire INTA# to PIRQC.
        #expect(PIIX3.pirq(device: 3, pin: 1) == 2 && PIIX3.pirq(device: 7, pin: 1) == 2)
        cards[0].setInterrupt(true)
        #expect(!chipset.irqs.contains(true))
        chipset.write(1, 0, 0x62, 11, size: 1)
        #expect(chipset.irqs[11])
        cards[1].setInterrupt(true)
        cards[0].setInterrupt(false)
        #expect(chipset.irqs[11])
        chipset.write(1, 0, 0x62, 10, size: 1)
        #expect(chipset.irqs[10] && !chipset.irqs[11])
        chipset.write(7, 0, 4, 0x400, size: 2)
        #expect(!chipset.irqs[10] && chipset.read(7, 0, 6, size: 1) & 8 != 0)
        chipset.write(7, 0, 4, 0, size: 2)
        #expect(chipset.irqs[10])
        chipset.write(1, 0, 0x62, 0x80, size: 1)
        #expect(!chipset.irqs.contains(true))
    }

    @Test func timerRunsAndOverflows() {
        let chipset = Chipset()
        chipset.pm.openRegisters()
        chipset.clock.skip(to: 1_000_000_000)
        #expect(chipset.ports.read(0x608, size: 4) == 3_579_545)
        #expect(chipset.ports.read(0x600, size: 2) == 0)
        chipset.ports.write(0x602, 1, size: 2)
        chipset.ports.write(0xB2, 0xF1, size: 1)
        #expect(chipset.ports.read(0x604, size: 2) == 1)
        chipset.advance(to: 2_343_484_000)
        #expect(!chipset.sci)
        chipset.advance(to: 2_344_000_000)
        #expect(chipset.sci && chipset.ports.read(0x600, size: 2) == 1)
        chipset.ports.write(0x600, 1, size: 2)
        #expect(!chipset.sci && chipset.ports.read(0x600, size: 2) == 0)
        chipset.advance(to: 4_690_000_000)
        #expect(chipset.sci)
        #expect(chipset.ports.read(0x608, size: 4) < 1 << 24)
    }

    @Test func powerButtonAndPowerOff() {
        let chipset = Chipset()
        chipset.pm.openRegisters()
        chipset.ports.write(0x602, 0x100, size: 2)
        chipset.pm.pressPowerButton()
        #expect(!chipset.sci)
        chipset.ports.write(0x604, 1, size: 2)
        #expect(chipset.sci && chipset.ports.read(0x600, size: 2) == 0x100)
        chipset.ports.write(0x600, 0x100, size: 2)
        #expect(!chipset.sci)
        chipset.ports.write(0x604, 5 << 10 | 1 << 13, size: 2)
        #expect(!chipset.poweredOff)
        chipset.ports.write(0x604, 1 << 13, size: 2)
        #expect(chipset.poweredOff)
    }

    @Test func smiOnlyWhereEnabled() {
        let chipset = Chipset()
        chipset.pm.openRegisters()
        chipset.ports.write(0xB2, 0x10, size: 1)
        chipset.write(1, 3, 0x58, 1 << 25)
        chipset.ports.write(0xB2, 0x11, size: 1)
        chipset.ports.write(0x628, 1, size: 4)
        chipset.ports.write(0xB2, 0x12, size: 1)
        #expect(chipset.smis == [0x12])
        #expect(Chipset(smm: false).read(1, 3, 0x58) == 1 << 25)
    }

    @Test func emptySMBusReportsAnError() {
        let chipset = Chipset()
        chipset.write(1, 3, 0x90, 0xB101)
        chipset.write(1, 3, 0xD2, 0x09, size: 1)
        chipset.ports.write(0xB102, 0x48, size: 1)
        #expect(chipset.ports.read(0xB100, size: 1) == 4)
        chipset.ports.write(0xB100, 0x1E, size: 1)
        #expect(chipset.ports.read(0xB100, size: 1) == 0)
    }

    @Test func resourcesAreAssigned() {
        let chipset = Chipset()
        let probe = Probe()
        let function = PCIFunction(vendor: 1, device: 1, classCode: 0xFF0000)
        function.addBAR(0, .memory(prefetchable: true), size: 1 << 24, target: .memory(probe))
        function.addBAR(4, .io, size: 16, target: .port(probe, width: 4))
        chipset.pci.add(function, device: 2)
        chipset.pci.assignResources(memory: 0xE010_0000..<0xFEC0_0000, io: 0xC004..<0xFFFF)
        #expect(chipset.mmio.read(0xE100_0004, size: 4) == 4)
        #expect(chipset.ports.read(0xC010, size: 1) == 0x55)
    }

    private func disturb(_ target: Chipset, _ random: inout DeviceTestRandom) -> UInt32 {
        let size = 1 << random.below(3)
        let value = UInt32(truncatingIfNeeded: random.next())
        let port = [0x600, 0xB0, 0xAFE0, 0xCF8, 0xB100][random.below(5)] &+ UInt16(random.below(64))
        switch random.below(4) {
        case 0: target.write(random.below(2), random.below(2) * 3, random.below(256), value, size: size)
        case 1: target.ports.write(port, value, size: size)
        case 2: target.advance(to: target.clock.now + UInt64(random.below(3_000_000_000)))
        default: return target.ports.read(port, size: size)
        }
        return 0
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func randomAccessesNeverTrapAndStateIsComplete(seed: UInt64) {
        print("DevicesPCITests seed \(seed)")
        var random = DeviceTestRandom(state: seed)
        let chipset = Chipset()
        chipset.pm.openRegisters()
        for _ in 0..<3000 { _ = disturb(chipset, &random) }
        let bytes = chipset.saved()
        let copy = Chipset()
        let archive = StateArchive(restoring: bytes)
        copy.visit(archive)
        #expect(archive.failure == nil)
        #expect(copy.saved() == bytes)
        var twin = random
        for _ in 0..<3000 where disturb(chipset, &random) != disturb(copy, &twin) {
            Issue.record("the restored chipset answers differently")
        }
        #expect(chipset.saved() == copy.saved())
    }
}
