import CEngine

/// The private caches that the fast path of operand access probes: for each privilege, 1,024 pages with the host
/// address
/// of their RAM. They never hold what the modelled data TLB does not, and refilling them is no event.
final class DataCaches {
    /// One allocation of `dataCacheEntries` entries each, owned here. `disabled` is never filled, so that every
    /// access takes
    /// the slow path while it is selected.
    let supervisor, user, disabled: UnsafeMutablePointer<DataCacheEntry>
    /// For each large slot of the TLB, the cache indices that hold pieces of that page, as 1,024 bits. Owned here.
    private let pieces: UnsafeMutablePointer<UInt64>
    private static let none = DataCacheEntry(readTag: ~0, writeTag: ~0, addend: 0, spare: 0)
    private static let count = Int(dataCacheEntries)
    private static let words = count / 64

    init() {
        func table() -> UnsafeMutablePointer<DataCacheEntry> {
            let table = UnsafeMutablePointer<DataCacheEntry>.allocate(capacity: DataCaches.count)
            table.initialize(repeating: DataCaches.none, count: DataCaches.count)
            return table
        }
        (supervisor, user, disabled) = (table(), table(), table())
        pieces = .allocate(capacity: TLB.largeEntries * DataCaches.words)
        pieces.initialize(repeating: 0, count: TLB.largeEntries * DataCaches.words)
    }

    deinit {
        supervisor.deallocate()
        user.deallocate()
        disabled.deallocate()
        pieces.deallocate()
    }

    /// Selects the table for the CPU's privilege; the empty one where accesses have conditions that it does not know:
    /// alignment checks and data breakpoints.
    func select(for cpu: CPU) {
        let checksAlignment =
            cpu.pointee.cpl == 3 && cpu.pointee.cr0 & CR0.am != 0 && cpu.pointee.flags & RFlags.ac != 0
        let hasBreakpoints = cpu.pointee.dr.7 & 0xff != 0
        cpu.pointee.dataCache =
            checksAlignment || hasBreakpoints ? disabled : cpu.pointee.cpl == 3 ? user : supervisor
    }

    /// Makes `linear`'s page readable, and writable if `write`, at host page `page` in the table of one privilege.
    func fill(user isUser: Bool, linear: UInt64, page: UnsafeMutableRawPointer, write: Bool, largeSlot: Int?) {
        let index = Int(truncatingIfNeeded: (linear >> 12) & (dataCacheEntries - 1))
        let tag = linear & pageMask
        let table = isUser ? user : supervisor
        table[index] = DataCacheEntry(
            readTag: tag, writeTag: write ? tag : ~0, addend: UInt64(UInt(bitPattern: page)) &- tag, spare: 0)
        if let largeSlot {
            pieces[(largeSlot - TLB.smallEntries) * DataCaches.words + index / 64] |= 1 << UInt64(index % 64)
        }
    }

    /// Drops what mirrors a TLB entry.
    func drop(_ slot: Int, _ entry: TLBEntry) {
        guard slot >= TLB.smallEntries else {
            supervisor[slot] = DataCaches.none
            user[slot] = DataCaches.none
            return
        }
        let words = pieces + (slot - TLB.smallEntries) * DataCaches.words
        for word in 0..<DataCaches.words where words[word] != 0 {
            var bits = words[word]
            words[word] = 0
            while bits != 0 {
                let index = word * 64 + bits.trailingZeroBitCount
                supervisor[index] = DataCaches.none
                user[index] = DataCaches.none
                bits &= bits &- 1
            }
        }
    }

    /// Takes the write rights away from every entry that maps the host page `page`.
    func protect(_ page: UnsafeMutableRawPointer) {
        let host = UInt64(UInt(bitPattern: page))
        for index in 0..<DataCaches.count {
            if supervisor[index].addend &+ supervisor[index].readTag == host { supervisor[index].writeTag = ~0 }
            if user[index].addend &+ user[index].readTag == host { user[index].writeTag = ~0 }
        }
    }

    func dropAll() {
        supervisor.update(repeating: DataCaches.none, count: DataCaches.count)
        user.update(repeating: DataCaches.none, count: DataCaches.count)
        pieces.update(repeating: 0, count: TLB.largeEntries * DataCaches.words)
    }
}
