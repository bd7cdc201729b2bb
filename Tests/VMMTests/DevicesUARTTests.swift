import Testing
import VMM

@Suite struct UARTTests {
    let bench = DeviceBench()
    let uart: UART16550

    init() { uart = UARTTests.makeUART(bench) }

    static func makeUART(_ bench: DeviceBench) -> UART16550 {
        let uart = bench.add(
            UART16550(
                clock: bench.clock, queue: bench.queue, interrupt: bench.line("IRQ4"),
                output: { [unowned bench] in bench.note("out \($0)") }))
        uart.attach(to: bench.ports)
        bench.hostAction = { uart.receive([UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)]) }
        return uart
    }

    private func read(_ register: UInt16) -> UInt8 { bench.read(0x3F8 + register) }
    private func write(_ register: UInt16, _ value: UInt8) { bench.write(0x3F8 + register, value) }

    /// 115200 baud, eight bits, no parity, one stop bit: 86,805 ns a character.
    private func setUp(fifo: UInt8 = 0x07) {
        write(3, 0x83)
        write(0, 1)
        write(1, 0)
        write(3, 0x03)
        write(2, fifo)
        write(4, 0x0B)
        bench.clearLog()
    }
    private let character: UInt64 = 86_805

    @Test func registersAndDivisorLatch() {
        write(7, 0x5A)
        #expect(read(7) == 0x5A)
        write(1, 0xFF)
        #expect(read(1) == 0x0F)
        write(3, 0x83)
        write(0, 0x34)
        write(1, 0x12)
        #expect(read(0) == 0x34 && read(1) == 0x12)
        write(3, 0x03)
        #expect(read(1) == 0x0F)
        write(4, 0xFF)
        #expect(read(4) == 0x1F)
        #expect(read(5) == 0x60)
        #expect(read(6) & 0xF0 == 0x90 | 0x60)
    }

    @Test func loopbackModemLines() {
        write(4, 0x1A)
        #expect(read(6) & 0xF0 == 0x90)
        write(4, 0x1F)
        #expect(read(6) == 0xF0 | 0x02)
        write(4, 0x1B)
        #expect(read(6) == 0xB0 | 0x04, "the ring indicator counts when it falls")
        #expect(read(6) == 0xB0)
    }

    @Test func fifoIsIdentifiedAs16550A() {
        write(2, 0x01)
        #expect(read(2) == 0xC1)
        write(2, 0x21)
        #expect(read(2) == 0xC1, "no 64-byte FIFO")
        write(2, 0x00)
        #expect(read(2) == 0x01)
    }

    @Test func transmissionTakesTheTimeOfTheLine() {
        setUp()
        write(0, 0x41)
        #expect(bench.log == ["0: out 65"])
        #expect(read(5) == 0x20, "the byte moved on to the shift register")
        write(0, 0x42)
        #expect(read(5) == 0x00)
        bench.advance(character)
        #expect(read(5) == 0x20)
        bench.advance(character)
        #expect(read(5) == 0x60)
    }

    @Test func transmitterInterruptIsCausedByEnablingAndByEmptying() {
        setUp()
        write(1, 0x02)
        #expect(read(2) == 0xC2)
        #expect(read(2) == 0xC1, "identifying it clears it")
        write(1, 0)
        write(1, 0x02)
        #expect(read(2) == 0xC2, "enabling it again causes it again")
        for byte: UInt8 in 0..<18 { write(0, byte) }
        #expect(bench.log.filter { $0.contains("out") }.count == 17, "one shifting, sixteen in the FIFO")
        #expect(read(2) == 0xC1)
        bench.advance(16 * character - 1)
        #expect(read(2) == 0xC1)
        bench.advance(1)
        #expect(read(2) == 0xC2)
    }

    @Test func receiveTriggerAndTimeout() {
        setUp(fifo: 0x87)
        write(1, 0x01)
        uart.receive(Array("0123456789".utf8))
        bench.advance(7 * character)
        #expect(read(2) == 0xC1 && read(5) & 1 == 1)
        bench.advance(character)
        #expect(read(2) == 0xC4)
        bench.advance(2 * character)
        for expected in "0123456".utf8 { #expect(read(0) == expected) }
        #expect(read(2) == 0xC1)
        bench.advance(4 * character)
        #expect(read(2) == 0xCC)
        #expect(read(0) == UInt8(ascii: "7"))
        #expect(read(2) == 0xC1, "a read clears the timeout")
        bench.advance(4 * character)
        #expect(read(2) == 0xCC)
        #expect(bench.log.last?.hasSuffix("IRQ4=true") == true)
    }

    @Test func inputWaitsForRoom() {
        setUp()
        #expect(uart.receive([UInt8](repeating: 7, count: 70_000)) == UART16550.inputLimit)
        bench.advance(100 * character)
        #expect(uart.waitingInput == UART16550.inputLimit - 16)
        #expect(read(5) & 0x02 == 0)
        _ = read(0)
        bench.advance(character)
        #expect(uart.waitingInput == UART16550.inputLimit - 17)
    }

    @Test func withoutOUT2ThereIsNoInterrupt() {
        setUp()
        write(4, 0x03)
        write(1, 0x02)
        #expect(bench.log.isEmpty)
        #expect(read(2) == 0xC2)
        write(1, 0)
        write(1, 2)
        write(4, 0x0B)
        #expect(bench.log == ["0: IRQ4=true"])
    }

    @Test func loopbackReturnsDataAndOverruns() {
        setUp(fifo: 0)
        write(4, 0x1B)
        write(1, 0x05)
        write(0, 0x55)
        #expect(bench.log.isEmpty, "nothing leaves the port")
        bench.advance(character)
        #expect(read(2) == 0x04)
        write(0, 0x66)
        bench.advance(character)
        #expect(read(2) == 0x06, "line status comes first")
        #expect(read(5) & 0x03 == 0x03)
        #expect(read(0) == 0x66)
        #expect(read(2) == 0x01)
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(seed: seed, ports: Array(0x3F8...0x3FF), hot: [0, 1, 3, 7, 0x0B, 0x1B, 0x0F, 0xC7, 0x83]) {
            let bench = DeviceBench()
            _ = UARTTests.makeUART(bench)
            return bench
        }
    }
}
