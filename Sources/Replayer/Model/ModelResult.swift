import Tracer
import VMM

/// What strategies cost, under one cost table. All of it is modelled: the guest ran on the bare machine.
package struct ModelResult {
    /// One strategy's part of it.
    package struct Entry {
        package let name: String
        /// Why this is hypothetical for the guest's width or the table's CPU; empty if it is not.
        package let hypothetical: [String]
        /// Why it cannot be modelled for this guest.
        package let notApplicable: String?
        /// What it charges less what that replaces, outside boot and delay loops.
        package let added: PrimitiveCounts
        package let cyclesAdded: CostRange
        /// Native cycles and added, both under the same values of the table; the sum of the two ranges is wider, since
        /// what is replaced is in both.
        package let cycles: CostRange
        /// (Native cycles + added) / native cycles, both under the same values of the table.
        package let ratio: CostRange
        /// 0 to 1.
        package let estimatedShare: Double
        package let tally: (worldSwitches: Int64, hypercalls: Int64, hiddenFaults: Int64, ipcs: Int64)
        package let byClass: [(eventClass: EventClass, cycles: CostRange)]
        /// Added in delay loops.
        package let waitAdded: CostRange
        /// Added before the kernel proper.
        package let bootAdded: CostRange
        package let extras: [(name: String, value: Int64)]
        /// Of trap-and-emulate: what would have gone wrong unpatched.
        package let silentlyWrong: SilentlyWrong?
        /// The sites where most is added, most first.
        package let sites: [SiteCost]
        package let findings: [AuditFinding]
        package let auditedChanges: Int64
    }

    /// What a strategy adds at one site.
    package struct SiteCost {
        package let site: EventSite
        /// Events there, outside delay loops.
        package let count: Int64
        package let added: CostRange
    }

    /// Sites that an entry lists.
    package static let mostSites = 10

    package let costs: CostTable
    /// 32 or 64.
    package let width: Int
    package let native: PrimitiveCounts
    package let nativeCycles: CostRange
    package let bootCycles: CostRange
    /// Of delay loops.
    package let delayCycles: CostRange
    package let idleNanoseconds: UInt64
    package let entries: [Entry]

    /// Cycles of the table's clock while the guest had halted the processor.
    package var idleCycles: Double { Double(idleNanoseconds) * costs.clock / 1000 }
    /// Delay loops and idle time.
    package var waitCycles: CostRange {
        CostRange(delayCycles.low + idleCycles, delayCycles.typical + idleCycles, delayCycles.high + idleCycles)
    }

    /// Prices a finished run. With `includesWaits` delay loops count as work.
    package init(_ run: StrategyRun, _ costs: CostTable, idleNanoseconds: UInt64, includesWaits: Bool) {
        self.init(ModelCounts(run, idleNanoseconds: idleNanoseconds), costs, includesWaits: includesWaits)
    }

    package init(_ counts: ModelCounts, _ costs: CostTable, includesWaits: Bool) {
        self.costs = costs
        width = counts.width
        let waits = counts.native[Ledger.Part.wait.rawValue]
        let kernel = counts.native[Ledger.Part.kernel.rawValue]
        native = includesWaits ? kernel + waits : kernel
        nativeCycles = native.cycles(costs)
        bootCycles = counts.native[Ledger.Part.boot.rawValue].cycles(costs)
        delayCycles = waits.cycles(costs)
        idleNanoseconds = counts.idleNanoseconds
        let native = native
        entries = counts.strategies.map { strategy in
            Entry(strategy, counts, costs: costs, native: native, includesWaits: includesWaits)
        }
    }

    package subscript(name: String) -> Entry? { entries.first { $0.name == name } }

    /// Whether one strategy costs less than another whatever values within the table's ranges are the true ones.
    package func isBelow(_ left: Entry, _ right: Entry) -> Bool { (left.added - right.added).cycles(costs).high < 0 }

    /// The applicable strategies that cannot be told from `entry`.
    package func indistinguishable(from entry: Entry) -> [Entry] {
        entries.filter { other in
            other.name != entry.name && other.notApplicable == nil && entry.notApplicable == nil
                && !isBelow(entry, other) && !isBelow(other, entry)
        }
    }
}

