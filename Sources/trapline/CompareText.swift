import Replayer
import Tracer
import VMM

/// The table of `trapline compare`.
struct CompareText {
    let result: ModelResult
    let manifest: TraceManifest
    let path: String
    let includesWaits: Bool
    let audits: Bool
    let showsOrderings: Bool
    let hasBars: Bool

    private static let barWidth = 24

    var text: String {
        var text = heading + "\n"
        var rows = [
            [
                "strategy", "low", "typical", "high", "added", "switches", "hypercalls", "hidden faults", "IPCs",
                "estimated",
            ] + (hasBars ? [bar(nil)] : [])
        ]
        rows += result.entries.map(row)
        text += TextColumns(rows, right: Set(1...9)).text + "\n"
        text += waits + distinctions + remarks
        if showsOrderings { text += orderings }
        if audits {
            for entry in result.entries where entry.auditedChanges > 0 {
                text += "audit of \(entry.name): \(entry.auditedChanges) checks, \(entry.findings.count) findings\n"
            }
        }
        return text
    }

    private var heading: String {
        let machine = "\(manifest.cpu), chipset \(manifest.chipset)"
        return """
            \(path), recorded on \(machine); \(result.width)-bit kernel
            Modelled, not measured, with the costs of \(result.costs.name): \(result.costs.title)
            Ratios are to the bare machine, \(ModelText.cycles(result.nativeCycles.typical)) cycles \
            (\(ModelText.cycles(result.nativeCycles.low)) to \(ModelText.cycles(result.nativeCycles.high)))\
            \(includesWaits ? ", delay loops included" : "")

            """
    }

    private func row(_ entry: ModelResult.Entry) -> [String] {
        let name = entry.name + (entry.hypothetical.isEmpty ? "" : " †")
        if entry.notApplicable != nil {
            return [entry.name, "", "not applicable", "", "", "", "", "", "", ""]
        }
        let isNative = entry.name == "native"
        return [
            name, ModelText.ratio(entry.ratio.low), ModelText.ratio(entry.ratio.typical),
            ModelText.ratio(entry.ratio.high), isNative ? "0" : ModelText.cycles(entry.cyclesAdded.typical),
            "\(entry.tally.worldSwitches)", "\(entry.tally.hypercalls)", "\(entry.tally.hiddenFaults)",
            "\(entry.tally.ipcs)", isNative ? "" : ModelText.percent(entry.estimatedShare),
        ] + (hasBars ? [bar(entry)] : [])
    }

    // MARK: Bars

    /// A bar from low to high with a mark at the typical value, on a scale from 1 to the highest; the scale itself
    /// without an entry.
    private func bar(_ entry: ModelResult.Entry?) -> String {
        let lowest = min(result.entries.map(\.ratio.low).min() ?? 1, 1)
        let highest = max(result.entries.map(\.ratio.high).max() ?? 1, lowest + 0.01)
        guard let entry else {
            let (left, right) = (ModelText.ratio(lowest), ModelText.ratio(highest))
            let gap = max(Self.barWidth - left.count - right.count, 1)
            return left + String(repeating: " ", count: gap) + right
        }
        func place(_ ratio: Double) -> Int {
            let share = (log2(ratio) - log2(lowest)) / max(log2(highest) - log2(lowest), 1e-9)
            return min(max(Int(share * Double(Self.barWidth - 1)), 0), Self.barWidth - 1)
        }
        var cells = [Character](repeating: " ", count: Self.barWidth)
        for index in place(entry.ratio.low)...max(place(entry.ratio.high), place(entry.ratio.low)) {
            cells[index] = "─"
        }
        cells[place(entry.ratio.typical)] = "●"
        return String(cells)
    }

    /// Of a positive number; the scale is logarithmic since the ratios reach from 1 to hundreds.
    private func log2(_ value: Double) -> Double {
        let positive = max(value, 1e-6)
        let exponent = Double(positive.exponent)
        var (fraction, result, bit) = (positive.significand, exponent, 0.5)
        for _ in 0..<20 {
            fraction *= fraction
            if fraction >= 2 {
                fraction /= 2
                result += bit
            }
            bit /= 2
        }
        return result
    }

