import Replayer
import Tracer
import VMM

/// What `trapline replay --strategy` says of each strategy.
enum StrategyReport {
    static func text(_ result: ModelResult) -> String {
        result.entries.map { text($0, result) }.joined(separator: "\n")
    }

    private static func text(_ entry: ModelResult.Entry, _ result: ModelResult) -> String {
        if let reason = entry.notApplicable { return "\(entry.name): \(reason)\n" }
        let (ratio, added) = (entry.ratio, entry.cyclesAdded)
        var text = """
            \(entry.name), modelled with the costs of \(result.costs.name)
            \(ModelText.ratio(ratio.typical)) of the bare machine's cycles \
            (\(ModelText.ratio(ratio.low)) to \(ModelText.ratio(ratio.high))); \
            \(ModelText.cycles(added.typical)) cycles added (\(ModelText.cycles(added.low)) to \
            \(ModelText.cycles(added.high))), \(ModelText.percent(entry.estimatedShare)) of it by estimates
            \(entry.tally.worldSwitches) world switches, \(entry.tally.hypercalls) hypercalls, \
            \(entry.tally.hiddenFaults) hidden faults, \(entry.tally.ipcs) IPCs

            """
        for reason in entry.hypothetical { text += "hypothetical: \(reason)\n" }
        for extra in entry.extras { text += "\(extra.name): \(extra.value)\n" }
        if !entry.byClass.isEmpty {
            let rows = entry.byClass.sorted { $1.cycles.typical < $0.cycles.typical }.map {
                [
                    $0.eventClass.name, ModelText.cycles($0.cycles.low), ModelText.cycles($0.cycles.typical),
                    ModelText.cycles($0.cycles.high),
                ]
            }
            text += "\n" + TextColumns([["class", "low", "typical", "high"]] + rows, right: [1, 2, 3]).text
        }
        if !entry.sites.isEmpty {
            let rows = entry.sites.map {
                [
                    hexadecimal($0.site.address), EventKind(rawValue: $0.site.kind)?.mnemonic ?? "", "\($0.site.ring)",
                    "\($0.count)", ModelText.cycles($0.added.typical),
                ]
            }
            text +=
                "\n" + TextColumns([["site", "event", "ring", "events", "cycles added"]] + rows, right: [3, 4]).text
        }
        if let wrong = entry.silentlyWrong { text += "\n" + silentlyWrong(wrong) }
        return text
    }

    private static func silentlyWrong(_ wrong: SilentlyWrong) -> String {
        let rows = SilentlyWrong.instructions.compactMap { kind -> [String]? in
            guard let count = wrong.kinds[kind] else { return nil }
            let isDecided = SilentlyWrong.decided.contains(kind)
            return [kind.mnemonic, "\(count.executed)", isDecided ? "\(count.wrong)" : "not decided"]
        }
        guard !rows.isEmpty else { return "" }
        let sites = wrong.sites.values.count { $0.wrong > 0 }
        return "Executed in the kernel without a trap, and how many of them would have gone wrong unpatched "
            + "(at \(sites) sites):\n"
            + TextColumns([["instruction", "executed", "wrong"]] + rows, right: [1, 2]).text
    }

    // MARK: JSON

    static func json(_ result: ModelResult, _ outcome: ModelSession.Result) -> JSON {
        var divergence = JSON.null
        if case .diverged(let found) = outcome.end { divergence = .string(found.sentence) }
        return .object([
            ("costs", .string(result.costs.name)),
            ("modelled", .bool(true)),
            ("width", .integer(UInt64(result.width))),
            ("native_cycles", .cycles(result.nativeCycles)),
            ("wait_cycles", .cycles(result.waitCycles)),
            ("strategies", .array(result.entries.map { json($0, result, outcome.run.frontEnd) })),
            ("verified_events", .integer(outcome.verifiedEvents)),
            ("verified_digests", .integer(outcome.verifiedDigests)),
            ("divergence", divergence),
        ])
    }

    private static func json(_ entry: ModelResult.Entry, _ result: ModelResult, _ frontEnd: FrontEnd) -> JSON {
        guard case .object(var members) = CompareText.entry(entry, in: result) else { return .null }
        func count(_ value: Int64) -> JSON { .integer(UInt64(max(value, 0))) }
        members.append(
            (
                "sites",
                .array(
                    entry.sites.map {
                        .object([
                            ("address", .string(hexadecimal($0.site.address))),
                            ("kind", .string(EventText.name($0.site.kind))),
                            ("ring", .integer(UInt64($0.site.ring))), ("count", count($0.count)),
                            ("cycles_added", .cycles($0.added)),
                        ])
                    })
            ))
        if let wrong = entry.silentlyWrong {
            members.append(("silently_wrong", silentlyWrongJSON(wrong, frontEnd)))
        }
        return .object(members)
    }

    private static func silentlyWrongJSON(_ wrong: SilentlyWrong, _ frontEnd: FrontEnd) -> JSON {
        func json(_ found: SilentlyWrong.Count, decided: Bool) -> [(String, JSON)] {
            [
                ("executed", .integer(UInt64(found.executed))),
                ("wrong", decided ? .integer(UInt64(found.wrong)) : .null),
            ]
        }
        return .object([
            (
                "by_instruction",
                .object(
                    SilentlyWrong.instructions.compactMap { kind in
                        wrong.kinds[kind].map {
                            ("\(kind)", .object(json($0, decided: SilentlyWrong.decided.contains(kind))))
                        }
                    })
            ),
            (
                "by_site",
                .array(
                    wrong.sites.sorted { $0.key < $1.key }.map { site, found in
                        let place = frontEnd.sites[Int(site)]
                        let kind = EventKind(rawValue: place.kind) ?? .none
                        return .object(
                            [("address", .string(hexadecimal(place.address))), ("kind", .string("\(kind)"))]
                                + json(found, decided: SilentlyWrong.decided.contains(kind)))
                    })
            ),
        ])
    }
}
