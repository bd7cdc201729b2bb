import GRDB
import Replayer

/// What a strategy would have added to a guest's run, and where. All of it is modelled.
package struct CostSpots {
    /// One line.
    package struct Row: Equatable {
        package var labels: [TableValue]
        /// Events outside delay loops.
        package var events: UInt64
        package var cycles: CostRange
    }

    package let labels: [String]
    package let rows: [Row]
    /// Of all rows, also those that are not among the first.
    package let cycles: CostRange
    package let groups: Int

    /// What can be told apart: strategies charge sites, whichever process is there.
    package static let groupings: [HotSpots.Grouping] = [.site, .symbol, .instruction, .ring, .phase]

    private static let tables = """
        FROM charge c JOIN path_charge h ON h.strategy = c.strategy AND h.path = c.path
        LEFT JOIN site s ON s.id = c.site LEFT JOIN kind k ON k.id = s.kind LEFT JOIN symbol y ON y.id = s.symbol
        """

    /// The groups to which most is added first, `top` of them.
    package init(
        _ store: AnalysisStore, strategy: String, costs: CostTable, by grouping: HotSpots.Grouping, _ filter: Filter,
        top: Int?
    ) throws {
        if let key = filter.keys.first(where: { !Self.keys.contains($0) }) {
            throw AnalysisError("costs by strategy cannot be filtered by \(key.rawValue): they are of sites")
        }
        let columns = grouping.columns
        labels = columns.map(\.name)
        // What is charged at no site has a name of its own.
        let names = columns.enumerated().map { number, column in
            "CASE WHEN c.site IS NULL THEN '\(number == 0 ? "(no site)" : "")' ELSE \(column.sql) END"
        }.joined(separator: ", ")
        let groups = columns.indices.map { "\($0 + 1)" }.joined(separator: ", ")
        let (condition, arguments) = filter.condition
        let sql = """
            SELECT \(names), h.primitive, sum(c.times * h.count) \(Self.tables)
            WHERE c.strategy = ? AND \(condition) GROUP BY \(groups), h.primitive ORDER BY \(groups)
            """
        var counts: [(labels: [TableValue], counts: PrimitiveCounts)] = []
        var total = PrimitiveCounts()
        for row in try store.rows(sql, [strategy] + arguments) {
            let labels = Array(row[..<columns.count])
            if counts.last?.labels != labels { counts.append((labels, PrimitiveCounts())) }
            counts[counts.count - 1].counts.add(row[columns.count], row[columns.count + 1])
            total.add(row[columns.count], row[columns.count + 1])
        }
        let events = try Self.events(store, columns, groups, filter)
        let rows = counts.enumerated().map { number, group in
            (
                number: number,
                row: Row(
                    labels: group.labels, events: events[Self.key(group.labels)] ?? 0,
                    cycles: group.counts.cycles(costs))
            )
        }.sorted { ($1.row.cycles.typical, $0.number) < ($0.row.cycles.typical, $1.number) }.map(\.row)
        self.rows = top.map { Array(rows.prefix($0)) } ?? rows
        cycles = total.cycles(costs)
        self.groups = rows.count
    }

    private static let keys: Set<Filter.Key> = [.kind, .ring, .phase, .site, .symbol, .module]

    private static func events(
        _ store: AnalysisStore, _ columns: [(name: String, sql: String)], _ groups: String, _ filter: Filter
    ) throws -> [String: UInt64] {
        let (condition, arguments) = filter.condition
        let sql = """
            SELECT \(columns.map(\.sql).joined(separator: ", ")), sum(e.events) FROM modelled e
            JOIN site s ON s.id = e.site JOIN kind k ON k.id = s.kind LEFT JOIN symbol y ON y.id = s.symbol
            WHERE \(condition) GROUP BY \(groups)
            """
        var events: [String: UInt64] = [:]
        for row in try store.rows(sql, arguments) {
            guard case .integer(let number) = row[columns.count] else { continue }
            events[key(Array(row[..<columns.count]))] = UInt64(clamping: number)
        }
        return events
    }

    private static func key(_ labels: [TableValue]) -> String { labels.map { "\($0)" }.joined(separator: "|") }
}
