import CEngine
import GRDB
import Glibc
import Replayer
import VMM

extension AnalysisStore {
    /// The model that was run with `key`, if the store has it.
    package func model(_ key: ModelKey) throws -> StoredModel? {
        try queue.inDatabase { database in
            guard
                let row = try Row.fetchOne(
                    database, sql: "SELECT * FROM model WHERE options = ? AND build = ?",
                    arguments: [key.options, key.build])
            else { return nil }
            return try ModelReader(database: database, model: row["id"]).read(row)
        }
    }

    /// Keeps a model, and gives it back as it is read.
    package func keep(
        _ counts: ModelCounts, _ key: ModelKey, verified: (events: UInt64, digests: UInt64)
    ) throws -> StoredModel {
        let parts = try timeParts
        try change { database in
            try ModelWriter(database: database, counts: counts).write(key, parts: parts, verified: verified)
        }
        guard let model = try model(key) else { throw AnalysisError("\(path) lost what was written to it") }
        return model
    }

    /// Adds to the store, as one change that others see whole.
    func change(_ body: (Database) throws -> Void) throws {
        var configuration = Configuration()
        configuration.busyMode = .timeout(60)
        do {
            let writer = try DatabaseQueue(path: path, configuration: configuration)
            try writer.inDatabase { database in
                try database.inTransaction(.immediate) {
                    try body(database)
                    return .commit
                }
            }
            try writer.close()
            try refreshMeta()
        } catch let error as DatabaseError {
            throw AnalysisError("cannot write \(path): \(error.message ?? "SQLite error \(error.resultCode.rawValue)")")
        }
    }
}

/// Gets what strategies did out of a store.
private struct ModelReader {
    let database: Database
    let model: Int64

    func read(_ row: Row) throws -> StoredModel? {
        var numbers: [Int64: UInt32] = [0: 0]
        var places: [Int64] = [0]
        let none = EventSite(address: 0, kind: 0, ring: 0)
        var sites = [ModelCounts.Site(place: none, events: 0, first: 0)]
        let cursor = try Row.fetchCursor(
            database,
            sql: """
                SELECT m.site, s.address, s.kind, s.ring, m.events, m.first FROM model_site m
                JOIN site s ON s.id = m.site WHERE m.model = ? ORDER BY m.site
                """, arguments: [model])
        while let row = try cursor.next() {
            numbers[row[0]] = UInt32(sites.count)
            places.append(row[0])
            let place = EventSite(address: UInt64(bitPattern: row[1]), kind: row[2], ring: row[3])
            sites.append(ModelCounts.Site(place: place, events: row[4], first: UInt64(bitPattern: row[5])))
        }
        guard let strategies = try strategies(numbers) else { return nil }
        let counts = ModelCounts(
            width: row["width"], native: try native(), idleNanoseconds: UInt64(bitPattern: row["idle_ns"]),
            sites: sites, strategies: strategies)
        return StoredModel(
            id: model, counts: counts, partStart: UInt64(bitPattern: row["part_start"]),
            partCounts: UInt64(bitPattern: row["part_counts"]),
            verifiedEvents: UInt64(bitPattern: row["verified_events"]),
            verifiedDigests: UInt64(bitPattern: row["verified_digests"]), siteNumbers: places)
    }

    private func native() throws -> [PrimitiveCounts] {
        var native = [PrimitiveCounts](repeating: PrimitiveCounts(), count: Ledger.Part.allCases.count)
        let rows = try Row.fetchAll(
            database, sql: "SELECT part, primitive, times FROM native WHERE model = ?", arguments: [model])
        for row in rows {
            guard let part = Ledger.Part.allCases.first(where: { "\($0)" == row[0] as String }),
                let primitive = Primitive(name: row[1])
            else { continue }
            native[part.rawValue].add(primitive, row[2])
        }
        return native
    }

    /// Nil if it was written with other primitives.
    private func strategies(_ numbers: [Int64: UInt32]) throws -> [ModelCounts.OfStrategy]? {
        var strategies: [ModelCounts.OfStrategy] = []
        for type in StrategyCatalog.all {
            let rows = try Row.fetchAll(
                database, sql: "SELECT * FROM path WHERE model = ? AND strategy = ? ORDER BY number",
                arguments: [model, type.name])
            var paths: [Path] = []
            for row in rows {
                guard let charges = ChargesText.charges(row["charges"]), let eventClass = EventClass(name: row["class"])
                else { return nil }
                paths.append(
                    Path(
                        event: row["event"], eventClass: eventClass, mechanism: row["mechanism"], charges: charges,
                        tally: Tally(
                            worldSwitches: row["world_switches"], hypercalls: row["hypercalls"],
                            hiddenFaults: row["hidden_faults"], ipcs: row["ipcs"])))
            }
            let times: [[Int64]] = ["boot", "kernel", "wait"].map { part in rows.map { $0[part] } }
            strategies.append(
                ModelCounts.OfStrategy(
                    name: type.name, paths: paths, times: times, charges: try charges(type.name, numbers),
                    timed: try timed(type.name)))
        }
        return strategies
    }

    private func charges(_ strategy: String, _ numbers: [Int64: UInt32]) throws -> [ModelCounts.Charge] {
        var charges: [ModelCounts.Charge] = []
        let cursor = try Row.fetchCursor(
            database, sql: "SELECT site, process, path, times FROM charge WHERE model = ? AND strategy = ? ORDER BY rowid",
            arguments: [model, strategy])
        while let row = try cursor.next() {
            guard let site = numbers[row[0]] else { continue }
            charges.append(ModelCounts.Charge(site: site, process: row[1], path: row[2], times: row[3]))
        }
        return charges
    }

    private func timed(_ strategy: String) throws -> [ModelCounts.TimedCharge] {
        try Row.fetchAll(
            database,
            sql: "SELECT part, path, times FROM charge_time WHERE model = ? AND strategy = ? ORDER BY rowid",
            arguments: [model, strategy]
        ).map { ModelCounts.TimedCharge(part: $0[0], path: $0[1], times: $0[2]) }
    }
}
