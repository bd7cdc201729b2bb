import Analyzer
import ArgumentParser
import Replayer
import Tracer

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

    /// The trace's name with the extension of a page.
    private var path: String {
        if let output { return output }
        let name = options.trace.hasSuffix(".tline") ? String(options.trace.dropLast(6)) : options.trace
        return name + ".html"
    }

    func run() throws {
        let file = try OutputFile(path)
        EndingSignal.watch()
        let costs = try CostAnalysis(options.request, model)
        let reader = try OpenTrace.reader(options.trace)
        do {
            let data = try ReportData(costs, reader, options, model).json
            try file.finish(ReportPage.html(title: title, data: data.text))
        } catch let error as TraceError {
            throw CommandError.trace(path: options.trace, error)
        }
        StandardError.say("\(path): the report; modelled with the costs of \(costs.result.costs.name)")
    }

    private var title: String { String(options.trace.split(separator: "/").last ?? "") + " – Trapline report" }
}
