import ArgumentParser
import Glibc
import VMM

/// `trapline run`: boots a guest and reports how it ended.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a guest, with its first serial port on standard input and output.",
        discussion: """
            Without --kernel, --firmware, --disk or --cdrom a small built-in guest runs. On a terminal Ctrl-A X quits.
            Exit code 0 is the guest's power-off, or the outcome that --expect names; isa-debug-exit ends with \
            (value << 1) | 1, and every other outcome has an even code of its own.

            Example: trapline run --kernel vmlinuz --initrd initrd.gz --append "console=ttyS0"
            """)

    @OptionGroup(title: "Machine") var machine: MachineOptions
    @OptionGroup(title: "Run") var options: RunOptions

    func run() throws {
        let outputs = try RunOutputs(options)
        var configuration = try machine.configuration()
        configuration.engine = options.engine.engine
        let session = try RunSession(configuration, options)
        let result = try session.run()
        StandardError.say(result.sentence)
        if let report = result.faultReport { StandardError.write(report) }
        try outputs.finish(result)
        throw ExitCode(options.exitCode(of: result.outcome))
    }
}

/// The options that say when a run ends and what it leaves behind.
struct RunOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "interpreter, translator, or both in lockstep, which ends at their first difference.", valueName: "name"))
    var engine = EngineChoice.translator
    @Option(help: ArgumentHelp("With both engines, compare their states every so many instructions.", valueName: "n"))
    var checkEvery: UInt64?
    @Option(help: .hidden, transform: { try BitFlip($0) })
    var debugFlip: BitFlip?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("End when this text appears on the serial console.", valueName: "text"))
    var stopOn: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("End when this text is on the VGA text screen.", valueName: "text"))
    var stopOnScreen: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Fail when this text appears on the serial console.", valueName: "text"))
    var failOn: String?
    @Option(help: ArgumentHelp("End after this many instructions.", valueName: "n"))
    var maxInstructions: UInt64?
    @Option(help: ArgumentHelp("End after this much host time.", valueName: "seconds"))
    var timeout: Double?
    @Option(
        help: ArgumentHelp(
            "The outcome that is success: \(Outcome.names.joined(separator: ", ")).", valueName: "outcome"),
        transform: { try ExpectedOutcome($0) })
    var expect: ExpectedOutcome?
    @Option(help: ArgumentHelp("Where console input comes from: console or none.", valueName: "source"))
    var stdin = InputSource.console
    @Option(help: ArgumentHelp("Write the VGA text screen here at the end.", valueName: "file"), completion: .file())
    var screen: String?
    @Option(help: ArgumentHelp("Write a summary of the run here at the end.", valueName: "file"), completion: .file())
    var jsonSummary: String?
    @Option(
        help: ArgumentHelp(
            "Write what the guest sends to the debug consoles, ports 0xE9 and 0x402.", valueName: "file"),
        completion: .file()
    )
    var debugConsole: String?
    @Option(
        help: ArgumentHelp(
            "Print every instruction with the registers before it, from a count on, for so many counts.",
            valueName: "start:count"), transform: { try TraceRange($0) })
    var debugTrace: TraceRange?
    @Flag(help: "Report the events that a recording has to a sink that only counts them, to see what reporting costs.")
    var countEvents = false
    @Option(help: ArgumentHelp("Print a digest of the whole state every so many instructions.", valueName: "n"))
    var digestEvery: UInt64?
    @Option(
        help: ArgumentHelp(
            "Every so many instructions go on in a new machine, restored from a snapshot.", valueName: "n"))
    var checkSnapshots: UInt64?

    mutating func validate() throws {
        if let timeout, !(timeout > 0) { throw ValidationError("--timeout is \(timeout), expected a positive number") }
        for (name, value) in [
            ("--max-instructions", maxInstructions), ("--digest-every", digestEvery),
            ("--check-snapshots", checkSnapshots), ("--check-every", checkEvery),
        ] where value == 0 {
            throw ValidationError("\(name) is 0, expected a positive number")
        }
        if engine == .both, checkSnapshots != nil {
            throw ValidationError("--check-snapshots needs one engine, --engine is both")
        }
        if engine != .both, checkEvery != nil || debugFlip != nil {
            throw ValidationError("--check-every needs --engine both")
        }
        for (name, text) in [("--stop-on", stopOn), ("--stop-on-screen", stopOnScreen), ("--fail-on", failOn)]
        where text == "" {
            throw ValidationError("the text for \(name) is empty")
        }
    }

    /// Counts between two comparisons of both engines.
    var checkInterval: UInt64 { checkEvery ?? 10_000_000 }

    /// The command's exit code after `outcome`.
    func exitCode(of outcome: Outcome) -> Int32 {
        guard let expect else { return outcome.exitCode }
        if expect.matches(outcome) { return 0 }
        return outcome.exitCode == 0 ? ExpectedOutcome.mismatchCode : outcome.exitCode
    }
}

/// The engines to run.
enum EngineChoice: String, ExpressibleByArgument, CaseIterable {
    case interpreter, translator, both

    /// That of the machine which is the guest's.
    var engine: Engine { self == .translator ? .translator : .interpreter }
}

enum InputSource: String, ExpressibleByArgument, CaseIterable { case console, none }

/// The outcome that makes a run a success: a name, and for `debug-exit` possibly the value, as in `debug-exit:16`.
struct ExpectedOutcome {
    /// The exit code when the run ended well, but not as expected.
    static let mismatchCode: Int32 = 26

    private let name: String
    private let value: UInt8?

    init(_ argument: String) throws {
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        name = parts[0]
        value = parts.count == 2 ? UInt8(parts[1]) : nil
        guard Outcome.names.contains(name), parts.count == 1 || value != nil && name == "debug-exit" else {
            throw ValidationError(
                "expected one of \(Outcome.names.joined(separator: ", ")), or debug-exit:0 to debug-exit:255")
        }
    }

    func matches(_ outcome: Outcome) -> Bool {
        guard outcome.name == name else { return false }
        guard let value, case .debugExit(let found) = outcome else { return true }
        return value == found
    }
}

/// A part of a run: the count at which it begins and its length in counts, as in `1000000:500`.
struct TraceRange {
    let counts: Range<UInt64>

    init(_ argument: String) throws {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map { UInt64($0) }
        guard parts.count == 2, let start = parts[0], let count = parts[1], count > 0, start <= .max - count else {
            throw ValidationError("expected a start and a number of counts such as 1000000:500")
        }
        counts = start..<start + count
    }
}

/// The files that a run writes at its end, opened before it starts.
struct RunOutputs {
    private let screen: OutputFile?
    private let summary: OutputFile?

    init(_ options: RunOptions) throws(CommandError) {
        screen = try options.screen.map { path throws(CommandError) in try OutputFile(path) }
        summary = try options.jsonSummary.map { path throws(CommandError) in try OutputFile(path) }
    }

    func finish(_ result: RunResult) throws(CommandError) {
        try screen?.finish(result.screen.map { $0 + "\n" }.joined())
        try summary?.finish(result.summary.document)
    }
}
