import Testing
import VMM

/// A disk as primary 0 and a CD-ROM as secondary 0.
private final class Machine {
    static let diskSectors = 4000
    let ports = PortBus()
    let clock = VirtualClock()
    let queue = EventQueue()
    let memory = BusMasterMemory(size: 1 << 20)
    let pci: PCIBus
    let disk: CopyOnWriteDisk
    let ide: PIIX3IDE
    var irqs = [false, false]

    init() {
        pci = PCIBus(ports: ports, mmio: MMIOBus())
        disk = CopyOnWriteDisk(MemoryImage(sectors: Self.diskSectors))
        var setters: [(Bool) -> Void] = [{ _ in }, { _ in }]
        let lines = (0..<2).map { index in InterruptLine { setters[index]($0) } }
        ide = PIIX3IDE(
            units: [.disk(disk), .empty, .cdrom(MemoryImage(sectors: 400)), .empty], lines: lines, clock: clock,
            queue: queue, ports: ports, memory: memory)
        pci.add(ide.function, device: 1, function: 1)
        pci.assignResources(memory: 0xE000_0000..<0xF000_0000, io: 0xC000..<0xD000)
        ide.enableChannels()
        ide.function.write(PCIConfig.command, 5, size: 2)
        setters = (0..<2).map { index in { [unowned self] level in irqs[index] = level } }
    }

    func settle() {
        while let due = queue.nextDeadline {
            clock.skip(to: due)
            queue.run(now: clock.now)
        }
    }
    func status(_ base: UInt16 = 0x1F0) -> UInt8 { UInt8(ports.read(base + 7, size: 1)) }
    func set(_ base: UInt16, _ registers: [UInt8]) {
        for (index, value) in registers.enumerated() { ports.write(base + 1 + UInt16(index), UInt32(value), size: 1) }
    }
    func command(_ code: UInt8, count: UInt8 = 0, lba: Int = 0, features: UInt8 = 0, base: UInt16 = 0x1F0) {
        set(
            base,
            [
                features, count, UInt8(lba & 0xFF), UInt8(lba >> 8 & 0xFF), UInt8(lba >> 16 & 0xFF),
                0xE0 | UInt8(lba >> 24 & 0xF), code,
            ])
    }
    func readWords(_ count: Int, base: UInt16 = 0x1F0) -> [UInt16] {
        (0..<count).map { _ in UInt16(ports.read(base, size: 2)) }
    }
    func readBytes(_ count: Int, base: UInt16 = 0x170) -> [UInt8] {
        readWords(count / 2, base: base).flatMap {
            [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)]
        }
    }
    /// Sends a packet by PIO and gives its data; nil if it fails.
    func packet(_ bytes: [UInt8], limit: Int = 0xFFFE, features: UInt8 = 0) -> [UInt8]? {
        set(0x170, [features, 0, 0, UInt8(limit & 0xFF), UInt8(limit >> 8), 0xA0, 0xA0])
        settle()
        let padded = bytes + [UInt8](repeating: 0, count: 12 - bytes.count)
        for index in stride(from: 0, to: 12, by: 2) {
            ports.write(0x170, UInt32(padded[index]) | UInt32(padded[index + 1]) << 8, size: 2)
        }
        settle()
        var data: [UInt8] = []
        // A drive that a random access has left asking for data would be read for ever.
        var blocks = 0
        while status(0x170) & 8 != 0, blocks < 4000 {
            blocks += 1
            let size = Int(ports.read(0x174, size: 1)) | Int(ports.read(0x175, size: 1)) << 8
            data += readBytes((size + 1) & ~1)
            if size & 1 != 0 { data.removeLast() }
            settle()
        }
        return status(0x170) & 1 == 0 ? data : nil
    }
    func describe(_ entries: [(address: Int, size: Int)], at place: Int = 0x100) {
        for (index, entry) in entries.enumerated() {
            let flags: UInt32 = index == entries.count - 1 ? 1 << 31 : 0
            let words = [UInt32(entry.address), UInt32(entry.size & 0xFFFF) | flags]
            memory.put(place + index * 8, words.flatMap { word in (0..<4).map { UInt8(word >> ($0 * 8) & 0xFF) } })
        }
    }
    func visit(_ archive: StateArchive) {
        clock.archive(archive)
        queue.archive(archive)
        pci.archive(archive)
        ide.archive(archive)
        archive.fixed("memory", &memory.bytes)
    }
    func saved() -> [UInt8] {
        let archive = StateArchive()
        visit(archive)
        return archive.bytes
    }
}

