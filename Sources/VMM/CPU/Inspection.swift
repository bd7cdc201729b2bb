import CEngine

// Looking at the guest from outside: nothing here changes what the guest can observe, not even accessed bits.
extension Processor {
    /// Up to `count` bytes at a linear address, as many as are mapped to memory.
    package func inspect(linear: UInt64, count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for index in 0..<count {
            guard let physical = inspectTranslation(linear &+ UInt64(index)), let page = memory.readPage(physical)
            else { break }
            bytes.append((page + Int(physical & ~pageMask)).load(as: UInt8.self))
        }
        return bytes
    }

    /// The linear address of the instruction at RIP.
    package var instructionAddress: UInt64 {
        cpu.is64Bit ? cpu.pointee.rip : (cpu.pointee.segments.1.base &+ cpu.pointee.rip) & 0xFFFF_FFFF
    }

    /// How many events of a kind there have been since power-on.
    package func eventCount(_ kind: EventKind) -> UInt64 { cpu_event_count(cpu, Int32(kind.rawValue)).pointee }

    /// Where `linear` leads by the page tables as they are in memory; nil if nowhere.
    func inspectTranslation(_ linear: UInt64) -> UInt64? {
        guard cpu.pointee.cr0 & CR0.pg != 0 else { return linear }
        let isPAE = cpu.pointee.cr4 & CR4.pae != 0
        let isLong = cpu.pointee.efer & EFER.lma != 0
        let (entrySize, indexBits): (UInt64, UInt64) = isPAE ? (8, 9) : (4, 10)
        let frameMask: UInt64 = isPAE ? 0x000F_FFFF_FFFF_F000 : 0xFFFF_F000
        var level: UInt64 = isLong ? 4 : 2
        var table = cpu.pointee.cr3 & frameMask
        if isPAE, !isLong {
            let pointer = cpu_pdptr(cpu, Int32((linear >> 30) & 3)).pointee
            guard pointer & 1 != 0 else { return nil }
            table = pointer & frameMask
        }
        while true {
            let shift = 12 + indexBits * (level - 1)
            let index = (linear >> shift) & ((1 << indexBits) - 1)
            let entry = inspectEntry(table + index * entrySize, size: entrySize)
            guard entry & 1 != 0 else { return nil }
            let isLarge = level == 2 && entry & 0x80 != 0
            if level == 1 || isLarge {
                let offset: UInt64 = (1 << shift) - 1
                return (entry & frameMask & ~offset) | (linear & offset)
            }
            table = entry & frameMask
            level -= 1
        }
    }

    private func inspectEntry(_ physical: UInt64, size: UInt64) -> UInt64 {
        guard let page = memory.readPage(physical) else { return 0 }
        let place = page + Int(physical & ~pageMask)
        return size == 8 ? place.loadUnaligned(as: UInt64.self) : UInt64(place.loadUnaligned(as: UInt32.self))
    }
}