extension ModelResult.Entry {
    fileprivate init(
        _ strategy: ModelCounts.OfStrategy, _ all: ModelCounts, costs: CostTable, native: PrimitiveCounts,
        includesWaits: Bool
    ) {
        name = strategy.name
        let type = StrategyCatalog.named(name)
        hypothetical = [type?.hypothetical(width: all.width), costs.hypothetical[name]].compactMap { $0 }
        notApplicable =
            type?.isApplicable(width: all.width) ?? true ? nil : "not applicable to \(all.width)-bit kernels"
        let parts: [Ledger.Part] = includesWaits ? [.kernel, .wait] : [.kernel]
        func sum(_ includes: (Path) -> Bool) -> PrimitiveCounts {
            parts.reduce(PrimitiveCounts()) { $0 + strategy.primitives(in: $1, where: includes) }
        }
        added = sum { _ in true }
        cyclesAdded = added.cycles(costs)
        cycles = (native + added).cycles(costs)
        ratio = Self.ratio(of: added, to: native, costs)
        estimatedShare = added.estimatedShare(costs)
        tally = strategy.tally(in: .kernel)
        byClass = EventClass.allCases.compactMap { eventClass in
            let counts = sum { $0.eventClass == eventClass }
            return counts.counts.contains { $0 != 0 } ? (eventClass, counts.cycles(costs)) : nil
        }
        waitAdded = strategy.primitives(in: .wait).cycles(costs)
        bootAdded = strategy.primitives(in: .boot).cycles(costs)
        extras = strategy.extras
        silentlyWrong = strategy.silentlyWrong
        sites = Self.sites(of: strategy, all, costs)
        findings = strategy.findings
        auditedChanges = strategy.auditedChanges
    }

    private static func sites(
        of strategy: ModelCounts.OfStrategy, _ all: ModelCounts, _ costs: CostTable
    ) -> [ModelResult.SiteCost] {
        let priced = strategy.bySite.filter { $0.key != 0 }.map { (site: $0.key, cycles: $0.value.cycles(costs)) }
        // The site's number breaks ties, so that the order does not depend on hashes.
        let first = priced.sorted { ($1.cycles.typical, $0.site) < ($0.cycles.typical, $1.site) }
        return first.prefix(ModelResult.mostSites).map {
            let site = all.sites[Int($0.site)]
            return ModelResult.SiteCost(site: site.place, count: site.events, added: $0.cycles)
        }
    }

    /// The extremes of (native + added) / native over all values within the table's ranges. For a trial ratio r the
    /// sign of native + added − r · native is decided primitive by primitive, so a few steps find each extreme
    /// (Dinkelbach, 1967).
    package static func ratio(of added: PrimitiveCounts, to native: PrimitiveCounts, _ costs: CostTable) -> CostRange {
        func extreme(_ seeksHighest: Bool) -> Double {
            var ratio = 0.0
            for _ in 0..<20 {
                var (extra, base) = (0.0, 0.0)
                for primitive in Primitive.allCases {
                    let (more, own) = (Double(added[primitive]), Double(native[primitive]))
                    guard more != 0 || own != 0 else { continue }
                    let range = costs.cycles(primitive)
                    let isHigh = (more - ratio * own > 0) == seeksHighest
                    extra += more * (isHigh ? range.high : range.low)
                    base += own * (isHigh ? range.high : range.low)
                }
                guard base > 0 else { return 0 }
                let next = extra / base
                if abs(next - ratio) < 1e-12 { return next }
                ratio = next
            }
            return ratio
        }
        let base = native.cycles(costs).typical
        guard base > 0 else { return CostRange(1, 1, 1) }
        let typical = added.cycles(costs).typical / base
        return CostRange(1 + extreme(false), 1 + typical, 1 + extreme(true))
    }
}
