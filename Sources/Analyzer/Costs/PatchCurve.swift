import CEngine
import Replayer
import VMM

/// What one strategy would cost if instructions of the guest were rewritten in place.
///
/// A rewritten site costs what the in-place system of the same hypervisor charges there, and no longer what the
/// strategy charges.
package struct PatchCurve {
    /// A site, and what rewriting it saves.
    package struct Candidate {
        /// Index among the model's sites.
        package let site: UInt32
        package let saving: PrimitiveCounts
        package let saved: CostRange
    }

    /// The first `sites` of the candidates rewritten.
    package struct Step {
        package let sites: Int
        package let saved: CostRange
        /// Of the whole strategy to the bare machine, then.
        package let ratio: CostRange
        /// Of the typical cycles that the strategy adds; nil if it adds none. More than 1 if then it is cheaper than the
        /// bare machine.
        package let share: Double?
    }

    package let strategy: String
    /// The in-place system whose handling is put there.
    package let sibling: String
    /// Sites where rewriting saves anything, what saves most first.
    package let candidates: [Candidate]
    private let added: PrimitiveCounts
    private let native: PrimitiveCounts
    private let costs: CostTable

    /// The in-place system that a strategy's sites would be rewritten to; nil if there is nothing to rewrite.
    package static func sibling(of strategy: String) -> String? {
        switch strategy {
        case "trap-and-emulate", "binary-translation", "vtx-shadow", "vtx-ept", "svm-npt", "xen-paravirt", "pvm":
            "xen-inplace"
        case "l4-paravirt": "l4-inplace"
        default: nil
        }
    }

    /// Whether an event comes from an instruction of the kernel that could be another one.
    package static func isPatchable(_ place: EventSite) -> Bool {
        guard place.ring != 3 else { return false }
        switch EventKind(rawValue: place.kind) {
        case nil, .exception, .undefinedInstruction, .interruptAsserted, .interruptDelivered, .tlbFill, .tlbReuse,
            .firstTouch, .dma, .codeDecoded, .modeSwitch:
            return false
        default: return true
        }
    }

    /// Nil for a strategy that has nothing to rewrite, or is not applicable, or whose sibling is not.
    package init?(_ name: String, _ model: ModelCounts, _ result: ModelResult) {
        guard let sibling = Self.sibling(of: name), let entry = result[name], entry.notApplicable == nil,
            result[sibling]?.notApplicable == nil, let own = model.strategies.first(where: { $0.name == name }),
            let other = model.strategies.first(where: { $0.name == sibling })
        else { return nil }
        strategy = name
        self.sibling = sibling
        (added, native, costs) = (entry.added, result.native, result.costs)
        let replaced = other.bySite
        let costs = costs
        candidates = own.bySite.compactMap { site, counts -> Candidate? in
            guard site != 0, Self.isPatchable(model.sites[Int(site)].place) else { return nil }
            let saving = counts - (replaced[site] ?? PrimitiveCounts())
            return Candidate(site: site, saving: saving, saved: saving.cycles(costs))
        }.sorted { ($1.saved.typical, $0.site) < ($0.saved.typical, $1.site) }
    }

    /// How many of the candidates save anything.
    package var useful: Int { candidates.firstIndex { $0.saved.typical <= 0 } ?? candidates.count }

    /// The first so many candidates rewritten.
    package func step(_ sites: Int) -> Step {
        step(candidates.prefix(min(sites, useful)).map(\.saving), sites: min(sites, useful))
    }

    /// The sites at these addresses rewritten, whether that saves anything or not.
    package func step(at addresses: Set<UInt64>, _ model: ModelCounts) -> Step {
        let chosen = candidates.filter { addresses.contains(model.sites[Int($0.site)].place.address) }
        return step(chosen.map(\.saving), sites: chosen.count)
    }

    private func step(_ savings: [PrimitiveCounts], sites: Int) -> Step {
        let saving = savings.reduce(PrimitiveCounts()) { $0 + $1 }
        let saved = saving.cycles(costs)
        let before = added.cycles(costs).typical
        return Step(
            sites: sites, saved: saved, ratio: ModelResult.Entry.ratio(of: added - saving, to: native, costs),
            share: before > 0 ? saved.typical / before : nil)
    }

    /// 1, 2, 5, 10, 20, 50 and so on, and the last.
    package static func points(upTo last: Int) -> [Int] {
        var points: [Int] = []
        var decade = 1
        while decade <= last {
            points += [decade, 2 * decade, 5 * decade].filter { $0 < last }
            decade *= 10
        }
        return last > 0 ? points + [last] : []
    }
}
