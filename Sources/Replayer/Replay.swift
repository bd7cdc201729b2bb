import CEngine
import Tracer
import VMM

/// Runs a trace again and checks it on the way.
package final class Replay {
    package struct Options {
        package var engine: Engine?
        /// Compares events and digests; without it the replay only runs.
        package var verifies = true

        package init() {}
    }

    /// How a replay, or a part of it, ended.
    package enum End: Equatable {
        /// Where it was asked to stop.
        case position
        /// As the recording did.
        case outcome(Outcome)
        /// Where the trace is cut off.
        case cutOff
        case diverged(Divergence)
    }

    /// Counts between two looks at the outside.
    private static let slice: UInt64 = 4_000_000

    package let reader: TraceReader
    package let machine: Machine
    private let disks: [TracedDisk]
    private let options: Options
    private let loader: CheckpointLoader
    private let journal: [JournalEntry]
    private var nextJournal = 0
    private let journalStart: UInt64
    private let digests: [IndexEntry]
    private var nextDigest = 0
    private var pendingDigest: DigestRecord?
    package private(set) var verifier: EventVerifier?
    package private(set) var tracker: StateTracker?
    private var changes = 0
    private var initialHashes: [UInt64] = []
    private var changedPages: Set<UInt32> = []
    package private(set) var verifiedDigests: UInt64 = 0
    package private(set) var divergence: Divergence?
    /// Records the replay again, if set before it starts.
    package var recorder: Recorder?

    /// Called between slices; true ends the replay.
    package var isInterrupted: () -> Bool = { false }
    /// Called at each digest before it is compared, and before each journal entry is applied; for tests.
    package var beforeDigest: (Machine, DigestRecord) -> Void = { _, _ in }
    package var journalFault: (inout JournalEntry) -> Void = { _ in }

    /// Builds the machine of `reader`'s trace at the trace's beginning. `file` and `disk` give what is not in it.
    package init(
        _ reader: TraceReader, _ options: Options = Options(),
        file: (TraceImage) throws(TraceError) -> [UInt8] = { image throws(TraceError) in
            throw .unusable("the trace does not hold the \(image.role.rawValue)")
        },
        disk: (TraceImage) throws(TraceError) -> any BlockSource = { image throws(TraceError) in
            throw .unusable("the trace does not hold the \(image.role.rawValue)")
        },
        wrapping wrap: (inout MachineConfiguration) -> Void = { _ in }
    ) throws(TraceError) {
        self.reader = reader
        self.options = options
        if let name = HostFacts.current.difference(from: reader.manifest.host) {
            throw .unusable("this host computes differently from the one that recorded: \(name)")
        }
        var (configuration, disks) = try reader.configuration(
            engine: options.engine ?? reader.manifest.engine, file: file, disk: disk)
        wrap(&configuration)
        self.disks = disks
        do {
            machine = try Machine(configuration)
        } catch {
            throw .unusable("the recorded machine cannot be built: \(error)")
        }
        loader = try CheckpointLoader(reader)
        (journalStart, journal) = try reader.journal()
        digests = reader.blocks(.digests)
        machine.expectsInput = reader.manifest.expectsInput
    }

    // MARK: Beginning

    /// Puts the machine at the last checkpoint at or before `count`, or at the trace's beginning, and begins to check.
    /// From there `run` goes on.
    /// - Returns: where it is then.
    @discardableResult
    package func begin(at count: UInt64? = nil) throws(TraceError) -> TracePosition {
        var progress = TraceProgress(position: reader.manifest.start)
        var checkpoint: CheckpointRecord?
        let target = TracePosition(count: count ?? reader.manifest.start.count, nanoseconds: .max)
        if let number = loader.last(before: target) {
            checkpoint = try loader.restore(number, on: machine)
            progress = loader.checkpoints[number].record.progress
            machine.expectsInput = expectation(before: progress.journal)
        } else if reader.manifest.start.count > 0 {
            throw .unusable("the trace begins at count \(reader.manifest.start.count) and has no checkpoint")
        }
        guard progress.journal >= journalStart || journal.isEmpty else {
            throw .unusable("the trace has no journal from entry \(progress.journal) on")
        }
        nextJournal = Int(min(progress.journal - min(journalStart, progress.journal), UInt64(journal.count)))
        nextDigest = digests.firstIndex { $0.header.firstItem >= progress.digests } ?? digests.count
        guard options.verifies else { return progress.position }
        let tracker = StateTracker(machine)
        self.tracker = tracker
        changes = tracker.addConsumer()
        initialHashes = tracker.hashes
        if reader.manifest.detail != .inputs {
            let verifier = try EventVerifier(reader, from: progress.events, limit: reader.reach.events)
            self.verifier = verifier
            machine.processor.attach(verifier, watching: reader.manifest.detail == .paging ? .paging : [])
            if let watch = checkpoint?.watch, reader.manifest.detail == .paging { machine.processor.watchState = watch }
            machine.processor.leftTransfer = checkpoint?.transfer
        }
        return progress.position
    }

    /// Records what is replayed from now on. The recorder takes the events first, and shows them to the check.
    package func record(with recorder: Recorder) {
        self.recorder = recorder
        let verifier = verifier
        recorder.forward = { verifier?.receive($0) }
        if recorder.isWithoutEvents, let verifier {
            machine.processor.attach(
                verifier, watching: reader.manifest.detail == .paging ? .paging : [], keepingWatch: true)
        }
    }

    /// Feeds strategies from now on. Events are checked before strategies see them.
    package func model(with run: StrategyRun) {
        machine.processor.flushEvents()
        // What is watched begins anew here, so what the trace has of it can no longer be compared.
        if position != reader.manifest.start { verifier?.skipPaging() }
        let verifier = verifier
        run.forward = { verifier?.receive($0) }
        let transfer = verifier == nil ? nil : machine.processor.leftTransfer
        machine.processor.attach(run, watching: [.paging, .model])
        machine.processor.leftTransfer = transfer
    }

    /// Whether input was expected before journal entry `number`.
    private func expectation(before number: UInt64) -> Bool {
        var result = reader.manifest.expectsInput
        for (index, entry) in journal.enumerated() where journalStart + UInt64(index) < number {
            if entry.kind == JournalEntry.Kind.expectsInput.rawValue { result = entry.bytes.first == 1 }
        }
        return result
    }

    // MARK: Running

    package var position: TracePosition {
        TracePosition(count: machine.clock.count, nanoseconds: machine.clock.now)
    }

    /// Runs to `target`, or to the end of the trace. A target of 0 ns is where its count is first reached.
    package func run(to target: TracePosition? = nil) throws(TraceError) -> End {
        let last = reader.end?.progress.position ?? reader.reach.position
        let goal = target.map { min($0, last) } ?? last
        while true {
            let next = try nextStop(goal)
            if let end = try advance(to: next) { return try finished(end) }
            if let end = try act(at: next) { return try finished(end) }
            if next == goal, nothingDue(at: next) {
                return try finished(target == nil || goal == last ? atEnd() : .position)
            }
        }
    }

    /// The next position at which something is to be done.
    private func nextStop(_ goal: TracePosition) throws(TraceError) -> TracePosition {
        var next = goal
        if nextJournal < journal.count { next = min(next, journal[nextJournal].position) }
        if let digest = try upcomingDigest() { next = min(next, digest.progress.position) }
        if let recorder {
            let count = recorder.nextStop(after: machine.clock.count)
            // Only the count is known of what the new recording wants; it stops there when it gets there.
            if count < next.count { next = TracePosition(count: count, nanoseconds: 0) }
        }
        return next
    }

    private func upcomingDigest() throws(TraceError) -> DigestRecord? {
        guard options.verifies, nextDigest < digests.count else { return nil }
        if let pendingDigest { return pendingDigest }
        let record = try DigestRecord.record(reader.load(digests[nextDigest]))
        // A digest behind the end of a cut-off trace is not reached.
        guard reader.end != nil || record.progress.position <= reader.reach.position else { return nil }
        pendingDigest = record
        return record
    }

    private func nothingDue(at position: TracePosition) -> Bool {
        if nextJournal < journal.count, journal[nextJournal].position <= position { return false }
        if let pendingDigest, pendingDigest.progress.position <= position { return false }
        return true
    }

    /// Takes the machine to `target`; nil when it is there, otherwise why not.
    private func advance(to target: TracePosition) throws(TraceError) -> End? {
        while true {
            let here = position
            if here.count == target.count, here.nanoseconds >= target.nanoseconds {
                if here.nanoseconds == target.nanoseconds || target.nanoseconds == 0 { return nil }
                return .diverged(overshoot(target))
            }
            if here.count > target.count { return .diverged(overshoot(target)) }
            if isInterrupted() { return .outcome(.interrupted) }
            let stop: Machine.Stop
            if here.count < target.count {
                stop = machine.run(until: min(target.count, here.count &+ Self.slice))
            } else {
                // Halted at the count, while time passes.
                stop = machine.run(until: target.count + 1, stopsWhenIdle: true)
                if case .idle = stop, machine.clock.now < target.nanoseconds {
                    machine.skipIdleTime()
                    // The timers due then fire as part of the stop.
                    if machine.clock.now == target.nanoseconds {
                        _ = machine.run(until: target.count + 1, stopsWhenIdle: true)
                    }
                    if machine.clock.now == here.nanoseconds { return .diverged(overshoot(target)) }
                }
            }
            recorder?.tick()
            if let end = check() { return end }
            if case .ended(let outcome) = stop { return .outcome(outcome) }
            if case .idle(nil) = stop, position.count < target.count { return .diverged(overshoot(target)) }
        }
    }

    /// What the checks have found so far.
    private func check() -> End? {
        machine.processor.flushEvents()
        // What a disk cannot give is the cause of whatever else differs.
        for disk in disks {
            guard let failure = disk.failure else { continue }
            return .diverged(
                Divergence(
                    kind: .disk, position: position,
                    differences: [Divergence.Difference("disk", recorded: "readable", replayed: failure)]))
        }
        return verifier?.divergence.map { .diverged($0) }
    }

    private func overshoot(_ target: TracePosition) -> Divergence {
        func text(_ position: TracePosition) -> String { "count \(position.count), \(position.nanoseconds) ns" }
        return Divergence(
            kind: .position, position: position,
            differences: [Divergence.Difference("position", recorded: text(target), replayed: text(position))])
    }

    /// Does what is due at the machine's present position: digest, then input.
    private func act(at here: TracePosition) throws(TraceError) -> End? {
        if let failure = verifier?.failure { throw failure }
        recorder?.reached()
        let isInputDue = nextJournal < journal.count && journal[nextJournal].position == here
        if let record = pendingDigest, record.progress.position == here,
            record.progress.journal <= journalStart + UInt64(nextJournal) || !isInputDue
        {
            if let found = compare(record) { return .diverged(found) }
            pendingDigest = nil
            nextDigest += 1
            verifiedDigests += 1
        }
        while nextJournal < journal.count, journal[nextJournal].position == here {
            if let pendingDigest, pendingDigest.progress.position == here,
                pendingDigest.progress.journal <= journalStart + UInt64(nextJournal)
            {
                break
            }
            var entry = journal[nextJournal]
            journalFault(&entry)
            if let found = apply(entry) { return .diverged(found) }
            nextJournal += 1
        }
        return nil
    }

    private func apply(_ entry: JournalEntry) -> Divergence? {
        switch JournalEntry.Kind(rawValue: entry.kind) {
        case .consoleInput:
            let taken = machine.devices.consoleInput(entry.bytes[...])
            recorder?.input(entry.bytes.prefix(taken))
            guard taken != entry.bytes.count else { return nil }
            return Divergence(
                kind: .journal, position: position,
                differences: [
                    Divergence.Difference(
                        "console bytes taken", recorded: "\(entry.bytes.count)", replayed: "\(taken)")
                ])
        case .expectsInput:
            machine.expectsInput = entry.bytes.first == 1
            recorder?.expectsInput(machine.expectsInput)
            return nil
        case nil:
            return Divergence(
                kind: .journal, position: position,
                differences: [
                    Divergence.Difference("journal entry", recorded: "kind \(entry.kind)", replayed: "not known here")
                ])
        }
    }

    // MARK: State

    private func compare(_ record: DigestRecord) -> Divergence? {
        guard let tracker else { return nil }
        beforeDigest(machine, record)
        tracker.update()
        changedPages.formUnion(tracker.take(changes))
        let summary = machine.stateSummary()
        verifier?.finish(expecting: record.progress.events, at: record.progress.position)
        if let found = verifier?.divergence { return found }
        if tracker.digest(summary.bytes) == record.digest { return nil }
        var differences = StateComparison.fields(recorded: record.summary, machine)
        differences += pageDifferences(through: record)
        if differences.isEmpty {
            differences = [
                Divergence.Difference(
                    "digest", recorded: record.digest.description, replayed: tracker.digest(summary.bytes).description)
            ]
        }
        return Divergence(kind: .state, position: record.progress.position, differences: differences)
    }

    /// The pages whose hashes are not as recorded at `record`.
    private func pageDifferences(through record: DigestRecord) -> [Divergence.Difference] {
        guard let tracker else { return [] }
        var recorded: [UInt32: UInt32] = [:]
        for entry in digests where entry.header.firstItem <= record.progress.digests {
            guard let block = try? reader.load(entry, wanted: [1, 2, 3, 4]),
                let earlier = try? DigestRecord.record(block)
            else { continue }
            for (page, hash) in zip(earlier.pages, earlier.hashes) { recorded[page] = hash }
        }
        let pages = Set(recorded.keys).union(changedPages)
        return pages.sorted().compactMap { page in
            guard Int(page) < tracker.hashes.count else { return nil }
            let found = UInt32(truncatingIfNeeded: tracker.hashes[Int(page)])
            let expected = recorded[page] ?? UInt32(truncatingIfNeeded: initialHashes[Int(page)])
            guard found != expected else { return nil }
            return Divergence.Difference(
                "page \(hexadecimal(UInt64(page) * 4096))", recorded: hexadecimal(UInt64(expected)),
                replayed: hexadecimal(UInt64(found)))
        }
    }

    // MARK: The end

    /// The machine is where the trace ends.
    private func atEnd() throws(TraceError) -> End {
        guard let end = reader.end else { return .cutOff }
        if Outcome.isMachines(end.outcome) {
            let stop = machine.run(until: end.progress.position.count + 1, stopsWhenIdle: true)
            guard case .ended(let outcome) = stop else { return .diverged(wrongEnd(end, "no end")) }
            return .outcome(outcome)
        }
        guard let outcome = Outcome(name: end.outcome, exitValue: end.exitValue) else {
            throw .unusable("the trace ends with the outcome \"\(end.outcome)\", which is not known here")
        }
        return .outcome(outcome)
    }

    private func wrongEnd(_ end: EndRecord, _ found: String) -> Divergence {
        Divergence(
            kind: .position, position: position,
            differences: [Divergence.Difference("outcome", recorded: end.outcome, replayed: found)])
    }

    /// Checks how the run ended.
    private func finished(_ end: End) throws(TraceError) -> End {
        machine.processor.flushEvents()
        if let failure = verifier?.failure { throw failure }
        var result = check() ?? end
        if reader.end == nil, position == reader.reach.position, case .outcome(let outcome) = end,
            outcome != .interrupted
        {
            // The recording was cut off between the guest's end and its own.
            result = .cutOff
        }
        if case .outcome(let outcome) = end, outcome != .interrupted, case .outcome = result {
            if let found = try checkEnd(outcome) { result = .diverged(found) }
        }
        if case .cutOff = result {
            verifier?.finish(expecting: reader.reach.events, at: position)
            if let found = verifier?.divergence { result = .diverged(found) }
        }
        if case .diverged(let found) = result { divergence = found }
        return result
    }

    private func checkEnd(_ outcome: Outcome) throws(TraceError) -> Divergence? {
        guard let end = reader.end else { return wrongEndOfCutOff(outcome) }
        let value: UInt8? = if case .debugExit(let byte) = outcome { byte } else { nil }
        guard outcome.name == end.outcome, value == nil || value == end.exitValue else {
            return wrongEnd(end, outcome.name)
        }
        guard position == end.progress.position else { return overshoot(end.progress.position) }
        guard options.verifies else { return nil }
        verifier?.finish(expecting: end.progress.events, at: position)
        if let found = verifier?.divergence { return found }
        let digest = machine.digest
        guard digest != end.digest else { return nil }
        return Divergence(
            kind: .state, position: position,
            differences: [
                Divergence.Difference(
                    "final digest", recorded: end.digest.description, replayed: digest.description)
            ])
    }

    private func wrongEndOfCutOff(_ outcome: Outcome) -> Divergence {
        Divergence(
            kind: .position, position: position,
            differences: [
                Divergence.Difference(
                    "position", recorded: "count \(reader.reach.position.count)", replayed: "\(outcome.name) before it")
            ])
    }
}

