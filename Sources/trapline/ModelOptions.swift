import ArgumentParser
import Replayer
import Tracer
import VMM

/// What `compare` and `replay --strategy` are told about the model.
struct ModelOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The cost table: \(CostTables.help).", valueName: "name|file"))
    var costs = "skylake"
    @Option(
        help: ArgumentHelp(
            "How devices are reached: direct, emulated, inplace or virtual, or GROUP=WAY for one of "
                + "\(DeviceGroup.allCases.map(\.rawValue).joined(separator: ", ")); may be given again.",
            valueName: "way"))
    var devices: [String] = []
    @Flag(help: "Count delay loops as work.")
    var includeWaits = false
    @Flag(help: "Give nops and the in-place systems what the 2005 tool did not cover.")
    var extended = false
    @Flag(help: "Let RDTSC trap under trap-and-emulate.")
    var trapTimestamp = false
    @Flag(help: "Compare the models' state with the guest's after every change.")
    var audit = false
    @Option(help: ArgumentHelp("Give the models a defect, to see the audits find it.", visibility: .hidden))
    var mutation: String?

    var options: StrategyOptions {
        var options = StrategyOptions()
        options.coversExtended = extended
        options.trapsTimestamp = trapTimestamp
        options.audits = audit
        return options
    }

    /// What of the options a run of the strategies depends on.
    func key(part: Range<UInt64>?) throws(CommandError) -> String {
        _ = try policy()
        let flags = ["extended": extended, "trap-timestamp": trapTimestamp].filter(\.value).keys
        let bounds = part.map { ["part=\($0.lowerBound)-\($0.upperBound)"] } ?? []
        return (bounds + flags + devices.map { "devices=\($0)" } + (mutation.map { ["mutation=\($0)"] } ?? [])).sorted()
            .joined(separator: " ")
    }

    func policy() throws(CommandError) -> DevicePolicy {
        var policy = DevicePolicy()
        for text in devices {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard let name = parts.last, let way = DeviceWay(rawValue: name) else {
                throw .badCombination(
                    "--devices \(text): expected \(DeviceWay.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            guard parts.count == 2 else {
                policy.general = way
                continue
            }
            guard let group = DeviceGroup(rawValue: parts[0]) else {
                throw .badCombination(
                    "--devices \(text): there is no group \"\(parts[0])\"; expected "
                        + DeviceGroup.allCases.map(\.rawValue).joined(separator: ", "))
            }
            policy.groups[group] = way
        }
        return policy
    }

    func defect() throws(CommandError) -> Mutation? {
        guard let mutation else { return nil }
        guard let found = Mutation(rawValue: mutation) else {
            let names = Mutation.allCases.map(\.rawValue).joined(separator: ", ")
            throw .badCombination("there is no mutation \"\(mutation)\"; expected \(names)")
        }
        return found
    }

    /// The strategies of these names, all if there are none.
    static func strategies(_ names: [String]) throws(CommandError) -> [Strategy.Type] {
        guard !names.isEmpty else { return StrategyCatalog.all }
        var found: [Strategy.Type] = []
        for name in names {
            guard let type = StrategyCatalog.named(name) else {
                throw .badCombination(
                    "there is no strategy \"\(name)\"; expected "
                        + StrategyCatalog.all.map { $0.name }.joined(separator: ", "))
            }
            if !found.contains(where: { $0.name == name }) { found.append(type) }
        }
        return found
    }
}

extension JSON {
    /// A range of cycles, rounded to whole ones.
    static func cycles(_ range: CostRange) -> JSON {
        .object([
            ("low", .number(range.low.rounded())), ("typical", .number(range.typical.rounded())),
            ("high", .number(range.high.rounded())),
        ])
    }

    static func ratio(_ range: CostRange) -> JSON {
        func digits(_ value: Double) -> JSON { .number(ModelText.rounded(ratio: value)) }
        return .object([
            ("low", digits(range.low)), ("typical", digits(range.typical)), ("high", digits(range.high)),
        ])
    }
}

/// Numbers of models, with no more digits than they deserve.
enum ModelText {
    /// A ratio, with two significant digits of what it exceeds 1 by.
    static func rounded(ratio: Double) -> Double {
        let excess = ratio - 1
        guard excess != 0, excess.isFinite else { return ratio }
        let scale = pow10(1 - exponent(excess))
        return 1 + (excess * scale).rounded() / scale
    }

    static func ratio(_ ratio: Double) -> String {
        let excess = ratio - 1
        guard excess != 0, excess.isFinite else { return "1" }
        return fixed(rounded(ratio: ratio), max(1 - exponent(excess), 0))
    }

    /// Cycles with two significant digits and a unit: 1.2 G.
    static func cycles(_ cycles: Double) -> String {
        let size = abs(cycles)
        for (unit, factor) in [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)] where size >= factor * 0.9995 {
            let value = cycles / factor
            return "\(fixed(value, abs(value) < 9.95 ? 1 : 0)) \(unit)"
        }
        return fixed(cycles, 0)
    }

    private static func exponent(_ value: Double) -> Int {
        var (size, exponent) = (abs(value), 0)
        while size >= 9.95 {
            size /= 10
            exponent += 1
        }
        while size < 0.995 && exponent > -12 {
            size *= 10
            exponent -= 1
        }
        return exponent
    }

    private static func pow10(_ exponent: Int) -> Double {
        var (result, left) = (1.0, abs(exponent))
        while left > 0 {
            result *= 10
            left -= 1
        }
        return exponent < 0 ? 1 / result : result
    }

    /// `value` with so many decimals.
    static func fixed(_ value: Double, _ decimals: Int) -> String {
        let scale = pow10(decimals)
        let scaled = (abs(value) * scale).rounded()
        let whole = (scaled / scale).rounded(.down)
        var text = (value < 0 && scaled != 0 ? "-" : "") + "\(UInt64(min(whole, 1e18)))"
        if decimals > 0 {
            let fraction = String(UInt64(max(scaled - whole * scale, 0)))
            text += "." + String(repeating: "0", count: max(decimals - fraction.count, 0)) + fraction
        }
        return text
    }

    static func percent(_ share: Double) -> String { "\(Int((share * 100).rounded()))%" }
}
