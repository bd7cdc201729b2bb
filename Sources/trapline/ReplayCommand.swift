import ArgumentParser
import Replayer
import Tracer
import VMM

/// `trapline replay`: runs a trace again and checks every event and digest.
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Run a trace again, and check every event and the state against it.",
        discussion: """
            Positions are a count, event:N, a percentage such as 40%, or a mark. Exit code 0 means that the replay did \
            what was recorded, 24 that it did not; the first difference is then on standard error.

            Example: trapline replay boot.tline --quiet --from 40% --to 60%
            """)

    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @Option(
        help: ArgumentHelp("Begin at the last checkpoint before this position.", valueName: "position"),
        transform: { try PositionArgument($0) })
    var from: PositionArgument?
    @Option(
        help: ArgumentHelp("End at this position.", valueName: "position"), transform: { try PositionArgument($0) })
    var to: PositionArgument?
    @Option(help: ArgumentHelp("Record the replay into another trace.", valueName: "file"), completion: .file())
    var record: String?
    @OptionGroup(title: "Recording") var recording: RecordOptions
    @Option(help: ArgumentHelp("interpreter or translator; the recording's own if not given.", valueName: "name"))
    var engine: EngineName?
    @Option(
        help: ArgumentHelp("Where an image is that the trace does not hold.", valueName: "role=file"),
        transform: { try ImageArgument($0) })
    var image: [ImageArgument] = []
    @Option(help: ArgumentHelp("Write the VGA text screen here at the end.", valueName: "file"), completion: .file())
    var screen: String?
    @Option(
        help: ArgumentHelp(
            "Model this virtualization strategy too, instead of showing the console; may be given again.",
            valueName: "name"))
    var strategy: [String] = []
    @OptionGroup(title: "The model, with --strategy") var model: ModelOptions
    @Flag(help: "Write the result as JSON to standard output, instead of the guest's console.")
    var json = false
    @Flag(help: "Do not show the guest's console.")
    var quiet = false

    func run() throws {
        let reader = try OpenTrace.reader(trace)
        if !strategy.isEmpty { throw ExitCode(try modelled(reader)) }
        let screenFile = try screen.map { path throws(CommandError) in try OutputFile(path) }
        let session = try ReplaySession(self, reader)
        let result = try session.run()
        if json { FileDescriptor.standardOutput.writeAll(Array(result.json.document.utf8)) }
        StandardError.say(result.sentence)
        try screenFile?.finish(session.screen.map { $0 + "\n" }.joined())
        throw ExitCode(result.exitCode)
    }
}

extension ReplayCommand {
    /// Replays under strategies.
    private func modelled(_ reader: TraceReader) throws -> Int32 {
        guard record == nil, screen == nil else {
            throw CommandError.badCombination("--strategy cannot be used with --record or --screen")
        }
        let costs = try CostTables.table(model.costs)
        let session = ModelSession(
            reader: reader, path: trace, model: model, strategies: try ModelOptions.strategies(strategy),
            engine: engine?.engine, images: image, from: from, to: to)
        let outcome = try session.run()
        let result = ModelResult(
            outcome.run, costs, idleNanoseconds: outcome.idleNanoseconds, includesWaits: model.includeWaits)
        let text = json ? StrategyReport.json(result, outcome).document : StrategyReport.text(result)
        FileDescriptor.standardOutput.writeAll(Array(text.utf8))
        return try ModelReport.conclude(result, outcome)
    }
}

/// What a replay leaves to be reported.
struct ReplayResult {
    let run: RunResult
    let end: Replay.End
    let isWhole: Bool
    let verifiedEvents: UInt64
    let verifiedDigests: UInt64
    let position: TracePosition
    let seconds: Double
    let recorded: String?

