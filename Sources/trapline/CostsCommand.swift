import ArgumentParser
import Replayer

/// `trapline costs`: what the strategies are priced with, and where each number comes from.
struct CostsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "costs",
        abstract: "Show a cost table: every number with its range and source.",
        discussion: """
            Without a name it lists the tables. With --json a table is written as the file that --costs reads, so it \
            can be the beginning of one of your own.

            Example: trapline costs skylake
            """)

    @Argument(help: ArgumentHelp("\(CostTables.help).", valueName: "name|file"))
    var table: String?
    @Flag(help: "Write JSON.")
    var json = false

    func run() throws {
        let text: String
        if let name = table {
            let table = try CostTables.table(name)
            text = json ? table.json : CostTableText(table).text
        } else {
            let tables = BuiltInCosts.all + ((try? [CostTables.table(CostTables.host)]) ?? [])
            text = json ? Self.json(tables).document : Self.list(tables)
        }
        FileDescriptor.standardOutput.writeAll(Array(text.utf8))
    }

    private static func json(_ tables: [CostTable]) -> JSON {
        .object([
            (
                "tables",
                .array(
                    tables.map {
                        .object([
                            ("name", .string($0.name)), ("title", .string($0.title)), ("clock_mhz", .number($0.clock)),
                            ("inputs", .integer(UInt64($0.inputs))),
                            ("estimates", .integer(UInt64($0.costs.count - $0.inputs))),
                            ("checks", .integer(UInt64($0.checks.count))),
                        ])
                    })
            )
        ])
    }

    private static func list(_ tables: [CostTable]) -> String {
        var rows = [["name", "MHz", "inputs", "estimates", "checks", "what"]]
        rows += tables.map {
            [
                $0.name, JSONText.decimal($0.clock), "\($0.inputs)", "\($0.costs.count - $0.inputs)",
                "\($0.checks.count)", $0.title,
            ]
        }
        return TextColumns(rows, right: [1, 2, 3, 4]).text
    }
}

extension CostTable {
    /// How many rows are published or measured.
    fileprivate var inputs: Int { costs.count { $0.role == .input } }
}

/// A cost table for reading.
struct CostTableText {
    let table: CostTable

    init(_ table: CostTable) { self.table = table }

    var text: String {
        let inputs = table.costs.count { $0.role == .input }
        var text = """
            \(table.name): \(table.title)
            \(JSONText.decimal(table.clock)) MHz; \(inputs) rows are published or measured (input), \
            \(table.costs.count - inputs) are estimates


            """
        let header = ["primitive", "low", "typical", "high", "unit", "role", "source"]
        text += TextColumns([header] + rows, right: [1, 2, 3]).text
        if !table.checks.isEmpty {
            text += "\nChecks: published figures that the models are held against; they feed no row above\n\n"
            text +=
                TextColumns(
                    [["guest", "strategy", "measure", "cycles", "published", "source"]] + checks, right: [3, 4]
                ).text
        }
        if !table.hypothetical.isEmpty {
            text += "\nHypothetical on this CPU\n\n"
            let reasons = table.hypothetical.sorted { $0.key < $1.key }
            text += TextColumns(reasons.map { [$0.key, $0.value] }, right: []).text
        }
        return text
    }

    private var rows: [[String]] {
        table.costs.map { cost in
            [
                cost.primitive.name, JSONText.decimal(cost.value.low), JSONText.decimal(cost.value.typical),
                JSONText.decimal(cost.value.high), cost.primitive.unit == .cycles ? "cycles" : "ns",
                cost.role.rawValue, cost.source,
            ]
        }
    }

    private var checks: [[String]] {
        table.checks.map { check in
            let unit = check.unit == .cycles ? "" : " µs at \(JSONText.decimal(check.clock)) MHz"
            return [
                check.guest, check.strategy, check.measure.rawValue, JSONText.decimal(check.value.rounded()),
                JSONText.decimal(check.published) + unit,
                check.source + (check.remark.isEmpty ? "" : "; \(check.remark)"),
            ]
        }
    }
}

/// Rows in columns that are as wide as they need to be, with two spaces between them.
struct TextColumns {
    private let rows: [[String]]
    private let right: Set<Int>

    /// - Parameter right: the columns that are aligned at their right edge.
    init(_ rows: [[String]], right: Set<Int>) {
        self.rows = rows
        self.right = right
    }

    var text: String {
        var widths: [Int] = []
        for row in rows {
            for (column, cell) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if right.contains(column) { return padding + cell }
                return column == row.count - 1 ? cell : cell + padding
            }
            return cells.joined(separator: "  ") + "\n"
        }.joined()
    }
}
