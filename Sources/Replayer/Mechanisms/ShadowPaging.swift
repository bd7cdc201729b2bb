import Tracer
import VMM

/// Shadow page tables: for each of the guest's tables that the hardware may walk, the VMM keeps one of its own, which
/// the hardware really walks. An entry is made when it is first missed (a hidden fault). The guest's tables are
/// write-protected while they have a shadow, and each store to one is applied to it.
///
/// A shadow belongs to a table and not to an address space, so spaces that share tables share shadows, and a new root
/// faults once for each of its own entries. A shadow whose table is stored to again and again without being walked in
/// between is dropped: the frame is being used for something else, or rebuilt.
package final class ShadowPaging {
    /// How a strategy does it.
    struct Manner {
        /// What a fault into the VMM costs, and how it and a store to a protected table are called.
        let fault: Charges
        let hiddenFault, store: String
        /// How frames are guarded.
        var guarding = "protected or released"
        /// What a store costs once the storing instruction is known for it; nil if that makes no difference.
        var knownStore: Charges?
    }

    /// What its work is charged to.
    private struct Paths {
        /// A hidden fault, without the entries made; one because the entry was read-only until the dirty bit was set.
        let hiddenFault, dirtyFault: PathID
        let entryMade, entryDropped: PathID
        /// A table protected because it gets a shadow, or no longer.
        let guarded: PathID
        /// A store to a protected table, and one by an instruction that is known for it.
        let write: PathID
        let knownWrite: PathID?

        init(_ strategy: Strategy, _ manner: Manner) {
            let fault = manner.fault
            hiddenFault = strategy.path(
                "TLB fill without a shadow entry", .translation,
                "\(manner.hiddenFault), walk of the guest's tables in software", fault, .hiddenFault)
            dirtyFault = strategy.path(
                "first write to a page", .translation, "\(manner.hiddenFault), to set the dirty bit",
                fault + [.shadowFill: 1], .hiddenFault)
            entryMade = strategy.path(
                "shadow entry made", .translation, "entered into the shadow", [.shadowFill: 1])
            guarded = strategy.path(
                "a page becomes or stops being a page table", .pageTable, manner.guarding, [.shadowProtect: 1])
            write = strategy.path(
                "page-table write", .pageTable, "\(manner.store), decode, emulate, apply to the shadow",
                fault + [.decode: 1, .emulate: 1, .shadowUpdate: 1], .worldSwitch)
            knownWrite = manner.knownStore.map {
                strategy.path(
                    "page-table write by a store known for it", .pageTable, "callout, apply to the shadow",
                    $0 + [.shadowUpdate: 1])
            }
            entryDropped = strategy.path("shadow entry dropped", .pageTable, "with its table", [.shadowDrop: 1])
        }
    }

    /// Stores without a walk in between after which a shadow is dropped.
    package static let mostStores = 3

    // The strategy owns this object, and its setting the context, so both outlive it.
    private unowned(unsafe) let strategy: Strategy
    private unowned(unsafe) let context: GuestContext
    private unowned(unsafe) let tables: GuestTables
    private let paths: Paths
    /// By table number: has a shadow; entries present, writable, a bit each; stores since the last walk.
    private var isShadowed = GrowingBuffer(false)
    private var present = GrowingBuffer<UInt64>(0)
    private var writable = GrowingBuffer<UInt64>(0)
    private var stores = GrowingBuffer<UInt8>(0)
    /// The level that a shadow was made for.
    private var levels = GrowingBuffer<UInt8>(0)
    /// By table number and slot: what the shadow has of the guest's entry, kept for audits.
    private var contents = GrowingBuffer<UInt64>(0)
    private var pendingAudit: (table: UInt32, slot: Int)?
    /// Faults at each storing instruction, for `knownWrite`.
    private var faultsBySite: [UInt32: Int] = [:]
    private static let words = GuestTables.mostEntries / 64
    private static let faultsUntilKnown = 3

    package private(set) var entriesMade: Int64 = 0
    package private(set) var entriesDropped: Int64 = 0
    private let audits: Bool

    init(_ strategy: Strategy, _ manner: Manner) {
        self.strategy = strategy
        paths = Paths(strategy, manner)
        context = strategy.context
        tables = strategy.context.tables
        audits = strategy.setting.options.audits
        strategy.verify([paths.entryMade], "shadow entries") { [unowned self] _ in entriesMade }
    }

    deinit {
        isShadowed.deallocate()
        present.deallocate()
        writable.deallocate()
        stores.deallocate()
        levels.deallocate()
        contents.deallocate()
    }

    /// The bits of an entry that a shadow copies: present, writable, user, large, address, no-execute.
    private static let copied: UInt64 = 0x800f_ffff_ffff_f087

    private func grow(_ table: UInt32) {
        let count = Int(table) + 1
        guard count > isShadowed.count else { return }
        isShadowed.grow(to: count)
        stores.grow(to: count)
        levels.grow(to: count)
        present.grow(to: count * Self.words)
        writable.grow(to: count * Self.words)
        if audits { contents.grow(to: count * GuestTables.mostEntries) }
    }

    @inline(__always) private func has(_ table: UInt32, _ slot: Int) -> Bool {
        present[Int(table) * Self.words + slot / 64] & 1 << UInt64(slot % 64) != 0
    }

    @inline(__always) private func isWritable(_ table: UInt32, _ slot: Int) -> Bool {
        writable[Int(table) * Self.words + slot / 64] & 1 << UInt64(slot % 64) != 0
    }

    // MARK: Walks

    /// The bare machine walks for a fill, or uses what it has (`isReuse`): the hardware walks the shadow.
    func walked(_ event: ModelEvent) {
        auditPending(event)
        guard let walk = context.walk else { return }
        let isWrite = event.detail & AccessKind.write.rawValue != 0
        let isDirty = event.value & TLBFlags.dirty != 0
        var missing: Int64 = 0
        var isReadOnly = false
        for level in 0..<walk.depth {
            let (table, slot) = walk[level]
            grow(table)
            stores[Int(table)] = 0
            let isLeaf = level == walk.depth - 1
            // A frame that comes back as a table of another level needs another shadow.
            let role = UInt8(tables[table].level)
            if isShadowed[Int(table)], levels[Int(table)] != role { drop(table, event) }
            levels[Int(table)] = role
            if isShadowed[Int(table)], has(table, slot) {
                if isLeaf {
                    if audits { auditUse(event, table, slot) }
                    if isWrite, !isWritable(table, slot) {
                        isReadOnly = true
                        setWritable(table, slot)
                    }
                }
                continue
            }
            if !isShadowed[Int(table)] {
                isShadowed[Int(table)] = true
                strategy.charge(paths.guarded, event)
            }
            make(table, slot, isWritable: isLeaf && isDirty, event)
            missing += 1
        }
        guard missing > 0 || isReadOnly else { return }
        entriesMade += missing
        if strategy.has(.hiddenFaultUncharged), missing > 1 { return }
        strategy.charge(missing > 0 ? paths.hiddenFault : paths.dirtyFault, event)
        if missing > 0 { strategy.charge(paths.entryMade, event, times: missing) }
    }

    private func setWritable(_ table: UInt32, _ slot: Int) {
        writable[Int(table) * Self.words + slot / 64] |= 1 << UInt64(slot % 64)
    }

    private func make(_ table: UInt32, _ slot: Int, isWritable: Bool, _ event: ModelEvent) {
        let word = Int(table) * Self.words + slot / 64
        let bit = UInt64(1) << UInt64(slot % 64)
        present[word] |= bit
        if isWritable { writable[word] |= bit } else { writable[word] &= ~bit }
        guard audits else { return }
        contents[Int(table) * GuestTables.mostEntries + slot] = tables.entry(table, slot) & Self.copied
        strategy.audit(
            tables.entry(table, slot) & 1 != 0,
            "for \(hexadecimal(event.address)) a shadow entry was made of entry \(slot) of the table at "
                + "\(hexadecimal(tables[table].frame)), which is not present", event)
    }

    // MARK: Stores

    /// The guest stores into a page table.
    func written(_ event: ModelEvent) {
        auditPending(event)
        let table = tables.table(at: event.operand)
        guard table != GuestTables.none, Int(table) < isShadowed.count, isShadowed[Int(table)] else { return }
        let slot = tables.slot(of: event.operand, in: table)
        chargeStore(event)
        stores[Int(table)] = stores[Int(table)] &+ 1
        if Int(stores[Int(table)]) >= Self.mostStores {
            drop(table, event)
            return
        }
        guard has(table, slot) else { return }
        if strategy.has(.shadowUpdateLost), event.count % 7 == 0 {
            pendingAudit = (table, slot)
            return
        }
        apply(event, table, slot)
        if audits { pendingAudit = (table, slot) }
    }

    private func chargeStore(_ event: ModelEvent) {
        guard let known = paths.knownWrite else { return strategy.charge(paths.write, event) }
        let faults = faultsBySite[event.site, default: 0]
        if faults >= Self.faultsUntilKnown {
            strategy.charge(known, event)
        } else {
            faultsBySite[event.site] = faults + 1
            strategy.charge(paths.write, event)
        }
    }

    /// Has the shadow follow a store to an entry that it holds.
    private func apply(_ event: ModelEvent, _ table: UInt32, _ slot: Int) {
        let level = tables[table].level
        let word = Int(table) * Self.words + slot / 64
        let bit = UInt64(1) << UInt64(slot % 64)
        let isWhole = Int(event.size) == tables[table].entryBytes
        let isLarge = level > 1 && event.value & 0x80 != 0
        guard isWhole, event.value & 1 != 0, level == 1 || isLarge else {
            // Half an entry, one that is not present, or a link to another table: made anew when it is used.
            present[word] &= ~bit
            writable[word] &= ~bit
            entriesDropped += 1
            return
        }
        if event.value & 0x42 != 0x42 { writable[word] &= ~bit }
        if audits { contents[Int(table) * GuestTables.mostEntries + slot] = event.value & Self.copied }
    }

    /// A frame is no page table any more.
    func ended(_ event: ModelEvent) {
        auditPending(event)
        let table = tables.table(at: event.operand)
        guard table != GuestTables.none, Int(table) < isShadowed.count, isShadowed[Int(table)] else { return }
        if strategy.has(.shadowOutlivesTable) { return }
        drop(table, event)
    }

    private func drop(_ table: UInt32, _ event: ModelEvent) {
        isShadowed[Int(table)] = false
        stores[Int(table)] = 0
        var dropped: Int64 = 0
        for word in Int(table) * Self.words..<(Int(table) + 1) * Self.words {
            dropped += Int64(present[word].nonzeroBitCount)
            present[word] = 0
            writable[word] = 0
        }
        strategy.charge(paths.guarded, event)
        if dropped > 0 { strategy.charge(paths.entryDropped, event, times: dropped) }
        entriesDropped += dropped
    }

    // MARK: Audits

    /// The hardware uses a shadow entry: it translates as the guest's tables do, which the machine has just walked.
    private func auditUse(_ event: ModelEvent, _ table: UInt32, _ slot: Int) {
        // A reuse may be of an entry that the guest changed without invalidating it.
        guard event.kind == .tlbFill else { return }
        let shift = UInt64(event.size)
        let content = contents[Int(table) * GuestTables.mostEntries + slot]
        let frame = content & GuestTables.addressMask & ~((1 << shift) - 1)
        strategy.audit(
            frame == event.operand & GuestTables.addressMask & ~((1 << shift) - 1),
            "the shadow of \(hexadecimal(event.address)) leads to \(hexadecimal(frame)), the guest's tables to "
                + hexadecimal(event.operand), event)
    }

    /// After a store was applied, the shadow's entry is the guest's.
    private func auditPending(_ event: ModelEvent) {
        guard let (table, slot) = pendingAudit else { return }
        pendingAudit = nil
        guard audits, isShadowed[Int(table)], has(table, slot) else { return }
        let content = contents[Int(table) * GuestTables.mostEntries + slot]
        let entry = tables.entry(table, slot) & Self.copied
        strategy.audit(
            content == entry,
            "after a store to entry \(slot) of the table at \(hexadecimal(tables[table].frame)) the "
                + "shadow has \(hexadecimal(content)), the guest \(hexadecimal(entry))", event)
    }
}
