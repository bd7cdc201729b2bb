import Analyzer
import Replayer

/// The report's flame graph: phase, process, callers in the kernel, symbol, instruction, with each strategy's typical
/// cycles. What is too small to be seen under any strategy is put together.
struct ReportFlame {
    /// The least share of any strategy's cycles that a leaf of its own has.
    private static let least = 0.0003
    private static let noProcess = "(no process)"
    private let costs: CostAnalysis
    private let places: ReportPlaces
    private let callers: CallerShares

    private struct Frames: Hashable, Comparable {
        var names: [String]
        static func < (left: Frames, right: Frames) -> Bool { left.names.lexicographicallyPrecedes(right.names) }
    }

    init(_ costs: CostAnalysis, _ places: ReportPlaces) throws {
        self.costs = costs
        self.places = places
        callers = try costs.store.callers()
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
                .array([.array(frames.names.map(number))] + values.map { .signed(Int64($0.rounded())) })
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
                let cycles = Double(charge.times) * prices[charge.path]
                for (frames, share) in frames(charge, path) { leaves[frames, default: none][index] += cycles * share }
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

    /// Where a charge is drawn, and which part of it.
    private func frames(_ charge: ModelCounts.Charge, _ path: Path) -> [(Frames, share: Double)] {
        let process = charge.process.map { places.processNames[$0] ?? "?" }
        guard charge.site != 0 else {
            return [
                (Frames(names: ["no instruction", process ?? Self.noProcess, path.eventClass.name, path.event]), 1)
            ]
        }
        let outer = [places.info(charge.site).phase, process ?? Self.noProcess]
        let inner = [places.symbol(charge.site), places.label(charge.site)]
        let site = costs.model.siteNumbers[Int(charge.site)]
        return callers.of(site, process: process).map { (Frames(names: outer + $0 + inner), $1) }
    }

    /// Puts small leaves together, at the frame that they have in common.
    private func put(_ leaves: [Frames: [Double]], _ totals: [Double]) -> [Frames: [Double]] {
        var level = leaves
        var result: [Frames: [Double]] = [:]
        func isLarge(_ values: [Double]) -> Bool {
            values.indices.contains { values[$0] > 0 && values[$0] >= totals[$0] * Self.least }
        }
        for depth in (1..<max(2, leaves.keys.map(\.names.count).max() ?? 0)).reversed() {
            var next: [Frames: [Double]] = [:]
            for (frames, values) in level.sorted(by: { $0.key < $1.key }) {
                if isLarge(values) {
                    result[frames] = values
                    continue
                }
                let names = frames.names.count > depth ? frames.names.prefix(depth) + ["(other)"] : frames.names[...]
                add(values, to: Frames(names: Array(names)), &next)
            }
            level = next
        }
        for (frames, values) in level.sorted(by: { $0.key < $1.key }) { add(values, to: frames, &result) }
        return result
    }

    private func add(_ values: [Double], to frames: Frames, _ leaves: inout [Frames: [Double]]) {
        leaves[frames] = leaves[frames].map { zip($0, values).map { $0 + $1 } } ?? values
    }
}
