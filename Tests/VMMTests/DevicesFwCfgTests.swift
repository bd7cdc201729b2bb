import Testing
import VMM

/// RAM for a bus master under test; addresses outside read as ones and swallow writes.
final class BusMasterMemory: DMAMemory {
    var bytes: [UInt8]
    init(size: Int) { bytes = [UInt8](repeating: 0, count: size) }

    func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        for index in 0..<buffer.count {
            let place = address &+ UInt64(index)
            buffer[index] = place < UInt64(bytes.count) ? bytes[Int(place)] : 0xFF
        }
    }

    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        guard address < UInt64(bytes.count) else { return }
        let count = min(buffer.count, bytes.count - Int(address))
        for index in 0..<count { bytes[Int(address) + index] = buffer[index] }
    }

    func put(_ address: Int, _ values: [UInt8]) {
        bytes.replaceSubrange(address..<address + values.count, with: values)
    }
}

@Suite struct DevicesFwCfgTests {
    private let ports = PortBus()
    private let memory = BusMasterMemory(size: 0x10000)
    private let device: FwCfg

    init() {
        device = FwCfg(ports: ports, memory: memory)
        device.addMachine(ramBytes: 64 << 20)
        device.add(file: "etc/first", bytes: [1, 2, 3, 4, 5])
        device.add(file: "genroms/second.bin", bytes: [0x55, 0xAA, 1])
    }

    private func read(_ key: UInt16, _ count: Int) -> [UInt8] {
        ports.write(0x510, UInt32(key), size: 2)
        return (0..<count).map { _ in UInt8(ports.read(0x511, size: 1)) }
    }

    private func dma(_ control: UInt32, _ length: UInt32, _ target: UInt64) -> UInt32 {
        func big<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
        memory.put(0x100, big(control) + big(length) + big(target))
        ports.write(0x514, 0, size: 4)
        ports.write(0x518, UInt32(0x100).byteSwapped, size: 4)
        return memory.bytes[0x100..<0x104].reduce(0) { $0 << 8 | UInt32($1) }
    }

    @Test func itemsReadBackAndEndInZeros() {
        #expect(read(0, 6) == Array("QEMU".utf8) + [0, 0])
        #expect(read(1, 4) == [3, 0, 0, 0])
        #expect(read(3, 8) == [0, 0, 0, 4, 0, 0, 0, 0])
        #expect(read(0x7FFF, 2) == [0, 0])
    }

    @Test func directoryListsFiles() {
        let directory = read(0x19, 4 + 2 * 64)
        #expect(Array(directory[0..<12]) == [0, 0, 0, 2, 0, 0, 0, 5, 0, 0x20, 0, 0])
        #expect(String(decoding: directory[12..<21], as: UTF8.self) == "etc/first")
        #expect(Array(directory[68..<76]) == [0, 0, 0, 3, 0, 0x21, 0, 0])
        #expect(read(0x21, 3) == [0x55, 0xAA, 1])
    }

    @Test func dmaReadsSkipsAndRefusesWrites() {
        #expect(ports.read(0x514, size: 4) == 0x554D_4551 && ports.read(0x518, size: 4) == 0x4746_4320)
        memory.put(0x200, [9, 9, 9, 9, 9, 9, 9, 9])
        #expect(dma(0x20 << 16 | 8, 0, 0) == 0)
        #expect(dma(4, 2, 0) == 0)
        #expect(dma(2, 5, 0x200) == 0)
        #expect(Array(memory.bytes[0x200..<0x207]) == [3, 4, 5, 0, 0, 9, 9])
        #expect(dma(0x20 << 16 | 8 | 2, 2, 0x200) == 0)
        #expect(ports.read(0x511, size: 1) == 3)
        #expect(dma(0x20 << 16 | 8 | 16, 2, 0x200) == 1)
    }

    @Test func randomAccessesNeverTrap() {
        let seed: UInt64 = 11
        print("DevicesFwCfgTests seed \(seed)")
        var random = DeviceTestRandom(state: seed)
        for _ in 0..<20_000 {
            let port = 0x510 + UInt16(random.below(12))
            let size = 1 << random.below(3)
            if random.below(2) == 0 {
                _ = ports.read(port, size: size)
            } else {
                ports.write(port, UInt32(truncatingIfNeeded: random.next()), size: size)
            }
            if random.below(8) == 0 {
                let control = UInt32(truncatingIfNeeded: random.next()) & 0x003F_001F
                _ = dma(control, UInt32(random.below(1 << 20)), random.next() & 0x3_FFFF)
            }
        }
    }
}
