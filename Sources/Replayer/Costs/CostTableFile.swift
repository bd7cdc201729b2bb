/// Why a text is not a cost table: one sentence that says what, where, and what was expected.
package enum CostTableError: Error, Equatable, CustomStringConvertible {
    case tooLarge(limit: Int)
    case notJSON(JSONSyntaxError)
    /// A member, or the row of a primitive, that must be there.
    case missing(line: Int, what: String, expected: String)
    /// A member, a primitive or a word that means nothing here.
    case unknown(line: Int, what: String, name: String, expected: String)
    case duplicate(line: Int, what: String, first: Int)
    /// A value of the wrong type or outside what makes sense.
    case badValue(line: Int, what: String, expected: String, found: String)

    package var description: String {
        switch self {
        case .tooLarge(let limit): "the file is longer than the \(limit) bytes that a cost table may have"
        case .notJSON(let error): "not JSON: line \(error.line): expected \(error.expected), found \(error.found)"
        case .missing(let line, let what, let expected): "line \(line): \(what) is missing; expected \(expected)"
        case .unknown(let line, let what, let name, let expected):
            "line \(line): there is no \(what) \(JSONText.quote(name)); expected \(expected)"
        case .duplicate(let line, let what, let first):
            "line \(line): \(what) appears twice, the first time in line \(first); expected it once"
        case .badValue(let line, let what, let expected, let found):
            "line \(line): \(what) is \(found); expected \(expected)"
        }
    }
}

extension CostTable {
    /// Bytes. The project's own tables have a tenth.
    package static let maximumFileSize = 1 << 20
    /// Of any value, in its unit: some minutes of any CPU.
    private static let largest = 1e12

    /// Reads a table from its file's bytes.
    package init(json bytes: [UInt8]) throws(CostTableError) {
        guard bytes.count <= Self.maximumFileSize else { throw .tooLarge(limit: Self.maximumFileSize) }
        let node: JSONNode
        do throws(JSONSyntaxError) { node = try JSONText.parse(bytes) } catch { throw .notJSON(error) }
        let file = try CostFileObject(
            node, "the table", members: ["name", "title", "clock_mhz", "costs", "checks", "hypothetical"])
        name = try file.text("name")
        title = try file.text("title")
        clock = try file.number("clock_mhz", 1...1_000_000)
        costs = try Self.costs(try file.array("costs"), line: node.line)
        checks = []
        for row in try file.array("checks") { checks.append(try Self.check(row, clock: clock)) }
        hypothetical = [:]
        let reasons = try CostFileObject(try file.node("hypothetical"), "the member \"hypothetical\"", members: nil)
        for strategy in reasons.keys { hypothetical[strategy] = try reasons.text(strategy) }
    }

    private static func costs(_ rows: [JSONNode], line: Int) throws(CostTableError) -> [Cost] {
        var found: [Primitive: (cost: Cost, line: Int)] = [:]
        for row in rows {
            let file = try CostFileObject(
                row, "the row", members: ["primitive", "unit", "low", "typical", "high", "role", "source"])
            let name = try file.text("primitive")
            guard let primitive = Primitive(name: name) else {
                throw .unknown(
                    line: row.line, what: "primitive", name: name,
                    expected: "one that 'trapline costs pentium4' lists")
            }
            if let first = found[primitive] {
                throw .duplicate(line: row.line, what: "the row of \"\(name)\"", first: first.line)
            }
            let owner = "\"\(name)\""
            let unit = try file.text("unit")
            guard unit == primitive.unit.rawValue else {
                throw .badValue(
                    line: row.line, what: "the unit of \(owner)", expected: "\"\(primitive.unit.rawValue)\"",
                    found: JSONText.quote(unit))
            }
            let value = CostRange(
                try file.number("low", 0...largest, of: owner), try file.number("typical", 0...largest, of: owner),
                try file.number("high", 0...largest, of: owner))
            guard value.low <= value.typical else {
                throw .badValue(
                    line: row.line, what: "the low value of \(owner)",
                    expected: "at most the typical one, \(JSONText.decimal(value.typical))",
                    found: JSONText.decimal(value.low))
            }
            guard value.typical <= value.high else {
                throw .badValue(
                    line: row.line, what: "the typical value of \(owner)",
                    expected: "at most the high one, \(JSONText.decimal(value.high))",
                    found: JSONText.decimal(value.typical))
            }
            let cost = Cost(
                primitive: primitive, value: value, role: try file.word("role"), source: try file.text("source"))
            found[primitive] = (cost, row.line)
        }
        let absent = Primitive.allCases.filter { found[$0] == nil }
        guard absent.isEmpty else {
            let more = absent.count > 1 ? " (and of \(absent.count - 1) more)" : ""
            throw .missing(
                line: line, what: "the row of \"\(absent[0].name)\"\(more)",
                expected: "one in \"costs\" for each primitive")
        }
        return Primitive.allCases.map { found[$0]!.cost }
    }

    private static func check(_ row: JSONNode, clock: Double) throws(CostTableError) -> CostCheck {
        let file = try CostFileObject(
            row, "the check",
            members: ["guest", "strategy", "measure", "value", "unit", "clock_mhz", "source", "remark"])
        return CostCheck(
            guest: try file.text("guest"), strategy: try file.text("strategy"), measure: try file.word("measure"),
            published: try file.number("value", 0...largest), unit: try file.word("unit"),
            clock: file.has("clock_mhz") ? try file.number("clock_mhz", 1...1_000_000) : clock,
            source: try file.text("source"), remark: file.has("remark") ? try file.text("remark") : "")
    }
}

