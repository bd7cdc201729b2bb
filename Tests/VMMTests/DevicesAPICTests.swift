import Testing
import VMM

@Suite struct APICTests {
    /// A local and an I/O APIC wired to each other.
    struct APICs {
        let bench = DeviceBench()
        let local: LocalAPIC
        let io: IOAPIC

        init() {
            let bench = bench
            var outputs = LocalAPICOutputs()
            weak var ioReference: IOAPIC?
            outputs.onNMI = { [unowned bench] in bench.note("NMI") }
            outputs.onINIT = { [unowned bench] in bench.note("INIT") }
            outputs.onStartUp = { [unowned bench] in bench.note("SIPI \($0)") }
            outputs.onEOI = { ioReference?.endOfInterrupt(vector: $0) }
            let local = LocalAPIC(clock: bench.clock, queue: bench.queue, outputs: outputs)
            let io = IOAPIC { local.receive($0) }
            ioReference = io
            bench.mmio.map(local, LocalAPIC.defaultBase..<LocalAPIC.defaultBase + LocalAPIC.registerSpace)
            bench.mmio.map(io, IOAPIC.defaultBase..<IOAPIC.defaultBase + IOAPIC.registerSpace)
            bench.add(local)
            bench.add(io)
            bench.hostAction = { [unowned bench] action in
                switch action & 7 {
                case 0, 1: io.setLine(pin: Int(action >> 8 % 24), level: action & 0x80 != 0)
                case 2: local.setLINT0(action & 0x80 != 0)
                case 3: local.setLINT1(action & 0x80 != 0)
                case 4: local.cr8 = UInt8(action >> 8 & 15)
                default: bench.note("pending \(String(describing: local.pendingVector())), \(local.acknowledge())")
                }
            }
            self.local = local
            self.io = io
        }

        func read(_ register: UInt64) -> UInt32 {
            UInt32(bench.mmio.read(LocalAPIC.defaultBase + register, size: 4))
        }
        func write(_ register: UInt64, _ value: UInt32) {
            bench.mmio.write(LocalAPIC.defaultBase + register, UInt64(value), size: 4)
        }
        func readIO(_ register: UInt64) -> UInt32 {
            bench.mmio.write(IOAPIC.defaultBase, register, size: 4)
            return UInt32(bench.mmio.read(IOAPIC.defaultBase + 0x10, size: 4))
        }
        func writeIO(_ register: UInt64, _ value: UInt32) {
            bench.mmio.write(IOAPIC.defaultBase, register, size: 4)
            bench.mmio.write(IOAPIC.defaultBase + 0x10, UInt64(value), size: 4)
        }
    }
    let apics = APICs()
    var local: LocalAPIC { apics.local }

    private func enable() { apics.write(0xF0, 0x1FF) }

    @Test func powerOnState() {
        #expect(apics.read(0x20) == 0 && apics.read(0x30) == 0x50014)
        #expect(apics.read(0xF0) == 0xFF && apics.read(0xE0) == 0xFFFF_FFFF)
        #expect(apics.read(0x320) == 0x10000 && apics.read(0x350) == 0x700)
        #expect(local.acceptsPIC && local.baseMSR == 0xFEE0_0900)
    }

    @Test func prioritiesNest() {
        enable()
        apics.write(0x310, 0)
        apics.write(0x300, 0x0004_4041)
        #expect(local.pendingVector() == 0x41)
        apics.write(0x300, 0x0004_4052)
        #expect(apics.read(0x220) == 1 << 1 | 1 << 18)
        #expect(local.acknowledge() == 0x52)
        #expect(apics.read(0xA0) == 0x50 && local.pendingVector() == nil)
        #expect(local.acknowledge() == 0xFF, "spurious")
        apics.write(0xB0, 0)
        #expect(local.acknowledge() == 0x41)
        apics.write(0xB0, 0)
        #expect(apics.read(0xA0) == 0)
        local.cr8 = 6
        #expect(apics.read(0x80) == 0x60)
        apics.write(0x300, 0x0004_4061)
        #expect(local.pendingVector() == nil)
        apics.write(0x80, 0x50)
        #expect(local.pendingVector() == 0x61 && local.cr8 == 5)
        #expect(apics.read(0x90) == 0x60, "arbitration priority")
    }

    @Test func messagesToItself() {
        enable()
        for (low, log) in [(UInt32(0x0004_4400), "NMI"), (0x0004_4500, "INIT"), (0x0004_4608, "SIPI 8")] {
            apics.write(0x300, low)
            #expect(apics.bench.log.last == "0: " + log)
        }
        let before = apics.bench.log.count
        apics.write(0x300, 0x000C_4500)
        apics.write(0x300, 0x0000_8500)
        apics.write(0x310, 0x0100_0000)
        apics.write(0x300, 0x0000_4400)
        #expect(apics.bench.log.count == before, "all but self, a deassertion and another APIC's ID lead nowhere")
    }

    @Test func logicalDestinations() {
        enable()
        apics.write(0xD0, 0x0400_0000)
        apics.write(0x310, 0x0600_0000)
        apics.write(0x300, 0x0000_4841)
        #expect(local.pendingVector() == 0x41)
        apics.write(0xE0, 0)
        apics.write(0xD0, 0x3100_0000)
        apics.write(0x310, 0x2100_0000)
        apics.write(0x300, 0x0000_4851)
        #expect(local.pendingVector() == 0x41)
        apics.write(0x310, 0x3100_0000)
        apics.write(0x300, 0x0000_4851)
        #expect(local.pendingVector() == 0x51)
    }

