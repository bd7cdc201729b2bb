import Analyzer
import Replayer
import Tracer
import VMM

/// The places of a report: sites with names and prices, devices, phases.
struct ReportPlaces {
    /// Sites that each strategy, and the number of events, brings into the table.
    private static let sitesEach = 40

    /// What the store knows of a site.
    struct Info {
        var phase: String
        var symbol: String?
        var offset: UInt64?
    }

    let costs: CostAnalysis
    private var information: [Int64: Info] = [:]
    let processNames: [Int: String]
    /// Typical cycles by strategy and site.
    private let typical: [[Double]]
    /// The sites in the page's table, as indices of the model's.
    let listed: [UInt32]

    init(_ costs: CostAnalysis) throws {
        self.costs = costs
        let sql = """
            SELECT s.id, s.phase, coalesce(y.module || ':', '') || y.name, s.offset
            FROM site s LEFT JOIN symbol y ON y.id = s.symbol
            """
        for row in try costs.store.rows(sql) {
            guard case .integer(let id) = row[0], case .text(let phase) = row[1] else { continue }
            var info = Info(phase: phase)
            if case .text(let symbol) = row[2] { info.symbol = symbol }
            if case .integer(let offset) = row[3] { info.offset = UInt64(bitPattern: offset) }
            information[id] = info
        }
        var names: [Int: String] = [:]
        for row in try costs.store.rows("SELECT id, name FROM process") {
            if case .integer(let id) = row[0], case .text(let name) = row[1] { names[Int(id)] = name }
        }
        processNames = names
        let counts = costs.model.counts
        typical = counts.strategies.map { strategy in
            var cycles = [Double](repeating: 0, count: counts.sites.count)
            let prices = Self.prices(strategy, costs.result.costs)
            for charge in strategy.charges { cycles[Int(charge.site)] += Double(charge.times) * prices[charge.path] }
            return cycles
        }
        listed = Self.list(counts, typical)
    }

    private static func list(_ counts: ModelCounts, _ typical: [[Double]]) -> [UInt32] {
        var chosen: Set<UInt32> = []
        let sites = counts.sites.indices.dropFirst()
        for cycles in typical {
            let order = sites.filter { cycles[$0] > 0 }.sorted { (cycles[$1], $0) < (cycles[$0], $1) }
            chosen.formUnion(order.prefix(sitesEach).map { UInt32($0) })
        }
        let order = sites.sorted { (counts.sites[$1].events, $0) < (counts.sites[$0].events, $1) }
        chosen.formUnion(order.prefix(sitesEach).map { UInt32($0) })
        return chosen.sorted()
    }

    private static func prices(_ strategy: ModelCounts.OfStrategy, _ costs: CostTable) -> [Double] {
        strategy.paths.map { path in
            var counts = PrimitiveCounts()
            counts.add(path.charges, times: 1)
            return counts.cycles(costs).typical
        }
    }

    /// Typical cycles of each path.
    func prices(_ strategy: ModelCounts.OfStrategy) -> [Double] { Self.prices(strategy, costs.result.costs) }

    // MARK: Names

    func info(_ site: UInt32) -> Info {
        information[costs.model.siteNumbers[Int(site)]] ?? Info(phase: "kernel")
    }

    func symbol(_ site: UInt32) -> String {
        let info = info(site)
        return info.symbol ?? (info.phase == "user" ? "(user code)" : "(\(info.phase))")
    }

    /// The instruction and where it is.
    func label(_ site: UInt32) -> String {
        let place = costs.model.counts.sites[Int(site)].place
        let kind = EventKind(rawValue: place.kind)?.mnemonic ?? ""
        let info = info(site)
        guard let symbol = info.symbol else { return "\(kind) at \(hexadecimal(place.address))" }
        let offset = info.offset ?? 0
        return "\(kind) at \(symbol)" + (offset > 0 ? "+\(hexadecimal(offset))" : "")
    }

    func codeRequest(_ site: UInt32) -> CodeReader.Request {
        let found = costs.model.counts.sites[Int(site)]
        let start = info(site).offset.map { found.place.address &- $0 }
        return CodeReader.Request(address: found.place.address, count: found.first, start: start)
    }

    // MARK: Sites

    func json(code: [[Surroundings.Line]]) -> JSON {
        .array(
            listed.enumerated().map { number, site in
                let found = costs.model.counts.sites[Int(site)]
                let info = info(site)
                return .object([
                    ("address", .string(hexadecimal(found.place.address))), ("symbol", .string(symbol(site))),
                    ("offset", .string(info.offset.map { $0 > 0 ? "+" + hexadecimal($0) : "" } ?? "")),
                    ("kind", .string(EventKind(rawValue: found.place.kind)?.mnemonic ?? "")),
                    ("ring", .integer(UInt64(found.place.ring))), ("phase", .string(info.phase)),
                    ("events", .signed(found.events)),
                    ("cycles", .array(typical.map { .number($0[Int(site)].rounded()) })),
                    ("code", .array(code[number].map(line))),
                ])
            })
    }

    private func line(_ line: Surroundings.Line) -> JSON {
        .array([
            .string(HotSpotTable.hex(line.address)),
            .string(line.bytes.map { HotSpotTable.hex(UInt64($0), 2) }.joined()), .string(line.text),
            .integer(line.isCenter ? 1 : 0),
        ])
    }

