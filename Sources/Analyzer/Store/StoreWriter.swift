import CEngine
import GRDB
import Tracer
import VMM

/// Puts a trace's analysis into a new store.
final class StoreWriter {
    private let analysis: TraceAnalysis
    private let database: Database
    private var siteNumbers: [SiteKey: Int64] = [:]
    private var sites: [SiteKey] = []

    init(_ analysis: TraceAnalysis, _ database: Database) {
        self.analysis = analysis
        self.database = database
    }

    private var reader: TraceReader { analysis.reader }

    /// Writes everything; `meta` is what identifies the store.
    func write(meta: [(String, String)], withEvents: Bool) throws {
        try database.execute(sql: StoreSchema.tables + StoreSchema.costTables)
        let processes = analysis.watchProcesses()
        let start = min(reader.manifest.start.count, .max - 1)
        let collector = SiteCollector(
            reader, counts: start..<max(min(reader.reach.position.count, .max - 1), start) + 1,
            registers: analysis.registers, phases: analysis.phases, processes: processes)
        if withEvents {
            let runs = try EventRuns(database)
            collector.onEvent = { [unowned self] record, key, number in
                try runs.add(record, key, site: siteNumber(key), number)
            }
            try collector.run()
            try runs.finish()
        } else {
            try collector.run()
        }
        try writeSummary(collector.totals)
        try writeProcesses(processes)
        try writeTimeline(collector)
        try writeSymbols()
        try writeSites()
        try writeFacts(meta + facts(collector, withEvents))
        try database.execute(sql: StoreSchema.views)
    }

    private func siteNumber(_ key: SiteKey) -> Int64 {
        var key = key
        key.subject = 0
        if let number = siteNumbers[key] { return number }
        sites.append(key)
        siteNumbers[key] = Int64(sites.count)
        return Int64(sites.count)
    }

    // MARK: Sums

    private func writeSummary(_ totals: [SiteCollector.Row: SiteTotals]) throws {
        let statement = try database.makeStatement(sql: "INSERT INTO summary VALUES (?,?,?,?,?,?,?,?,?)")
        // In an order of their own, so that two stores of one trace are the same.
        let rows = totals.sorted { Self.order($0.key, $0.value) < Self.order($1.key, $1.value) }
        for (row, sums) in rows {
            try statement.execute(arguments: [
                siteNumber(row.key), row.process, row.key.subject.column, sums.samples.column, sums.first.column,
                sums.last.column, sums.deltaMin.column, sums.deltaMax.column, sums.deltaSum.column,
            ])
        }
        try writeRegisters(Set(totals.keys.map(\.key)))
    }

    private static func order(
        _ row: SiteCollector.Row, _ sums: SiteTotals
    ) -> (UInt64, UInt64, UInt64, Int, Int) {
        (sums.first, row.key.address, row.key.subject, Int(row.key.kind) << 8 | Int(row.key.ring), row.process)
    }

    private func writeRegisters(_ keys: Set<SiteKey>) throws {
        let statement = try database.makeStatement(sql: "INSERT OR IGNORE INTO register VALUES (?,?,?,?)")
        for key in keys {
            switch EventKind(rawValue: key.kind) {
            case .portIn, .portOut:
                guard let register = analysis.registers.register(port: key.subject) else { continue }
                try statement.execute(arguments: ["port", key.subject.column, register.device, register.name])
            case .mmioRead, .mmioWrite:
                guard let register = analysis.registers.register(memory: key.subject) else { continue }
                try statement.execute(arguments: ["memory", key.subject.column, register.device, register.name])
            default: continue
            }
        }
    }

    private func writeProcesses(_ processes: ProcessWatch) throws {
        let statement = try database.makeStatement(sql: "INSERT INTO process VALUES (?,?,?,?)")
        for (number, process) in processes.processes.enumerated() {
            try statement.execute(arguments: [number, process.name, process.pid.column, process.space.column])
        }
        let intervals = try database.makeStatement(sql: "INSERT OR REPLACE INTO interval VALUES (?,?,?)")
        for interval in processes.intervals {
            try intervals.execute(arguments: [interval.start.column, interval.end.column, interval.process])
        }
    }

