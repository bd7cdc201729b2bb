/// What the literature says of strategies beside each other, held against a result. Nothing is made to come out: where
/// ranges overlap it says so, and where the model disagrees it names the charge that does it.
package enum Orderings {
    package enum Verdict: Equatable {
        case holds
        /// The ranges overlap.
        case notDistinguishable
        /// The other way round, mostly because of one primitive.
        case disagrees(charge: String)
    }

    package struct Finding {
        package let statement: String
        package let source: String
        package let verdict: Verdict
    }

    private enum Relation {
        /// Less is added.
        case below
        /// What is added differs by no more than a share of the native cycles.
        case near(Double)
        /// Fewer changes between guest and VMM.
        case fewerSwitches
        /// More references in page walks.
        case longerWalks
    }

    private struct Statement {
        let left, right: String
        let relation: Relation
        let text: String
        let source: String
    }

    private static let paper = "LeVasseur et al., 2005"
    private static let statements: [Statement] = [
        Statement(
            left: "nops", right: "native", relation: .near(0.05), text: "padding costs next to nothing",
            source: "\(paper): 0.951 and 1.010 of native"),
        Statement(
            left: "xen-inplace", right: "xen-paravirt", relation: .near(0.05),
            text: "in place is near para-virtualization on Xen", source: "\(paper): 1.170 beside 1.171 of native"),
        Statement(
            left: "l4-inplace", right: "l4-paravirt", relation: .near(0.05),
            text: "in place is near para-virtualization on L4", source: "\(paper): 1.060 beside 1.013 of native"),
        Statement(
            left: "xen-inplace", right: "trap-and-emulate", relation: .below,
            text: "in place on Xen costs less than trapping", source: paper),
        Statement(
            left: "l4-inplace", right: "trap-and-emulate", relation: .below,
            text: "in place on L4 costs less than trapping", source: paper),
        Statement(
            left: "binary-translation", right: "trap-and-emulate", relation: .below,
            text: "binary translation costs less than trapping", source: "Adams and Agesen, 2006"),
        Statement(
            left: "vtx-ept", right: "vtx-shadow", relation: .fewerSwitches,
            text: "nested paging exits less than shadow paging", source: "Bhargava et al., 2008"),
        Statement(
            left: "vtx-ept", right: "vtx-shadow", relation: .longerWalks,
            text: "nested paging walks longer than shadow paging", source: "Bhargava et al., 2008"),
        Statement(
            left: "vtx-ept", right: "vtx-shadow", relation: .below, text: "nested paging costs less than shadow paging",
            source: "Bhargava et al., 2008"),
    ]

    /// Holds the statements about strategies that a result has.
    package static func findings(_ result: ModelResult) -> [Finding] {
        statements.compactMap { statement in
            guard let left = result[statement.left], let right = result[statement.right], left.notApplicable == nil,
                right.notApplicable == nil
            else { return nil }
            return Finding(
                statement: "\(statement.text) (\(statement.left), \(statement.right))", source: statement.source,
                verdict: verdict(statement.relation, left, right, result))
        }
    }

    private static func verdict(
        _ relation: Relation, _ left: ModelResult.Entry, _ right: ModelResult.Entry, _ result: ModelResult
    ) -> Verdict {
        let difference = left.added - right.added
        switch relation {
        case .below:
            let range = difference.cycles(result.costs)
            if range.high < 0 { return .holds }
            return range.low > 0 ? .disagrees(charge: largest(difference, result.costs)) : .notDistinguishable
        case .near(let share):
            let ratio = ModelResult.Entry.ratio(of: difference, to: result.native, result.costs)
            let (low, high) = (ratio.low - 1, ratio.high - 1)
            if low >= -share && high <= share { return .holds }
            if low > share || high < -share { return .disagrees(charge: largest(difference, result.costs)) }
            return .notDistinguishable
        case .fewerSwitches:
            return left.tally.worldSwitches < right.tally.worldSwitches
                ? .holds : .disagrees(charge: "world switches: \(left.tally.worldSwitches)")
        case .longerWalks:
            let (own, other) = (left.added[.walkReference], right.added[.walkReference])
            return own > other ? .holds : .disagrees(charge: "walkReference: \(own)")
        }
    }

    /// The primitive that adds most to a difference.
    private static func largest(_ difference: PrimitiveCounts, _ costs: CostTable) -> String {
        let sum = difference.cycles(costs).typical
        let ranked = Primitive.allCases.max { left, right in
            func share(_ primitive: Primitive) -> Double {
                Double(difference[primitive]) * costs.cycles(primitive).typical * (sum < 0 ? -1 : 1)
            }
            return share(left) < share(right)
        }
        return ranked.map { "\($0.name), \(difference[$0]) times" } ?? "nothing"
    }
}
