import Testing
import VMM

@Suite struct DMAControllerTests {
    /// 1 MB of memory that only the tests see.
    final class TestMemory: DMAMemory {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)

        func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
            for index in buffer.indices {
                let place = address + UInt64(index)
                buffer[index] = place < UInt64(bytes.count) ? bytes[Int(place)] : 0xFF
            }
        }
        func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
            for index in buffer.indices where address + UInt64(index) < UInt64(bytes.count) {
                bytes[Int(address) + index] = buffer[index]
            }
        }
    }

    let bench = DeviceBench()
    let memory = TestMemory()
    let dma: DMAController

    init() {
        dma = bench.add(DMAController())
        dma.attach(to: bench.ports)
        bench.write(0xD6, 0xC0)
        bench.write(0xD4, 0x00)
    }

    private func program(_ channel: UInt16, mode: UInt8, page: (UInt16, UInt8), address: UInt16, count: UInt16) {
        let (base, step): (UInt16, UInt16) = channel < 4 ? (0, 1) : (0xC0, 2)
        let local = channel & 3
        bench.write(base + 12 * step, 0)
        bench.write(base + 11 * step, mode | UInt8(local))
        for (port, value) in [(local * 2, address), (local * 2 + 1, count)] {
            bench.write(base + port * step, UInt8(value & 0xFF))
            bench.write(base + port * step, UInt8(value >> 8))
        }
        bench.write(page.0, page.1)
        bench.write(base + 10 * step, UInt8(local))
        dma.setRequest(channel: Int(channel), true)
    }

    @Test func registersReadBack() {
        bench.write(0x0C, 0)
        bench.write(0x02, 0x34)
        bench.write(0x02, 0x12)
        #expect(bench.read(0x02) == 0x34 && bench.read(0x02) == 0x12)
        for port in UInt16(0x81)...0x8F {
            bench.write(port, UInt8(port))
            #expect(bench.read(port) == UInt8(port))
        }
        bench.write(0x0F, 0x05)
        #expect(bench.read(0x0F) == 0xF5)
        bench.write(0x0A, 0x06)
        bench.write(0x0A, 0x00)
        #expect(bench.read(0x0F) == 0xF4)
        bench.write(0x0D, 0)
        #expect(bench.read(0x0F) == 0xFF)
    }

    @Test func demandTransferToMemory() {
        program(2, mode: 0x04, page: (0x81, 0x01), address: 0xFFFE, count: 3)
        let result = dma.transferToMemory(channel: 2, [1, 2, 3, 4, 5], memory)
        #expect(result.moved == 4 && result.terminalCount)
        #expect(memory.bytes[0x1FFFE] == 1 && memory.bytes[0x1FFFF] == 2)
        #expect(memory.bytes[0x10000] == 3 && memory.bytes[0x10001] == 4, "the address wraps in its page")
        #expect(bench.read(0x08) == 0x44 && bench.read(0x08) == 0x40)
        #expect(!dma.isReady(channel: 2), "masked at the terminal count")
        #expect(bench.read(0x05) == 0xFF && bench.read(0x05) == 0xFF)
    }

    @Test func singleModeAndAutomaticInitialization() {
        program(1, mode: 0x58, page: (0x83, 0), address: 0x100, count: 1)
        memory.bytes[0x100] = 7
        memory.bytes[0x101] = 8
        for (byte, last) in [(UInt8(7), false), (8, true), (7, false)] {
            let result = dma.transferFromMemory(channel: 1, limit: 10, memory)
            #expect(result.data == [byte] && result.terminalCount == last)
        }
    }

    @Test func wordsAndDecrement() {
        program(5, mode: 0xA4, page: (0x8B, 0x03), address: 0x0001, count: 1)
        #expect(dma.transferToMemory(channel: 5, [1, 2, 3, 4], memory).terminalCount)
        #expect(Array(memory.bytes[0x20000..<0x20004]) == [3, 4, 1, 2])
    }

    @Test func verifyMovesNothingAndMasksHold() {
        program(3, mode: 0x00, page: (0x82, 0), address: 0, count: 9)
        #expect(dma.transferToMemory(channel: 3, [9, 9], memory).moved == 2 && memory.bytes[0] == 0)
        bench.write(0x0A, 0x07)
        #expect(dma.transferToMemory(channel: 3, [9], memory).moved == 0)
        bench.write(0x0A, 0x03)
        bench.write(0xD4, 0x04)
        #expect(!dma.isReady(channel: 3), "the cascade is masked")
        #expect(dma.transferFromMemory(channel: 4, limit: -1, memory).data.isEmpty)
    }

    @Test(arguments: 0..<4 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(
            seed: seed, ports: Array(0x00...0x0F) + Array(0x81...0x8F) + Array(0xC0...0xDF) + [0x487],
            hot: [0, 0xC0, 0x05, 0x58]
        ) {
            let bench = DeviceBench()
            let memory = TestMemory()
            let dma = bench.add(DMAController())
            dma.attach(to: bench.ports)
            bench.hostAction = { [unowned bench] action in
                let channel = Int(action & 7)
                dma.setRequest(channel: channel, action & 8 != 0)
                let data = [UInt8](repeating: 1, count: Int(action >> 8 & 31))
                let result = dma.transferToMemory(channel: channel, data, memory)
                bench.note("\(result)")
            }
            return bench
        }
    }
}
