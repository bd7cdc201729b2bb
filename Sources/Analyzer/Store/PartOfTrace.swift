import GRDB
import Tracer

extension AnalysisStore {
    /// Makes everything that is asked from now on mean the events whose counts are in `counts`. They are read from the
    /// trace again; what is known of sites and processes is the store's.
    package func restrict(to counts: Range<UInt64>, of reader: TraceReader) throws {
        let starts = try rows(
            """
            SELECT DISTINCT m.subject FROM summary m JOIN site s ON s.id = m.site JOIN kind k ON k.id = s.kind
            WHERE k.name IN ('mmioRead', 'mmioWrite')
            """
        ).map { Self.number($0[0]) }
        let intervals = try rows("SELECT process, start, stop FROM interval ORDER BY start").map {
            ProcessWatch.Interval(
                process: Int(Self.number($0[0])), start: Self.number($0[1]), end: Self.number($0[2]))
        }
        let collector = SiteCollector(
            reader, counts: counts, registers: RegisterMap(starts: starts),
            phases: PhaseMap(boot: reader.manifest.boot, kernel: nil),
            processes: KnownProcesses(intervals, start: counts.lowerBound))
        try collector.run()
        try replaceSummary(collector.totals)
    }

    private func replaceSummary(_ totals: [SiteCollector.Row: SiteTotals]) throws {
        let numbers = try siteNumbers()
        // A temporary table takes the place of the store's, which stays as it is.
        try queue.inDatabase { database in
            try database.execute(sql: "CREATE TEMP TABLE summary AS SELECT * FROM main.summary WHERE 0")
            let statement = try database.makeStatement(sql: "INSERT INTO temp.summary VALUES (?,?,?,?,?,?,?,?,?)")
            for (row, sums) in totals {
                var key = row.key
                key.phase = .kernel
                key.subject = 0
                guard let site = numbers[key] else { continue }
                try statement.execute(arguments: [
                    site, row.process, row.key.subject.column, sums.samples.column, sums.first.column,
                    sums.last.column, sums.deltaMin.column, sums.deltaMax.column, sums.deltaSum.column,
                ])
            }
        }
    }

    /// The numbers of sites, whose keys here have no phase of their own (`.kernel`) and no subject.
    func siteNumbers() throws -> [SiteKey: Int64] {
        var numbers: [SiteKey: Int64] = [:]
        for site in try rows("SELECT id, address, kind, ring, size FROM site") {
            let key = SiteKey(
                address: Self.number(site[1]), kind: UInt8(truncatingIfNeeded: Self.number(site[2])),
                ring: UInt8(truncatingIfNeeded: Self.number(site[3])),
                size: UInt8(truncatingIfNeeded: Self.number(site[4])), phase: .kernel, subject: 0)
            numbers[key] = Int64(Self.number(site[0]))
        }
        return numbers
    }

    private static func number(_ value: TableValue) -> UInt64 {
        if case .integer(let number) = value { UInt64(bitPattern: number) } else { 0 }
    }
}
