import Analyzer
import Replayer

/// A strategy's hot spots as people and programs read them. All of it is modelled.
struct StrategyTable {
    let spots: StrategyHotSpots
    let by: HotSpots.Grouping
    let strategy: String
    let result: ModelResult
    let code: [[Surroundings.Line]]

    private static let measures = ["samples", "samples%", "cycles", "cycles%", "min", "avg", "max"]

    var text: String {
        var cells = [spots.labels + Self.measures]
        for row in spots.rows {
            cells.append(row.labels.map { TableWriter.text($0) } + measures(row))
        }
        // A column in which nothing stands is left out.
        let shown = cells[0].indices.filter { column in
            column >= spots.labels.count || cells.dropFirst().contains { !$0[column].isEmpty }
        }
        let rows = cells.map { row in shown.map { row[$0] } }
        let labels = shown.count { $0 < spots.labels.count }
        let table = TextColumns(rows, right: Set(labels..<shown.count)).text
        var text = ""
        for (number, line) in table.split(separator: "\n").enumerated() {
            text += line + "\n"
            if number > 0, number <= code.count { text += HotSpotTable.lines(code[number - 1]) }
        }
        return text + summary
    }

    private func measures(_ row: StrategyHotSpots.Row) -> [String] {
        let count = Double(row.samples)
        let each = [row.low, row.typical, row.high].map { row.samples > 0 ? ModelText.fixed($0 / count, 0) : "" }
        return [
            row.samples > 0 ? "\(row.samples)" : "",
            row.samples > 0 ? HotSpotTable.percent(row.samples, spots.samples) : "", ModelText.cycles(row.typical),
            RunResult.decimal(spots.cycles != 0 ? row.typical * 100 / spots.cycles : 0),
        ] + each
    }

    private var summary: String {
        guard let entry = result[strategy] else { return "" }
        let marks = entry.hypothetical.isEmpty ? "" : "; hypothetical, \(entry.hypothetical.joined(separator: "; "))"
        return """
            Modelled cycles that \(strategy) adds with the costs of \(result.costs.name), outside delay loops; min and \
            max of one event are the ends of the table's ranges
            \(ModelText.cycles(spots.cycles)) cycles in \(spots.groups) groups; \
            \(ModelText.percent(entry.estimatedShare)) of the strategy's lean on estimates\(marks)

            """
    }

    var json: JSON {
        let rows = spots.rows.enumerated().map { number, row -> JSON in
            var members = zip(spots.labels, row.labels).map { ($0, TableWriter.json($1)) }
            let cycles = CostRange(row.low, row.typical, row.high)
            members += [("samples", .integer(row.samples)), ("cycles", .cycles(cycles))]
            if number < code.count {
                members.append(("instructions", .array(code[number].map(HotSpotTable.instruction))))
            }
            return .object(members)
        }
        return .object([
            ("by", .string(by.rawValue)), ("strategy", .string(strategy)), ("costs", .string(result.costs.name)),
            ("modelled", .bool(true)), ("hypothetical", .bool(!(result[strategy]?.hypothetical.isEmpty ?? true))),
            ("estimated_share", .number(result[strategy]?.estimatedShare ?? 0)),
            ("samples", .integer(spots.samples)), ("cycles", .number(spots.cycles.rounded())),
            ("groups", .integer(UInt64(spots.groups))), ("rows", .array(rows)),
        ])
    }
}
