import VMM

/// The guest's RAM with one set of page tables: what lies at a linear address, without asking a processor. Nothing is
/// changed by looking.
package struct GuestPages {
    /// How page tables are laid out.
    package enum Paging {
        /// Linear addresses are physical ones.
        case off
        /// 32-bit entries, two levels.
        case legacy
        /// 64-bit entries under four pointers.
        case pae
        /// 64-bit entries, four levels.
        case long
    }

    private static let pageSize: UInt64 = 4096
    package let ram: UnsafeRawBufferPointer
    package var paging: Paging
    /// Physical address of the top table.
    package var root: UInt64

    package init(ram: UnsafeRawBufferPointer, paging: Paging, root: UInt64) {
        self.ram = ram
        self.paging = paging
        self.root = root
    }

    /// As `machine`'s processor sees memory now.
    package init(_ machine: Machine) {
        let cpu = machine.processor.cpu.pointee
        let (pagingBit, paeBit, longBit): (UInt64, UInt64, UInt64) = (1 << 31, 1 << 5, 1 << 10)
        ram = UnsafeRawBufferPointer(machine.memory.ramBytes)
        if cpu.cr0 & pagingBit == 0 {
            paging = .off
        } else if cpu.efer & longBit != 0 {
            paging = .long
        } else {
            paging = cpu.cr4 & paeBit != 0 ? .pae : .legacy
        }
        // The four pointers lie at any multiple of 32, a table at one of 4096.
        root = cpu.cr3 & (paging == .pae ? 0xFFFF_FFE0 : 0x000F_FFFF_FFFF_F000)
    }

    /// Bytes of a pointer of the guest's kernel.
    package var wordSize: Int { paging == .long ? 8 : 4 }

    /// A little-endian number at a physical address; nil outside RAM.
    package func physical<T: FixedWidthInteger>(_ address: UInt64, as type: T.Type) -> T? {
        let size = UInt64(MemoryLayout<T>.size)
        guard address <= UInt64(ram.count), size <= UInt64(ram.count) - address else { return nil }
        return T(littleEndian: ram.loadUnaligned(fromByteOffset: Int(address), as: T.self))
    }

    /// Where a linear address leads; nil if nowhere.
    package func translate(_ linear: UInt64) -> UInt64? {
        if paging == .off { return linear }
        let entrySize: UInt64 = paging == .legacy ? 4 : 8
        let indexBits: UInt64 = paging == .legacy ? 10 : 9
        let frameMask: UInt64 = paging == .legacy ? 0xFFFF_F000 : 0x000F_FFFF_FFFF_F000
        var level: UInt64 = paging == .long ? 4 : 2
        var table = root
        if paging == .pae {
            guard let pointer = entry(root + ((linear >> 30) & 3) * 8, size: 8), pointer & 1 != 0 else { return nil }
            table = pointer & frameMask
        }
        while true {
            let shift = 12 + indexBits * (level - 1)
            let index = (linear >> shift) & ((1 << indexBits) - 1)
            guard let entry = entry(table + index * entrySize, size: entrySize), entry & 1 != 0 else { return nil }
            if level == 1 || (level <= 3 && entry & 0x80 != 0) {
                let offset: UInt64 = (1 << shift) - 1
                return (entry & frameMask & ~offset) | (linear & offset)
            }
            table = entry & frameMask
            level -= 1
        }
    }

    private func entry(_ address: UInt64, size: UInt64) -> UInt64? {
        size == 8 ? physical(address, as: UInt64.self) : physical(address, as: UInt32.self).map { UInt64($0) }
    }

    /// Up to `count` bytes at a linear address, as many as are mapped to RAM.
    package func bytes(_ linear: UInt64, count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let address = linear &+ UInt64(bytes.count)
            guard let physical = translate(address), physical < UInt64(ram.count) else { break }
            let left = Int(Self.pageSize - (address & (Self.pageSize - 1)))
            let size = min(left, count - bytes.count, ram.count - Int(physical))
            bytes += ram[Int(physical)..<Int(physical) + size]
        }
        return bytes
    }

    /// A number at a linear address; nil if it is not mapped.
    package func number(_ linear: UInt64, size: Int) -> UInt64? {
        let bytes = bytes(linear, count: size)
        guard bytes.count == size else { return nil }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A pointer of the guest's kernel.
    package func word(_ linear: UInt64) -> UInt64? { number(linear, size: wordSize) }

    /// The text at a linear address up to a zero byte, at most `longest` bytes.
    package func text(_ linear: UInt64, longest: Int) -> String? {
        let bytes = bytes(linear, count: longest)
        guard !bytes.isEmpty else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}
