import GRDB
import Replayer

// What strategies charged, in the store: how often each of their paths was taken at each site. Prices are put to it
// when a cost table is named, so that another table needs no other run.
extension AnalysisStore {
    /// The key of `meta` under which the options stand that the strategies were run with.
    private static let optionsKey = "model"
    private static let pricesKey = "costs:"

    /// Whether the strategies were run with these options.
    package func hasModel(_ options: String) -> Bool { meta[Self.optionsKey] == options }

    /// Puts a finished run of all strategies into the store, in place of what was there.
    package func add(_ run: StrategyRun, options: String) throws {
        try change { database in
            for table in ["path", "path_charge", "charge", "modelled", "cost"] {
                try database.execute(sql: "DELETE FROM \(table)")
            }
            try database.execute(sql: "DELETE FROM meta WHERE key LIKE '\(Self.pricesKey)%'")
            let sites = try Self.sites(run.frontEnd, database)
            for strategy in run.strategies { try Self.write(strategy, run.frontEnd, sites, database) }
            try database.execute(
                sql: "INSERT OR REPLACE INTO meta VALUES (?, ?)", arguments: [Self.optionsKey, options])
        }
    }

    /// Fills the `cost` table with one cost table's prices, unless they are there.
    package func price(_ costs: CostTable) throws {
        let key = Self.pricesKey + costs.name
        let prices = costs.costs.map { "\($0.value.low) \($0.value.typical) \($0.value.high)" }.joined(separator: ",")
        let digest = StoreIdentity.digest(Array(prices.utf8))
        guard meta[key] != digest else { return }
        let sql = """
            SELECT c.strategy, c.site, p.class, h.primitive, sum(c.times * h.count)
            FROM charge c JOIN path p ON p.strategy = c.strategy AND p.id = c.path
            JOIN path_charge h ON h.strategy = c.strategy AND h.path = c.path
            GROUP BY 1, 2, 3, 4
            """
        var priced: [(strategy: TableValue, site: TableValue, name: TableValue, counts: PrimitiveCounts)] = []
        for row in try rows(sql) {
            if priced.last.map({ $0.strategy != row[0] || $0.site != row[1] || $0.name != row[2] }) ?? true {
                priced.append((row[0], row[1], row[2], PrimitiveCounts()))
            }
            priced[priced.count - 1].counts.add(row[3], row[4])
        }
        try change { database in
            try database.execute(sql: "DELETE FROM cost WHERE costs = ?", arguments: [costs.name])
            let statement = try database.makeStatement(sql: "INSERT INTO cost VALUES (?,?,?,?,?,?,?)")
            for row in priced {
                let cycles = row.counts.cycles(costs)
                try statement.execute(arguments: [
                    costs.name, row.strategy.databaseValue, row.site.databaseValue, row.name.databaseValue,
                    cycles.low, cycles.typical, cycles.high,
                ])
            }
            try database.execute(sql: "INSERT OR REPLACE INTO meta VALUES (?, ?)", arguments: [key, digest])
        }
    }

    /// Writes to the file beside the connection that reads it.
    func change(_ body: (Database) throws -> Void) throws {
        do {
            var configuration = Configuration()
            configuration.busyMode = .timeout(60)
            let writer = try DatabaseQueue(path: path, configuration: configuration)
            try writer.write { try body($0) }
            try writer.close()
            try refreshMeta()
        } catch let error as DatabaseError {
            throw AnalysisError("cannot write \(path): \(error.message ?? "SQLite error \(error.resultCode.rawValue)")")
        }
    }

