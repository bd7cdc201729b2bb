import CEngine

/// Low bits of `TLBEntry.frame`: rights and cached bits, combined over all levels of the walk.
package enum TLBFlags {
    package static let writable: UInt64 = 1 << 0
    package static let user: UInt64 = 1 << 1
    package static let dirty: UInt64 = 1 << 2
    package static let global: UInt64 = 1 << 3
    package static let noExecute: UInt64 = 1 << 4
}

/// The modelled TLB of one access type: direct-mapped arrays of 1,024 4-KB entries and 64 large-page entries.
///
/// It is part of the guest's machine: its contents are state, and what misses in it is an event. Flushes cost what was
/// filled since the last one, not the size of the arrays.
package struct TLB {
    package static let smallEntries = 1024
    package static let largeEntries = 64

    /// Both arrays in one allocation, small entries first. Owned here; `deallocate` frees it.
    let entries: UnsafeMutablePointer<TLBEntry>
    /// Slots filled since they were last flushed as non-global, each at most once. Owned here.
    private let filled: UnsafeMutablePointer<UInt16>
    private let isListed: UnsafeMutablePointer<Bool>
    private var filledCount = 0

    package init() {
        let count = TLB.smallEntries + TLB.largeEntries
        entries = .allocate(capacity: count)
        entries.initialize(repeating: TLBEntry(), count: count)
        filled = .allocate(capacity: count)
        filled.initialize(repeating: 0, count: count)
        isListed = .allocate(capacity: count)
        isListed.initialize(repeating: false, count: count)
    }

    package func deallocate() {
        entries.deallocate()
        filled.deallocate()
        isListed.deallocate()
    }

    /// The slot that a page uses. `largeShift` is 21 or 22; nil for a 4-KB page. Always inside the arrays.
    @inline(__always) package static func slot(_ linear: UInt64, largeShift: UInt64?) -> Int {
        if let largeShift {
            return smallEntries + Int(truncatingIfNeeded: (linear >> largeShift) & UInt64(largeEntries - 1))
        }
        return Int(truncatingIfNeeded: (linear >> 12) & UInt64(smallEntries - 1))
    }

    /// Finds the entry that translates `linear`; `largeShift` as the paging mode says.
    @inline(__always) package func lookup(_ linear: UInt64, largeShift: UInt64) -> (slot: Int, entry: TLBEntry)? {
        TLB.lookup(linear, in: entries, largeShift: largeShift)
    }

    /// The same in a TLB given by its entries.
    @inline(__always) static func lookup(
        _ linear: UInt64, in entries: UnsafeMutablePointer<TLBEntry>, largeShift: UInt64
    ) -> (slot: Int, entry: TLBEntry)? {
        let small = TLB.slot(linear, largeShift: nil)
        if entries[small].tag == (linear & pageMask) | 1 { return (small, entries[small]) }
        let large = TLB.slot(linear, largeShift: largeShift)
        if entries[large].tag == ((linear >> largeShift) << largeShift) | 1 { return (large, entries[large]) }
        return nil
    }

    package subscript(slot: Int) -> TLBEntry { entries[slot] }

    /// Puts an entry into its slot.
    package mutating func fill(_ slot: Int, _ entry: TLBEntry) {
        entries[slot] = entry
        if !isListed[slot] {
            isListed[slot] = true
            filled[filledCount] = UInt16(slot)
            filledCount += 1
        }
    }

    package mutating func drop(_ slot: Int) { entries[slot].tag = 0 }

    /// Empties the TLB, except for global entries if they are to be kept. Calls `dropped` with each entry that goes.
    package mutating func flush(keepGlobal: Bool, _ dropped: (Int, TLBEntry) -> Void) {
        var kept = 0
        for index in 0..<filledCount {
            let slot = Int(filled[index])
            let entry = entries[slot]
            if entry.tag != 0 && keepGlobal && entry.frame & TLBFlags.global != 0 {
                filled[kept] = UInt16(slot)
                kept += 1
                continue
            }
            isListed[slot] = false
            guard entry.tag != 0 else { continue }
            entries[slot].tag = 0
            dropped(slot, entry)
        }
        filledCount = kept
    }

    package mutating func archive(_ name: String, _ archive: StateArchive) {
        let count = TLB.smallEntries + TLB.largeEntries
        for slot in 0..<count where !archive.isRestoring && entries[slot].tag == 0 { entries[slot] = TLBEntry() }
        archive.raw(name, UnsafeMutableRawBufferPointer(start: entries, count: count * MemoryLayout<TLBEntry>.stride))
        guard archive.isRestoring else { return }
        filledCount = 0
        for slot in 0..<count {
            isListed[slot] = entries[slot].tag != 0
            guard isListed[slot] else { continue }
            filled[filledCount] = UInt16(slot)
            filledCount += 1
        }
    }
}
