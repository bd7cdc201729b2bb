/// What a run's charges are told apart by besides their sites: the guest's processes, and parts of its time.
package struct RunDivisions {
    /// Where a process begins to run: what comes after `count` is its.
    package struct Start {
        package var count: UInt64
        package var process: Int

        package init(count: UInt64, process: Int) {
            self.count = count
            self.process = process
        }
    }

    private static let mostProcesses = 1 << 22
    private let starts: [Start]
    private var nextStart = 0
    /// Where parts of the time end, but for the last.
    private let ends: [UInt64]
    private var nextEnd = 0

    /// Both ascend.
    package init(starts: [Start], ends: [UInt64]) {
        self.starts = starts
        self.ends = ends
    }

    /// The first count that `reach` wants to know of.
    var first: UInt64 { next }

    private var next: UInt64 {
        min(
            nextStart < starts.count ? starts[nextStart].count &+ 1 : .max,
            nextEnd < ends.count ? ends[nextEnd] : .max)
    }

    /// Events from now on are at `count` or after it.
    /// - Returns: where it wants to be called next.
    mutating func reach(_ count: UInt64, _ ledgers: [Ledger]) -> UInt64 {
        while nextEnd < ends.count, ends[nextEnd] <= count {
            for ledger in ledgers { ledger.takeSnapshot() }
            nextEnd += 1
        }
        while nextStart < starts.count, starts[nextStart].count < count {
            let process = min(starts[nextStart].process, Self.mostProcesses)
            for ledger in ledgers { ledger.division = UInt32(process + 1) }
            nextStart += 1
        }
        return next
    }
}
