import Testing
import VMM

@Suite struct PICTests {
    let bench = DeviceBench()
    let pic: PIC

    init() {
        pic = PICTests.makePIC(bench)
        bench.write(0x20, 0x11)
        bench.write(0x21, 0x30)
        bench.write(0x21, 0x04)
        bench.write(0x21, 0x01)
        bench.write(0xA0, 0x11)
        bench.write(0xA1, 0x38)
        bench.write(0xA1, 0x02)
        bench.write(0xA1, 0x01)
        bench.clearLog()
    }

    static func makePIC(_ bench: DeviceBench) -> PIC {
        let pic = bench.add(PIC { [unowned bench] in bench.note("INTR=\($0)") })
        pic.attach(to: bench.ports)
        bench.hostAction = { [unowned bench] action in
            if action & 0x10 == 0 {
                pic.setLine(irq: Int(action & 15), level: action & 0x20 != 0)
            } else {
                bench.note("vector \(pic.acknowledge())")
            }
        }
        return pic
    }

    private func irr(_ port: UInt16 = 0x20) -> UInt8 {
        bench.write(port, 0x0A)
        return bench.read(port)
    }

    private func isr(_ port: UInt16 = 0x20) -> UInt8 {
        bench.write(port, 0x0B)
        return bench.read(port)
    }

    @Test func edgeRequestIsAcknowledgedOnce() {
        pic.setLine(irq: 1, level: true)
        #expect(pic.output)
        #expect(irr() == 0x02)
        #expect(pic.acknowledge() == 0x31)
        #expect(irr() == 0 && isr() == 0x02 && !pic.output)
        bench.write(0x20, 0x20)
        #expect(isr() == 0 && !pic.output, "the line is still high, but there was no new edge")
        pic.setLine(irq: 1, level: false)
        pic.setLine(irq: 1, level: true)
        #expect(pic.output)
    }

    @Test func priorityNestsAndEOIReleases() {
        pic.setLine(irq: 4, level: true)
        #expect(pic.acknowledge() == 0x34)
        pic.setLine(irq: 6, level: true)
        #expect(!pic.output)
        pic.setLine(irq: 0, level: true)
        #expect(pic.acknowledge() == 0x30)
        bench.write(0x20, 0x20)
        #expect(isr() == 0x10)
        bench.write(0x20, 0x64)
        #expect(pic.acknowledge() == 0x36)
    }

    @Test func slaveCascades() {
        pic.setLine(irq: 12, level: true)
        #expect(irr(0xA0) == 0x10 && irr() == 0x04)
        #expect(pic.acknowledge() == 0x3C)
        #expect(isr(0xA0) == 0x10 && isr() == 0x04)
        pic.setLine(irq: 8, level: true)
        #expect(!pic.output, "without special fully nested mode the master holds the slave off")
        bench.write(0xA0, 0x20)
        bench.write(0x20, 0x20)
        #expect(pic.acknowledge() == 0x38)
    }

    @Test func specialFullyNestedModeLetsTheSlaveNest() {
        for value: UInt8 in [0x30, 0x04, 0x11] {
            if value == 0x30 { bench.write(0x20, 0x11) }
            bench.write(0x21, value)
        }
        pic.setLine(irq: 12, level: true)
        #expect(pic.acknowledge() == 0x3C)
        pic.setLine(irq: 3, level: true)
        #expect(!pic.output)
        pic.setLine(irq: 9, level: true)
        #expect(pic.acknowledge() == 0x39)
    }

    @Test func withdrawnRequestIsSpurious() {
        pic.setLine(irq: 3, level: true)
        pic.setLine(irq: 3, level: false)
        #expect(!pic.output)
        #expect(pic.acknowledge() == 0x37)
        #expect(isr() == 0)
    }

    @Test func levelTriggeredInputRepeats() {
        bench.write(0x4D0, 0xFF)
        bench.write(0x4D1, 0xFF)
        #expect(bench.read(0x4D0) == 0xF8 && bench.read(0x4D1) == 0xDE)
        pic.setLine(irq: 11, level: true)
        #expect(pic.acknowledge() == 0x3B)
        bench.write(0xA0, 0x20)
        bench.write(0x20, 0x20)
        #expect(pic.output, "still asserted")
        pic.setLine(irq: 11, level: false)
        #expect(!pic.output)
    }

    @Test func automaticEOIAndRotation() {
        bench.write(0x20, 0x11)
        for value: UInt8 in [0x30, 0x04, 0x03] { bench.write(0x21, value) }
        bench.write(0x20, 0x80)
        pic.setLine(irq: 0, level: true)
        pic.setLine(irq: 1, level: true)
        #expect(pic.acknowledge() == 0x30)
        #expect(isr() == 0)
        pic.setLine(irq: 0, level: false)
        pic.setLine(irq: 0, level: true)
        #expect(pic.acknowledge() == 0x31, "input 0 has the lowest priority now")
        #expect(pic.acknowledge() == 0x30)
    }

    @Test func setPriorityAndRotateOnEOI() {
        bench.write(0x20, 0xC3)
        pic.setLine(irq: 0, level: true)
        pic.setLine(irq: 4, level: true)
        #expect(pic.acknowledge() == 0x34)
        bench.write(0x20, 0xA0)
        pic.setLine(irq: 5, level: true)
        #expect(pic.acknowledge() == 0x35, "5 follows 4, which became the lowest")
    }

    @Test func maskAndSpecialMask() {
        bench.write(0x21, 0x02)
        pic.setLine(irq: 1, level: true)
        #expect(!pic.output && irr() == 0x02 && bench.read(0x21) == 0x02)
        bench.write(0x21, 0)
        #expect(pic.acknowledge() == 0x31)
        bench.write(0x21, 0x02)
        pic.setLine(irq: 5, level: true)
        #expect(!pic.output)
        bench.write(0x20, 0x68)
        #expect(pic.output, "the masked service does not inhibit lower levels")
        #expect(pic.acknowledge() == 0x35)
        bench.write(0x20, 0x20)
        #expect(isr() == 0x02, "a non-specific EOI passes over masked bits")
        bench.write(0x20, 0x48)
    }

    @Test func pollAcknowledges() {
        bench.write(0x20, 0x0C)
        #expect(bench.read(0x20) & 0x80 == 0)
        pic.setLine(irq: 5, level: true)
        bench.write(0x20, 0x0C)
        #expect(bench.read(0x20) == 0x85)
        #expect(isr() == 0x20 && !pic.output)
    }

    @Test func outputReportsChangesOnly() {
        pic.setLine(irq: 5, level: true)
        pic.setLine(irq: 4, level: true)
        _ = pic.acknowledge()
        #expect(bench.log == ["0: INTR=true", "0: INTR=false"])
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(
            seed: seed, ports: [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1], hot: [0x11, 0x20, 0x0C, 0x0A, 0x0B, 0, 4, 3]
        ) {
            let bench = DeviceBench()
            _ = PICTests.makePIC(bench)
            return bench
        }
    }
}
