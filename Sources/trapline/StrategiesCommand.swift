import ArgumentParser
import Replayer
import VMM

/// `trapline strategies`: what each strategy does with each event, out of the code itself.
struct StrategiesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "strategies",
        abstract: "Show the virtualization strategies, and what each does with each event.",
        discussion: """
            With a name: every path that the strategy can take, with its mechanism, the primitives that it charges \
            (what the bare machine would have paid is subtracted), and its price by a cost table.

            Example: trapline strategies xen-inplace --costs pentium4
            """)

    @Argument(help: ArgumentHelp("The strategy.", valueName: "name"))
    var name: String?
    @OptionGroup(title: "The model") var model: ModelOptions
    @Flag(help: "Write JSON.")
    var json = false

    func run() throws {
        let text: String
        if let name {
            let type = try ModelOptions.strategies([name])[0]
            let costs = try CostTables.table(model.costs)
            let strategy = StrategyCatalog.describe(type, devices: try model.policy(), options: model.options)
            text = json ? Self.json(strategy, costs).document : Self.text(strategy, costs)
        } else {
            text = json ? Self.listJSON.document : Self.list
        }
        FileDescriptor.standardOutput.writeAll(Array(text.utf8))
    }

    // MARK: All of them

    private static func widths(_ type: Strategy.Type) -> String {
        [32, 64].map { width in
            guard type.isApplicable(width: width) else { return "\(width): –" }
            return type.hypothetical(width: width) == nil ? "\(width)" : "\(width) †"
        }.joined(separator: ", ")
    }

    private static var list: String {
        var rows = [["name", "widths", "devices", "what"]]
        rows += StrategyCatalog.all.map {
            [$0.name, widths($0), $0.usualDevices.rawValue, $0.summary]
        }
        return TextColumns(rows, right: []).text + "† hypothetical; 'trapline strategies NAME' says why\n"
    }

    private static var listJSON: JSON {
        .object([
            (
                "strategies",
                .array(
                    StrategyCatalog.all.map { type in
                        .object([
                            ("name", .string(type.name)), ("summary", .string(type.summary)),
                            ("devices", .string(type.usualDevices.rawValue)),
                            (
                                "widths",
                                .array([32, 64].filter { type.isApplicable(width: $0) }.map { .integer(UInt64($0)) })
                            ),
                            (
                                "hypothetical_widths",
                                .array(
                                    [32, 64].filter {
                                        type.isApplicable(width: $0) && type.hypothetical(width: $0) != nil
                                    }.map { .integer(UInt64($0)) })
                            ),
                        ])
                    })
            )
        ])
    }

    // MARK: One of them

    private static func text(_ strategy: Strategy, _ costs: CostTable) -> String {
        let type = Swift.type(of: strategy)
        var text = "\(type.name): \(type.summary)\n"
        for width in [32, 64] {
            if !type.isApplicable(width: width) {
                text += "\(width)-bit kernels: not applicable\n"
            } else if let reason = type.hypothetical(width: width) {
                text += "\(width)-bit kernels: hypothetical, \(reason)\n"
            }
        }
        if let reason = costs.hypothetical[type.name] { text += "on \(costs.name): hypothetical, \(reason)\n" }
        text += "devices: \(type.usualDevices.rawValue), unless --devices says otherwise\n\n"
        for note in type.notes { text += "- \(note)\n" }
        if !type.notes.isEmpty { text += "\n" }
        guard !strategy.ledger.paths.isEmpty else { return text + "Nothing is charged.\n" }
        var rows = [["event", "mechanism", "charges", "low", "typical", "high"]]
        for path in strategy.ledger.paths {
            let price = price(path, costs)
            rows.append([
                path.event, path.mechanism, charges(path), ModelText.fixed(price.low, 0),
                ModelText.fixed(price.typical, 0), ModelText.fixed(price.high, 0),
            ])
        }
        return text + TextColumns(rows, right: [3, 4, 5]).text
            + "Cycles of \(costs.name), less what the bare machine pays. "
            + "'trapline costs \(costs.name)' has the sources.\n"
    }

    private static func price(_ path: Path, _ costs: CostTable) -> CostRange {
        var counts = PrimitiveCounts()
        counts.add(path.charges, times: 1)
        return counts.cycles(costs)
    }

    private static func charges(_ path: Path) -> String {
        guard !path.charges.items.isEmpty else { return "nothing" }
        var text = ""
        for item in path.charges.items {
            let sign = item.count < 0 ? (text.isEmpty ? "−" : " − ") : text.isEmpty ? "" : " + "
            let times = abs(item.count) == 1 ? "" : "\(abs(item.count)) "
            text += sign + times + item.primitive.name
        }
        return text
    }

    private static func json(_ strategy: Strategy, _ costs: CostTable) -> JSON {
        let type = Swift.type(of: strategy)
        return .object([
            ("name", .string(type.name)), ("summary", .string(type.summary)),
            ("notes", .array(type.notes.map { .string($0) })), ("costs", .string(costs.name)),
            (
                "paths",
                .array(
                    strategy.ledger.paths.map { path in
                        .object([
                            ("event", .string(path.event)), ("class", .string(path.eventClass.name)),
                            ("mechanism", .string(path.mechanism)),
                            (
                                "charges",
                                .object(path.charges.items.map { ($0.primitive.name, .number(Double($0.count))) })
                            ),
                            ("cycles", .cycles(price(path, costs))),
                        ])
                    })
            ),
        ])
    }
}
