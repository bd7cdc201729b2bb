import Analyzer
import ArgumentParser

/// `trapline sql`: asks a trace's analysis in SQL.
struct SQLCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sql", abstract: "Ask a trace's analysis in SQL.",
        discussion: """
            The tables are in docs/store.md. Nothing can be changed.

            Example: trapline sql boot.tline "SELECT * FROM hot_site LIMIT 10"
            """)

    @OptionGroup var options: AnalysisOptions
    @Argument(help: "The statement.")
    var statement: String
    @Flag(help: "Write JSON: an object for each row.")
    var json = false
    @Flag(help: "Write CSV.")
    var csv = false

    mutating func validate() throws {
        if json && csv { throw ValidationError("--json and --csv exclude each other") }
    }

    func run() throws {
        let output = try BufferedOutput()
        let format: TableFormat = json ? .json : csv ? .csv : .text
        let writer = TableWriter(format, output)
        try options.request.store().query(statement) { columns, values in
            if let columns { try writer.begin(columns) }
            if let values { try writer.row(values) }
        }
        try writer.end()
        try output.finish()
    }
}
