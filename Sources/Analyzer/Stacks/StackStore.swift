import GRDB

extension AnalysisStore {
    /// The key of `meta` that says that there are stacks, and of which events.
    private static let stacksKey = "stacks"
    private static let ofTrace = "trace"
    private static let ofAll = "all"

    /// Whether a kernel was found whose stacks can be read.
    package var hasKernel: Bool { meta["kernel"] != nil }

    /// Samples the kernel's stacks and puts them into the store, if they are not there yet: at events of the trace, and
    /// with `paging` also at those that only models see. `goesOn` is told which part is done, and says whether to go
    /// on; if not, nothing is put there.
    package func addStacks(
        _ analysis: () throws -> TraceAnalysis, paging: Bool, goesOn: @escaping (Double) -> Bool
    ) throws {
        let known = meta[Self.stacksKey]
        guard known != Self.ofAll, paging || known == nil else { return }
        let analysis = try analysis()
        var isStopped = false
        let samples = try StackSampler(analysis, paging: paging) {
            isStopped = !goesOn($0)
            return !isStopped
        }.samples
        guard !isStopped else { return }
        let sites = try siteNumbers()
        try change { database in
            try database.execute(sql: "DELETE FROM stack; DELETE FROM frame")
            let stack = try database.makeStatement(sql: "INSERT INTO stack VALUES (?,?,?,?,?)")
            let frame = try database.makeStatement(sql: "INSERT INTO frame VALUES (?,?,?,?,?)")
            let process = try database.makeStatement(
                sql: "SELECT process FROM interval WHERE start <= ? ORDER BY start DESC LIMIT 1")
            for (number, sample) in samples.enumerated() {
                var key = sample.key
                // Those that only a model has seen have no size.
                let exact = sites[key]
                key.size = 0
                guard let site = exact ?? sites[key] else { continue }
                let owner = try Int.fetchOne(process, arguments: [sample.count.column]) ?? 0
                try stack.execute(arguments: [number, site, owner, sample.count.column, sample.weight.column])
                for (depth, address) in sample.callers.enumerated() {
                    let symbol = analysis.symbols.index(of: address &- 1)
                    try frame.execute(arguments: [
                        number, depth, address.column, symbol.map { $0 + 1 },
                        symbol.map { (address &- analysis.symbols.symbols[$0].address).column },
                    ])
                }
            }
            try database.execute(
                sql: "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                arguments: [Self.stacksKey, paging ? Self.ofAll : Self.ofTrace])
        }
    }

    /// In SQL the names of stack `t`'s callers, outermost first.
    private static let callerNames = """
        (SELECT group_concat(name, ';') FROM (
            SELECT coalesce(z.name, printf('0x%x', f.address)) AS name
            FROM frame f LEFT JOIN symbol z ON z.id = f.symbol WHERE f.stack = t.id ORDER BY f.depth DESC))
        """

    /// Folded stacks with the kernel's callers at the trace's events, outermost first: process, callers, symbol, kind,
    /// and how many events the samples stand for. User code has no callers, and its events are counted.
    package func foldedStacks(_ body: (String) throws -> Void) throws {
        let sql = """
            SELECT p.name, coalesce(y.name, CASE s.phase WHEN 'kernel' THEN printf('0x%x', s.address)
                ELSE '(' || s.phase || ')' END), k.name, t.weight,
                \(Self.callerNames)
            FROM stack t JOIN site s ON s.id = t.site JOIN kind k ON k.id = s.kind JOIN process p ON p.id = t.process
            LEFT JOIN symbol y ON y.id = s.symbol
            WHERE EXISTS (SELECT 1 FROM summary m WHERE m.site = s.id)
            UNION ALL
            SELECT p.name, coalesce(y.name, '(' || s.phase || ')'), k.name, sum(m.samples), NULL
            FROM summary m JOIN site s ON s.id = m.site JOIN kind k ON k.id = s.kind
            JOIN process p ON p.id = m.process LEFT JOIN symbol y ON y.id = s.symbol
            WHERE s.ring = 3 GROUP BY 1, 2, 3
            """
        var sums: [String: Int64] = [:]
        try query(sql) { _, values in
            guard let values, case .text(let process) = values[0], case .text(let symbol) = values[1],
                case .text(let kind) = values[2], case .integer(let weight) = values[3]
            else { return }
            var frames = [Self.frame(process)]
            if case .text(let callers) = values[4] { frames.append(callers) }
            sums[(frames + [symbol, kind]).joined(separator: ";"), default: 0] += weight
        }
        for (stack, weight) in sums.sorted(by: { $0.key < $1.key }) { try body("\(stack) \(weight)\n") }
    }

    /// What the samples say of sites in processes of a name: stacks of callers, outermost first, with their parts of 1.
    package func callers() throws -> CallerShares {
        let sql = """
            SELECT t.site, p.name, t.weight,
                \(Self.callerNames)
            FROM stack t JOIN process p ON p.id = t.process ORDER BY t.id
            """
        var weights: [CallerShares.Place: [[String]: Int64]] = [:]
        try query(sql) { _, values in
            guard let values, case .integer(let site) = values[0], case .text(let process) = values[1],
                case .integer(let weight) = values[2]
            else { return }
            var names: [String] = []
            if case .text(let text) = values[3] { names = text.split(separator: ";").map(String.init) }
            weights[CallerShares.Place(site: site, process: process), default: [:]][names, default: 0] += weight
        }
        return CallerShares(weights)
    }

    /// Semicolons divide frames, the last space the number.
    static func frame(_ text: String) -> String { String(text.map { ";\n\r".contains($0) ? "_" : $0 }) }
}
