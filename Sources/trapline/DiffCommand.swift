import Analyzer
import ArgumentParser

/// `trapline diff`: what changed between two traces.
struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Say what is different between two traces.",
        discussion: """
            Sites are compared by symbol, and within it in their order. Either trace can be a summary that analyze \
            --summary saved. With thresholds the exit code is \(exceededCode) if one is exceeded. With --strategy \
            modelled cycles are compared: of one strategy in two traces, or of two in one.

            Example: trapline diff before.tline after.tline --threshold samples=5 --threshold new=0
            """)

    static let exceededCode: Int32 = 30

    @Argument(help: ArgumentHelp("The trace or summary before.", valueName: "before"), completion: .file())
    var before: String
    @Argument(help: ArgumentHelp("The trace or summary after.", valueName: "after"), completion: .file())
    var after: String?
    @Option(
        help: ArgumentHelp(
            "Compare what this strategy adds, in modelled cycles; twice with one trace.", valueName: "name"))
    var strategy: [String] = []
    @OptionGroup(title: "The model, with --strategy") var model: ModelOptions
    @Option(
        help: ArgumentHelp(
            "What may change at most: samples, counts, site or (with --strategy) cycles in percent, new or vanished "
                + "sites. Repeatable.",
            valueName: "name=value"), transform: { try ThresholdArgument($0) })
    var threshold: [ThresholdArgument] = []
    @Option(help: ArgumentHelp("Show so many lines; 0 shows all.", valueName: "n"))
    var top = 20
    @Option(
        help: ArgumentHelp("Symbols for both traces. Repeatable.", valueName: "file"), completion: .file())
    var symbols: [String] = []
    @Option(help: ArgumentHelp("Write the thresholds as JUnit test cases.", valueName: "file"), completion: .file())
    var junit: String?
    @Option(
        help: ArgumentHelp(
            "Write the HTML report of the trace after, with a flame graph of the difference.", valueName: "file"),
        completion: .file())
    var report: String?
    @Flag(help: "Write JSON.")
    var json = false

    mutating func validate() throws {
        guard top >= 0 else { throw ValidationError("--top is \(top), expected 0 or more") }
        if after == nil, strategy.count != 2 {
            throw ValidationError("expected two traces, or one with --strategy given twice")
        }
        if after != nil, strategy.count > 1 {
            throw ValidationError("expected one --strategy for two traces, or one trace for two of them")
        }
        for item in threshold where (item.name == .cycles) == strategy.isEmpty {
            throw ValidationError(
                strategy.isEmpty
                    ? "the threshold cycles needs --strategy"
                    : "with --strategy the threshold is cycles, not \(item.name.rawValue)")
        }
        if !strategy.isEmpty, junit != nil { throw ValidationError("--junit goes without --strategy") }
    }

    func run() throws {
        if !strategy.isEmpty { return try compareCosts() }
        guard let after else { return }
        let junitFile = try junit.map { path throws(CommandError) in try OutputFile(path) }
        let difference = TraceDifference(try summary(before), try summary(after))
        let output = try BufferedOutput()
        try output.write(json ? jsonDocument(difference).document : text(difference))
        try output.finish()
        try junitFile?.finish(junitText(difference))
        if let report {
            let symbols = symbols.map { "--symbols=\($0)" }
            try ReportCommand.parse(["--diff=\(before)", "--output=\(report)"] + symbols + ["--", after]).run()
        }
        let exceeded = threshold.filter { $0.isExceeded(difference) }
        for threshold in exceeded { StandardError.say(threshold.sentence(difference)) }
        if !exceeded.isEmpty { throw ExitCode(Self.exceededCode) }
    }

    private func compareCosts() throws {
        let sides = try [(before, strategy[0]), (after ?? before, strategy.last ?? strategy[0])].map { trace, name in
            try CostDifference.Side(AnalysisRequest(trace: trace, symbols: symbols), model, strategy: name)
        }
        let difference = CostDifference(sides[0], sides[1], costs: try CostTables.table(model.costs).name)
        let output = try BufferedOutput()
        try output.write(json ? difference.json.document : difference.text(top: top))
        try output.finish()
        for limit in threshold where difference.percent > limit.value {
            StandardError.say(
                "cycles is \(RunResult.decimal(difference.percent))%, more than \(RunResult.decimal(limit.value))%")
            throw ExitCode(Self.exceededCode)
        }
    }

    private func summary(_ path: String) throws -> TraceSummary {
        let file = try FileDescriptor.reading(path)
        let start = file.read(upTo: 1) ?? []
        file.close()
        if start.first == UInt8(ascii: "{") {
            let file = try FileDescriptor.reading(path)
            defer { file.close() }
            return try SummaryFile.parse(file.readAll(path, limit: 1 << 30), path: path)
        }
        return try TraceSummary(AnalysisRequest(trace: path, symbols: symbols).store())
    }

    // MARK: Output

    private func text(_ difference: TraceDifference) -> String {
        guard !difference.changes.isEmpty else { return "" }
        let shown = top == 0 ? difference.changes[...] : difference.changes.prefix(top)
        var cells = [["before", "after", "change", "change%", "place", "kind", "ring"]]
        for change in shown {
            let sign = change.after > change.before ? "+" : "-"
            let size = change.after > change.before ? change.after - change.before : change.before - change.after
            let percent = change.after == 0 ? "gone" : change.percent.map { RunResult.decimal($0) } ?? "new"
            cells.append([
                "\(change.before)", "\(change.after)", sign + "\(size)", percent, change.place.name,
                change.place.kind, "\(change.place.ring)",
            ])
        }
        let widths = cells[0].indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
        var text = ""
        for row in cells {
            var line = ""
            for (column, cell) in row.enumerated() {
                let space = String(repeating: " ", count: widths[column] - cell.count)
                line += (column < 4 ? space + cell : cell + space) + "  "
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
            + "\(difference.changes.count) places differ, \(Int(difference.measure(.new))) new and "
            + "\(Int(difference.measure(.vanished))) gone; \(difference.before.samples) samples before, "
            + "\(difference.after.samples) after\n"
    }

    private func jsonDocument(_ difference: TraceDifference) -> JSON {
        .object([
            ("before", side(difference.before)), ("after", side(difference.after)),
            (
                "measures",
                .object(
                    TraceDifference.Threshold.allCases.filter { $0 != .cycles }.map {
                        ($0.rawValue, .number(difference.measure($0)))
                    })
            ),
            ("exceeded", .array(threshold.filter { $0.isExceeded(difference) }.map { .string($0.name.rawValue) })),
            (
                "changes",
                .array(
                    difference.changes.map { change in
                        .object([
                            ("name", .string(change.place.name)), ("kind", .string(change.place.kind)),
                            ("ring", .integer(UInt64(change.place.ring))), ("before", .integer(change.before)),
                            ("after", .integer(change.after)),
                        ])
                    })
            ),
        ])
    }

    private func side(_ summary: TraceSummary) -> JSON {
        .object([("samples", .integer(summary.samples)), ("counts", .integer(summary.counts))])
    }

    private func junitText(_ difference: TraceDifference) -> String {
        let failures = threshold.filter { $0.isExceeded(difference) }.count
        var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        text += "<testsuite name=\"trapline diff\" tests=\"\(threshold.count)\" failures=\"\(failures)\">\n"
        for threshold in threshold {
            text += "  <testcase classname=\"trapline.diff\" name=\"\(threshold.name.rawValue)\">"
            if threshold.isExceeded(difference) {
                text += "<failure message=\"\(threshold.sentence(difference))\"/>"
            }
            text += "</testcase>\n"
        }
        return text + "</testsuite>\n"
    }
}

/// `NAME=VALUE`.
struct ThresholdArgument {
    let name: TraceDifference.Threshold
    let value: Double

    init(_ argument: String) throws {
        let parts = argument.split(separator: "=", maxSplits: 1)
        guard parts.count == 2, let name = TraceDifference.Threshold(rawValue: String(parts[0])),
            let value = Double(parts[1]), value >= 0, value.isFinite
        else {
            let names = TraceDifference.Threshold.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("expected NAME=VALUE, where NAME is one of \(names) and VALUE is 0 or more")
        }
        self.name = name
        self.value = value
    }

    func isExceeded(_ difference: TraceDifference) -> Bool { difference.measure(name) > value }

    func sentence(_ difference: TraceDifference) -> String {
        let unit = name == .new || name == .vanished ? "" : "%"
        return "\(name.rawValue) is \(RunResult.decimal(difference.measure(name)))\(unit), "
            + "more than \(RunResult.decimal(value))\(unit)"
    }
}
