import Replayer
import Tracer

/// Says which process runs between two changes of the address space.
package protocol ProcessSource: AnyObject {
    /// Whether the process of the present interval is known; if not, it is asked for at the next user-mode event.
    var isKnown: Bool { get }
    /// The guest is in user mode at `count`.
    func sample(at count: UInt64) throws
    /// The interval ends at `count`, and the address space becomes `next`, or the trace ends.
    /// - Returns: the process that ran in it.
    func endInterval(at count: UInt64, next: UInt64?) throws -> Int
}

/// Which process the guest ran when, as it was found out before.
package final class KnownProcesses: ProcessSource {
    private let intervals: [ProcessWatch.Interval]
    private var start: UInt64

    /// `intervals` ascend and do not overlap.
    package init(_ intervals: [ProcessWatch.Interval], start: UInt64) {
        self.intervals = intervals
        self.start = start
    }

    package var isKnown: Bool { true }

    package func sample(at count: UInt64) {}

    package func endInterval(at count: UInt64, next: UInt64?) -> Int {
        var (low, high) = (0, intervals.count)
        while low < high {
            let middle = (low + high) / 2
            if intervals[middle].start <= start { low = middle + 1 } else { high = middle }
        }
        start = count
        return low > 0 ? intervals[low - 1].process : 0
    }
}

/// Which process the guest ran when.
///
/// Between two changes of the address space one process runs, and kernel threads, which borrow it. Where the kernel
/// says where its tasks are, the guest is run again beside the events, from the last checkpoint before the first
/// process, and its running task is looked at: once in user mode in each such interval, or at its end.
/// Where it does not, address spaces are processes, and are numbered.
package final class ProcessWatch: ProcessSource {
    /// Different processes that are told apart; further ones count as one.
    private static let most = 1 << 16
    private static let mostIntervals = 1 << 20
    /// In CR3: what page-table isolation changes at each entry, and what says not to flush.
    private static let isolationBit: UInt64 = 1 << 12
    private static let frames: UInt64 = 0x000F_FFFF_FFFF_F000

    package struct Process: Hashable {
        package var name: String
        package var pid: UInt64
        /// The address space it was first seen in.
        package var space: UInt64
    }

    /// From one count to another one process ran.
    package struct Interval {
        package var process: Int
        package var start: UInt64
        package var end: UInt64
    }

    /// What tells processes apart.
    private struct Identity: Hashable {
        var name: String
        var number: UInt64
    }

    /// The first is the kernel before there were processes.
    package private(set) var processes = [Process(name: "kernel", pid: 0, space: 0)]
    package private(set) var intervals: [Interval] = []
    private var numbers: [Identity: Int] = [:]
    private var bySpace: [UInt64: Int] = [:]
    private let guest: SampledGuest?
    private var space: UInt64 = 0
    private var start: UInt64
    private var current: Int?
    private var hasUserMode = false

    /// `guest` tells names; without it address spaces are numbered.
    package init(start: UInt64, guest: SampledGuest?) {
        self.start = start
        self.guest = guest
    }

    package var isKnown: Bool { current != nil }

    package func sample(at count: UInt64) throws {
        hasUserMode = true
        guard let guest else {
            current = number(Process(name: "process \(bySpace.count + 1)", pid: 0, space: space), byName: false)
            return
        }
        let task = try guest.running(at: count)
        current = task.map { number(Process(name: $0.name, pid: $0.pid, space: space), byName: true) } ?? known
    }

    private var known: Int { bySpace[space] ?? 0 }

    package func endInterval(at count: UInt64, next: UInt64?) throws -> Int {
        if let next, isSameProcess(next) { return current ?? known }
        if current == nil, hasUserMode, let guest, next != nil, let task = try guest.running(at: count) {
            // A kernel thread, or what may be one, counts as the process whose address space it borrowed.
            let isBorrower = task.isKernelThread ?? (bySpace[space] != nil)
            current =
                isBorrower ? known : number(Process(name: task.name, pid: task.pid, space: space), byName: true)
        }
        let process = current ?? known
        if let last = intervals.indices.last, intervals[last].process == process {
            intervals[last].end = count
        } else if intervals.count < Self.mostIntervals {
            intervals.append(Interval(process: process, start: start, end: count))
        }
        start = count
        current = nil
        space = (next ?? 0) & Self.frames
        return process
    }

    /// Page-table isolation switches between two halves of a pair of tables.
    private func isSameProcess(_ next: UInt64) -> Bool { (next & Self.frames) ^ space == Self.isolationBit }

    private func number(_ process: Process, byName: Bool) -> Int {
        let identity = Identity(
            name: byName ? process.name : "", number: byName && process.pid != 0 ? process.pid : process.space)
        if let number = numbers[identity] {
            bySpace[space] = number
            return number
        }
        guard processes.count < Self.most else { return 0 }
        processes.append(process)
        numbers[identity] = processes.count - 1
        bySpace[space] = processes.count - 1
        return processes.count - 1
    }
}

/// The recorded guest, run again beside its events to look at which task it runs.
package final class SampledGuest {
    private let makeReplay: () throws(TraceError) -> Replay
    private let kernel: GuestKernel
    private var replay: Replay?
    private var tasks: KernelTasks?
    private var hasFailed = false

    /// `makeReplay` builds a replay that does not verify.
    package init(_ kernel: GuestKernel, _ makeReplay: @escaping () throws(TraceError) -> Replay) {
        self.kernel = kernel
        self.makeReplay = makeReplay
    }

    /// The task that runs at `count`, which is not before the one that was asked for last.
    func running(at count: UInt64) throws(TraceError) -> KernelTasks.Task? {
        guard !hasFailed else { return nil }
        if replay == nil {
            let new = try makeReplay()
            try new.begin(at: count)
            replay = new
        }
        guard let replay else { return nil }
        if case .diverged(let divergence) = try replay.run(to: TracePosition(count: count, nanoseconds: 0)) {
            throw .unusable(divergence.sentence)
        }
        if tasks == nil { tasks = KernelTasks(kernel.moved(to: GuestPages(replay.machine))) }
        hasFailed = tasks == nil
        return tasks?.running(replay.machine)
    }
}
