import ArgumentParser
import Tracer
import VMM

/// `trapline record`: a run that leaves a trace.
struct RecordCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "record",
        abstract: "Run a guest and record what it does, so that it can be replayed and analyzed.",
        discussion: """
            Takes the options of run. The trace replays on any x86-64 Linux machine by itself. SIGINT, SIGTERM and \
            Ctrl-A X close it properly; one that was killed replays up to its last second.

            Example: trapline record -o boot.tline --kernel vmlinuz --initrd initrd.gz
            """)

    @Option(name: .shortAndLong, help: ArgumentHelp("The trace to write.", valueName: "file"), completion: .file())
    var output: String
    @OptionGroup(title: "Recording") var recording: RecordOptions
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Begin when the guest prints this text or sets this mark.", valueName: "text"))
    var startOn: String?
    @Option(help: ArgumentHelp("Keep only the last so many million instructions, or twice as many.", valueName: "n"))
    var keepLast: UInt64?
    @OptionGroup(title: "Machine") var machine: MachineOptions
    @OptionGroup(title: "Run") var options: RunOptions

    mutating func validate() throws {
        if startOn == "" { throw ValidationError("the text for --start-on is empty") }
        if options.engine == .both { throw ValidationError("--engine both is not for recordings") }
        if options.countEvents { throw ValidationError("--count-events is not for recordings") }
        if options.checkSnapshots != nil { throw ValidationError("--check-snapshots is not for recordings") }
        if let keepLast, !(1...1_000_000_000).contains(keepLast) {
            throw ValidationError("--keep-last is \(keepLast), expected a positive number of millions")
        }
    }

    func run() throws {
        let outputs = try RunOutputs(options)
        var configuration = try machine.configuration()
        configuration.engine = options.engine.engine
        var recorderOptions = recording.recorder
        recorderOptions.keepLast = keepLast.map { $0 * 1_000_000 }
        if let keepLast = recorderOptions.keepLast {
            recorderOptions.checkpointEvery = min(recorderOptions.checkpointEvery, keepLast)
        }
        let recording = try Recording(
            output, &configuration, paths: machine.imagePaths(configuration), embed: !recording.noEmbed,
            startOn: startOn, recorderOptions)
        let session = try RunSession(configuration, options, recording: recording)
        let result = try session.run()
        StandardError.say(result.sentence)
        if let report = result.faultReport { StandardError.write(report) }
        try outputs.finish(result)
        guard recording.hasFinished else {
            StandardError.say("the text of --start-on did not appear, so no trace was written")
            throw ExitCode(ExpectedOutcome.mismatchCode)
        }
        let bytes = recording.statistics.streams.values.reduce(0, +)
        StandardError.say("recorded into \(output), \(bytes) bytes")
        throw ExitCode(options.exitCode(of: result.outcome))
    }
}