@Suite struct DevicesIDETests {
    @Test func signaturesAndMissingDrives() {
        let machine = Machine()
        func registers(_ base: UInt16) -> [UInt32] { (1...5).map { machine.ports.read(base + $0, size: 1) } }
        #expect(registers(0x1F0) == [1, 1, 1, 0, 0] && machine.status() == 0x50)
        #expect(registers(0x170) == [1, 1, 1, 0x14, 0xEB] && machine.status(0x170) == 0)
        machine.ports.write(0x1F6, 0xB0, size: 1)
        #expect(machine.status() == 0 && machine.ports.read(0x1F6, size: 1) == 0xB0)
        machine.ports.write(0x1F2, 0x55, size: 1)
        #expect(machine.ports.read(0x1F2, size: 1) == 0x55)
        machine.ports.write(0x3F6, 4, size: 1)
        machine.ports.write(0x1F6, 0xA0, size: 1)
        #expect(machine.status() == 0x80)
        machine.ports.write(0x3F6, 0, size: 1)
        #expect(machine.status() == 0x50 && registers(0x1F0) == [1, 1, 1, 0, 0])
        machine.ports.write(0x1F7, 0x90, size: 1)
        machine.settle()
        #expect(machine.irqs[0] && registers(0x1F0) == [1, 1, 1, 0, 0] && machine.status() == 0x50)
    }

    @Test func identifiesItself() {
        let machine = Machine()
        machine.command(0xEC)
        #expect(machine.status() == 0x80 && !machine.irqs[0])
        machine.settle()
        #expect(machine.irqs[0] && machine.ports.read(0x3F6, size: 1) == 0x58)
        #expect(machine.irqs[0] && machine.status() == 0x58 && !machine.irqs[0])
        let words = machine.readWords(256)
        #expect(machine.status() == 0x50)
        #expect(words[0] == 0x40 && words[60] == 4000 && words[61] == 0 && words[100] == 4000)
        #expect(words[27] == UInt16(UInt8(ascii: "T")) << 8 | UInt16(UInt8(ascii: "R")))
        machine.command(0xA1)
        machine.settle()
        #expect(machine.status() == 0x51 && machine.ports.read(0x1F1, size: 1) == 4)
        machine.command(0xEC, base: 0x170)
        machine.settle()
        #expect(machine.status(0x170) & 1 == 1 && machine.ports.read(0x174, size: 1) == 0x14)
        machine.command(0xA1, base: 0x170)
        machine.settle()
        #expect(machine.readWords(256, base: 0x170)[0] == 0x85C0)
    }

    @Test(arguments: [0x20, 0xC4] as [UInt8]) func readsAndWritesByPIO(code: UInt8) {
        let machine = Machine()
        if code == 0xC4 {
            machine.command(0xC6, count: 4)
            machine.settle()
        }
        machine.command(code, count: 6, lba: 0x123)
        for block in 0..<(code == 0x20 ? 6 : 2) {
            machine.settle()
            #expect(machine.irqs[0] && machine.status() == 0x58)
            let sectors = code == 0x20 ? 1 : (block == 0 ? 4 : 2)
            for index in 0..<sectors {
                let words = machine.readWords(256)
                #expect(Int(words[0]) == 0x123 + block * (code == 0x20 ? 1 : 4) + index)
            }
        }
        #expect(machine.status() == 0x50 && !machine.irqs[0])
        machine.command(code + (code == 0x20 ? 0x10 : 1), count: 5, lba: 0x200)
        #expect(machine.status() == 0x58 && !machine.irqs[0])
        for word in 0..<5 * 256 {
            machine.ports.write(0x1F0, UInt32(word), size: 2)
            if word % 256 == 255 { machine.settle() }
        }
        #expect(machine.irqs[0] && machine.status() == 0x50)
        machine.command(0x20, count: 2, lba: 0x204)
        machine.settle()
        #expect(machine.readWords(256)[1] == 0x401)
        machine.settle()
        #expect(machine.readWords(256)[0] == 0x205)
    }

    @Test func cylinderHeadSectorAddressing() {
        let machine = Machine()
        machine.set(0x1F0, [0, 17, 0, 0, 0, 0xA3, 0x91])
        machine.settle()
        // Cylinder 2, head 3, sector 5 with 4 heads and 17 sectors.
        machine.set(0x1F0, [0, 1, 5, 2, 0, 0xA3, 0x20])
        machine.settle()
        #expect(Int(machine.readWords(256)[0]) == (2 * 4 + 3) * 17 + 4)
        #expect(machine.ports.read(0x1F3, size: 1) == 5 && machine.ports.read(0x1F6, size: 1) == 0xA3)
        machine.set(0x1F0, [0, 1, 18, 2, 0, 0xA3, 0x20])
        machine.settle()
        #expect(machine.status() == 0x51 && machine.ports.read(0x1F1, size: 1) == 0x10)
    }

