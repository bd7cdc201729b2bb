import Analyzer
import ArgumentParser
import Glibc

/// `trapline export`: a trace's analysis for other programs.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a trace's analysis for other programs.",
        discussion: """
            folded is for flame graphs, perfetto for ui.perfetto.dev, sqlite is the whole store; csv and json are one \
            table of it.

            Example: trapline export boot.tline --format perfetto -o boot.perfetto
            """)

    enum Format: String, CaseIterable, ExpressibleByArgument {
        case sqlite, folded, perfetto, csv, json
    }

    @OptionGroup var options: AnalysisOptions
    @Option(
        help: ArgumentHelp("One of \(Format.allCases.map(\.rawValue).joined(separator: ", ")).", valueName: "format"))
    var format: Format
    @Option(help: ArgumentHelp("For csv and json: sites, timeline or events.", valueName: "table"))
    var table: AnalysisStore.Table = .sites
    @Option(
        help: ArgumentHelp("For folded: take only events that pass this.", valueName: "filter"),
        transform: { try AnalyzeCommand.filter($0) })
    var filter: Filter?
    @Flag(help: "For folded: with the kernel's callers, sampled by running the guest again.")
    var stacks = false
    @Option(
        name: .shortAndLong, help: ArgumentHelp("Write here, not to standard output.", valueName: "file"),
        completion: .file())
    var output: String?

    mutating func validate() throws {
        if format == .sqlite, output == nil { throw ValidationError("--format sqlite needs -o") }
        if filter != nil, format != .folded { throw ValidationError("--filter goes with --format folded") }
        if stacks, format != .folded || filter != nil {
            throw ValidationError("--stacks goes with --format folded and without --filter")
        }
        if table == .events { options.events = true }
    }

    func run() throws { try OutputFile.writing(output, write) }

    private func write() throws {
        if format == .sqlite { return try exportStore() }
        let file = try BufferedOutput(output)
        let store = try options.request.store()
        switch format {
        case .folded where stacks:
            try options.request.addStacks(to: store, paging: false)
            try store.foldedStacks { try file.write($0) }
        case .folded: try store.folded(filter ?? Filter()) { try file.write($0) }
        case .perfetto: try PerfettoExport(store) { try file.write($0) }.run()
        default:
            let writer = TableWriter(format == .json ? .json : .csv, file)
            try store.query(table.sql) { columns, values in
                if let columns { try writer.begin(columns) }
                if let values { try writer.row(values) }
            }
            try writer.end()
        }
        try file.finish()
    }

    private func exportStore() throws {
        guard let output else { return }
        // SQLite would refuse a file that is there; other formats replace theirs.
        try OutputFile(output).finish("")
        _ = unlink(output)
        try options.request.store().copy(to: output)
    }
}

extension AnalysisStore.Table: ExpressibleByArgument {}
