import CEngine
import Glibc
import VMM

/// Records a machine from its present position on. The command calls it between slices of the run; events come to it
/// by themselves.
package final class Recorder: EventSink {
    package struct Options {
        package var detail = TraceDetail.events
        package var digestEvery: UInt64 = 100_000_000
        package var checkpointEvery: UInt64 = 100_000_000
        package var keepLast: UInt64?

        package init() {}
    }

    /// Seconds of host time after which what happened is in the file.
    private static let syncInterval = 0.5
    /// For what is large: pages, and boot images, which are compressed already.
    private static let bulkLevel: Int32 = 1

    private unowned let machine: Machine
    private let options: Options
    private var manifest: TraceManifest
    private let images: [ImageContents]
    private let disks: [(image: Int, disk: RecordedDisk)]
    private let path: String
    private var parts: FlightParts
    private var writer: TraceWriter
    private let tracker: StateTracker
    private let digestPages: Int
    private let checkpointPages: Int
    private var pageStore = PageStore()
    private var progress: TraceProgress
    private var checkpoints: UInt64 = 0
    private var epoch: UInt32 = 0
    private var epochStart: UInt64
    private var lastSync: Double
    private var lastReached: UInt64 = 0
    private var journal: [JournalEntry] = []
    private var marks: [TraceMark] = []
    private var markLine: [UInt8] = []
    private var writtenMarks: UInt64 = 0
    private var writtenJournal: UInt64 = 0

    /// Begins a recording of `machine` at its present position. `manifest` describes the machine; `disks` are its
    /// recorded disks with their images' numbers. `shared` is the machine's tracker if it has one already.
    package init(
        _ machine: Machine, to path: String, _ manifest: TraceManifest, images: [ImageContents],
        disks: [(image: Int, disk: RecordedDisk)], _ options: Options, tracker shared: StateTracker? = nil
    ) throws(TraceError) {
        self.machine = machine
        self.options = options
        self.images = images
        self.disks = disks
        self.path = path
        let position = TracePosition(count: machine.clock.count, nanoseconds: machine.clock.now)
        self.manifest = manifest
        self.manifest.start = position
        self.manifest.detail = options.detail
        self.manifest.digestEvery = options.digestEvery
        self.manifest.checkpointEvery = options.checkpointEvery
        self.manifest.keepLast = options.keepLast
        progress = TraceProgress(position: position)
        epochStart = position.count
        lastSync = Self.now
        parts = FlightParts(path, isUsed: options.keepLast != nil)
        try parts.begin()
        writer = try TraceWriter(
            parts.current, rate: manifest.instructionsPerMicrosecond, epoch: 0, firstEvent: 0)
        tracker = shared ?? StateTracker(machine)
        digestPages = tracker.addConsumer()
        checkpointPages = tracker.addConsumer()
        for (_, disk) in disks { disk.onPending = { [unowned self] in writeDisks() } }
        if options.detail != .inputs {
            machine.processor.attach(
                self, watching: options.detail == .paging ? .paging : [], keepingWatch: shared != nil)
        }
        begin()
    }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private var position: TracePosition {
        TracePosition(count: machine.clock.count, nanoseconds: machine.clock.now)
    }

    /// What a part of the file begins with.
    private func begin() {
        manifest.start = position
        manifest.expectsInput = machine.expectsInput
        let count = position.count
        writer.append(
            Block(.manifest, epoch: epoch, items: 1, counts: count...count, [(1, Array(manifest.text.utf8))]))
        for (number, contents) in images.enumerated() { write(number, contents) }
        if count > 0 { takeCheckpoint(full: true) }
        sync()
    }

    /// Boot images go in whole; without embedding only what was added to the file, and the digest in the manifest.
    private func write(_ number: Int, _ contents: ImageContents) {
        var start = contents.image.isEmbedded ? 0 : Int(contents.image.fileBytes)
        while start < contents.bytes.count {
            let end = min(start + Int(ImageBlock.largestPiece), contents.bytes.count)
            writer.append(
                ImageBlock.block(
                    image: number, pieces: [(UInt64(start), contents.bytes[start..<end])], asDigests: false,
                    count: position.count, epoch: epoch), level: Self.bulkLevel)
            start = end
        }
    }

    // MARK: Events

    /// Whether it takes no events, so that the machine's sink is free.
    package var isWithoutEvents: Bool { options.detail == .inputs }

    /// Takes each batch after the recorder did, for a replay that is recorded again.
    package var forward: ((UnsafeBufferPointer<EventRecord>) -> Void)?

    package func receive(_ events: UnsafeBufferPointer<EventRecord>) {
        writer.append(events)
        forward?(events)
    }

    /// Notes bytes that the console took at the machine's present position.
    package func input(_ bytes: some Collection<UInt8>) {
        guard !bytes.isEmpty else { return }
        journal.append(JournalEntry(position: position, kind: .consoleInput, bytes: Array(bytes)))
        progress.journal += 1
    }

    /// Notes that console input may still come, or no more.
    package func expectsInput(_ value: Bool) {
        journal.append(JournalEntry(position: position, kind: .expectsInput, bytes: [value ? 1 : 0]))
        progress.journal += 1
    }

    /// Takes a byte that the guest writes to port 0xE9.
    /// - Returns: the mark that it completes.
    @discardableResult
    package func markByte(_ byte: UInt8) -> String? {
        guard byte == 0x0A || markLine.count >= TraceMark.longest else {
            if byte != 0x0D { markLine.append(byte) }
            return nil
        }
        defer { markLine.removeAll(keepingCapacity: true) }
        guard !markLine.isEmpty else { return nil }
        let mark = TraceMark(position: position, text: String(decoding: markLine, as: UTF8.self))
        marks.append(mark)
        progress.marks += 1
        return mark.text
    }

    // MARK: Between slices

    /// The next count after `count` at which `reached` wants to be called.
    package func nextStop(after count: UInt64) -> UInt64 {
        func next(_ interval: UInt64) -> UInt64 {
            let (product, overflow) = (count / interval + 1).multipliedReportingOverflow(by: interval)
            return overflow ? .max : product
        }
        return min(next(options.digestEvery), next(options.checkpointEvery))
    }

    /// Takes the digest and the checkpoint that are due, when the machine has just stopped at a count asked for.
    package func reached() {
        let count = machine.clock.count
        guard count > 0, count != lastReached else { return }
        lastReached = count
        let isDigestDue = count % options.digestEvery == 0
        let isCheckpointDue = count % options.checkpointEvery == 0
        guard isDigestDue || isCheckpointDue else { return }
        tracker.update()
        if isDigestDue { takeDigest() }
        if isCheckpointDue {
            if let keepLast = options.keepLast, count - epochStart >= max(keepLast, options.checkpointEvery) {
                rotate()
            } else {
                takeCheckpoint(full: false)
            }
        }
    }

    /// Called now and then: what happened comes into the file within a second.
    package func tick() {
        if Self.now - lastSync >= Self.syncInterval { sync() }
    }

    /// Brings `progress` up to date.
    private func noteProgress() {
        machine.processor.flushEvents()
        progress.position = position
        progress.events = writer.eventNumber
    }

    /// Puts everything up to the present position into the file.
    package func sync() {
        lastSync = Self.now
        noteProgress()
        writeDisks()
        if !journal.isEmpty {
            writer.append(JournalEntry.block(journal, first: writtenJournal, epoch: epoch))
            writtenJournal += UInt64(journal.count)
            journal.removeAll()
        }
        if !marks.isEmpty {
            writer.append(TraceMark.block(marks, first: writtenMarks, epoch: epoch))
            writtenMarks += UInt64(marks.count)
            marks.removeAll()
        }
        writer.sync(progress.block(epoch: epoch))
    }

    /// Why nothing more can be written, once that is so.
    package var failure: TraceError? { ownFailure ?? writer.failure }

    private func writeDisks() {
        for (number, disk) in disks {
            let pieces = disk.takePending()
            guard !pieces.isEmpty else { continue }
            writer.append(
                ImageBlock.block(
                    image: number, pieces: pieces, asDigests: !manifest.images[number].isEmbedded,
                    count: machine.clock.count, epoch: epoch))
        }
    }

    private func takeDigest() {
        noteProgress()
        let pages = tracker.take(digestPages)
        let summary = machine.stateSummary().bytes
        let record = DigestRecord(
            progress: progress, digest: tracker.digest(summary), summary: summary, pages: pages,
            hashes: pages.map { UInt32(truncatingIfNeeded: tracker.hashes[Int($0)]) })
        writer.append(DigestRecord.block(record, number: progress.digests, epoch: epoch))
        progress.digests += 1
    }

    private func takeCheckpoint(full: Bool) {
        noteProgress()
        let state = machine.snapshotWithoutRAM()
        guard state.count <= TraceFormat.largestColumn else {
            // What the guest wrote to its disks is part of the state. Only what begins with a checkpoint needs one.
            if full { ownFailure = .unusable("the guest has written more to its disks than a checkpoint holds") }
            return
        }
        let changed = tracker.take(checkpointPages)
        let pages = full ? tracker.nonzeroPages() : changed
        var contents: [UInt32] = []
        contents.reserveCapacity(pages.count)
        for page in pages {
            contents.append(
                tracker.isZero(page)
                    ? 0 : pageStore.content(machine.memory.ramPage(page), hash: tracker.contentHash(page)))
            if pageStore.isFull { writePages() }
        }
        writePages()
        let record = CheckpointRecord(
            progress: progress, isFull: full, pages: pages, contents: contents, state: state,
            watch: options.detail == .paging ? machine.processor.watchState : nil,
            transfer: isWithoutEvents ? nil : machine.processor.leftTransfer)
        writer.append(CheckpointRecord.block(record, number: checkpoints, epoch: epoch))
        checkpoints += 1
    }

    private func writePages() {
        if let block = pageStore.takeBlock(count: machine.clock.count, epoch: epoch) {
            writer.append(block, level: Self.bulkLevel)
        }
    }

    // MARK: The end

    /// Begins a new part of a flight recorder, which stands for itself, and drops the part before the last.
    private func rotate() {
        sync()
        guard writer.failure == nil else { return }
        do throws(TraceError) {
            _ = try writer.finish(complete: false)
            epoch += 1
            epochStart = machine.clock.count
            let next = try TraceWriter(
                parts.next(), rate: manifest.instructionsPerMicrosecond, epoch: epoch, firstEvent: progress.events)
            writer = next
        } catch {
            ownFailure = error
            return
        }
        pageStore = PageStore()
        for (_, disk) in disks { disk.forget() }
        begin()
    }

    private var ownFailure: TraceError?

    /// Ends the recording with how the run ended; without an outcome it stays incomplete.
    /// - Returns: the bytes of each stream.
    package func finish(_ outcome: Outcome?, digest: StateDigest?) throws(TraceError) -> TraceStatistics {
        sync()
        machine.processor.attach(nil)
        for (_, disk) in disks { disk.onPending = {} }
        if let outcome, let digest {
            var value: UInt8 = 0
            if case .debugExit(let byte) = outcome { value = byte }
            let end = EndRecord(progress: progress, outcome: outcome.name, exitValue: value, digest: digest)
            writer.append(end.block(epoch: epoch))
        }
        var statistics = try writer.finish(complete: outcome != nil)
        if let ownFailure { throw ownFailure }
        if let merged = try parts.merge(complete: outcome != nil) { statistics = merged }
        return statistics
    }
}
