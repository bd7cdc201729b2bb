import Analyzer
import ArgumentParser
import Replayer
import Tracer
import VMM

/// `trapline analyze`: where a trace's events come from.
struct AnalyzeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "analyze", abstract: "Show where a trace's events come from.",
        discussion: """
            A filter is one or more of kind, ring, phase, site, symbol, module, process, pid, port, mmio, vector, msr, \
            leaf, device, register with = or != and a value, such as 'kind=cpuid,rdmsr ring=0 symbol=native_*'. \
            Times are counts of the guest from the event before. With --strategy the table shows the modelled cycles \
            that the strategy adds, and --what-if shows what it would add with instructions rewritten in place.

            Example: trapline analyze boot.tline --by symbol --strategy vtx-ept --top 10
            """)

    @OptionGroup var options: AnalysisOptions
    @Option(
        help: ArgumentHelp(
            "Add up by \(HotSpots.Grouping.allCases.map(\.rawValue).joined(separator: ", ")).", valueName: "head"))
    var by: HotSpots.Grouping = .site
    @Option(help: ArgumentHelp("Show so many lines; 0 shows all.", valueName: "n"))
    var top = 20
    @Option(help: ArgumentHelp("Take only events that pass this.", valueName: "filter"), transform: { try filter($0) })
    var filter = Filter()
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Take only events between two positions.", valueName: "position position"),
        transform: { try PositionArgument($0) })
    var between: [PositionArgument] = []
    @Option(
        help: ArgumentHelp("Show the instructions around an address.", valueName: "address"),
        transform: { try AddressArgument($0) })
    var site: AddressArgument?
    @Flag(help: "Show the instructions around each site.")
    var disassemble = false
    @Option(help: ArgumentHelp("Show what this strategy adds, in modelled cycles.", valueName: "name"))
    var strategy: String?
    @Option(
        help: ArgumentHelp(
            "Show what rewriting sites in place would save: patch-top=N, or patch=ADDRESSES.", valueName: "change"),
        transform: { try WhatIf($0) })
    var whatIf: WhatIf?
    @OptionGroup(title: "The model, with --strategy and --what-if") var model: ModelOptions
    @Option(
        help: ArgumentHelp("Save a summary that diff takes in place of the trace.", valueName: "file"),
        completion: .file())
    var summary: String?
    @Flag(help: "Write JSON.")
    var json = false

    static func filter(_ text: String) throws -> Filter {
        do {
            return try Filter(text)
        } catch {
            throw ValidationError(error.description)
        }
    }

    mutating func validate() throws {
        guard between.isEmpty || between.count == 2 else {
            throw ValidationError("--between takes two positions, after the trace's name")
        }
        guard top >= 0 else { throw ValidationError("--top is \(top), expected 0 or more") }
        if disassemble, by != .site { throw ValidationError("--disassemble goes with --by site") }
        if strategy != nil || whatIf != nil {
            guard summary == nil, site == nil else {
                throw ValidationError("--strategy and --what-if go without --summary and --site")
            }
            if strategy != nil, by == .pid {
                throw ValidationError("--strategy tells processes apart by name: --by process")
            }
            if filter.keys.contains(.pid) {
                throw ValidationError("--strategy tells processes apart by name: the filter cannot have pid")
            }
            if whatIf != nil, disassemble { throw ValidationError("--what-if goes without --disassemble") }
        }
        if summary != nil, !between.isEmpty { throw ValidationError("--summary is of a whole trace") }
    }

    func run() throws {
        if let strategy { _ = try ModelOptions.strategies([strategy]) }
        if let whatIf {
            let costs = try CostAnalysis(options.request, model, part: between)
            return try WhatIfReport(costs, whatIf, strategy: strategy).write(json: json)
        }
        if let strategy { return try showStrategy(strategy) }
        let store = try options.request.store()
        if let summary {
            return try OutputFile.writing(summary) {
                try OutputFile(summary).finish(SummaryFile.json(TraceSummary(store)).document)
            }
        }
        try restrict(store)
        if let site { return try showSite(store, site.address) }
        let spots = try HotSpots(store, by: by, filter, top: top == 0 ? nil : top)
        let output = try BufferedOutput()
        let code = disassemble ? try spots.rows.map { try surroundings(store, $0) } : []
        if json {
            try output.write(HotSpotTable.json(spots, by: by, code).document)
        } else {
            try output.write(HotSpotTable.text(spots, code))
        }
        try output.finish()
    }

    private func showStrategy(_ name: String) throws {
        let costs = try CostAnalysis(options.request, model, part: between)
        if let reason = costs.result[name]?.notApplicable { throw CommandError.badCombination("\(name): \(reason)") }
        let spots = try StrategyHotSpots(
            costs.store, costs.model, key: costs.key, strategy: name, by: by, filter, top: top == 0 ? nil : top)
        let code = disassemble ? try spots.rows.map { try surroundings(costs, $0) } : []
        let table = StrategyTable(spots: spots, by: by, strategy: name, result: costs.result, code: code)
        let output = try BufferedOutput()
        try output.write(json ? table.json.document : table.text)
        try output.finish()
    }

    /// The instructions around a site that the row is of.
    private func surroundings(_ costs: CostAnalysis, _ row: StrategyHotSpots.Row) throws -> [Surroundings.Line] {
        guard case .text(let text) = row.labels[0], let address = UInt64(text.dropFirst(2), radix: 16),
            let site = costs.model.counts.sites.first(where: { $0.place.address == address && $0.place.kind != 0 })
        else { return [] }
        return try surroundings(costs.store, address, at: site.first)
    }

    /// Makes the store mean what is between the positions, if there are any.
    private func restrict(_ store: AnalysisStore) throws {
        guard let counts = try options.request.counts(of: between) else { return }
        do {
            try store.restrict(to: counts, of: OpenTrace.reader(options.trace))
        } catch let error as TraceError {
            throw CommandError.trace(path: options.trace, error)
        }
    }

    // MARK: Instructions

    private func showSite(_ store: AnalysisStore, _ address: UInt64) throws {
        let text = hexadecimal(address)
        let spots = try HotSpots(store, by: .site, Filter("site=\(text)"))
        guard let row = spots.rows.first else {
            throw CommandError.badCombination("no event of the trace is at \(text)")
        }
        let lines = try surroundings(store, row)
        let output = try BufferedOutput()
        if json {
            let document = HotSpotTable.json(spots, by: .site, spots.rows.map { _ in lines }).document
            try output.write(document)
        } else {
            try output.write(HotSpotTable.text(spots, [lines]))
        }
        try output.finish()
    }

    private func surroundings(_ store: AnalysisStore, _ row: HotSpots.Row) throws -> [Surroundings.Line] {
        guard case .text(let text) = row.labels[0], let address = UInt64(text.dropFirst(2), radix: 16) else {
            return []
        }
        return try surroundings(store, address, at: row.first)
    }

    private func surroundings(
        _ store: AnalysisStore, _ address: UInt64, at count: UInt64
    ) throws -> [Surroundings.Line] {
        let start = try store.symbolStart(of: address)
        do {
            let makeReplay = try options.request.replayMaker()
            return try Surroundings(makeReplay, address: address, count: count, from: start).lines
        } catch let error as TraceError {
            throw CommandError.trace(path: options.trace, error)
        }
    }
}

