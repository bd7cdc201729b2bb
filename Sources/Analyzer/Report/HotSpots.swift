import GRDB

/// Where a trace's events come from, added up under one head or another.
package struct HotSpots {
    /// What events are added up by.
    package enum Grouping: String, CaseIterable {
        case site, symbol, instruction, operand, device, process, pid, ring, phase

        /// Columns that tell groups apart, by name, and what they are grouped by.
        var columns: [(name: String, sql: String)] {
            let place = "y.name || CASE WHEN s.offset > 0 THEN printf('+0x%x', s.offset) ELSE '' END"
            let symbol = "coalesce(y.name, CASE s.phase WHEN 'kernel' THEN '?' ELSE '(' || s.phase || ')' END)"
            switch self {
            case .site:
                return [
                    ("site", "printf('0x%x', s.address)"), ("symbol", "coalesce(\(place), '(' || s.phase || ')')"),
                    ("module", "y.module"), ("kind", "k.name"), ("ring", "s.ring"),
                ]
            case .symbol: return [("symbol", symbol), ("module", "y.module")]
            case .instruction: return [("kind", "k.name")]
            case .operand: return [("kind", "k.name"), ("operand", "printf('0x%x', m.subject)")]
            case .device:
                return [
                    ("device", "coalesce(r.device, 'none')"), ("register", "coalesce(r.name, '')"),
                    ("address", "printf('0x%x', m.subject)"), ("kind", "k.name"),
                ]
            case .process: return [("process", "p.name")]
            case .pid: return [("pid", "p.pid"), ("process", "p.name")]
            case .ring: return [("ring", "s.ring")]
            case .phase: return [("phase", "s.phase")]
            }
        }

        /// What may come under this head at all.
        var condition: String {
            switch self {
            case .device: "k.name IN ('portIn', 'portOut', 'mmioRead', 'mmioWrite')"
            default: "1"
            }
        }
    }

    /// One line.
    package struct Row: Equatable {
        /// As many as there are label columns.
        package var labels: [TableValue]
        package var samples: UInt64
        /// Counts from the event before to each of these, together.
        package var counts: UInt64
        package var deltaMin: UInt64
        package var deltaMax: UInt64
        package var first: UInt64
        package var last: UInt64

        package var average: Double { samples > 0 ? Double(counts) / Double(samples) : 0 }
    }

    package let labels: [String]
    package let rows: [Row]
    /// Of all rows, also those that are not among the first.
    package let samples: UInt64
    package let counts: UInt64
    package let groups: Int

    static let tables = """
        FROM summary m JOIN site s ON s.id = m.site JOIN kind k ON k.id = s.kind JOIN process p ON p.id = m.process
        LEFT JOIN symbol y ON y.id = s.symbol
        LEFT JOIN register r ON r.address = m.subject AND r.space = CASE
            WHEN k.name IN ('portIn', 'portOut') THEN 'port' WHEN k.name IN ('mmioRead', 'mmioWrite') THEN 'memory' END
        """

    /// The groups with the most samples first, `top` of them.
    package init(_ store: AnalysisStore, by grouping: Grouping, _ filter: Filter = Filter(), top: Int? = nil) throws {
        let columns = grouping.columns
        labels = columns.map(\.name)
        let (condition, arguments) = filter.condition
        let names = columns.map(\.sql).joined(separator: ", ")
        let groups = columns.indices.map { "\($0 + 1)" }.joined(separator: ", ")
        let sql = """
            SELECT \(names), sum(m.samples) AS samples, sum(m.delta_sum), min(m.delta_min), max(m.delta_max),
                min(m.first), max(m.last)
            \(Self.tables) WHERE \(grouping.condition) AND \(condition)
            GROUP BY \(groups) ORDER BY samples DESC, \(groups)
            """
        var rows: [Row] = []
        var (samples, counts, number) = (UInt64(0), UInt64(0), 0)
        try store.query(sql, arguments) { _, values in
            guard let values else { return }
            let sums = values[columns.count...].map { value -> UInt64 in
                if case .integer(let number) = value { UInt64(bitPattern: number) } else { 0 }
            }
            samples &+= sums[0]
            counts &+= sums[1]
            number += 1
            guard top.map({ rows.count < $0 }) ?? true else { return }
            rows.append(
                Row(
                    labels: Array(values[..<columns.count]), samples: sums[0], counts: sums[1], deltaMin: sums[2],
                    deltaMax: sums[3], first: sums[4], last: sums[5]))
        }
        self.rows = rows
        self.samples = samples
        self.counts = counts
        self.groups = number
    }
}