    // MARK: Devices

    /// Registers with their accesses; a site's cycles are divided among the registers that it accesses by accesses.
    func devices() throws -> JSON {
        struct Register: Hashable, Comparable {
            var device: String
            var space: String
            var address: UInt64
            var name: String
            static func < (left: Register, right: Register) -> Bool {
                (left.device, left.space, left.address) < (right.device, right.space, right.address)
            }
        }
        struct Sums {
            var reads: UInt64 = 0
            var writes: UInt64 = 0
            var cycles: [Double]
        }
        let sql = """
            SELECT r.device, r.space, r.address, r.name, k.name IN ('portIn', 'mmioRead'), m.site, sum(m.samples),
                (SELECT sum(samples) FROM summary w WHERE w.site = m.site)
            FROM summary m JOIN site s ON s.id = m.site JOIN kind k ON k.id = s.kind
            JOIN register r ON r.address = m.subject
                AND r.space = CASE WHEN k.name IN ('portIn', 'portOut') THEN 'port'
                    WHEN k.name IN ('mmioRead', 'mmioWrite') THEN 'memory' END
            GROUP BY r.space, r.address, m.site ORDER BY r.space, r.address, m.site
            """
        var indices: [Int64: Int] = [:]
        for (index, number) in costs.model.siteNumbers.enumerated() { indices[number] = index }
        var sums: [Register: Sums] = [:]
        for row in try costs.store.rows(sql) {
            guard case .text(let device) = row[0], case .text(let space) = row[1], case .integer(let address) = row[2],
                case .text(let name) = row[3], case .integer(let isRead) = row[4], case .integer(let site) = row[5],
                case .integer(let samples) = row[6], case .integer(let all) = row[7]
            else { continue }
            let register = Register(
                device: device, space: space, address: UInt64(bitPattern: address), name: name)
            var sum = sums[register] ?? Sums(cycles: [Double](repeating: 0, count: typical.count))
            if isRead != 0 { sum.reads += UInt64(samples) } else { sum.writes += UInt64(samples) }
            if let index = indices[site], all > 0 {
                for strategy in typical.indices {
                    sum.cycles[strategy] += typical[strategy][index] * Double(samples) / Double(all)
                }
            }
            sums[register] = sum
        }
        return .array(
            sums.sorted { $0.key < $1.key }.map { register, sum in
                .object([
                    ("device", .string(register.device)), ("register", .string(register.name)),
                    ("space", .string(register.space)), ("address", .string(hexadecimal(register.address))),
                    ("reads", .integer(sum.reads)), ("writes", .integer(sum.writes)),
                    ("cycles", .array(sum.cycles.map { .number($0.rounded()) })),
                ])
            })
    }

    // MARK: Time

    func marks() throws -> JSON {
        .array(
            try costs.store.rows("SELECT count, text FROM mark ORDER BY count, text").map {
                .array([TableWriter.json($0[0]), TableWriter.json($0[1])])
            })
    }

    /// Where each phase has its first and last event.
    func phases() throws -> JSON {
        let sql = """
            SELECT s.phase, min(m.first), max(m.last) FROM summary m JOIN site s ON s.id = m.site
            GROUP BY 1 ORDER BY 2, 1
            """
        return .array(try costs.store.rows(sql).map { .array($0.map { TableWriter.json($0) }) })
    }

    /// Events by kind in each part of the time, the most frequent kinds first.
    func eventsOverTime() throws -> JSON {
        let store = costs.store
        let bucket = Double(UInt64(store.meta["bucket_counts"] ?? "") ?? 1)
        let parts = Int(StoredModel.parts)
        let start = Double(store.startCount)
        var kinds: [String: [Double]] = [:]
        let sql = """
            SELECT k.name, t.bucket, sum(t.samples) FROM timeline t JOIN kind k ON k.id = t.kind
            GROUP BY 1, 2 ORDER BY 1, 2
            """
        for row in try store.rows(sql) {
            guard case .text(let kind) = row[0], case .integer(let number) = row[1],
                case .integer(let samples) = row[2]
            else { continue }
            var values = kinds[kind] ?? [Double](repeating: 0, count: parts)
            add(Double(samples), from: start + Double(number) * bucket, counts: bucket, to: &values)
            kinds[kind] = values
        }
        let sorted = kinds.sorted { left, right in
            let (first, second) = (left.value.reduce(0, +), right.value.reduce(0, +))
            return first == second ? left.key < right.key : first > second
        }
        return .object(sorted.map { ($0.key, .array($0.value.map { .number($0.rounded()) })) })
    }

    /// Divides what happened in a stretch of time among the parts that it overlaps.
    private func add(_ samples: Double, from start: Double, counts: Double, to values: inout [Double]) {
        let (first, size) = (Double(costs.model.partStart), Double(costs.model.partCounts))
        let end = start + counts
        var part = max(Int((start - first) / size), 0)
        while part < values.count, first + Double(part) * size < end {
            let (low, high) = (max(start, first + Double(part) * size), min(end, first + Double(part + 1) * size))
            values[part] += samples * max(high - low, 0) / counts
            part += 1
        }
    }
}
