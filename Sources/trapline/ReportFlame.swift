import Analyzer
import Replayer

/// The report's flame graph: phase, process, symbol, instruction, with each strategy's typical cycles. What is too
/// small to be seen under any strategy is put together.
struct ReportFlame {
    /// The least share of any strategy's cycles that a leaf of its own has.
    private static let least = 0.0003
    private let costs: CostAnalysis
    private let places: ReportPlaces

    private struct Frames: Hashable, Comparable {
        var names: [String]
        static func < (left: Frames, right: Frames) -> Bool { left.names.lexicographicallyPrecedes(right.names) }
    }

    init(_ costs: CostAnalysis, _ places: ReportPlaces) {
        self.costs = costs
        self.places = places
    }

    var json: JSON {
        get throws {
            let (leaves, saved) = leaves
            let strategies = costs.model.counts.strategies.count
            var totals = [Double](repeating: 0, count: strategies)
            // In a fixed order, since sums of fractions depend on it.
            for (_, values) in leaves.sorted(by: { $0.key < $1.key }) {
                for index in 0..<strategies { totals[index] += values[index] }
            }
            var strings: [String] = []
            var numbers: [String: Int] = [:]
            func number(_ text: String) -> JSON {
                if let known = numbers[text] { return .integer(UInt64(known)) }
                numbers[text] = strings.count
                strings.append(text)
                return .integer(UInt64(strings.count - 1))
            }
            let rows = put(leaves, totals).sorted { $0.key < $1.key }.map { frames, values -> JSON in
                .array(frames.names.map(number) + values.map { .signed(Int64($0.rounded())) })
            }
            return .object([
                ("strings", .array(strings.map { .string($0) })), ("rows", .array(rows)),
                ("totals", .array(totals.map { .number($0.rounded()) })),
                ("saved", .array(saved.map { .number($0.rounded()) })),
            ])
        }
    }

    /// Cycles of each leaf and strategy, and what strategies save elsewhere, which cannot be drawn.
    private var leaves: ([Frames: [Double]], saved: [Double]) {
        let counts = costs.model.counts
        var leaves: [Frames: [Double]] = [:]
        let none = [Double](repeating: 0, count: counts.strategies.count)
        for (index, strategy) in counts.strategies.enumerated() {
            let prices = places.prices(strategy)
            for charge in strategy.charges {
                let path = strategy.paths[charge.path]
                leaves[frames(charge, path), default: none][index] += Double(charge.times) * prices[charge.path]
            }
        }
        var saved = none
        for (frames, values) in leaves.sorted(by: { $0.key < $1.key }) {
            for index in values.indices where values[index] < 0 {
                saved[index] -= values[index]
                leaves[frames]?[index] = 0
            }
        }
        return (leaves, saved)
    }

    private func frames(_ charge: ModelCounts.Charge, _ path: Path) -> Frames {
        let process = charge.process.map { places.processNames[$0] ?? "?" } ?? "(no process)"
        guard charge.site != 0 else {
            return Frames(names: ["no instruction", process, path.eventClass.name, path.event])
        }
        return Frames(names: [
            places.info(charge.site).phase, process, places.symbol(charge.site), places.label(charge.site),
        ])
    }

    /// Puts small leaves together, at their symbol, then their process, then their phase.
    private func put(_ leaves: [Frames: [Double]], _ totals: [Double]) -> [Frames: [Double]] {
        var level = leaves
        var result: [Frames: [Double]] = [:]
        for depth in [3, 2, 1] {
            var next: [Frames: [Double]] = [:]
            for (frames, values) in level.sorted(by: { $0.key < $1.key }) {
                if values.indices.contains(where: { values[$0] > 0 && values[$0] >= totals[$0] * Self.least }) {
                    result[frames] = values
                    continue
                }
                var names = frames.names
                for index in depth..<names.count { names[index] = "(other)" }
                let sum = next[Frames(names: names)] ?? [Double](repeating: 0, count: values.count)
                next[Frames(names: names)] = zip(sum, values).map { $0 + $1 }
            }
            level = next
        }
        for (frames, values) in level {
            let sum = result[frames] ?? [Double](repeating: 0, count: values.count)
            result[frames] = zip(sum, values).map { $0 + $1 }
        }
        return result
    }
}
