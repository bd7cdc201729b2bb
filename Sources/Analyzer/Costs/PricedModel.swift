import CXXHash
import GRDB
import Replayer

extension AnalysisStore {
    /// The name under which the store keeps what a cost table makes of a model: tables of one name can differ.
    package static func priceKey(_ costs: CostTable, includesWaits: Bool) -> String {
        var text = costs.name
        for cost in costs.costs {
            text += " \(cost.primitive.name) \(cost.value.low) \(cost.value.typical) \(cost.value.high) \(cost.role)"
        }
        text += " \(costs.clock) \(costs.hypothetical.keys.sorted())"
        let hash = Array(text.utf8).withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) }
        return "\(costs.name) \(String(hash, radix: 16))" + (includesWaits ? " with waits" : "")
    }

    /// Prices a model into the tables `strategy` and `cost`, unless that was done before.
    package func price(_ model: StoredModel, _ result: ModelResult, key: String) throws {
        let known = try rows("SELECT 1 FROM strategy WHERE model = ? AND costs = ? LIMIT 1", [model.id, key])
        guard known.isEmpty else { return }
        try change { database in
            // Somebody else may have been quicker.
            try database.execute(sql: "DELETE FROM strategy WHERE model = ? AND costs = ?", arguments: [model.id, key])
            try database.execute(sql: "DELETE FROM cost WHERE model = ? AND costs = ?", arguments: [model.id, key])
            try writeStrategies(database, model, result, key)
            for strategy in model.counts.strategies where result[strategy.name]?.notApplicable == nil {
                try writeCosts(database, model, strategy, result.costs, key)
            }
        }
    }

    private func writeStrategies(
        _ database: Database, _ model: StoredModel, _ result: ModelResult, _ key: String
    ) throws {
        let statement = try database.makeStatement(
            sql: "INSERT INTO strategy VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
        for entry in result.entries {
            try statement.execute(arguments: [
                model.id, key, entry.name, entry.notApplicable == nil, !entry.hypothetical.isEmpty,
                entry.cyclesAdded.low, entry.cyclesAdded.typical, entry.cyclesAdded.high, entry.ratio.low,
                entry.ratio.typical, entry.ratio.high, entry.estimatedShare, entry.tally.worldSwitches,
                entry.tally.hypercalls, entry.tally.hiddenFaults, entry.tally.ipcs,
            ])
        }
    }

    /// What is added up into one row.
    private struct Key: Hashable, Comparable {
        var site: UInt32
        var process: Int
        var eventClass: UInt8

        static func < (left: Key, right: Key) -> Bool {
            (left.site, left.process, left.eventClass) < (right.site, right.process, right.eventClass)
        }
    }

    private func writeCosts(
        _ database: Database, _ model: StoredModel, _ strategy: ModelCounts.OfStrategy, _ costs: CostTable,
        _ key: String
    ) throws {
        var sums: [Key: PrimitiveCounts] = [:]
        for charge in strategy.charges {
            let path = strategy.paths[charge.path]
            let row = Key(site: charge.site, process: charge.process ?? -1, eventClass: path.eventClass.rawValue)
            sums[row, default: PrimitiveCounts()].add(path.charges, times: charge.times)
        }
        let statement = try database.makeStatement(sql: "INSERT INTO cost VALUES (?,?,?,?,?,?,?,?,?)")
        for (row, counts) in sums.sorted(by: { $0.key < $1.key }) {
            let cycles = counts.cycles(costs)
            try statement.execute(arguments: [
                model.id, key, model.siteNumbers[Int(row.site)], row.process < 0 ? nil : row.process, strategy.name,
                EventClass(rawValue: row.eventClass)?.name ?? "", cycles.low, cycles.typical, cycles.high,
            ])
        }
    }
}