/// An object of a cost table's file, whose members are all known and appear once.
private struct CostFileObject {
    private let members: [String: JSONNode]
    private let line: Int
    private let owner: String
    private(set) var keys: [String] = []

    /// - Parameters:
    ///   - owner: what it is, for a sentence.
    ///   - known: the members that it may have, nil for any.
    init(_ node: JSONNode, _ owner: String, members known: [String]?) throws(CostTableError) {
        guard case .object(let found) = node.value else {
            throw .badValue(line: node.line, what: owner, expected: "an object", found: node.kind)
        }
        var members: [String: JSONNode] = [:]
        for (key, value) in found {
            if let known, !known.contains(key) {
                throw .unknown(
                    line: value.line, what: "member", name: key,
                    expected: "\(owner) to have \(known.joined(separator: ", "))")
            }
            if let first = members[key] {
                throw .duplicate(line: value.line, what: "the member \(JSONText.quote(key))", first: first.line)
            }
            members[key] = value
            keys.append(key)
        }
        self.members = members
        line = node.line
        self.owner = owner
    }

    func has(_ key: String) -> Bool { members[key] != nil }

    func node(_ key: String) throws(CostTableError) -> JSONNode {
        guard let node = members[key] else {
            throw .missing(line: line, what: "the member \"\(key)\"", expected: "\(owner) to have it")
        }
        return node
    }

    func array(_ key: String) throws(CostTableError) -> [JSONNode] {
        let node = try node(key)
        guard case .array(let values) = node.value else {
            throw .badValue(line: node.line, what: "the member \"\(key)\"", expected: "an array", found: node.kind)
        }
        return values
    }

    /// A text that can be printed: not empty, and without anything that a terminal would take for a command.
    func text(_ key: String) throws(CostTableError) -> String {
        let node = try node(key)
        guard case .string(let text) = node.value, !text.isEmpty,
            !text.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) })
        else {
            throw .badValue(
                line: node.line, what: "the member \"\(key)\"", expected: "a text on one line", found: node.kind)
        }
        return text
    }

    func number(_ key: String, _ range: ClosedRange<Double>, of owner: String? = nil) throws(CostTableError) -> Double {
        let node = try node(key)
        guard case .number(let number) = node.value, range.contains(number) else {
            throw .badValue(
                line: node.line, what: "the member \"\(key)\"" + (owner.map { " of \($0)" } ?? ""),
                expected: "a number from \(JSONText.decimal(range.lowerBound)) to "
                    + JSONText.decimal(range.upperBound), found: node.kind)
        }
        return number
    }

    /// One of the words of an enumeration.
    func word<Word: RawRepresentable & CaseIterable>(_ key: String) throws(CostTableError) -> Word
    where Word.RawValue == String {
        let node = try node(key)
        guard case .string(let text) = node.value, let word = Word(rawValue: text) else {
            throw .badValue(
                line: node.line, what: "the member \"\(key)\"",
                expected: Word.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: " or "), found: node.kind)
        }
        return word
    }
}

// MARK: Writing

extension CostTable {
    /// The table as its file: one row a line.
    package var json: String {
        let rows = costs.map { cost in
            Self.object([
                ("primitive", .text(cost.primitive.name)), ("unit", .text(cost.primitive.unit.rawValue)),
                ("low", .number(cost.value.low)), ("typical", .number(cost.value.typical)),
                ("high", .number(cost.value.high)), ("role", .text(cost.role.rawValue)),
                ("source", .text(cost.source)),
            ])
        }
        let checkRows = checks.map { check in
            var members: [(String, Member)] = [
                ("guest", .text(check.guest)), ("strategy", .text(check.strategy)),
                ("measure", .text(check.measure.rawValue)), ("value", .number(check.published)),
                ("unit", .text(check.unit.rawValue)), ("clock_mhz", .number(check.clock)),
                ("source", .text(check.source)),
            ]
            if !check.remark.isEmpty { members.append(("remark", .text(check.remark))) }
            return Self.object(members)
        }
        let reasons = hypothetical.sorted { $0.key < $1.key }.map {
            "\(JSONText.quote($0.key)): \(JSONText.quote($0.value))"
        }
        func lines(_ rows: [String]) -> String { rows.map { "\n    " + $0 }.joined(separator: ",") + "\n  " }
        return """
            {
              "name": \(JSONText.quote(name)),
              "title": \(JSONText.quote(title)),
              "clock_mhz": \(JSONText.decimal(clock)),
              "costs": [\(lines(rows))],
              "checks": [\(lines(checkRows))],
              "hypothetical": {\(lines(reasons))}
            }

            """
    }

    private enum Member {
        case text(String)
        case number(Double)
    }

    private static func object(_ members: [(String, Member)]) -> String {
        let texts = members.map { key, value in
            switch value {
            case .text(let text): "\"\(key)\": \(JSONText.quote(text))"
            case .number(let number): "\"\(key)\": \(JSONText.decimal(number))"
            }
        }
        return "{" + texts.joined(separator: ", ") + "}"
    }
}
