import Analyzer
import Replayer

/// `trapline diff` of modelled cycles: one strategy in two traces, or two strategies in one.
struct CostDifference {
    /// What is added at each place on one side.
    struct Side {
        let name: String
        let cycles: [TraceSummary.Place: Double]
        let total: Double
        /// Every place of the trace, those without cycles too, since places are matched by their order.
        let places: Set<TraceSummary.Place>

        init(_ request: AnalysisRequest, _ model: ModelOptions, strategy: String) throws {
            _ = try ModelOptions.strategies([strategy])
            let costs = try CostAnalysis(request, model)
            if let reason = costs.result[strategy]?.notApplicable {
                throw CommandError.badCombination("\(strategy): \(reason)")
            }
            let spots = try StrategyHotSpots(costs.store, costs.model, key: costs.key, strategy: strategy, by: .site)
            var cycles: [TraceSummary.Place: Double] = [:]
            for row in spots.rows {
                let labels = row.labels.map { TableWriter.text($0) }
                // Address, symbol with offset or phase, module, kind, ring.
                let isSymbol = !labels[1].hasPrefix("(")
                let symbol = isSymbol && !labels[1].contains("+0x") ? labels[1] + "+0x0" : labels[1]
                let module = labels[2].isEmpty ? "" : labels[2] + ":"
                let place = TraceSummary.Place(
                    name: isSymbol ? module + symbol : labels[0], kind: labels[3], ring: UInt8(labels[4]) ?? 0)
                cycles[place, default: 0] += row.typical
            }
            (name, self.cycles, total) = ("\(request.trace), \(strategy)", cycles, spots.cycles)
            places = try Set(TraceSummary(costs.store).places.keys).union(cycles.keys)
        }
    }

    struct Change {
        let place: TraceSummary.Place
        let before, after: Double
    }

    let before, after: Side
    /// Largest first.
    let changes: [Change]
    let costs: String

    init(_ before: Side, _ after: Side, costs: String) {
        (self.before, self.after, self.costs) = (before, after, costs)
        changes = TraceDifference.pairs(before.places, after.places).compactMap { left, right -> Change? in
            guard let place = right ?? left else { return nil }
            let change = Change(
                place: place, before: left.flatMap { before.cycles[$0] } ?? 0,
                after: right.flatMap { after.cycles[$0] } ?? 0)
            return abs(change.after - change.before) < 0.5 ? nil : change
        }.sorted { left, right in
            let (first, second) = (abs(left.after - left.before), abs(right.after - right.before))
            return first == second ? left.place < right.place : first > second
        }
    }

    /// By how much the whole differs, in percent.
    var percent: Double {
        guard before.total != after.total else { return 0 }
        return before.total != 0 ? abs(after.total - before.total) * 100 / abs(before.total) : .infinity
    }

    func text(top: Int) -> String {
        guard !changes.isEmpty else { return "" }
        var rows = [["before", "after", "change", "place", "kind", "ring"]]
        for change in top == 0 ? changes[...] : changes.prefix(top) {
            let difference = change.after - change.before
            rows.append([
                ModelText.cycles(change.before), ModelText.cycles(change.after),
                (difference > 0 ? "+" : "") + ModelText.cycles(difference), change.place.name, change.place.kind,
                "\(change.place.ring)",
            ])
        }
        return TextColumns(rows, right: [0, 1, 2]).text
            + "Typical modelled cycles added with the costs of \(costs): \(ModelText.cycles(before.total)) by "
            + "\(before.name); \(ModelText.cycles(after.total)) by \(after.name)\n"
    }

    var json: JSON {
        func side(_ side: Side) -> JSON {
            .object([("name", .string(side.name)), ("cycles_added", .number(side.total.rounded()))])
        }
        return .object([
            ("costs", .string(costs)), ("modelled", .bool(true)), ("before", side(before)), ("after", side(after)),
            ("percent", .number(percent)),
            (
                "changes",
                .array(
                    changes.map {
                        .object([
                            ("name", .string($0.place.name)), ("kind", .string($0.place.kind)),
                            ("ring", .integer(UInt64($0.place.ring))), ("before", .number($0.before.rounded())),
                            ("after", .number($0.after.rounded())),
                        ])
                    })
            ),
        ])
    }
}
