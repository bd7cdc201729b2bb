import Testing
import VMM

@Suite struct RTCTests {
    let bench = DeviceBench()
    let rtc: RTC

    init() { rtc = RTCTests.makeRTC(bench) }

    static func makeRTC(_ bench: DeviceBench, start: UInt64 = RTC.defaultStartDate) -> RTC {
        let rtc = bench.add(
            RTC(clock: bench.clock, queue: bench.queue, startDate: start, interrupt: bench.line("IRQ8")))
        rtc.attach(to: bench.ports)
        return rtc
    }

    private func read(_ register: UInt8, _ bench: DeviceBench? = nil) -> UInt8 {
        let bench = bench ?? self.bench
        bench.write(0x70, register)
        return bench.read(0x71)
    }
    private func write(_ register: UInt8, _ value: UInt8) {
        bench.write(0x70, register)
        bench.write(0x71, value)
    }
    private func date(_ bench: DeviceBench? = nil) -> [UInt8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map { read($0, bench) }
    }
    private let second: UInt64 = 1_000_000_000

    @Test func startsAtTheGivenDate() {
        #expect(date() == [0x20, 0x25, 0x01, 0x01, 0x04, 0, 0, 0], "a Wednesday")
        for (start, expected) in [
            (UInt64(0), [0x19, 0x70, 0x01, 0x01, 0x05, 0, 0, 0]),
            (951_868_799, [0x20, 0x00, 0x02, 0x29, 0x03, 0x23, 0x59, 0x59]),
            (4_107_542_399, [0x21, 0x00, 0x02, 0x28, 0x01, 0x23, 0x59, 0x59]),
        ] as [(UInt64, [UInt8])] {
            let other = DeviceBench()
            _ = RTCTests.makeRTC(other, start: start)
            #expect(date(other) == expected)
        }
    }

    @Test(
        arguments: [
            (1_740_787_199, [0x20, 0x25, 0x03, 0x01, 0x07, 0, 0, 0]),
            (1_767_225_599, [0x20, 0x26, 0x01, 0x01, 0x05, 0, 0, 0]),
            (951_782_399, [0x20, 0x00, 0x02, 0x29, 0x03, 0, 0, 0]),
            (946_684_799, [0x20, 0x00, 0x01, 0x01, 0x07, 0, 0, 0]),
            (1_746_057_599, [0x20, 0x25, 0x05, 0x01, 0x05, 0, 0, 0]),
        ] as [(UInt64, [UInt8])])
    func countsThroughTheCalendar(start: UInt64, expected: [UInt8]) {
        let other = DeviceBench()
        _ = RTCTests.makeRTC(other, start: start)
        other.advance(second)
        #expect(date(other) == expected)
    }

    @Test func binaryAndTwelveHours() {
        write(0x0B, 0x04)
        for (register, value) in [(0, 59), (2, 59), (4, 11), (7, 28), (8, 2), (9, 24)] as [(UInt8, UInt8)] {
            write(register, value)
        }
        bench.advance(second)
        #expect(read(4) == 0x8C && read(2) == 0)
        for _ in 0..<11 { bench.advance(3600 * second) }
        #expect(read(4) == 0x8B)
        bench.advance(3600 * second)
        #expect(read(4) == 12 && read(7) == 29 && read(8) == 2)
    }

    @Test func updateInProgress() {
        #expect(read(0x0A) == 0x26)
        bench.advance(second - 2_227_000)
        #expect(read(0x0A) == 0xA6)
        bench.advance(2_227_000 - 1)
        #expect(read(0x0A) == 0xA6 && read(0) == 0)
        bench.advance(1)
        #expect(read(0x0A) == 0x26 && read(0) == 1)
        write(0x0B, 0x82)
        bench.advance(second - 1000)
        #expect(read(0x0A) == 0x26)
        bench.advance(5 * second)
        #expect(read(0) == 1)
    }

    @Test func updateEndedAndAlarmInterrupts() {
        write(0x0B, 0x12)
        bench.clearLog()
        bench.advance(second)
        #expect(bench.log == ["1000000000: IRQ8=true"])
        #expect(read(0x0C) == 0xD0 && read(0x0C) == 0)
        #expect(bench.log.last == "1000000000: IRQ8=false")
        write(0x0B, 0x22)
        write(1, 0x05)
        write(3, 0xFF)
        write(5, 0xC0)
        bench.clearLog()
        bench.advance(4 * second)
        #expect(bench.log.last == "5000000000: IRQ8=true")
        #expect(read(0x0C) == 0xF0)
    }

    @Test func periodicInterrupt() {
        write(0x0B, 0x42)
        bench.clearLog()
        var count = 0
        for _ in 0..<1024 {
            bench.advance(976_563)
            if read(0x0C) == 0xC0 { count += 1 }
        }
        #expect(count >= 1023)
        write(0x0A, 0x20)
        _ = read(0x0C)
        bench.advance(second / 2)
        #expect(read(0x0C) & 0x40 == 0)
    }

    @Test func releasedDividerUpdatesAfterHalfASecond() {
        bench.advance(700_000_000)
        write(0x0A, 0x76)
        bench.advance(3 * second)
        #expect(read(0) == 0)
        write(0x0A, 0x26)
        bench.advance(second / 2 - 31_000)
        #expect(read(0) == 0)
        bench.advance(31_000)
        #expect(read(0) == 1)
    }

    @Test func memoryAndNMIMask() {
        for address: UInt8 in 0x0E..<0x80 where address != 0x32 { write(address, address ^ 0xA5) }
        #expect((0x0E..<0x80).allSatisfy { $0 == 0x32 || read(UInt8($0)) == UInt8($0) ^ 0xA5 })
        #expect(!rtc.masksNMI)
        bench.write(0x70, 0x8F)
        #expect(rtc.masksNMI && bench.read(0x71) == 0x0F ^ 0xA5)
        #expect(bench.read(0x70) == 0xFF)
        #expect(read(0x0D) == 0x80)
    }

    @Test func setupBytes() {
        CMOSSetup(memory: 256 << 20, bootOrder: [.cdrom, .disk]).apply(to: rtc)
        #expect(read(0x15) == 0x80 && read(0x16) == 2)
        #expect(read(0x17) == 0xFF && read(0x18) == 0xFF && read(0x30) == 0xFF)
        #expect(read(0x34) == 0x00 && read(0x35) == 0x0F)
        #expect(read(0x3D) == 0x23 && read(0x38) == 0x01 && read(0x14) == 0x06)
        let sum = (0x10...0x2D).reduce(0) { $0 + Int(read(UInt8($1))) }
        #expect(Int(read(0x2E)) << 8 | Int(read(0x2F)) == sum)
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(seed: seed, ports: [0x70, 0x71, 0x71], hot: [0, 4, 0x0A, 0x0B, 0x0C, 0x42, 0x26, 0x76, 9]) {
            let bench = DeviceBench()
            _ = RTCTests.makeRTC(bench)
            return bench
        }
    }
}
