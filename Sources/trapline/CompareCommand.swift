import ArgumentParser
import Replayer
import Tracer
import VMM

/// `trapline compare`: what every strategy would have cost, from one re-execution.
struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Show what each virtualization strategy would have cost a recorded guest.",
        discussion: """
            The trace is run again once, and all strategies take its events. Costs are modelled, with ranges: the \
            guest ran on the bare machine. Delay loops and idle time are bounded by time, not by work, and stay out \
            of the ratios unless --include-waits is given.

            Example: trapline compare boot.tline --costs zen3
            """)

    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @OptionGroup(title: "The model") var model: ModelOptions
    @Option(help: ArgumentHelp("Only this strategy, and native; may be given again.", valueName: "name"))
    var strategy: [String] = []
    @Option(
        help: ArgumentHelp("Model from this position on.", valueName: "position"),
        transform: { try PositionArgument($0) })
    var from: PositionArgument?
    @Option(
        help: ArgumentHelp("Model up to this position.", valueName: "position"),
        transform: { try PositionArgument($0) })
    var to: PositionArgument?
    @Option(help: ArgumentHelp("interpreter or translator; the recording's own if not given.", valueName: "name"))
    var engine: EngineName?
    @Option(
        help: ArgumentHelp("Where an image is that the trace does not hold.", valueName: "role=file"),
        transform: { try ImageArgument($0) })
    var image: [ImageArgument] = []
    @Flag(help: "Say what the literature reports of strategies beside each other, and whether the model agrees.")
    var orderings = false
    @Flag(help: "Write JSON.")
    var json = false

    func run() throws {
        let costs = try CostTables.table(model.costs)
        let types = try ModelOptions.strategies(strategy.isEmpty ? [] : ["native"] + strategy)
        let reader = try OpenTrace.reader(trace)
        let session = ModelSession(
            reader: reader, path: trace, model: model, strategies: types, engine: engine?.engine, images: image,
            from: from, to: to)
        let outcome = try session.run()
        let result = ModelResult(
            outcome.run, costs, idleNanoseconds: outcome.idleNanoseconds, includesWaits: model.includeWaits)
        let text =
            json
            ? CompareText.json(result, outcome).document
            : CompareText(
                result: result, manifest: reader.manifest, path: trace, includesWaits: model.includeWaits,
                audits: model.audit, showsOrderings: orderings,
                hasBars: Terminal.isTerminal(.standardOutput)
            ).text
        FileDescriptor.standardOutput.writeAll(Array(text.utf8))
        throw ExitCode(try ModelReport.conclude(result, outcome))
    }
}

/// What is said on standard error at the end of a modelled replay.
enum ModelReport {
    /// - Returns: the exit code.
    static func conclude(_ result: ModelResult, _ outcome: ModelSession.Result) throws(CommandError) -> Int32 {
        for entry in result.entries {
            for finding in entry.findings {
                StandardError.say("\(entry.name), count \(finding.count): \(finding.what)")
            }
        }
        switch outcome.end {
        case .diverged(let divergence):
            StandardError.say(divergence.sentence)
            return Outcome.divergence.exitCode
        case .outcome(.interrupted):
            StandardError.say("interrupted: the result is of the part that was run")
            return Outcome.interrupted.exitCode
        case .cutOff: StandardError.say("the recording is incomplete: the result is of what it holds")
        case .outcome, .position: break
        }
        let time = RunResult.decimal(outcome.seconds)
        StandardError.say(
            "modelled in \(time) s; \(outcome.verifiedEvents) events and \(outcome.verifiedDigests) digests verified")
        return result.entries.contains { !$0.findings.isEmpty } ? Outcome.divergence.exitCode : 0
    }
}