    // MARK: Below the table

    private var waits: String {
        let delay = ModelText.cycles(result.delayCycles.typical)
        let idle = ModelText.cycles(result.idleCycles)
        let boot = ModelText.cycles(result.bootCycles.typical)
        return "wait: \(delay) cycles in delay loops, \(idle) idle"
            + (includesWaits ? "; the delay loops are part of the ratios\n" : "; not part of the ratios\n")
            + "boot: \(boot) cycles before the kernel proper, not part of them either\n"
    }

    /// Which strategies the ranges cannot tell apart.
    private var distinctions: String {
        var text = ""
        var said: Set<String> = []
        for entry in result.entries where entry.notApplicable == nil {
            let others = result.indistinguishable(from: entry).filter { !said.contains($0.name) }
            said.insert(entry.name)
            guard !others.isEmpty else { continue }
            text += "not distinguishable: \(entry.name) and \(others.map(\.name).joined(separator: ", "))\n"
        }
        return text
    }

    private var remarks: String {
        var text = ""
        for entry in result.entries {
            guard entry.notApplicable == nil, !entry.hypothetical.isEmpty else { continue }
            text += "† \(entry.name): hypothetical; \(entry.hypothetical.joined(separator: "; "))\n"
        }
        return text
    }

    /// What the literature says, and whether the model agrees.
    private var orderings: String {
        Orderings.findings(result).reduce("") { text, finding in
            text + "\(Self.words(finding.verdict)): \(finding.statement); \(finding.source)\n"
        }
    }

    private static func words(_ verdict: Orderings.Verdict) -> String {
        switch verdict {
        case .holds: "holds"
        case .notDistinguishable: "not distinguishable"
        case .disagrees(let charge): "the model disagrees, because of \(charge)"
        }
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
            ("delay_cycles", .cycles(result.delayCycles)),
            ("idle_ns", .integer(result.idleNanoseconds)),
            ("boot_cycles", .cycles(result.bootCycles)),
            ("strategies", .array(result.entries.map { entry($0, in: result) })),
            (
                "orderings",
                .array(
                    Orderings.findings(result).map {
                        .object([
                            ("statement", .string($0.statement)), ("source", .string($0.source)),
                            ("verdict", .string(words($0.verdict))),
                        ])
                    })
            ),
            ("verified_events", .integer(outcome.verifiedEvents)),
            ("verified_digests", .integer(outcome.verifiedDigests)),
            ("divergence", divergence),
        ])
    }

    static func entry(_ entry: ModelResult.Entry, in result: ModelResult) -> JSON {
        func count(_ value: Int64) -> JSON { .integer(UInt64(max(value, 0))) }
        return .object([
            ("name", .string(entry.name)),
            ("applicable", .bool(entry.notApplicable == nil)),
            ("hypothetical", .bool(!entry.hypothetical.isEmpty)),
            ("cycles_added", .cycles(entry.cyclesAdded)),
            ("cycles", .cycles(entry.cycles)),
            ("ratio_to_native", .ratio(entry.ratio)),
            ("estimated_share", .number(entry.estimatedShare)),
            ("world_switches", count(entry.tally.worldSwitches)),
            ("hypercalls", count(entry.tally.hypercalls)),
            ("hidden_faults", count(entry.tally.hiddenFaults)),
            ("ipcs", count(entry.tally.ipcs)),
            ("by_class", .object(entry.byClass.map { ($0.eventClass.name, .cycles($0.cycles)) })),
            ("wait_cycles_added", .cycles(entry.waitAdded)),
            ("boot_cycles_added", .cycles(entry.bootAdded)),
            ("details", .object(entry.extras.map { ($0.name.replacing(" ", with: "_"), count($0.value)) })),
            ("not_distinguishable_from", .array(result.indistinguishable(from: entry).map { .string($0.name) })),
            ("audited_changes", count(entry.auditedChanges)),
            ("findings", .array(entry.findings.map { .string($0.what) })),
        ])
    }
}
