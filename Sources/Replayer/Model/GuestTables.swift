import VMM

/// The guest's page tables, as far as walks of the machine have read them: put together from events alone, so that
/// strategies, which run behind the guest, see them as they were at each event. Tables are numbered densely; a number
/// is used again when its table has ended.
package final class GuestTables {
    package static let none: UInt32 = .max
    package static let mostEntries = 1024

    package struct Table: BitwiseCopyable {
        package var frame: UInt64
        /// 4: PML4, 3: page-directory-pointer table, 2: page directory, 1: page table; what it was in the last walk.
        package var level: UInt32
        /// 4 or 8.
        package var entryBytes: Int
        /// A walk came through it, and since then neither was the entry that leads to it changed, nor was a root
        /// rebuilt. Kernels free tables without a word; a frame that is no longer reached is only memory.
        package var isLinked: Bool
        /// Stores since the last walk.
        fileprivate var stores: UInt16 = 0
        /// Entries that are present.
        package var present: UInt16 = 0

        /// log2 of the bytes that one entry translates.
        package var shift: UInt64 { 12 + (entryBytes == 4 ? 10 : 9) * UInt64(level - 1) }
        package var entryCount: Int { 4096 / entryBytes }
    }

    /// Where a walk went: tables with the entries used, the leaf last.
    package struct Walk: BitwiseCopyable {
        package var depth = 0
        package var tables: (UInt32, UInt32, UInt32, UInt32) = (none, none, none, none)
        package var slots: (UInt16, UInt16, UInt16, UInt16) = (0, 0, 0, 0)

        package subscript(index: Int) -> (table: UInt32, slot: Int) {
            switch index {
            case 0: (tables.0, Int(slots.0))
            case 1: (tables.1, Int(slots.1))
            case 2: (tables.2, Int(slots.2))
            default: (tables.3, Int(slots.3))
            }
        }

        fileprivate mutating func append(_ table: UInt32, _ slot: Int) {
            switch depth {
            case 0: (tables.0, slots.0) = (table, UInt16(slot))
            case 1: (tables.1, slots.1) = (table, UInt16(slot))
            case 2: (tables.2, slots.2) = (table, UInt16(slot))
            default: (tables.3, slots.3) = (table, UInt16(slot))
            }
            depth += 1
        }

        package var leaf: (table: UInt32, slot: Int) { self[depth - 1] }
    }

    private var tables = GrowingBuffer(Table(frame: 0, level: 0, entryBytes: 8, isLinked: false))
    /// Contents, `mostEntries` for each table.
    private var entries = GrowingBuffer<UInt64>(0)
    /// By frame of RAM: the table's number, or `none`.
    private var byFrame = GrowingBuffer(none)
    private var free: [UInt32] = []

    init(memoryBytes: UInt64) { byFrame.grow(to: Int(memoryBytes / 4096)) }

    deinit {
        tables.deallocate()
        entries.deallocate()
        byFrame.deallocate()
    }

    /// The table of a number that has been given out.
    @inline(__always) package subscript(table: UInt32) -> Table { tables[Int(table)] }

    /// The number of the table in the frame of `physical`, or `none`.
    @inline(__always) package func table(at physical: UInt64) -> UInt32 {
        let frame = physical >> 12
        return frame < UInt64(byFrame.count) ? byFrame[Int(frame)] : Self.none
    }

    @inline(__always) package func entry(_ table: UInt32, _ slot: Int) -> UInt64 {
        entries[Int(table) * Self.mostEntries + slot]
    }

    package func slot(of physical: UInt64, in table: UInt32) -> Int {
        Int(physical & 4095) / tables[Int(table)].entryBytes
    }

    // MARK: Changes

    func begin(_ frame: UInt64, level: UInt32, entryBytes: Int) {
        guard frame >> 12 < UInt64(byFrame.count) else { return }
        let known = table(at: frame)
        if known != Self.none { end(frame) }
        let table = Table(
            frame: frame, level: level, entryBytes: entryBytes, isLinked: false)
        let number: UInt32
        if let reused = free.popLast() {
            number = reused
            tables[Int(number)] = table
            let first = Int(number) * Self.mostEntries
            for index in first..<first + Self.mostEntries { entries[index] = 0 }
        } else {
            number = UInt32(tables.count)
            tables.grow(to: tables.count + 1)
            tables[Int(number)] = table
            entries.grow(to: tables.count * Self.mostEntries)
        }
        byFrame[Int(frame >> 12)] = number
    }

    func end(_ frame: UInt64) {
        let number = table(at: frame)
        guard number != Self.none else { return }
        tables.base[Int(number)].isLinked = false
        byFrame[Int(frame >> 12)] = Self.none
        free.append(number)
    }

    func write(_ physical: UInt64, _ value: UInt64, bytes: Int) {
        let number = table(at: physical)
        guard number != Self.none else { return }
        let entryBytes = tables[Int(number)].entryBytes
        let slot = Int(physical & 4095) / entryBytes
        if bytes == entryBytes {
            set(number, slot, value)
        } else if bytes < entryBytes {
            // A half of an entry.
            let shift = (physical & 4) * 8
            let mask = UInt64(0xffff_ffff) << shift
            set(number, slot, entry(number, slot) & ~mask | (value << shift) & mask)
        } else {
            set(number, slot, value & 0xffff_ffff)
            set(number, slot + 1, value >> 32)
        }
    }

    private func set(_ table: UInt32, _ slot: Int, _ value: UInt64) {
        let index = Int(table) * Self.mostEntries + slot
        let place = tables.base + Int(table)
        let old = entries[index]
        entries[index] = value
        place.pointee.present = place.pointee.present &- UInt16(old & 1) &+ UInt16(value & 1)
        place.pointee.stores = min(place.pointee.stores, .max - 1) + 1
        if place.pointee.level > 1, old & 1 != 0, (old ^ value) & (Self.addressMask | 1) != 0 {
            let child = self.table(at: old & Self.addressMask)
            if child != Self.none { tables.base[Int(child)].isLinked = false }
        }
    }

    /// Stores without a walk after which a root that is not the present one is taken to be rebuilt for something else.
    private static let mostRootStores: UInt16 = 16

    /// Whether a store to `table` is one to a page table that is in use, while the root is the one in `cr3`.
    func isInUse(_ table: UInt32, cr3: UInt64) -> Bool {
        let found = tables[Int(table)]
        guard found.isLinked else { return false }
        let isRoot = found.level > (found.entryBytes == 4 ? 1 : 2)
        return !isRoot || found.stores < Self.mostRootStores || found.frame == cr3 & Self.addressMask
    }

    private func reach(_ table: UInt32) {
        tables.base[Int(table)].isLinked = true
        tables.base[Int(table)].stores = 0
    }

    // MARK: Walks

    /// The way from the root in `cr3` to the entry for `linear`, as far as the tables are known: the leaf has `depth`
    /// entries above and with it, PAE's pointers included.
    func walk(_ linear: UInt64, cr3: UInt64, isLong: Bool, isPAE: Bool, pageShift: UInt64) -> Walk? {
        var walk = Walk()
        var number = table(at: cr3)
        if !isLong && isPAE {
            guard number != Self.none else { return nil }
            let slot = Int((cr3 & 0xfe0) / 8) + Int((linear >> 30) & 3)
            walk.append(number, slot)
            reach(number)
            number = table(at: entry(number, slot) & Self.addressMask)
        }
        var level: UInt32 = isLong ? 4 : 2
        while number != Self.none, level > 0 {
            // A frame may come back as a table of another level.
            tables.base[Int(number)].level = level
            level -= 1
            let table = tables[Int(number)]
            let mask: UInt64 = table.entryBytes == 4 ? 1023 : 511
            let slot = Int((linear >> table.shift) & mask)
            walk.append(number, slot)
            reach(number)
            let entry = entry(number, slot)
            if table.level == 1 || table.shift == pageShift { return walk }
            guard entry & 1 != 0 else { return nil }
            number = self.table(at: entry & Self.addressMask)
        }
        return nil
    }

    /// Bits 12 to 51 of an entry.
    package static let addressMask: UInt64 = 0x000f_ffff_ffff_f000
}
