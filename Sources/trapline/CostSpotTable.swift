import Analyzer
import Replayer

/// Costs by site as people and programs read them.
enum CostSpotTable {
    static func text(_ spots: CostSpots, _ strategy: String, _ costs: CostTable) -> String {
        var cells = [spots.labels + ["events", "low", "typical", "high", "share%"]]
        for row in spots.rows {
            cells.append(
                row.labels.map { TableWriter.text($0) } + [
                    "\(row.events)", cycles(row.cycles.low), cycles(row.cycles.typical), cycles(row.cycles.high),
                    spots.cycles.typical > 0
                        ? RunResult.decimal(row.cycles.typical * 100 / spots.cycles.typical) : "",
                ])
        }
        let shown = cells[0].indices.filter { column in
            column >= spots.labels.count || cells.dropFirst().contains { !$0[column].isEmpty }
        }
        let widths = shown.map { column in cells.map { $0[column].count }.max() ?? 0 }
        var text = ""
        for row in cells {
            var line = ""
            for (column, width) in zip(shown, widths) {
                let space = String(repeating: " ", count: width - row[column].count)
                line += column < spots.labels.count ? row[column] + space + "  " : space + row[column] + "  "
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
            + "modelled cycles that \(strategy) adds to the bare machine, with the costs of \(costs.name): "
            + "\(cycles(spots.cycles.typical)), from \(cycles(spots.cycles.low)) to \(cycles(spots.cycles.high)), "
            + "in \(spots.groups) groups; without boot and delay loops\n"
    }

    private static func cycles(_ number: Double) -> String { ModelText.cycles(number) }

    static func json(_ spots: CostSpots, by: HotSpots.Grouping, _ strategy: String, _ costs: CostTable) -> JSON {
        let rows = spots.rows.map { row -> JSON in
            .object(
                zip(spots.labels, row.labels).map { ($0, TableWriter.json($1)) }
                    + [("events", .integer(row.events)), ("cycles", range(row.cycles))])
        }
        return .object([
            ("by", .string(by.rawValue)), ("strategy", .string(strategy)), ("costs", .string(costs.name)),
            ("modelled", .bool(true)), ("cycles_added", range(spots.cycles)),
            ("groups", .integer(UInt64(spots.groups))), ("rows", .array(rows)),
        ])
    }

    private static func range(_ range: CostRange) -> JSON {
        .object([("low", .number(range.low)), ("typical", .number(range.typical)), ("high", .number(range.high))])
    }
}
