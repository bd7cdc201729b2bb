import GRDB

/// Where a strategy's modelled cycles come from, added up under one head or another.
package struct StrategyHotSpots {
    /// One line.
    package struct Row {
        package var labels: [TableValue]
        /// Events outside delay loops; zero for what has no place in the guest's code.
        package var samples: UInt64
        package var low: Double
        package var typical: Double
        package var high: Double
    }

    package let labels: [String]
    /// What costs most first.
    package let rows: [Row]
    /// Of all rows, also those that are not among the first.
    package let samples: UInt64
    package let cycles: Double
    package let groups: Int

    /// The costs of one strategy, with the subjects that a site's events are about: a site's cycles are divided among
    /// them by events. Where the trace has no events of a site, as of page-table writes, they are divided among
    /// processes as the cycles are. Charges without a site are one row for each class.
    private static let tables = """
        FROM (
            WITH x AS (
                SELECT site, coalesce(process, -1) AS process, CASE WHEN site = 0 THEN class END AS class,
                    sum(low) AS low, sum(typical) AS typical, sum(high) AS high
                FROM cost WHERE model = ? AND costs = ? AND strategy = ? GROUP BY 1, 2, 3),
            u AS (
                SELECT m.site, r.process, m.subject, sum(m.samples) AS samples
                FROM summary m JOIN (\(AnalysisStore.namesakes)) r ON r.id = m.process GROUP BY 1, 2, 3),
            whole AS (SELECT site, sum(samples) AS samples FROM u GROUP BY 1),
            part AS (SELECT site, process, sum(samples) AS samples FROM u GROUP BY 1, 2),
            cycles AS (SELECT site, sum(abs(typical)) AS typical FROM x GROUP BY 1)
            SELECT x.site, x.process, x.class, coalesce(u.subject, 0) AS subject,
                e.events * CASE WHEN w.samples IS NULL THEN abs(x.typical) / c.typical
                    ELSE coalesce(1.0 * u.samples / w.samples, 0.0) END AS events,
                x.low * coalesce(1.0 * u.samples / t.samples, 1.0) AS low,
                x.typical * coalesce(1.0 * u.samples / t.samples, 1.0) AS typical,
                x.high * coalesce(1.0 * u.samples / t.samples, 1.0) AS high
            FROM x LEFT JOIN part t ON t.site = x.site AND t.process = x.process
            LEFT JOIN u ON u.site = x.site AND u.process = x.process
            LEFT JOIN whole w ON w.site = x.site
            LEFT JOIN cycles c ON c.site = x.site
            LEFT JOIN model_site e ON e.model = ? AND e.site = x.site
        ) m
        JOIN (SELECT * FROM site UNION ALL SELECT 0, 0, NULL, NULL, 0, 'no instruction', NULL, NULL) s ON s.id = m.site
        JOIN (SELECT id, name FROM kind UNION ALL SELECT DISTINCT class, class FROM cost WHERE site = 0) k
            ON k.id = coalesce(s.kind, m.class)
        JOIN (SELECT * FROM process UNION ALL SELECT -1, '(none)', 0, 0) p ON p.id = m.process
        LEFT JOIN symbol y ON y.id = s.symbol
        LEFT JOIN register r ON r.address = m.subject AND r.space = CASE
            WHEN k.name IN ('portIn', 'portOut') THEN 'port' WHEN k.name IN ('mmioRead', 'mmioWrite') THEN 'memory' END
        """

    /// The groups with the most cycles first, `top` of them. The model must have been priced under `key`.
    package init(
        _ store: AnalysisStore, _ model: StoredModel, key: String, strategy: String, by grouping: HotSpots.Grouping,
        _ filter: Filter = Filter(), top: Int? = nil
    ) throws {
        let columns = grouping.columns
        labels = columns.map(\.name)
        let (condition, arguments) = filter.condition
        let names = columns.map(\.sql).joined(separator: ", ")
        let groups = columns.indices.map { "\($0 + 1)" }.joined(separator: ", ")
        let sql = """
            SELECT \(names), cast(round(coalesce(sum(m.events), 0)) AS INTEGER), sum(m.low), sum(m.typical) AS cycles,
                sum(m.high)
            \(Self.tables) WHERE \(grouping.condition) AND \(condition)
            GROUP BY \(groups) ORDER BY cycles DESC, \(groups)
            """
        var rows: [Row] = []
        var (samples, cycles, number) = (UInt64(0), 0.0, 0)
        try store.query(sql, [model.id, key, strategy, model.id] + arguments) { _, values in
            guard let values else { return }
            let sums = values[columns.count...].map { value -> Double in
                switch value {
                case .integer(let number): Double(number)
                case .real(let number): number
                default: 0
                }
            }
            samples += UInt64(max(sums[0], 0))
            cycles += sums[2]
            number += 1
            guard top.map({ rows.count < $0 }) ?? true else { return }
            var labels = Array(values[..<columns.count])
            // No instruction has no address.
            if grouping == .site, labels[0] == .text("0x0") { labels[0] = .null }
            rows.append(
                Row(
                    labels: labels, samples: UInt64(max(sums[0], 0)), low: sums[1],
                    typical: sums[2], high: sums[3]))
        }
        self.rows = rows
        self.samples = samples
        self.cycles = cycles
        self.groups = number
    }
}