    @Test func errorsAreReportedOnWrite() {
        enable()
        apics.write(0x370, 0xEF)
        apics.write(0x300, 0x0004_4005)
        #expect(apics.read(0x280) == 0 && local.pendingVector() == 0xEF)
        apics.write(0x280, 0)
        #expect(apics.read(0x280) == 0x20)
        _ = apics.read(0x7F0)
        apics.write(0x280, 0)
        #expect(apics.read(0x280) == 0x80)
    }

    @Test func timerOneShotAndPeriodic() {
        enable()
        apics.write(0x3E0, 0x3)
        apics.write(0x320, 0x40)
        apics.write(0x380, 1000)
        apics.bench.advance(8000)
        #expect(apics.read(0x390) == 500)
        apics.write(0x3E0, 0xB)
        #expect(apics.read(0x390) == 500)
        apics.bench.advance(499)
        #expect(local.pendingVector() == nil)
        apics.bench.advance(1)
        #expect(local.acknowledge() == 0x40 && apics.read(0x390) == 0)
        apics.write(0xB0, 0)
        apics.write(0x320, 0x2_0040)
        apics.write(0x380, 100)
        for _ in 0..<3 {
            apics.bench.advance(100)
            #expect(local.acknowledge() == 0x40)
            apics.write(0xB0, 0)
        }
        apics.write(0x320, 0x3_0040)
        apics.bench.advance(150)
        #expect(local.pendingVector() == nil && apics.read(0x390) == 50, "masked, it counts on")
    }

    @Test func softwareDisableMasks() {
        enable()
        apics.write(0x350, 0x700)
        apics.write(0xF0, 0xFF)
        #expect(apics.read(0x350) == 0x10700 && !local.acceptsPIC)
        apics.write(0x350, 0x700)
        #expect(apics.read(0x350) == 0x10700)
        apics.write(0x300, 0x0004_4041)
        #expect(local.pendingVector() == nil)
    }

    @Test func lintPins() {
        enable()
        apics.write(0x360, 0x400)
        local.setLINT1(true)
        local.setLINT1(true)
        #expect(apics.bench.log == ["0: NMI"])
        apics.write(0x350, 0x45)
        #expect(!local.acceptsPIC)
        local.setLINT0(true)
        #expect(local.acknowledge() == 0x45)
        #expect(local.writeBaseMSR(0xFEE0_0100, physicalBits: 40))
        #expect(local.acceptsPIC && local.mmioRange == nil && local.pendingVector() == nil)
    }

    @Test func baseMSRRefusesReservedBits() {
        #expect(!local.writeBaseMSR(0xFEE0_0D00, physicalBits: 40), "x2APIC")
        #expect(!local.writeBaseMSR(0x100_FEE0_0900, physicalBits: 40))
        #expect(local.writeBaseMSR(0x1_0000_0900, physicalBits: 40))
        #expect(local.mmioRange == 0x1_0000_0000..<0x1_0000_1000)
    }

    @Test func ioapicRegisters() {
        #expect(apics.readIO(1) == 0x0017_0011)
        apics.writeIO(0, 0xFFFF_FFFF)
        #expect(apics.readIO(0) == 0x0F00_0000 && apics.readIO(2) == 0x0F00_0000)
        #expect(apics.readIO(0x10) == 0x10000)
        apics.writeIO(0x3F, 0xFFFF_FFFF)
        apics.writeIO(0x3E, 0xFFFF_FFFF)
        #expect(apics.readIO(0x3F) == 0xFF00_0000 && apics.readIO(0x3E) == 0x1_AFFF)
        #expect(apics.readIO(0x40) == 0)
    }

    @Test func edgeInterrupt() {
        enable()
        apics.io.setLine(pin: 2, level: true)
        apics.writeIO(0x14, 0x30)
        #expect(local.pendingVector() == nil, "an edge at a masked input is lost")
        apics.io.setLine(pin: 2, level: false)
        apics.io.setLine(pin: 2, level: true)
        #expect(local.acknowledge() == 0x30)
        apics.io.setLine(pin: 2, level: true)
        apics.write(0xB0, 0)
        #expect(local.pendingVector() == nil)
    }

    @Test func levelInterruptRepeatsUntilDeasserted() {
        enable()
        apics.writeIO(0x26, 0x8051)
        apics.io.setLine(pin: 11, level: true)
        #expect(apics.readIO(0x26) == 0xC051)
        #expect(local.acknowledge() == 0x51)
        #expect(apics.read(0x180 + 0x20) == 1 << 17, "trigger mode register")
        apics.write(0xB0, 0)
        #expect(local.acknowledge() == 0x51 && apics.readIO(0x26) == 0xC051)
        apics.io.setLine(pin: 11, level: false)
        apics.write(0xB0, 0)
        #expect(local.pendingVector() == nil && apics.readIO(0x26) == 0x8051)
        apics.io.setLine(pin: 11, level: true)
        apics.writeIO(0x26, 0x1_0051)
        #expect(apics.readIO(0x26) == 0x1_0051, "edge-triggered: remote IRR is gone")
        apics.writeIO(0x26, 0x8052)
        #expect(apics.readIO(0x26) == 0xC052)
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func fuzz(seed: UInt64) {
        let registers: [Range<UInt64>] = [
            LocalAPIC.defaultBase..<LocalAPIC.defaultBase + 0x400, IOAPIC.defaultBase..<IOAPIC.defaultBase + 0x20,
        ]
        var owners: [APICs] = []
        fuzzDevice(
            seed: seed, ports: [], mmio: registers, hot: [0x1FF, 0x10, 0x12, 0x14, 0x8051, 0x2_0040, 0x4_4041, 0]
        ) {
            let apics = APICs()
            apics.write(0xF0, 0x1FF)
            owners.append(apics)
            return apics.bench
        }
    }
}
