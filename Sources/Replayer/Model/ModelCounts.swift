/// What strategies did with one run of a guest, as plain counts: any cost table can price them, and a store can keep
/// them.
package struct ModelCounts {
    /// A place in the guest's code.
    package struct Site: Equatable {
        package var place: EventSite
        /// Events there outside delay loops.
        package var events: Int64
        /// The first one's position.
        package var first: UInt64

        package init(place: EventSite, events: Int64, first: UInt64) {
            self.place = place
            self.events = events
            self.first = first
        }
    }

    /// How often a path was taken somewhere, after the boot and outside delay loops.
    package struct Charge: Equatable {
        /// 0 for what has no place in the guest's code.
        package var site: UInt32
        /// Nil if the run was not divided by processes, and for what belongs to none.
        package var process: Int?
        package var path: Int
        package var times: Int64

        package init(site: UInt32, process: Int?, path: Int, times: Int64) {
            self.site = site
            self.process = process
            self.path = path
            self.times = times
        }
    }

    /// How often a path was taken in one part of the time, after the boot and outside delay loops.
    package struct TimedCharge: Equatable {
        package var part: Int
        package var path: Int
        package var times: Int64

        package init(part: Int, path: Int, times: Int64) {
            self.part = part
            self.path = path
            self.times = times
        }
    }

    /// One strategy's.
    package struct OfStrategy {
        package var name: String
        package var paths: [Path]
        /// By part of the run and path.
        package var times: [[Int64]]
        package var charges: [Charge]
        package var timed: [TimedCharge]
        package var extras: [(name: String, value: Int64)] = []
        package var silentlyWrong: SilentlyWrong?
        package var findings: [AuditFinding] = []
        package var auditedChanges: Int64 = 0

        package init(name: String, paths: [Path], times: [[Int64]], charges: [Charge], timed: [TimedCharge]) {
            self.name = name
            self.paths = paths
            self.times = times
            self.charges = charges
            self.timed = timed
        }
    }

    /// 32 or 64.
    package var width: Int
    /// What the bare machine pays, by part of the run.
    package var native: [PrimitiveCounts]
    package var idleNanoseconds: UInt64
    /// The first is no place.
    package var sites: [Site]
    package var strategies: [OfStrategy]

    package init(
        width: Int, native: [PrimitiveCounts], idleNanoseconds: UInt64, sites: [Site], strategies: [OfStrategy]
    ) {
        self.width = width
        self.native = native
        self.idleNanoseconds = idleNanoseconds
        self.sites = sites
        self.strategies = strategies
    }

    /// Of a finished run.
    package init(_ run: StrategyRun, idleNanoseconds: UInt64) {
        let frontEnd = run.frontEnd
        width = frontEnd.context.isLong ? 64 : 32
        native = frontEnd.native
        self.idleNanoseconds = idleNanoseconds
        sites = frontEnd.sites.indices.map {
            Site(place: frontEnd.sites[$0], events: frontEnd.siteCounts[$0], first: frontEnd.siteFirsts[$0])
        }
        strategies = run.strategies.map { OfStrategy($0) }
    }
}

extension ModelCounts.OfStrategy {
    fileprivate init(_ strategy: Strategy) {
        let ledger = strategy.ledger
        name = type(of: strategy).name
        paths = ledger.paths
        times = Ledger.Part.allCases.map { part in ledger.paths.indices.map { ledger.times($0, in: part) } }
        charges = []
        timed = []
        ledger.forEachSite(in: .kernel) { division, site, path, times in
            charges.append(
                ModelCounts.Charge(
                    site: site, process: division == 0 ? nil : Int(division) - 1, path: path, times: times))
        }
        // In an order that does not depend on how the ledger keeps them.
        charges.sort { ($0.site, $0.process ?? -1, $0.path) < ($1.site, $1.process ?? -1, $1.path) }
        let kernel = Ledger.Part.kernel.rawValue
        var before = [Int64](repeating: 0, count: paths.count)
        if !ledger.snapshots.isEmpty {
            for (part, snapshot) in (ledger.snapshots.map { $0[kernel] } + [times[kernel]]).enumerated() {
                for path in paths.indices where snapshot[path] != before[path] {
                    timed.append(ModelCounts.TimedCharge(part: part, path: path, times: snapshot[path] - before[path]))
                }
                before = snapshot
            }
        }
        extras = strategy.extras
        silentlyWrong = (strategy as? TrapAndEmulate)?.silentlyWrong
        findings = strategy.findings
        auditedChanges = strategy.auditedChanges
    }

    /// The multiples of each primitive in one part, of the paths that `includes` allows.
    package func primitives(in part: Ledger.Part, where includes: (Path) -> Bool = { _ in true }) -> PrimitiveCounts {
        var counts = PrimitiveCounts()
        for (number, path) in paths.enumerated() where includes(path) {
            counts.add(path.charges, times: times[part.rawValue][number])
        }
        return counts
    }

    package func tally(
        in part: Ledger.Part
    ) -> (worldSwitches: Int64, hypercalls: Int64, hiddenFaults: Int64, ipcs: Int64) {
        var sum: (worldSwitches: Int64, hypercalls: Int64, hiddenFaults: Int64, ipcs: Int64) = (0, 0, 0, 0)
        for (number, path) in paths.enumerated() {
            let count = times[part.rawValue][number]
            sum.worldSwitches += count * Int64(path.tally.worldSwitches)
            sum.hypercalls += count * Int64(path.tally.hypercalls)
            sum.hiddenFaults += count * Int64(path.tally.hiddenFaults)
            sum.ipcs += count * Int64(path.tally.ipcs)
        }
        return sum
    }

    /// What is charged at each site.
    package var bySite: [UInt32: PrimitiveCounts] {
        var counts: [UInt32: PrimitiveCounts] = [:]
        for charge in charges {
            counts[charge.site, default: PrimitiveCounts()].add(paths[charge.path].charges, times: charge.times)
        }
        return counts
    }
}
