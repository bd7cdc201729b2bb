import CEngine
import GRDB
import Replayer
import VMM

/// Puts what strategies did into a store that is there already.
struct ModelWriter {
    let database: Database
    let counts: ModelCounts

    /// Replaces the model of the same options.
    func write(
        _ key: ModelKey, parts: (start: UInt64, size: UInt64), verified: (events: UInt64, digests: UInt64)
    ) throws {
        for id in try Int64.fetchAll(database, sql: "SELECT id FROM model WHERE options = ?", arguments: [key.options]) {
            try database.execute(sql: "DELETE FROM model WHERE id = ?", arguments: [id])
            for table in ["native", "model_site", "path", "charge", "charge_time", "strategy", "cost"] {
                try database.execute(sql: "DELETE FROM \(table) WHERE model = ?", arguments: [id])
            }
        }
        try database.execute(
            sql: """
                INSERT INTO model (options, build, width, idle_ns, verified_events, verified_digests, part_start,
                    part_counts)
                VALUES (?,?,?,?,?,?,?,?)
                """,
            arguments: [
                key.options, key.build, counts.width, counts.idleNanoseconds.column, verified.events.column,
                verified.digests.column, parts.start.column, parts.size.column,
            ])
        let model = database.lastInsertedRowID
        try writeNative(model)
        let sites = try siteNumbers()
        try writeSites(model, sites)
        try writeStrategies(model, sites)
    }

    private func writeNative(_ model: Int64) throws {
        let statement = try database.makeStatement(sql: "INSERT INTO native VALUES (?,?,?,?)")
        for part in Ledger.Part.allCases {
            for primitive in Primitive.allCases where counts.native[part.rawValue][primitive] != 0 {
                try statement.execute(
                    arguments: [model, "\(part)", primitive.name, counts.native[part.rawValue][primitive]])
            }
        }
    }

    private func writeSites(_ model: Int64, _ numbers: [Int64]) throws {
        let statement = try database.makeStatement(sql: "INSERT INTO model_site VALUES (?,?,?,?)")
        for (index, site) in counts.sites.enumerated() where index > 0 {
            try statement.execute(arguments: [model, numbers[index], site.events, site.first.column])
        }
    }

    private func writeStrategies(_ model: Int64, _ numbers: [Int64]) throws {
        let paths = try database.makeStatement(sql: "INSERT INTO path VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
        let charges = try database.makeStatement(sql: "INSERT INTO charge VALUES (?,?,?,?,?,?)")
        let timed = try database.makeStatement(sql: "INSERT INTO charge_time VALUES (?,?,?,?,?)")
        for strategy in counts.strategies {
            for (number, path) in strategy.paths.enumerated() {
                let tally = path.tally
                try paths.execute(arguments: [
                    model, strategy.name, number, path.event, path.eventClass.name, path.mechanism,
                    ChargesText.text(path.charges), tally.worldSwitches, tally.hypercalls, tally.hiddenFaults,
                    tally.ipcs, strategy.times[0][number], strategy.times[1][number], strategy.times[2][number],
                ])
            }
            for charge in strategy.charges {
                try charges.execute(arguments: [
                    model, strategy.name, numbers[Int(charge.site)], charge.process, charge.path, charge.times,
                ])
            }
            for charge in strategy.timed {
                try timed.execute(arguments: [model, strategy.name, charge.part, charge.path, charge.times])
            }
        }
    }

    // MARK: Sites

    /// The store's number of each site; those that it does not know, since their events are in no trace of this
    /// detail, are added.
    private func siteNumbers() throws -> [Int64] {
        var known: [EventSite: Int64] = [:]
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT s.id, s.address, s.kind, s.ring FROM site s LEFT JOIN summary m ON m.site = s.id
                GROUP BY s.id ORDER BY coalesce(sum(m.samples), 0), s.id DESC
                """)
        // The one with the most events comes last, and stays.
        for row in rows {
            let place = EventSite(address: UInt64(bitPattern: row[1]), kind: row[2], ring: row[3])
            known[place] = row[0]
        }
        let symbols = try Symbols(database)
        let insert = try database.makeStatement(sql: "INSERT INTO site VALUES (?,?,?,?,0,?,?,?)")
        var next = try Int64.fetchOne(database, sql: "SELECT coalesce(max(id), 0) + 1 FROM site") ?? 1
        var numbers: [Int64] = [0]
        for site in counts.sites.dropFirst() {
            let place = site.place
            if let number = known[place] {
                numbers.append(number)
                continue
            }
            let phase = symbols.phase(place, at: site.first)
            let found = phase == "kernel" ? symbols.symbol(place.address) : nil
            try insert.execute(arguments: [
                next, place.address.column, Int(place.kind), Int(place.ring), phase, found?.id, found?.offset.column,
            ])
            numbers.append(next)
            next += 1
        }
        let kinds = try database.makeStatement(sql: "INSERT OR IGNORE INTO kind VALUES (?,?)")
        for kind in Set(counts.sites.dropFirst().map(\.place.kind)).sorted() {
            try kinds.execute(arguments: [Int(kind), EventNames.name(kind)])
        }
        return numbers
    }

    /// What the store knows about addresses.
    private struct Symbols {
        private let addresses: [(address: UInt64, id: Int64)]
        private let kernelBegins: UInt64

        init(_ database: Database) throws {
            var last: UInt64?
            var found: [(address: UInt64, id: Int64)] = []
            // The first of those at one address counts.
            let rows = try Row.fetchCursor(database, sql: "SELECT id, address FROM symbol ORDER BY id")
            while let row = try rows.next() { found.append((UInt64(bitPattern: row[1]), row[0])) }
            found.sort { ($0.address, $0.id) < ($1.address, $1.id) }
            addresses = found.filter { entry in
                defer { last = entry.address }
                return entry.address != last
            }
            let first = try Int64.fetchOne(
                database,
                sql: """
                    SELECT min(m.first) FROM summary m JOIN site s ON s.id = m.site WHERE s.phase = 'kernel'
                    """)
            kernelBegins = UInt64(bitPattern: first ?? 0)
        }

        func phase(_ place: EventSite, at count: UInt64) -> String {
            if place.ring == 3 { return "user" }
            return count >= kernelBegins ? "kernel" : "decompressor"
        }

        func symbol(_ address: UInt64) -> (id: Int64, offset: UInt64)? {
            var (low, high) = (0, addresses.count)
            while low < high {
                let middle = (low + high) / 2
                if addresses[middle].address <= address { low = middle + 1 } else { high = middle }
            }
            guard low > 0 else { return nil }
            return (addresses[low - 1].id, address - addresses[low - 1].address)
        }
    }
}

/// The multiples of primitives that a path charges, as text: `hypercall 1, iret -1`.
enum ChargesText {
    static func text(_ charges: Charges) -> String {
        charges.items.map { "\($0.primitive.name) \($0.count)" }.joined(separator: ", ")
    }

    static func charges(_ text: String) -> Charges? {
        var items: [(primitive: Primitive, count: Int)] = []
        for item in text.split(separator: ", ") {
            let words = item.split(separator: " ")
            guard words.count == 2, let primitive = Primitive(name: String(words[0])), let count = Int(words[1]) else {
                return nil
            }
            items.append((primitive, count))
        }
        return Charges(items)
    }
}