    var sentence: String {
        let checks = "\(verifiedEvents) events and \(verifiedDigests) digests"
        let time = RunResult.decimal(seconds)
        let more = recorded.map { ", recorded into \($0)" } ?? ""
        switch end {
        case .outcome(.interrupted) where !isWhole: return "the replay was interrupted at count \(position.count)"
        case .outcome(let outcome):
            return "the replay ended as recorded (\(outcome.name) at count \(position.count)) in \(time) s, "
                + "\(checks) verified\(more)"
        case .position: return "the replay is at count \(position.count) after \(time) s, \(checks) verified\(more)"
        case .cutOff:
            return "the recording is incomplete; its last whole block ends at count \(position.count), up to which "
                + "\(checks) were verified in \(time) s\(more)"
        case .diverged(let divergence): return divergence.sentence
        }
    }

    var exitCode: Int32 {
        switch end {
        case .diverged: Outcome.divergence.exitCode
        case .outcome(.interrupted) where !isWhole: Outcome.interrupted.exitCode
        default: 0
        }
    }

    private var outcomeName: String {
        switch end {
        case .outcome(let outcome): outcome.name
        case .position: "position"
        case .cutOff: "incomplete"
        case .diverged: Outcome.divergence.name
        }
    }

    var json: JSON {
        var members = run.members
        if let index = members.firstIndex(where: { $0.0 == "outcome" }) { members[index].1 = .string(outcomeName) }
        members.append(("verified_events", .integer(verifiedEvents)))
        members.append(("verified_digests", .integer(verifiedDigests)))
        var divergence = JSON.null
        if case .diverged(let found) = end { divergence = Self.json(found) }
        members.append(("divergence", divergence))
        return .object(members)
    }

    private static func json(_ divergence: Divergence) -> JSON {
        .object([
            ("kind", .string(divergence.kind.rawValue)),
            ("instructions", .integer(divergence.position.count)),
            ("virtual_ns", .integer(divergence.position.nanoseconds)),
            ("event", divergence.event.map { .integer($0) } ?? .null),
            ("address", divergence.site.map { .string(hexadecimal($0)) } ?? .null),
            (
                "differences",
                .array(
                    divergence.differences.map {
                        .object([
                            ("name", .string($0.name)), ("recorded", .string($0.recorded)),
                            ("replayed", .string($0.replayed)),
                        ])
                    })
            ),
            ("sentence", .string(divergence.sentence)),
        ])
    }
}

/// One replay from its beginning to where it ends.
final class ReplaySession {
    private let command: ReplayCommand
    private let reader: TraceReader
    private let replay: Replay
    private let output: ConsoleOutput
    private let started = HostClock.seconds
    private var disks: [(image: Int, disk: RecordedDisk)] = []
    private var recorder: Recorder?
    private let progress = ProgressLine("replaying")

    init(_ command: ReplayCommand, _ reader: TraceReader) throws(CommandError) {
        self.command = command
        self.reader = reader
        output = ConsoleOutput(ConsoleTexts(stopOn: nil, failOn: nil))
        let files = ImageFiles(command.image)
        var options = Replay.Options()
        options.engine = command.engine?.engine
        var recorded: [(image: Int, disk: RecordedDisk)] = []
        let isRecording = command.record != nil
        replay = try OpenTrace.describing(command.trace) { () throws(TraceError) in
            try Replay(
                reader, options, file: { image throws(TraceError) in try files.bytes(image) },
                disk: { image throws(TraceError) in try files.disk(image) },
                wrapping: { configuration in
                    guard isRecording else { return }
                    for (number, image) in reader.manifest.images.enumerated() {
                        if image.role == .disk, let source = configuration.disk {
                            recorded.append((number, RecordedDisk(source)))
                            configuration.disk = recorded.last?.disk
                        } else if image.role == .cdrom, let source = configuration.cdrom {
                            recorded.append((number, RecordedDisk(source)))
                            configuration.cdrom = recorded.last?.disk
                        }
                    }
                })
        }
        disks = recorded
    }

    var screen: [String] { replay.machine.devices.screen }

