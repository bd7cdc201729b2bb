import CEngine

/// The translated code of recent branch targets, by RIP and mode, for translated code to probe.
///
/// An entry proves that the modelled fetch TLB translates its page, and to where the code came from: entries go
/// when what they rest on goes. The entries of a page lie together, so that they can be found for that.
enum JumpCache {
    static let entries = Int(CPU_JUMP_CACHE_ENTRIES)
    /// `index` is ((rip >> shift) ^ (rip & mask)) % entries.
    static let shift: UInt8 = 4, mask: UInt64 = 15
    private static let entriesPerPage = Int(pageSize) >> Int(shift)

    /// The entry of a target: bits of the page choose 256 entries, and the offset one of them.
    @inline(__always) static func index(_ rip: UInt64) -> Int {
        Int(truncatingIfNeeded: ((rip >> UInt64(shift)) ^ (rip & mask)) & UInt64(entries - 1))
    }

    private static let none = JumpCacheEntry(rip: 0, code: 0, mode: ~0)

    /// The table, in the region of the state block.
    @inline(__always) private static func table(_ cpu: CPU) -> UnsafeMutablePointer<JumpCacheEntry> {
        (cpu.raw + Int(CPU_REGION_JUMP_CACHE)).assumingMemoryBound(to: JumpCacheEntry.self)
    }

    /// The code of a target that is at hand.
    @inline(__always) static func find(_ rip: UInt64, _ mode: UInt32, _ cpu: CPU) -> UnsafeRawPointer? {
        let entry = table(cpu) + index(rip)
        guard entry.pointee.rip == rip && entry.pointee.mode == mode else { return nil }
        return UnsafeRawPointer(bitPattern: UInt(entry.pointee.code))
    }

    /// `code` is in the lower 4 GB.
    static func insert(_ rip: UInt64, _ mode: UInt32, _ code: UnsafeRawPointer, _ cpu: CPU) {
        let address = UInt32(UInt(bitPattern: code))
        table(cpu)[index(rip)] = JumpCacheEntry(rip: rip, code: address, mode: mode)
    }

    static func remove(_ block: BlockCache.BlockPointer, _ cpu: CPU) {
        let entry = table(cpu) + index(block.pointee.rip)
        if entry.pointee.rip == block.pointee.rip && entry.pointee.mode == block.pointee.mode { entry.pointee = none }
    }

    /// Drops every target on the page of `linear`, and some others.
    static func drop(page linear: UInt64, _ cpu: CPU) {
        let first = table(cpu) + (Int(truncatingIfNeeded: linear >> UInt64(shift)) & (entries - entriesPerPage))
        first.update(repeating: none, count: entriesPerPage)
    }

    static func clear(_ cpu: CPU) { table(cpu).update(repeating: none, count: entries) }
}