extension HotSpots.Grouping: ExpressibleByArgument {}

/// A linear address.
struct AddressArgument {
    let address: UInt64

    init(_ argument: String) throws {
        guard let address = NumberRange.number(argument[...]) else {
            throw ValidationError("expected an address such as 0xffffffff81000000")
        }
        self.address = address
    }
}

/// Hot spots as people and programs read them.
enum HotSpotTable {
    private static let measures = ["samples", "samples%", "time%", "min", "max", "avg"]

    static func text(_ spots: HotSpots, _ surroundings: [[Surroundings.Line]]) -> String {
        var cells = [spots.labels + measures]
        for row in spots.rows {
            cells.append(
                row.labels.map { TableWriter.text($0) } + [
                    "\(row.samples)", percent(row.samples, spots.samples), percent(row.counts, spots.counts),
                    "\(row.deltaMin)", "\(row.deltaMax)", RunResult.decimal(row.average),
                ])
        }
        // A column in which nothing stands is left out.
        let shown = cells[0].indices.filter { column in
            column >= spots.labels.count || cells.dropFirst().contains { !$0[column].isEmpty }
        }
        let widths = shown.map { column in cells.map { $0[column].count }.max() ?? 0 }
        var text = ""
        for (number, row) in cells.enumerated() {
            var line = ""
            for (column, width) in zip(shown, widths) {
                let space = String(repeating: " ", count: width - row[column].count)
                line += column < spots.labels.count ? row[column] + space + "  " : space + row[column] + "  "
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
            if number > 0, number <= surroundings.count { text += lines(surroundings[number - 1]) }
        }
        text += "\(spots.samples) samples in \(spots.groups) groups, \(spots.counts) counts of the guest\n"
        return text
    }

    static func lines(_ lines: [Surroundings.Line]) -> String {
        lines.map { line in
            let code = line.bytes.map { hex(UInt64($0), 2) }.joined()
            let space = String(repeating: " ", count: max(0, 22 - code.count))
            return "  \(line.isCenter ? ">" : " ") \(hex(line.address))  \(code)\(space)  \(line.text)\n"
        }.joined()
    }

    static func hex(_ value: UInt64, _ digits: Int = 1) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }

    static func percent(_ part: UInt64, _ whole: UInt64) -> String {
        RunResult.decimal(whole > 0 ? Double(part) * 100 / Double(whole) : 0)
    }

    static func json(_ spots: HotSpots, by: HotSpots.Grouping, _ surroundings: [[Surroundings.Line]]) -> JSON {
        let rows = spots.rows.enumerated().map { number, row -> JSON in
            var members = zip(spots.labels, row.labels).map { ($0, TableWriter.json($1)) }
            members += [
                ("samples", .integer(row.samples)), ("counts", .integer(row.counts)), ("min", .integer(row.deltaMin)),
                ("max", .integer(row.deltaMax)), ("avg", .number(row.average)), ("first", .integer(row.first)),
                ("last", .integer(row.last)),
            ]
            if number < surroundings.count {
                members.append(("instructions", .array(surroundings[number].map(instruction))))
            }
            return .object(members)
        }
        return .object([
            ("by", .string(by.rawValue)), ("samples", .integer(spots.samples)), ("counts", .integer(spots.counts)),
            ("groups", .integer(UInt64(spots.groups))), ("rows", .array(rows)),
        ])
    }

    static func instruction(_ line: Surroundings.Line) -> JSON {
        .object([
            ("address", .string("0x" + hex(line.address))),
            ("bytes", .string(line.bytes.map { hex(UInt64($0), 2) }.joined())), ("text", .string(line.text)),
            ("center", .bool(line.isCenter)),
        ])
    }
}
