/// How the events of a site in processes of one name divide among its callers, as far as samples tell.
package struct CallerShares {
    struct Place: Hashable {
        var site: Int64
        var process: String
    }

    private let shares: [Place: [(callers: [String], share: Double)]]

    /// From how many events stand for each stack of callers, outermost first.
    init(_ weights: [Place: [[String]: Int64]]) {
        shares = weights.mapValues { known in
            let sum = Double(known.values.reduce(0, +))
            return known.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key, Double($0.value) / sum) }
        }
    }

    /// Of a site, by its number in the store: stacks of callers, outermost first, in a fixed order, each with its part
    /// of 1. One without callers if there are no samples.
    package func of(_ site: Int64, process: String?) -> [(callers: [String], share: Double)] {
        process.flatMap { shares[Place(site: site, process: $0)] } ?? [([], 1)]
    }
}