/// Finds the fields in which a machine's state differs from a recorded summary.
enum StateComparison {
    private static let mostShown = 16

    static func fields(recorded: [UInt8], _ machine: Machine) -> [Divergence.Difference] {
        let (bytes, layout) = machine.stateSummary(recordsLayout: true)
        var differences: [Divergence.Difference] = []
        for field in layout {
            guard field.range.upperBound <= recorded.count else {
                differences.append(
                    Divergence.Difference(field.path, recorded: "nothing", replayed: text(bytes[field.range])))
                return differences
            }
            if bytes[field.range] != recorded[field.range] {
                differences.append(
                    Divergence.Difference(
                        field.path, recorded: text(recorded[field.range]), replayed: text(bytes[field.range])))
            }
            // Lists of different length shift what follows them.
            if differences.count >= mostShown { return differences }
        }
        return differences
    }

    /// Up to 16 bytes as a little-endian number, more as the first that is there.
    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        let digits = bytes.prefix(16).reversed().map { byte in
            String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }
        return "0x" + digits.joined() + (bytes.count > 16 ? "…" : "")
    }
}

extension Outcome {
    /// Whether an outcome of this name comes from the guest or the machine, rather than from outside.
    static func isMachines(_ name: String) -> Bool {
        ["power-off", "reset", "halted", "debug-exit", "triple-fault", "unsupported"].contains(name)
    }

    /// The outcome of this name.
    package init?(name: String, exitValue: UInt8) {
        switch name {
        case "power-off": self = .powerOff
        case "reset": self = .reset
        case "halted": self = .halted
        case "debug-exit": self = .debugExit(exitValue)
        case "triple-fault": self = .tripleFault
        case "unsupported": self = .unsupported
        case "limit": self = .limit
        case "timeout": self = .timeout
        case "stop-text": self = .stopText
        case "fail-text": self = .failText
        case "interrupted": self = .interrupted
        default: return nil
        }
    }
}
