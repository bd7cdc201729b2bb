import Analyzer
import ArgumentParser
import Glibc
import Replayer
import Tracer
import VMM

/// `trapline report`: everything about a trace as one HTML file.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Write an HTML page about a trace: what it costs, where, when and why.",
        discussion: """
            The page stands alone: it opens in a browser without any network, prints, and works by keyboard. All costs \
            in it are modelled.

            Example: trapline report boot.tline -o boot.html --costs zen3
            """)

    @OptionGroup var options: AnalysisOptions
    @OptionGroup(title: "The model") var model: ModelOptions
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where the page goes; beside the trace if not given.", valueName: "file"),
        completion: .file())
    var output: String?
    @Option(
        help: ArgumentHelp("Show in the flame graph what is different from this trace.", valueName: "file"),
        completion: .file())
    var diff: String?

    /// The trace's name with the extension of a page.
    private var path: String {
        if let output { return output }
        let name = options.trace.hasSuffix(".tline") ? String(options.trace.dropLast(6)) : options.trace
        return name + ".html"
    }

    func run() throws {
        try OutputFile.writing(path) { try write(to: OutputFile(path)) }
        StandardError.say("\(path): the report; modelled with the costs of \(model.costs)")
    }

    private func write(to file: OutputFile) throws {
        EndingSignal.watch()
        let costs = try costs(of: options.request)
        let reader = try OpenTrace.reader(options.trace)
        do {
            var data = try ReportData(costs, reader, options, model).json
            if let diff, case .object(var members) = data {
                members.append(("other", try other(diff)))
                data = .object(members)
            }
            if EndingSignal.wasReceived { throw EndingSignal.interrupted("there is no report") }
            try file.finish(ReportPage.html(title: title, data: data.text))
        } catch let error as TraceError {
            throw CommandError.trace(path: options.trace, error)
        }
    }

    /// What strategies cost, and where there is a kernel its stacks.
    private func costs(of request: AnalysisRequest) throws -> CostAnalysis {
        let costs = try CostAnalysis(request, model)
        if costs.store.hasKernel { try request.addStacks(to: costs.store, paging: true) }
        return costs
    }

    /// Of the trace that is compared: how it is called, what strategies cost there, and its flame graph.
    private func other(_ path: String) throws -> JSON {
        var request = options.request
        (request.trace, request.db) = (path, nil)
        let costs = try costs(of: request)
        return .object([
            ("trace", .string(String(path.split(separator: "/").last ?? ""))),
            ("ratios", .array(costs.result.entries.map { .string(ModelText.ratio($0.ratio.typical)) })),
            ("added", .array(costs.result.entries.map { .cycles($0.cyclesAdded) })),
            ("flame", try ReportFlame(costs, try ReportPlaces(costs)).json),
        ])
    }

    private var title: String { String(options.trace.split(separator: "/").last ?? "") + " – Trapline report" }
}
