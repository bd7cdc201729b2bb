import VMM

/// Page tables as Xen's direct paging has them: a table is pinned, which validates all of its entries, when the
/// hardware first uses it, and unpinned when it is unlinked. While it is pinned each update goes through the
/// hypervisor.
package final class PinnedTables {
    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private unowned(unsafe) let tables: GuestTables
    private let pin, validate, unpin: PathID
    /// By table number. Owned here.
    private var isPinned = GrowingBuffer(false)

    init(_ strategy: Strategy, pin: PathID, validate: PathID, unpin: PathID) {
        self.strategy = strategy
        self.pin = pin
        self.validate = validate
        self.unpin = unpin
        tables = strategy.context.tables
    }

    deinit { isPinned.deallocate() }

    /// The hardware walks tables.
    func walked(_ event: ModelEvent) {
        guard let walk = strategy.context.walk else { return }
        for level in 0..<walk.depth {
            let table = walk[level].table
            isPinned.grow(to: Int(table) + 1)
            guard !isPinned[Int(table)] else { continue }
            isPinned[Int(table)] = true
            strategy.charge(pin, event)
            strategy.charge(validate, event, times: Int64(tables[table].present))
        }
    }

    /// The guest stores into a page table.
    /// - Returns: whether that is an update for the hypervisor.
    func written(_ event: ModelEvent) -> Bool {
        let table = tables.table(at: event.operand)
        guard table != GuestTables.none, Int(table) < isPinned.count, isPinned[Int(table)] else { return false }
        guard strategy.context.isTableInUse else {
            release(table, event)
            return false
        }
        let old = strategy.context.oldEntry
        if tables[table].level > 1, old & 1 != 0, (old ^ event.value) & (GuestTables.addressMask | 1) != 0 {
            release(tables.table(at: old & GuestTables.addressMask), event)
        }
        return true
    }

    /// A frame is no page table any more.
    func ended(_ event: ModelEvent) { release(tables.table(at: event.operand), event) }

    private func release(_ table: UInt32, _ event: ModelEvent) {
        guard table != GuestTables.none, Int(table) < isPinned.count, isPinned[Int(table)] else { return }
        isPinned[Int(table)] = false
        strategy.charge(unpin, event)
    }
}
