import CEngine

/// The private caches that the fast path of operand access probes: for each privilege, direct-mapped, pages with the
/// host address of their RAM. They never hold what the modelled data TLB does not, and refilling them is no event.
final class DataCaches {
    /// Tables of `dataCacheEntries` entries each, in the region of the state block, whose Processor owns it.
    /// `disabled` is never filled, so that every access takes the slow path while it is selected.
    let supervisor, user, disabled: UnsafeMutablePointer<DataCacheEntry>
    /// For each large slot of the TLB, the cache indices that hold pieces of that page, a bit each. Owned here.
    private let pieces: UnsafeMutablePointer<UInt64>
    private static let count = Int(dataCacheEntries)
    private static let words = count / 64

    /// The caches in `region`, which has CPU_REGION_SIZE bytes and outlives them.
    init(region: UnsafeMutableRawPointer) {
        func table(_ offset: some BinaryInteger) -> UnsafeMutablePointer<DataCacheEntry> {
            let table = (region + Int(offset)).bindMemory(to: DataCacheEntry.self, capacity: DataCaches.count)
            for index in 0..<DataCaches.count { table[index] = DataCaches.none(index) }
            return table
        }
        supervisor = table(CPU_REGION_SUPERVISOR_CACHE)
        user = table(CPU_REGION_USER_CACHE)
        disabled = table(CPU_REGION_DISABLED_CACHE)
        pieces = .allocate(capacity: TLB.largeEntries * DataCaches.words)
        pieces.initialize(repeating: 0, count: TLB.largeEntries * DataCaches.words)
    }

    deinit { pieces.deallocate() }

    @inline(__always) static func index(_ linear: UInt64) -> Int {
        Int(truncatingIfNeeded: (linear >> 12) & (dataCacheEntries - 1))
    }

    /// A tag that no address which indexes entry `index` has, nor the page after such an address.
    @inline(__always) private static func noTag(_ index: Int) -> UInt64 { UInt64((index ^ count / 2) << 12) }

    @inline(__always) private static func none(_ index: Int) -> DataCacheEntry {
        DataCacheEntry(readTag: noTag(index), writeTag: noTag(index), addend: 0, page: 0)
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
        let index = DataCaches.index(linear)
        let tag = linear & pageMask
        let table = isUser ? user : supervisor
        table[index] = DataCacheEntry(
            readTag: tag, writeTag: write ? tag : DataCaches.noTag(index),
            addend: UInt64(UInt(bitPattern: page)) &- tag, page: UInt64(UInt(bitPattern: page)))
        if let largeSlot {
            pieces[(largeSlot - TLB.smallEntries) * DataCaches.words + index / 64] |= 1 << UInt64(index % 64)
        }
    }

    /// Drops what mirrors a TLB entry.
    func drop(_ slot: Int, _ entry: TLBEntry) {
        guard slot >= TLB.smallEntries else {
            guard entry.tag != 0 else { return }
            let index = DataCaches.index(entry.tag)
            supervisor[index] = DataCaches.none(index)
            user[index] = DataCaches.none(index)
            return
        }
        // The pieces of a large page, up to 4 MB, have successive indices.
        let words = pieces + (slot - TLB.smallEntries) * DataCaches.words
        let first = DataCaches.index(entry.tag) / 64
        for word in first..<min(first + 1024 / 64, DataCaches.words) where words[word] != 0 {
            var bits = words[word]
            words[word] = 0
            while bits != 0 {
                let index = word * 64 + bits.trailingZeroBitCount
                supervisor[index] = DataCaches.none(index)
                user[index] = DataCaches.none(index)
                bits &= bits &- 1
            }
        }
    }

    /// Takes the write rights away from every entry that maps the host page `page`.
    func protect(_ page: UnsafeMutableRawPointer) {
        let host = UInt64(UInt(bitPattern: page))
        for index in 0..<DataCaches.count {
            if supervisor[index].page == host { supervisor[index].writeTag = DataCaches.noTag(index) }
            if user[index].page == host { user[index].writeTag = DataCaches.noTag(index) }
        }
    }

    func dropAll() {
        for index in 0..<DataCaches.count {
            supervisor[index] = DataCaches.none(index)
            user[index] = DataCaches.none(index)
        }
        pieces.update(repeating: 0, count: TLB.largeEntries * DataCaches.words)
    }
}
