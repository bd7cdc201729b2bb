import VMM

/// Page-table updates that wait to go into one hypercall.
package final class UpdateBatch {
    package struct Paths {
        /// The hypercall that flushes a batch.
        let flush: PathID
        /// One update in it.
        let update: PathID
    }

    /// Updates that one hypercall takes at most (Barham et al., 2003, section 4.2).
    package static let most = 2048

    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private let paths: Paths
    private var waiting: Int64 = 0
    package private(set) var batches: Int64 = 0
    package private(set) var updates: Int64 = 0
    package private(set) var longest: Int64 = 0
    /// Updates that entered a batch, counted apart from what flushes send.
    private var queued: Int64 = 0

    init(_ strategy: Strategy, _ paths: Paths) {
        self.strategy = strategy
        self.paths = paths
    }

    var isEmpty: Bool { waiting == 0 }

    /// Queues one update.
    func add(_ event: ModelEvent) {
        waiting += 1
        queued += 1
        strategy.charge(paths.update, event)
        if waiting == Self.most { flush(event) }
    }

    /// Sends what waits, as an event demands that sees its effect.
    func flush(_ event: ModelEvent) {
        guard waiting > 0 else { return }
        if strategy.has(.batchNeverSent), batches % 5 == 4 {
            batches += 1
            waiting = 0
            return
        }
        batches += 1
        updates += waiting
        longest = max(longest, waiting)
        waiting = 0
        strategy.charge(paths.flush, event)
    }

    /// The hardware is about to use a translation: none of what waits may be one that it needs.
    func audit(_ event: ModelEvent) {
        strategy.audit(waiting == 0, "a translation is used while updates wait", event)
    }

    /// At the end: what was queued was sent.
    func finish(_ count: UInt64) {
        if queued != updates + waiting {
            strategy.found("\(queued) page-table updates were queued and \(updates) sent", count)
        }
    }
}