    @Test func extendedCommandsAndNativeMax() {
        let machine = Machine()
        machine.set(0x1F0, [0, 0, 0, 0, 0, 0x40])
        machine.set(0x1F0, [0, 1, 0x34, 0x02, 0, 0x40, 0x24])
        machine.settle()
        #expect(machine.readWords(256)[0] == 0x234)
        machine.set(0x1F0, [0, 1, 1, 0, 0, 0x40])
        machine.set(0x1F0, [0, 1, 0x34, 0x02, 0, 0x40, 0x24])
        machine.settle()
        #expect(machine.status() == 0x51)
        machine.command(0x27)
        machine.settle()
        #expect(machine.ports.read(0x1F3, size: 1) == 3999 & 0xFF && machine.ports.read(0x1F4, size: 1) == 3999 >> 8)
        machine.ports.write(0x3F6, 0x80, size: 1)
        #expect(machine.ports.read(0x1F3, size: 1) == 0)
    }

    @Test func busMasterReadsAndWrites() {
        let machine = Machine()
        machine.describe([(0x8000, 0x300), (0x9000, 0x500)])
        machine.ports.write(0xC004, 0x100, size: 4)
        machine.ports.write(0xC002, 0x06, size: 1)
        machine.ports.write(0xC000, 8, size: 1)
        machine.command(0xC8, count: 4, lba: 0x50)
        machine.settle()
        #expect(!machine.irqs[0])
        machine.ports.write(0xC000, 9, size: 1)
        #expect(machine.ports.read(0xC002, size: 1) == 1)
        machine.settle()
        #expect(machine.irqs[0] && machine.ports.read(0xC002, size: 1) == 4 && machine.status() == 0x50)
        #expect(machine.memory.bytes[0x8000] == 0x50 && machine.memory.bytes[0x8200] == 0x51)
        #expect(machine.memory.bytes[0x9100] == 0x52 && machine.memory.bytes[0x94FF] == 0xA5)
        machine.ports.write(0xC000, 0, size: 1)
        machine.memory.put(0x8000, [0xEE])
        machine.command(0xCA, count: 4, lba: 0x60)
        machine.ports.write(0xC000, 1, size: 1)
        machine.settle()
        machine.command(0x20, count: 1, lba: 0x60)
        machine.settle()
        #expect(machine.readWords(1)[0] & 0xFF == 0xEE)
    }

    @Test func tablesTooLongAndTooShort() {
        let machine = Machine()
        machine.ports.write(0xC004, 0x100, size: 4)
        machine.describe([(0x8000, 0x1000)])
        machine.command(0xC8, count: 1)
        machine.ports.write(0xC000, 9, size: 1)
        machine.settle()
        #expect(machine.irqs[0] && machine.ports.read(0xC002, size: 1) == 5)
        machine.ports.write(0xC002, 4, size: 1)
        machine.ports.write(0xC000, 0, size: 1)
        _ = machine.status()
        machine.describe([(0x8000, 0x100)])
        machine.command(0xC8, count: 2)
        machine.ports.write(0xC000, 9, size: 1)
        machine.settle()
        #expect(!machine.irqs[0] && machine.ports.read(0xC002, size: 1) == 0)
    }

    @Test func packetsByPIOAndDMA() throws {
        let machine = Machine()
        #expect(machine.packet([0x00]) == [])
        let inquiry = try #require(machine.packet([0x12, 0, 0, 0, 36]))
        #expect(inquiry.count == 36 && inquiry[0] == 5)
        #expect(machine.packet([0x25]) == [0, 0, 0, 99, 0, 0, 8, 0])
        let blocks = try #require(machine.packet([0x28, 0, 0, 0, 0, 3, 0, 0, 2], limit: 0x0600))
        #expect(blocks.count == 4096 && blocks[0] == 12 && blocks[2048] == 16 && blocks[511] == 0xA5)
        #expect(machine.packet([0x28, 0, 0, 0, 0, 99, 0, 0, 2]) == nil)
        let sense = try #require(machine.packet([0x03, 0, 0, 0, 18]))
        #expect(sense[2] == 5 && sense[12] == 0x21)
        #expect(machine.packet([0x03, 0, 0, 0, 18])?[2] == 0)
        let toc = try #require(machine.packet([0x43, 0, 0, 0, 0, 0, 0, 0x03, 0x24]))
        #expect(toc == [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 0, 100])
        #expect(machine.packet([0xBE, 0, 0, 0, 0, 1, 0, 0, 1, 0xF8])?.count == 2352)
        #expect(machine.packet([0x46, 0, 0, 0, 0, 0, 0, 0, 8])?[7] == 8)
        #expect(machine.packet([0x77]) == nil)
        machine.describe([(0x8000, 0x1000)])
        machine.ports.write(0xC00C, 0x100, size: 4)
        machine.ports.write(0xC008, 9, size: 1)
        #expect(machine.packet([0xA8, 0, 0, 0, 0, 5, 0, 0, 0, 2], features: 1) == [])
        #expect(machine.memory.bytes[0x8000] == 20 && machine.memory.bytes[0x8800] == 24)
        #expect(machine.ports.read(0xC00A, size: 1) == 4)
        let copy = Machine()
        copy.visit(StateArchive(restoring: machine.saved()))
        #expect(copy.saved() == machine.saved())
    }