    /// The store's numbers of the model's sites. Sites of events that traces do not hold are added.
    private static func sites(_ frontEnd: FrontEnd, _ database: Database) throws -> [Int64?] {
        // The model tells sites apart by these three.
        func key(_ address: UInt64, _ kind: UInt8, _ ring: UInt8) -> SiteKey {
            SiteKey(address: address, kind: kind, ring: ring, size: 0, phase: .kernel, subject: 0)
        }
        var known: [SiteKey: Int64] = [:]
        for row in try Row.fetchAll(database, sql: "SELECT id, address, kind, ring FROM site") {
            let site = key(
                UInt64(bitPattern: row["address"]), UInt8(truncatingIfNeeded: row["kind"] as Int),
                UInt8(truncatingIfNeeded: row["ring"] as Int))
            known[site] = row["id"]
        }
        let insert = try database.makeStatement(
            sql: """
                INSERT INTO site (address, kind, ring, size, phase, symbol, offset)
                SELECT :address, :kind, :ring, 0, CASE :ring WHEN 3 THEN 'user' ELSE 'kernel' END, y.id,
                    :address - y.address
                FROM (SELECT 1) LEFT JOIN symbol y ON y.id = (SELECT id FROM symbol WHERE address <= :address
                    AND :ring <> 3 AND (size = 0 OR address + size > :address) ORDER BY address DESC LIMIT 1)
                """)
        let kinds = try database.makeStatement(sql: "INSERT OR IGNORE INTO kind VALUES (?, ?)")
        let events = try database.makeStatement(
            sql: """
                INSERT INTO modelled VALUES (?, ?)
                ON CONFLICT (site) DO UPDATE SET events = events + excluded.events
                """)
        var numbers: [Int64?] = [nil]
        for (number, site) in frontEnd.sites.enumerated().dropFirst() {
            guard frontEnd.siteCounts[number] > 0 else {
                numbers.append(nil)
                continue
            }
            let key = key(site.address, site.kind, site.ring)
            if known[key] == nil {
                try insert.execute(arguments: [
                    "address": site.address.column, "kind": Int(site.kind), "ring": Int(site.ring),
                ])
                known[key] = database.lastInsertedRowID
                try kinds.execute(arguments: [Int(site.kind), EventNames.name(site.kind)])
            }
            numbers.append(known[key])
            try events.execute(arguments: [known[key], frontEnd.siteCounts[number]])
        }
        return numbers
    }

    private static func write(
        _ strategy: Strategy, _ frontEnd: FrontEnd, _ sites: [Int64?], _ database: Database
    ) throws {
        let name = type(of: strategy).name
        let paths = try database.makeStatement(sql: "INSERT INTO path VALUES (?,?,?,?,?)")
        let charges = try database.makeStatement(sql: "INSERT INTO path_charge VALUES (?,?,?,?)")
        for (number, path) in strategy.ledger.paths.enumerated() {
            try paths.execute(arguments: [name, number, path.event, path.eventClass.name, path.mechanism])
            for item in path.charges.items where item.count != 0 {
                try charges.execute(arguments: [name, number, "\(item.primitive)", item.count])
            }
        }
        var taken: [(site: Int64?, path: Int, times: Int64)] = []
        // What is charged at no site makes up the rest of each path.
        var left = strategy.ledger.paths.indices.map { strategy.ledger.times($0, in: .kernel) }
        strategy.ledger.forEachSite(in: .kernel) { _, site, path, times in
            guard let number = sites[Int(site)] else { return }
            taken.append((number, path, times))
            left[path] -= times
        }
        taken.sort { ($0.site ?? 0, $0.path) < ($1.site ?? 0, $1.path) }
        for (path, times) in left.enumerated() where times != 0 { taken.append((nil, path, times)) }
        let statement = try database.makeStatement(sql: "INSERT INTO charge VALUES (?,?,?,?)")
        for item in taken { try statement.execute(arguments: [name, item.site, item.path, item.times]) }
    }
}

extension PrimitiveCounts {
    private static let names = Dictionary(uniqueKeysWithValues: Primitive.allCases.map { ("\($0)", $0) })

    /// Adds a number of the primitive of this name.
    mutating func add(_ name: TableValue, _ count: TableValue) {
        guard case .text(let text) = name, case .integer(let number) = count, let primitive = Self.names[text] else {
            return
        }
        add(primitive, number)
    }
}

extension TableValue {
    var databaseValue: DatabaseValue {
        switch self {
        case .null: .null
        case .integer(let number): number.databaseValue
        case .real(let number): number.databaseValue
        case .text(let text): text.databaseValue
        }
    }
}
