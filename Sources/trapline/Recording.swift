import ArgumentParser
import Glibc
import Tracer
import VMM

/// The options of a recording.
struct RecordOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What is kept: inputs (the least that replays), events, or paging (also page-table writes and TLB fills).",
            valueName: "detail"))
    var detail = TraceDetail.events
    @Flag(help: "Keep digests of the images instead of the images; replay then wants the files.")
    var noEmbed = false
    @Option(
        help: ArgumentHelp("Counts between two state digests, at most 100 million.", valueName: "n"))
    var digestEvery: UInt64 = 100_000_000
    @Option(help: ArgumentHelp("Counts between two checkpoints.", valueName: "n"))
    var checkpointEvery: UInt64 = 100_000_000

    mutating func validate() throws {
        guard (1...100_000_000).contains(digestEvery) else {
            throw ValidationError("--digest-every is \(digestEvery), expected 1 to 100000000")
        }
        guard checkpointEvery > 0 else { throw ValidationError("--checkpoint-every is 0, expected a positive number") }
    }

    var recorder: Recorder.Options {
        var options = Recorder.Options()
        options.detail = detail
        options.digestEvery = digestEvery
        options.checkpointEvery = checkpointEvery
        return options
    }
}

extension TraceDetail: ExpressibleByArgument {}

/// A recording beside a run: when it begins, what goes into it, how it ends.
final class Recording {
    static let writer = "trapline"

    private let path: String
    private let options: Recorder.Options
    private let embed: Bool
    private let paths: ImagePaths
    private var startMatcher: TextMatcher?
    private let startText: String?
    private var startIsDue = false
    private var markLine: [UInt8] = []
    private var images: [ImageContents] = []
    private var disks: [(image: Int, disk: RecordedDisk)] = []
    private var manifest = TraceManifest()
    private(set) var recorder: Recorder?
    private(set) var statistics = TraceStatistics()

    /// Prepares a recording into `path`, and puts recorded disks into `configuration`. It begins at once, or when the
    /// guest prints or marks `startOn`.
    init(
        _ path: String, _ configuration: inout MachineConfiguration, paths: ImagePaths, embed: Bool, startOn: String?,
        _ options: Recorder.Options
    ) throws(CommandError) {
        self.path = path
        self.options = options
        self.embed = embed
        self.paths = paths
        startText = startOn
        startMatcher = startOn.map(TextMatcher.init)
        images = ImageContents.all(of: configuration, paths: paths, embed: embed)
        manifest = TraceManifest(configuration, writer: Self.writer)
        manifest.images = images.map(\.image)
        // A path that cannot be written is known before the guest starts.
        try FileDescriptor.writing(path).close()
        for (number, image) in images.enumerated() {
            if image.image.role == .disk, let source = configuration.disk {
                let disk = RecordedDisk(source)
                configuration.disk = disk
                disks.append((number, disk))
            } else if image.image.role == .cdrom, let source = configuration.cdrom {
                let disk = RecordedDisk(source)
                configuration.cdrom = disk
                disks.append((number, disk))
            }
        }
    }

    /// The machine is built; unless a text is waited for, the recording begins.
    func begin(_ machine: Machine) throws(CommandError) {
        if startText == nil { try start(machine) }
    }

    private func start(_ machine: Machine) throws(CommandError) {
        startMatcher = nil
        startIsDue = false
        do {
            recorder = try Recorder(machine, to: path, manifest, images: images, disks: disks, options)
        } catch {
            throw .trace(path: path, error)
        }
    }

    /// Takes what the guest prints.
    /// - Returns: whether the run must stop for the recording to begin.
    func consoleByte(_ byte: UInt8) -> Bool {
        guard startMatcher?.feed(byte) == true else { return false }
        startIsDue = true
        return true
    }

    /// Takes what the guest writes to port 0xE9.
    /// - Returns: whether the run must stop for the recording to begin.
    func markByte(_ byte: UInt8) -> Bool {
        if let recorder {
            recorder.markByte(byte)
            return false
        }
        guard startMatcher != nil, byte != 0x0D else { return false }
        guard byte == 0x0A else {
            if markLine.count < 255 { markLine.append(byte) }
            return false
        }
        defer { markLine = [] }
        guard String(decoding: markLine, as: UTF8.self) == startText else { return false }
        startIsDue = true
        return true
    }

    /// The machine has stopped; `atLimit` if at a count that was asked for.
    func stopped(_ machine: Machine, atLimit: Bool) throws(CommandError) {
        if startIsDue { try start(machine) }
        guard let recorder else { return }
        if atLimit { recorder.reached() }
        recorder.tick()
        if recorder.failure != nil { try finish(nil, nil) }
    }

    /// Closes the trace. With an outcome it is complete.
    func finish(_ outcome: Outcome?, _ digest: StateDigest?) throws(CommandError) {
        guard let recorder else { return }
        self.recorder = nil
        do {
            statistics = try recorder.finish(outcome, digest: digest)
            hasFinished = true
        } catch {
            throw .trace(path: path, error)
        }
    }

    /// Whether there is a trace, once the run is over.
    private(set) var hasFinished = false
}
