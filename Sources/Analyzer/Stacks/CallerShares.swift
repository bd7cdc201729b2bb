/// How the events of a site in processes of one name divide among its callers, as far as samples tell.
package struct CallerShares {
    private struct Place: Hashable {
        var site: Int64
        var process: String
    }

    private var weights: [Place: [[String]: Int64]] = [:]

    package init() {}

    mutating func add(_ site: Int64, _ process: String, _ callers: [String], _ weight: Int64) {
        weights[Place(site: site, process: process), default: [:]][callers, default: 0] += weight
    }

    /// Of a site, by its number in the store: stacks of callers, outermost first, in a fixed order, each with its part
    /// of 1. One without callers if there are no samples.
    package func of(_ site: Int64, process: String?) -> [(callers: [String], share: Double)] {
        guard let process, let known = weights[Place(site: site, process: process)] else { return [([], 1)] }
        let sum = Double(known.values.reduce(0, +))
        return known.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key, Double($0.value) / sum) }
    }
}
