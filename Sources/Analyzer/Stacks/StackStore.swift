import GRDB

extension AnalysisStore {
    /// The key of `meta` that says that there are stacks.
    private static let stacksKey = "has_stacks"

    package var hasStacks: Bool { meta[Self.stacksKey] == "1" }

    /// Samples the kernel's stacks and puts them into the store.
    package func addStacks(_ analysis: TraceAnalysis) throws {
        let samples = try StackSampler(analysis).samples
        try change { database in
            var sites: [SiteKey: Int64] = [:]
            for row in try Row.fetchAll(database, sql: "SELECT id, address, kind, ring, size FROM site") {
                let key = SiteKey(
                    address: UInt64(bitPattern: row["address"]), kind: UInt8(truncatingIfNeeded: row["kind"] as Int),
                    ring: UInt8(truncatingIfNeeded: row["ring"] as Int),
                    size: UInt8(truncatingIfNeeded: row["size"] as Int), phase: .kernel, subject: 0)
                sites[key] = row["id"]
            }
            try database.execute(sql: "DELETE FROM stack; DELETE FROM frame")
            let stack = try database.makeStatement(sql: "INSERT INTO stack VALUES (?,?,?,?,?)")
            let frame = try database.makeStatement(sql: "INSERT INTO frame VALUES (?,?,?,?,?,?)")
            let process = try database.makeStatement(
                sql: "SELECT process FROM interval WHERE start <= ? ORDER BY start DESC LIMIT 1")
            for (number, sample) in samples.enumerated() {
                guard let site = sites[sample.key] else { continue }
                let owner = try Int.fetchOne(process, arguments: [sample.count.column]) ?? 0
                try stack.execute(arguments: [number, site, owner, sample.count.column, sample.weight.column])
                for (depth, found) in sample.frames.enumerated() {
                    let symbol = analysis.symbols.index(of: found.address &- 1)
                    try frame.execute(arguments: [
                        number, depth, found.address.column, symbol.map { $0 + 1 },
                        symbol.map { (found.address &- analysis.symbols.symbols[$0].address).column },
                        found.isCertain,
                    ])
                }
            }
            try database.execute(sql: "INSERT OR REPLACE INTO meta VALUES (?, '1')", arguments: [Self.stacksKey])
        }
    }

    /// Folded stacks with the kernel's callers, outermost first: process, callers, symbol, kind, and how many events
    /// the samples stand for. A caller that is not certain ends with `?`.
    package func foldedStacks(_ body: (String) throws -> Void) throws {
        let sql = """
            SELECT t.id, p.name, coalesce(y.name, CASE s.phase WHEN 'kernel' THEN printf('0x%x', s.address)
                ELSE '(' || s.phase || ')' END), k.name, t.weight,
                (SELECT group_concat(name, ';') FROM (
                    SELECT coalesce(z.name, printf('0x%x', f.address)) || CASE f.certain WHEN 1 THEN '' ELSE '?' END
                        AS name
                    FROM frame f LEFT JOIN symbol z ON z.id = f.symbol WHERE f.stack = t.id ORDER BY f.depth DESC))
            FROM stack t JOIN site s ON s.id = t.site JOIN kind k ON k.id = s.kind JOIN process p ON p.id = t.process
            LEFT JOIN symbol y ON y.id = s.symbol ORDER BY t.id
            """
        var sums: [String: Int64] = [:]
        try query(sql) { _, values in
            guard let values, case .text(let process) = values[1], case .text(let symbol) = values[2],
                case .text(let kind) = values[3], case .integer(let weight) = values[4]
            else { return }
            var frames = [Self.frame(process)]
            if case .text(let callers) = values[5] { frames.append(callers) }
            sums[(frames + [symbol, kind]).joined(separator: ";"), default: 0] += weight
        }
        for (stack, weight) in sums.sorted(by: { $0.key < $1.key }) { try body("\(stack) \(weight)\n") }
    }

    /// Semicolons divide frames, the last space the number.
    static func frame(_ text: String) -> String { String(text.map { ";\n\r".contains($0) ? "_" : $0 }) }
}
