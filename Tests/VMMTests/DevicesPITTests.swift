import Testing
import VMM

@Suite struct PITTests {
    let bench: DeviceBench
    let pit: PIT

    init() {
        bench = DeviceBench()
        pit = PITTests.makePIT(bench)
        bench.clearLog()
    }

    static func makePIT(_ bench: DeviceBench) -> PIT {
        let pit = bench.add(PIT(clock: bench.clock, queue: bench.queue, interrupt: bench.line("IRQ0")))
        pit.attach(to: bench.ports)
        bench.add(SystemControlPortB(pit: pit)).attach(to: bench.ports)
        return pit
    }

    /// Lets `count` ticks of the timer's clock pass.
    private func tick(_ count: UInt64 = 1) {
        let target = pit.tick + count
        let product = target * 1_000_000_000
        let nanoseconds = product / PIT.hertz + (product % PIT.hertz == 0 ? 0 : 1)
        bench.advance(nanoseconds - bench.clock.now)
    }

    private func count(_ channel: UInt16) -> UInt16 {
        bench.write(0x43, UInt8(channel << 6))
        return UInt16(bench.read(0x40 + channel)) | UInt16(bench.read(0x40 + channel)) << 8
    }

    private func program(_ channel: UInt16, mode: UInt8, _ count: UInt16, bcd: Bool = false) {
        bench.write(0x43, UInt8(channel) << 6 | 0x30 | mode << 1 | (bcd ? 1 : 0))
        bench.write(0x40 + channel, UInt8(count & 0xFF))
        bench.write(0x40 + channel, UInt8(count >> 8))
    }

    /// The output of `channel` at each of the next `count` ticks: H or L.
    private func wave(_ channel: Int, _ count: Int) -> String {
        (0..<count).map { _ in
            tick()
            return pit.output(channel) ? "H" : "L"
        }.joined()
    }

    @Test func mode0RisesAfterCountPlusOne() {
        program(1, mode: 0, 4)
        #expect(wave(1, 8) == "LLLLHHHH")
        #expect(count(1) == 0xFFFD, "the element keeps counting")
        program(1, mode: 0, 4)
        tick(2)
        #expect(count(1) == 3)
        bench.write(0x41, 9)
        tick(5)
        #expect(count(1) == 3, "the first byte of a new count stops counting")
        bench.write(0x41, 0)
        tick()
        #expect(count(1) == 9)
    }

    @Test func mode1IsRetriggerable() {
        program(2, mode: 1, 3)
        #expect(wave(2, 3) == "HHH")
        bench.write(0x61, 1)
        #expect(wave(2, 5) == "LLLHH")
        bench.write(0x61, 0)
        bench.write(0x61, 1)
        #expect(wave(2, 2) == "LL")
        bench.write(0x61, 0)
        bench.write(0x61, 1)
        #expect(wave(2, 5) == "LLLHH")
    }

    @Test func mode2DividesByN() {
        program(1, mode: 2, 3)
        #expect(wave(1, 10) == "HHLHHLHHLH")
        bench.write(0x41, 4)
        bench.write(0x41, 0)
        #expect(wave(1, 10) == "HLHHHLHHHL", "a new count waits for the end of the period")
    }

    @Test func mode3OddAndEven() {
        program(1, mode: 3, 4)
        #expect(wave(1, 9) == "HHLLHHLLH")
        program(1, mode: 3, 5)
        #expect(wave(1, 11) == "HHHLLHHHLLH")
        program(1, mode: 3, 6)
        tick()
        #expect(count(1) == 6)
        tick()
        #expect(count(1) == 4)
    }

    @Test func gateStopsSquareWave() {
        program(2, mode: 3, 4)
        bench.write(0x61, 1)
        #expect(wave(2, 3) == "HHL")
        bench.write(0x61, 0)
        #expect(wave(2, 3) == "HHH")
        bench.write(0x61, 1)
        #expect(wave(2, 5) == "HHLLH")
    }