    @Test func ejectAndLock() {
        let machine = Machine()
        #expect(machine.packet([0x1E, 0, 0, 0, 1]) == [])
        #expect(machine.packet([0x1B, 0, 0, 0, 2]) == nil)
        #expect(machine.packet([0x1E, 0, 0, 0, 0]) == [])
        #expect(machine.packet([0x1B, 0, 0, 0, 2]) == [])
        #expect(machine.packet([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]) == [0, 6, 4, 0x10, 3, 1, 0, 0])
        #expect(machine.packet([0x00]) == nil)
        #expect(machine.packet([0x03, 0, 0, 0, 18])?[12] == 0x3A)
        #expect(machine.packet([0x1B, 0, 0, 0, 3]) == [])
        #expect(machine.packet([0x00]) == nil)
        #expect(machine.packet([0x03, 0, 0, 0, 18])?[12] == 0x28)
        #expect(machine.packet([0x00]) == [])
    }

    private func disturb(_ machine: Machine, _ random: inout DeviceTestRandom) -> UInt32 {
        let base: UInt16 = [0x1F0, 0x1F0, 0x170, 0xC000, 0x3F0, 0x370][random.below(6)]
        let size = 1 << random.below(3)
        switch random.below(12) {
        case 0: machine.settle()
        case 1:
            let commands: [UInt8] = [
                0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0xC4, 0xC5, 0xC6, 0xC8, 0xCA, 0xEC, 0xA0, 0xA1, 0x91,
                0x08, 0x27, 0xF8, 0x90, 0x42,
            ]
            machine.command(
                commands[random.below(commands.count)], count: UInt8(random.below(256)), lba: random.below(4200),
                features: UInt8(random.below(4)), base: random.below(2) == 0 ? 0x1F0 : 0x170)
        case 2:
            let operations: [UInt8] = [
                0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8, 0xBD,
                0xBE,
            ]
            let packet =
                [operations[random.below(operations.count)]]
                + (1..<12).map { _ in UInt8(random.below(256)) & UInt8(random.below(256)) & UInt8(random.below(256)) }
            return UInt32(machine.packet(packet, limit: random.below(65536))?.count ?? 0)
        case 3:
            let bulk = random.below(600)
            for _ in 0..<bulk { machine.ports.write(0x1F0, UInt32(bulk), size: 2) }
            return (0..<bulk).reduce(0) { sum, _ in sum &+ machine.ports.read(0x1F0, size: 2) }
        case 4, 5, 6, 7:
            machine.ports.write(base + UInt16(random.below(16)), UInt32(truncatingIfNeeded: random.next()), size: size)
        default: return machine.ports.read(base + UInt16(random.below(16)), size: size)
        }
        return 0
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func randomAccessesNeverTrapAndStateIsComplete(seed: UInt64) {
        print("DevicesIDETests seed \(seed)")
        var random = DeviceTestRandom(state: seed)
        let machine = Machine()
        for index in machine.memory.bytes.indices where index < 0x4000 {
            machine.memory.bytes[index] = UInt8(truncatingIfNeeded: random.next())
        }
        for _ in 0..<3000 { _ = disturb(machine, &random) }
        let bytes = machine.saved()
        let copy = Machine()
        let archive = StateArchive(restoring: bytes)
        copy.visit(archive)
        #expect(archive.failure == nil)
        #expect(copy.saved() == bytes)
        var twin = random
        for _ in 0..<2000 where disturb(machine, &random) != disturb(copy, &twin) {
            Issue.record("the restored drives answer differently")
        }
        #expect(machine.saved() == copy.saved())
    }
}
