import CEngine
import Glibc
import VMM

/// Compresses and writes on a thread of its own, in the order in which it was asked to. What waits is bounded: who asks
/// faster than the thread works waits too.
///
/// One thread calls it; the thread it starts owns file, compressor and encoder until it has ended.
package final class TraceWriter: @unchecked Sendable {
    private enum Job {
        /// A buffer that the packer filled, and its number of records.
        case events(UnsafeMutablePointer<EventRecord>, Int)
        case block(Block, level: Int32)
        /// Writes what the encoder holds, then the block.
        case sync(Block)
        case finish
    }

    /// At most so many jobs wait, and so many buffers and one more exist.
    private static let mostJobs = 64
    private static let mostBlockBytes = 64 << 20

    private let file: TraceFileWriter
    private let encoder: EventEncoder
    /// Belongs to the guest's thread.
    private var packer: EventPacker
    /// Until `finish`.
    private var thread: HostThread?

    // Under `mutex`: everything that both threads touch.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let wakeUp: UnsafeMutablePointer<pthread_cond_t>
    private let room: UnsafeMutablePointer<pthread_cond_t>
    private var jobs: [Job] = []
    private var waitingBytes = 0
    private var buffers: [UnsafeMutablePointer<EventRecord>] = []
    private var error: TraceError?

    /// Creates the file. `rate` is the machine's counts per microsecond, `firstEvent` the number of the first event.
    package init(_ path: String, rate: UInt64, epoch: UInt32, firstEvent: UInt64) throws(TraceError) {
        file = try TraceFileWriter(path)
        encoder = EventEncoder(rate: rate, epoch: epoch, firstEvent: firstEvent)
        packer = EventPacker(.allocate(capacity: EventPacker.capacity), events: firstEvent)
        mutex = .allocate(capacity: 1)
        wakeUp = .allocate(capacity: 1)
        room = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(wakeUp, nil)
        pthread_cond_init(room, nil)
        // The thread holds the object until it ends.
        thread = HostThread { self.work() }
    }

    deinit {
        precondition(thread == nil, "a trace writer must be finished")
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(wakeUp)
        pthread_cond_destroy(room)
        mutex.deallocate()
        wakeUp.deallocate()
        room.deallocate()
        for buffer in buffers { buffer.deallocate() }
        packer.buffer.deallocate()
    }

    // MARK: For the guest's thread

    /// Why writing failed, once it has.
    package var failure: TraceError? { locked { error } }

    /// Takes a batch of events.
    package func append(_ batch: UnsafeBufferPointer<EventRecord>) {
        packer.append(batch) { buffer, count in handOver(buffer, count) }
    }

    /// The number of the next event.
    package var eventNumber: UInt64 { packer.events }

    /// Gives a buffer to the writing thread.
    /// - Returns: an empty one.
    private func handOver(
        _ buffer: UnsafeMutablePointer<EventRecord>, _ count: Int
    ) -> UnsafeMutablePointer<EventRecord> {
        submit(.events(buffer, count), bytes: count * MemoryLayout<EventRecord>.stride)
        return locked { buffers.popLast() } ?? .allocate(capacity: EventPacker.capacity)
    }

    private func handOverRest() {
        if packer.count > 0 { packer.restart(handOver(packer.buffer, packer.count)) }
    }

    package func append(_ block: Block, level: Int32 = 3) {
        submit(.block(block, level: level), bytes: block.columns.reduce(0) { $0 + $1.bytes.count })
    }

    /// Writes all events so far, then `block`.
    package func sync(_ block: Block) {
        handOverRest()
        submit(.sync(block), bytes: 0)
    }

    /// Ends the thread when all is written. Nothing may be appended after it.
    package func finish(complete: Bool) throws(TraceError) -> TraceStatistics {
        if let thread {
            handOverRest()
            submit(.finish, bytes: 0)
            thread.join()
            self.thread = nil
        }
        if let error { throw error }
        if complete { try file.finish() }
        return file.statistics
    }

    private func submit(_ job: Job, bytes: Int) {
        pthread_mutex_lock(mutex)
        while jobs.count >= Self.mostJobs || waitingBytes > Self.mostBlockBytes { pthread_cond_wait(room, mutex) }
        jobs.append(job)
        waitingBytes += bytes
        pthread_cond_signal(wakeUp)
        pthread_mutex_unlock(mutex)
    }

    private func locked<T>(_ body: () -> T) -> T {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    // MARK: The writing thread

    private func work() {
        while true {
            pthread_mutex_lock(mutex)
            while jobs.isEmpty { pthread_cond_wait(wakeUp, mutex) }
            let taken = jobs
            jobs = []
            waitingBytes = 0
            pthread_cond_signal(room)
            pthread_mutex_unlock(mutex)
            for job in taken {
                if case .finish = job { return }
                run(job)
            }
        }
    }

    private func run(_ job: Job) {
        switch job {
        case .events(let buffer, let count):
            encoder.append(UnsafeBufferPointer(start: buffer, count: count)) { write($0) }
            locked { buffers.append(buffer) }
        case .block(let block, let level): write(block, level)
        case .sync(let block):
            encoder.finishBlock { write($0) }
            write(block)
        case .finish: break
        }
    }

    private func write(_ block: Block, _ level: Int32 = 3) {
        guard locked({ error }) == nil else { return }
        do throws(TraceError) {
            try file.append(block, level: level)
        } catch {
            locked { self.error = error }
        }
    }
}