    @Test func strobes() {
        program(1, mode: 4, 3)
        #expect(wave(1, 7) == "HHHLHHH")
        program(2, mode: 5, 3)
        bench.write(0x61, 0)
        #expect(wave(2, 3) == "HHH")
        bench.write(0x61, 1)
        #expect(wave(2, 7) == "HHHLHHH")
    }

    @Test func bcdAndReadBack() {
        program(1, mode: 2, 0x1000, bcd: true)
        tick(2)
        #expect(count(1) == 0x0999)
        bench.write(0x43, 0xC4)
        bench.write(0x43, 0xE4)
        tick(5)
        #expect(bench.read(0x41) == 0x80 | 0x35)
        #expect(bench.read(0x41) == 0x99 && bench.read(0x41) == 0x09)
        bench.write(0x43, 0x74)
        bench.write(0x43, 0xE4)
        #expect(bench.read(0x41) == 0xC0 | 0x34, "null count until a count is loaded")
    }

    /// Linux's quick calibration reads the counter right after it has set it, and expects the new count.
    @Test func aCountIsReadRightAfterItWasWritten() {
        program(2, mode: 0, 0x1234)
        tick(5)
        program(2, mode: 0, 0xFFFF)
        #expect(bench.read(0x42) == 0xFF && bench.read(0x42) == 0xFF)
        tick()
        #expect(count(2) == 0xFFFF)
        program(1, mode: 3, 0x0203)
        #expect(count(1) == 0x0202, "an even count in the square wave")
    }

    @Test func lowAndHighByteAccess() {
        bench.write(0x43, 0x54)
        bench.write(0x41, 0x20)
        tick()
        #expect(bench.read(0x41) == 0x20)
        bench.write(0x43, 0x64)
        bench.write(0x41, 0x20)
        tick()
        #expect(bench.read(0x41) == 0x20)
    }

    @Test func channel0DrivesItsLine() {
        program(0, mode: 2, 1193)
        bench.advance(10_000_000)
        let rises = bench.log.filter { $0.hasSuffix("=true") }
        #expect(rises.count == 10, "\(bench.log)")
        #expect(rises.first == "1000686: IRQ0=true", "tick 1194 begins at 1000685.6 ns")
    }

    @Test func longGapsEqualShortSteps() {
        for divisor: UInt16 in [1, 2, 3, 7, 1000, 0] {
            for mode: UInt8 in [2, 3] {
                program(1, mode: mode, divisor)
                let start = bench.clock.count
                tick(100_003)
                let (jumped, level) = (count(1), pit.output(1))
                let other = DeviceBench()
                other.clock.count = start
                let stepped = PITTests.makePIT(other)
                let twin = PITTests(bench: other, pit: stepped)
                twin.program(1, mode: mode, divisor)
                for _ in 0..<100_003 / 61 {
                    twin.tick(61)
                    _ = stepped.output(1)
                }
                twin.tick(100_003 % 61)
                #expect(twin.count(1) == jumped && stepped.output(1) == level, "mode \(mode), divisor \(divisor)")
            }
        }
        program(1, mode: 3, 1)
        bench.advance(3_600_000_000_000)
        _ = count(1)
    }

    private init(bench: DeviceBench, pit: PIT) {
        self.bench = bench
        self.pit = pit
    }

    @Test func port61() {
        #expect(bench.read(0x61) & 0x0F == 0)
        bench.write(0x61, 0xFF)
        #expect(bench.read(0x61) & 0x0F == 0x0F)
        var toggles = 0
        var last = bench.read(0x61) & 0x10
        for _ in 0..<1000 {
            bench.advance(1000)
            let bit = bench.read(0x61) & 0x10
            if bit != last { toggles += 1 }
            last = bit
        }
        #expect(toggles == 66, "1 ms / 15.085 µs")
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(seed: seed, ports: [0x40, 0x41, 0x42, 0x43, 0x61], hot: [0, 1, 2, 0x36, 0x34, 0xB0, 0xC2, 0x30]) {
            let bench = DeviceBench()
            _ = PITTests.makePIT(bench)
            return bench
        }
    }
}
