import CEngine
import Glibc
import Tracer
import VMM

/// Runs strategies over the events of one re-execution, on a thread of their own: the guest's thread only copies
/// batches. What waits is bounded.
package final class StrategyRun: EventSink, @unchecked Sendable {
    private static let mostBatches = 64
    private static let batchSize = 1024

    package let strategies: [Strategy]
    package let frontEnd: FrontEnd
    package private(set) var independent = IndependentCounts()
    /// Indirect branches of the kernel when the run began.
    private let startBranches: UInt64
    private let machine: Machine
    /// Takes each batch too, on the guest's thread, before the strategies do.
    package var forward: ((UnsafeBufferPointer<EventRecord>) -> Void)?

    // Under `mutex`.
    private struct Batch {
        let records: UnsafeMutablePointer<EventRecord>
        let count: Int
    }
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var waiting: [Batch] = []
    private var free: [UnsafeMutablePointer<EventRecord>] = []
    private var isEnding = false
    private var thread = pthread_t()
    private var isRunning = false

    /// Prepares `types` for a machine that is where the run begins.
    package init(
        _ types: [Strategy.Type], on machine: Machine, devices: DevicePolicy, options: StrategyOptions,
        mutation: Mutation? = nil, divisions: RunDivisions? = nil
    ) {
        self.machine = machine
        let holder = StrategyHolder()
        let frontEnd = FrontEnd(GuestStart(machine)) { event in holder.take(event) }
        let setting = Strategy.Setting(
            context: frontEnd.context, devices: devices, options: options, mutation: mutation)
        strategies = types.map { $0.init(setting) }
        holder.hold(strategies)
        self.frontEnd = frontEnd
        startBranches = machine.processor.cpu.pointee.kernelIndirectBranches
        mutex = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        if var divisions {
            let ledgers = strategies.map(\.ledger)
            frontEnd.nextDivision = divisions.first
            frontEnd.onDivision = { count in divisions.reach(count, ledgers) }
        }
        startThread()
    }

    deinit {
        precondition(!isRunning, "a strategy run must be finished")
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(changed)
        mutex.deallocate()
        changed.deallocate()
        for buffer in free { buffer.deallocate() }
    }

    private func startThread() {
        isRunning = true
        var all = sigset_t()
        var old = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, &old)
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<StrategyRun>.fromOpaque(argument).takeRetainedValue().work()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        pthread_sigmask(SIG_SETMASK, &old, nil)
        precondition(result == 0, "no thread can be started")
    }

    // MARK: The guest's thread

    package func receive(_ events: UnsafeBufferPointer<EventRecord>) {
        forward?(events)
        independent.take(events)
        var start = 0
        while start < events.count {
            let count = min(events.count - start, Self.batchSize)
            pthread_mutex_lock(mutex)
            while waiting.count >= Self.mostBatches { pthread_cond_wait(changed, mutex) }
            let buffer = free.popLast() ?? .allocate(capacity: Self.batchSize)
            buffer.update(from: events.baseAddress.unsafelyUnwrapped + start, count: count)
            waiting.append(Batch(records: buffer, count: count))
            pthread_cond_signal(changed)
            pthread_mutex_unlock(mutex)
            start += count
        }
    }

    /// Ends the thread when all is done, closes the books, and checks them.
    package func finish() {
        guard isRunning else { return }
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_signal(changed)
        pthread_mutex_unlock(mutex)
        pthread_join(thread, nil)
        isRunning = false
        let count = machine.clock.count
        frontEnd.finish(at: count)
        let end = machine.processor.cpu.pointee.kernelIndirectBranches
        let kernel = frontEnd.isAllKernel ? startBranches : frontEnd.bootBranches ?? startBranches
        // What is charged at the end is of no process.
        for strategy in strategies { strategy.ledger.division = 0 }
        for strategy in strategies {
            strategy.branched(Int64(bitPattern: end &- kernel), in: .kernel)
            strategy.branched(Int64(bitPattern: kernel &- startBranches), in: .boot)
            strategy.finish()
            strategy.crossCheck(independent, at: count)
            if frontEnd.isAllKernel { strategy.ledger.countBootAsKernel() }
        }
    }

    // MARK: The strategies' thread

    private func work() {
        while true {
            pthread_mutex_lock(mutex)
            while waiting.isEmpty && !isEnding { pthread_cond_wait(changed, mutex) }
            let taken = waiting
            waiting = []
            pthread_cond_signal(changed)
            pthread_mutex_unlock(mutex)
            if taken.isEmpty { return }
            for batch in taken { frontEnd.take(UnsafeBufferPointer(start: batch.records, count: batch.count)) }
            pthread_mutex_lock(mutex)
            free.append(contentsOf: taken.map(\.records))
            pthread_mutex_unlock(mutex)
        }
    }
}

/// Lets the front end, which strategies are made with, reach them.
private final class StrategyHolder {
    /// The run owns them, and this goes with its front end. They are named without being counted, since every event
    /// goes to each of them.
    private var strategies: UnsafeMutableBufferPointer<Unmanaged<Strategy>> = .allocate(capacity: 0)

    func hold(_ all: [Strategy]) {
        strategies.deallocate()
        strategies = .allocate(capacity: all.count)
        _ = strategies.initialize(from: all.map { Unmanaged.passUnretained($0) })
    }

    deinit { strategies.deallocate() }

    @inline(__always) func take(_ event: ModelEvent) {
        for index in 0..<strategies.count { strategies[index]._withUnsafeGuaranteedRef { $0.take(event) } }
    }
}