    func run() throws(CommandError) -> ReplayResult {
        EndingSignal.watch()
        let showsConsole = !command.json && !command.quiet
        if showsConsole { replay.machine.devices.onConsoleOutput = { [unowned self] in _ = output.take($0) } }
        replay.isInterrupted = { [unowned self] in
            output.flush()
            showProgress()
            return EndingSignal.wasReceived || output.isBroken
        }
        let (end, digest) = try OpenTrace.describing(command.trace) { () throws(TraceError) in
            let from = try command.from?.count(in: reader)
            let to = try command.to?.count(in: reader)
            if let from, let to, to < from {
                throw .unusable("--to is count \(to), which is before --from, count \(from)")
            }
            try replay.begin(at: from)
            try startRecording()
            if let from { _ = try replay.run(to: TracePosition(count: from, nanoseconds: 0)) }
            if let found = replay.divergence { return (Replay.End.diverged(found), shownDigest) }
            let end = try replay.run(to: to.map { TracePosition(count: $0, nanoseconds: 0) })
            return (end, shownDigest)
        }
        output.flush()
        progress.clear()
        let seconds = HostClock.seconds - started
        try finishRecording(end, digest)
        let outcome: Outcome =
            switch end {
            case .outcome(let outcome): outcome
            case .diverged: .divergence
            default: .limit
            }
        return ReplayResult(
            run: RunResult(
                machine: replay.machine, outcome: outcome, digest: digest,
                engine: replay.machine.configuration.engine.rawValue, seconds: seconds), end: end,
            isWhole: replay.position == reader.end?.progress.position,
            verifiedEvents: replay.verifier?.verified ?? 0, verifiedDigests: replay.verifiedDigests,
            position: replay.position, seconds: seconds, recorded: command.record)
    }

    /// The digest of the machine's whole state, if it is shown or recorded; it takes a good part of the time of a seek.
    private var shownDigest: StateDigest {
        command.json || command.record != nil ? replay.machine.digest : StateDigest(high: 0, low: 0)
    }

    // MARK: Recording again

    private func startRecording() throws(TraceError) {
        guard let path = command.record else { return }
        guard path != command.trace else { throw .unusable("the replay cannot be recorded into the same file") }
        var manifest = TraceManifest(replay.machine.configuration, writer: Recording.writer)
        var images: [ImageContents] = []
        let files = ImageFiles(command.image)
        for (number, image) in reader.manifest.images.enumerated() {
            var copy = image
            copy.isEmbedded = !command.recording.noEmbed || image.path.isEmpty
            let isDisk = image.role == .disk || image.role == .cdrom
            let bytes =
                isDisk
                ? [] : try reader.imageBytes(number, file: { image throws(TraceError) in try files.bytes(image) })
            images.append(ImageContents(image: copy, bytes: bytes))
        }
        manifest.images = images.map(\.image)
        let recorder: Recorder
        do throws(TraceError) {
            recorder = try Recorder(
                replay.machine, to: path, manifest, images: images, disks: disks, command.recording.recorder,
                tracker: replay.tracker)
        } catch {
            throw .unusable("\(path): \(error.description)")
        }
        self.recorder = recorder
        replay.machine.devices.onMarkOutput = { recorder.markByte($0) }
        replay.record(with: recorder)
    }

    private func finishRecording(_ end: Replay.End, _ digest: StateDigest) throws(CommandError) {
        guard let recorder, let path = command.record else { return }
        var outcome: Outcome?
        switch end {
        case .outcome(let ended): outcome = ended
        case .position: outcome = .limit
        case .cutOff, .diverged: break
        }
        _ = try OpenTrace.describing(path) { () throws(TraceError) in
            try recorder.finish(outcome, digest: outcome == nil ? nil : digest)
        }
    }

    /// Beside a guest's console nothing is shown.
    private func showProgress() {
        guard command.json || command.quiet else { return }
        let (start, end) = (reader.manifest.start.count, max(reader.reach.position.count, 1))
        let position = replay.position.count
        progress.show(Double(position - min(start, position)) / Double(max(end - start, 1)))
    }
}

/// An engine by its name.
struct EngineName: ExpressibleByArgument {
    static var allValueStrings: [String] { Engine.allCases.map(\.rawValue) }
    let engine: Engine

    init?(argument: String) {
        guard let engine = Engine(rawValue: argument) else { return nil }
        self.engine = engine
    }
}
