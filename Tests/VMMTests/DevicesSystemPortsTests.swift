import Testing
import VMM

@Suite struct SystemPortsTests {
    let bench = DeviceBench()
    let ports: SystemPorts

    init() { ports = SystemPortsTests.makePorts(bench) }

    static func makePorts(_ bench: DeviceBench) -> SystemPorts {
        let a20 = bench.add(A20Gate { [unowned bench] in bench.note("A20=\($0)") })
        let ports = bench.add(SystemPorts(a20: a20))
        ports.onReset = { [unowned bench] in bench.note("reset \($0)") }
        ports.onClearFERR = { [unowned bench] in bench.note("FERR") }
        ports.onDebugByte = { [unowned bench] in bench.note("debug \($0)") }
        ports.onDebugExit = { [unowned bench] in bench.note("exit \($0)") }
        ports.attach(to: bench.ports)
        return ports
    }

    @Test func fastA20AndReset() {
        #expect(bench.read(0x92) == 2)
        bench.write(0x92, 0)
        bench.write(0x92, 3)
        bench.write(0x92, 3)
        #expect(bench.log == ["0: A20=false", "0: A20=true", "0: reset processor"])
    }

    @Test func resetControl() {
        bench.write(0xCF9, 0x02)
        #expect(bench.log.isEmpty && bench.read(0xCF9) == 2)
        bench.write(0xCF9, 0x06)
        bench.write(0xCF9, 0)
        bench.write(0xCF9, 0x04)
        #expect(bench.log == ["0: reset system", "0: reset processor"])
    }

    @Test func codesConsolesAndExit() {
        bench.write(0x80, 0x12)
        bench.write(0x190, 0x34)
        #expect(ports.post.primary == 0x12 && ports.post.secondary == 0x34 && bench.read(0x80) == 0x12)
        #expect(bench.read(0xE9) == 0xE9 && bench.read(0x402) == 0xE9)
        bench.write(0xE9, 65)
        bench.write(0x402, 66)
        bench.write(0xF0, 0)
        bench.ports.write(0xF4, 0x10, size: 4)
        #expect(bench.log == ["0: debug 65", "0: debug 66", "0: FERR", "0: exit 16"])
    }

    @Test(arguments: 0..<4 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(seed: seed, ports: [0x80, 0x92, 0xE9, 0xF0, 0xF1, 0xF4, 0x190, 0x402, 0xCF9]) {
            let bench = DeviceBench()
            _ = SystemPortsTests.makePorts(bench)
            return bench
        }
    }
}
