import Analyzer
import ArgumentParser
import Replayer
import Tracer
import VMM

/// `patch-top=N` or `patch=ADDRESS,…`.
enum WhatIf {
    case top(Int)
    case addresses([UInt64])

    init(_ argument: String) throws {
        let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
        switch (parts.first, parts.count) {
        case ("patch-top", 2):
            guard let count = Int(parts[1]), count > 0 else {
                throw ValidationError("--what-if \(argument): expected a number of sites, 1 or more")
            }
            self = .top(count)
        case ("patch", 2):
            self = .addresses(try parts[1].split(separator: ",").map { try AddressArgument(String($0)).address })
        default: throw ValidationError("--what-if \(argument): expected patch-top=N or patch=ADDRESS,…")
        }
    }
}

/// What rewriting sites in place would save, as people and programs read it. All of it is modelled.
struct WhatIfReport {
    private let costs: CostAnalysis
    private let change: WhatIf
    private let curves: [PatchCurve]
    private let places: [Int64: String]

    init(_ costs: CostAnalysis, _ change: WhatIf, strategy: String?) throws {
        self.costs = costs
        self.change = change
        let names = strategy.map { [$0] } ?? StrategyCatalog.all.map { $0.name }
        curves = names.compactMap { PatchCurve($0, costs.model.counts, costs.result) }
        if curves.isEmpty {
            throw CommandError.badCombination("\(strategy ?? "no strategy"): there is nothing to rewrite in place")
        }
        places = try costs.store.siteNames()
        if case .addresses(let addresses) = change { try check(addresses) }
    }

    /// Whether there is an event at each of them.
    private func check(_ addresses: [UInt64]) throws {
        let known = Set(curves.flatMap { $0.candidates.map { costs.model.counts.sites[Int($0.site)].place.address } })
        for address in addresses where !known.contains(address) {
            throw CommandError.badCombination(
                "at \(hexadecimal(address)) there is no instruction that is charged and could be rewritten")
        }
    }

    func write(json: Bool) throws {
        let output = try BufferedOutput()
        try output.write(json ? document.document : text)
        try output.finish()
    }

    private func steps(_ curve: PatchCurve) -> [PatchCurve.Step] {
        switch change {
        case .top(let count): PatchCurve.points(upTo: min(count, curve.useful)).map { curve.step($0) }
        case .addresses(let addresses): [curve.step(at: Set(addresses), costs.model.counts)]
        }
    }

    // MARK: Text

    private var text: String {
        var text = """
            What rewriting sites in place would save, modelled with the costs of \(costs.result.costs.name). A rewritten \
            site costs what the in-place system in brackets charges there; ratios are to the bare machine


            """
        for curve in curves {
            guard let entry = costs.result[curve.strategy] else { continue }
            let mark = entry.hypothetical.isEmpty ? "" : " †"
            text += "\(curve.strategy)\(mark) (\(curve.sibling)): \(ModelText.ratio(entry.ratio.typical)) now; "
            text += "\(curve.useful) sites where it saves anything\n"
            var rows = [["sites", "cycles saved", "of its cost", "low", "ratio", "high", "the last site"]]
            for step in steps(curve) {
                rows.append([
                    "\(step.sites)", ModelText.cycles(step.saved.typical), step.share.map { ModelText.percent($0) } ?? "",
                    ModelText.ratio(step.ratio.low), ModelText.ratio(step.ratio.typical),
                    ModelText.ratio(step.ratio.high), lastSite(curve, step),
                ])
            }
            text += TextColumns(rows, right: [0, 1, 2, 3, 4, 5]).text + "\n"
        }
        if curves.contains(where: { !(costs.result[$0.strategy]?.hypothetical.isEmpty ?? true) }) {
            text += "† hypothetical; 'trapline strategies NAME' says why\n"
        }
        return text
    }

    private func lastSite(_ curve: PatchCurve, _ step: PatchCurve.Step) -> String {
        guard case .top = change, step.sites > 0 else { return "" }
        return name(curve.candidates[step.sites - 1])
    }

    private func name(_ candidate: PatchCurve.Candidate) -> String {
        let place = costs.model.counts.sites[Int(candidate.site)].place
        let kind = EventKind(rawValue: place.kind)?.mnemonic ?? ""
        let symbol = places[costs.model.siteNumbers[Int(candidate.site)]]
        return "\(kind) at \(symbol ?? hexadecimal(place.address))"
    }

    // MARK: JSON

    private var document: JSON {
        .object([
            ("costs", .string(costs.result.costs.name)), ("modelled", .bool(true)),
            ("strategies", .array(curves.map { json($0) })),
        ])
    }

    private func json(_ curve: PatchCurve) -> JSON {
        let entry = costs.result[curve.strategy]
        let chosen: [PatchCurve.Candidate] =
            switch change {
            case .top(let count): Array(curve.candidates.prefix(min(count, curve.useful)))
            case .addresses(let addresses):
                curve.candidates.filter {
                    addresses.contains(costs.model.counts.sites[Int($0.site)].place.address)
                }
            }
        return .object([
            ("name", .string(curve.strategy)), ("in_place", .string(curve.sibling)),
            ("hypothetical", .bool(!(entry?.hypothetical.isEmpty ?? true))),
            ("ratio_to_native", entry.map { .ratio($0.ratio) } ?? .null),
            ("useful_sites", .integer(UInt64(curve.useful))),
            (
                "curve",
                .array(
                    steps(curve).map {
                        .object([
                            ("sites", .integer(UInt64($0.sites))), ("cycles_saved", .cycles($0.saved)),
                            ("share", $0.share.map { JSON.number($0) } ?? .null),
                            ("ratio_to_native", .ratio($0.ratio)),
                        ])
                    })
            ),
            (
                "sites",
                .array(chosen.map { site($0) })
            ),
        ])
    }
    private func site(_ candidate: PatchCurve.Candidate) -> JSON {
        let site = costs.model.counts.sites[Int(candidate.site)]
        let symbol = places[costs.model.siteNumbers[Int(candidate.site)]]
        let events = UInt64(max(site.events, 0))
        return .object([
            ("address", .string(hexadecimal(site.place.address))),
            ("symbol", symbol.map { JSON.string($0) } ?? .null),
            ("kind", .string(EventText.name(site.place.kind))), ("ring", .integer(UInt64(site.place.ring))),
            ("events", .integer(events)), ("cycles_saved", .cycles(candidate.saved)),
        ])
    }
}