    private func writeTimeline(_ collector: SiteCollector) throws {
        let statement = try database.makeStatement(
            sql: """
                INSERT INTO timeline VALUES (?,?,?,?)
                ON CONFLICT (bucket, kind, ring) DO UPDATE SET samples = samples + excluded.samples
                """)
        for bucket in collector.timeline {
            try statement.execute(arguments: [
                bucket.number.column, Int(bucket.kind), Int(bucket.ring), bucket.samples.column,
            ])
        }
    }

    // MARK: Places

    private func writeSymbols() throws {
        let statement = try database.makeStatement(sql: "INSERT INTO symbol VALUES (?,?,?,?,?,?)")
        let table = analysis.symbols
        for (index, symbol) in table.symbols.enumerated() {
            try statement.execute(arguments: [
                index + 1, symbol.address.column, table.size(index).column, String(UnicodeScalar(symbol.type)),
                symbol.name, symbol.module,
            ])
        }
    }

    private func writeSites() throws {
        let statement = try database.makeStatement(sql: "INSERT INTO site VALUES (?,?,?,?,?,?,?,?)")
        for (index, site) in sites.enumerated() {
            let found = analysis.symbolIndex(site.address, site.phase)
            try statement.execute(arguments: [
                index + 1, site.address.column, Int(site.kind), Int(site.ring), Int(site.size), "\(site.phase)",
                found.map { $0.index + 1 }, found.map { $0.offset.column },
            ])
        }
        let kinds = try database.makeStatement(sql: "INSERT INTO kind VALUES (?,?)")
        for number in Set(sites.map(\.kind)).sorted() {
            try kinds.execute(arguments: [Int(number), EventNames.name(number)])
        }
    }

    // MARK: Facts

    private func facts(_ collector: SiteCollector, _ withEvents: Bool) -> [(String, String)] {
        var facts = [
            ("start", "\(reader.manifest.start.count)"), ("end", "\(reader.reach.position.count)"),
            ("virtual_ns", "\(reader.reach.position.nanoseconds)"), ("events", "\(collector.events)"),
            ("bucket_counts", "\(collector.bucketSize)"), ("has_events", withEvents ? "1" : "0"),
            ("instructions_per_us", "\(reader.manifest.instructionsPerMicrosecond)"),
            ("outcome", reader.end?.outcome ?? "incomplete"), ("cpu", reader.manifest.cpu),
        ]
        if let kernel = analysis.kernel {
            facts.append(("kernel_base", hexadecimal(kernel.image.lowerBound)))
            if let banner = kernel.banner { facts.append(("kernel", banner)) }
            if let slide = analysis.slide { facts.append(("kernel_slide", "\(slide)")) }
        }
        for note in analysis.notes { facts.append(("note", note)) }
        return facts
    }

    private func writeFacts(_ facts: [(String, String)]) throws {
        let statement = try database.makeStatement(sql: "INSERT OR REPLACE INTO meta VALUES (?,?)")
        for (key, value) in facts { try statement.execute(arguments: [key, value]) }
        let images = try database.makeStatement(sql: "INSERT INTO image VALUES (?,?,?,?,?)")
        for (number, image) in reader.manifest.images.enumerated() {
            try images.execute(arguments: [
                number, image.role.rawValue, image.path, image.size.column, image.isEmbedded,
            ])
        }
        let marks = try database.makeStatement(sql: "INSERT INTO mark VALUES (?,?)")
        for mark in try reader.marks() { try marks.execute(arguments: [mark.position.count.column, mark.text]) }
    }
}

/// What kinds of events are called.
enum EventNames {
    static func name(_ kind: UInt8) -> String { EventKind(rawValue: kind).map { "\($0)" } ?? "kind\(kind)" }
}
