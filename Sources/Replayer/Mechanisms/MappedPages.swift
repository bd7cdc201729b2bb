import VMM

/// The user pages that an L4 kernel has mapped into the guest's tasks. It learns of a page by a fault on it, and
/// forgets it when the guest unmaps it; the guest's own tables are plain memory to it.
package final class MappedPages {
    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    /// The leaf entries whose translation is mapped: table number and slot.
    private var mapped: Set<UInt64> = []
    /// The page that the reply to a true fault has mapped on the way.
    private var granted: UInt64 = .max
    private let fault: PathID
    private let unmap: PathID

    init(_ strategy: Strategy, fault: PathID, unmap: PathID) {
        self.strategy = strategy
        self.fault = fault
        self.unmap = unmap
    }

    private func key(_ table: UInt32, _ slot: Int) -> UInt64 { UInt64(table) << 10 | UInt64(slot) }

    /// The guest's kernel is told of a true fault; its reply maps the page.
    func faulted(_ event: ModelEvent) { granted = event.value & ~4095 }

    /// A user page is accessed after a TLB miss.
    func walked(_ event: ModelEvent) {
        guard event.isUser, let walk = strategy.context.walk else { return }
        let leaf = walk.leaf
        guard mapped.insert(key(leaf.table, leaf.slot)).inserted else { return }
        if event.address & ~4095 == granted {
            granted = .max
        } else {
            strategy.charge(fault, event)
        }
    }

    /// The guest stores into a page table: a present entry that changes is unmapped.
    func written(_ event: ModelEvent) {
        let tables = strategy.context.tables
        let table = tables.table(at: event.operand)
        guard table != GuestTables.none, strategy.context.isTableInUse else { return }
        // Accessed and dirty bits alone change no mapping.
        let differs = (strategy.context.oldEntry ^ event.value) & ~0x60
        guard strategy.context.oldEntry & 1 != 0, differs != 0 else { return }
        if mapped.remove(key(table, tables.slot(of: event.operand, in: table))) != nil {
            strategy.charge(unmap, event)
        }
    }

    /// A table ends, and with it what it mapped.
    func ended(_ event: ModelEvent) {
        let table = strategy.context.tables.table(at: event.operand)
        guard table != GuestTables.none, !mapped.isEmpty else { return }
        for slot in 0..<GuestTables.mostEntries { mapped.remove(key(table, slot)) }
    }
}
