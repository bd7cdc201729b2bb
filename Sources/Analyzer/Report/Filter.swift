import CEngine
import GRDB
import Glibc
import VMM

/// Which events are meant: `kind=cpuid ring=0 symbol=native_* process!=sh port=0x40-0x43`.
///
/// All terms must hold. A term has one key, `=` or `!=`, and alternatives with commas between. Texts may have `*` and
/// `?`, and stand in quotes if they have spaces; numbers may be ranges.
package struct Filter {
    /// What is wrong with a filter, and at which column.
    package struct Failure: Error, Equatable, CustomStringConvertible {
        package let column: Int
        package let reason: String
        package var description: String { "the filter's column \(column): \(reason)" }
    }

    /// The values of a key.
    private enum Value {
        case text(String)
        case numbers(ClosedRange<UInt64>)
    }

    private struct Term {
        var key: Key
        /// Its column in the text.
        var place: Int
        var isNegated: Bool
        var values: [Value]
    }

    /// What can be asked for.
    package enum Key: String, CaseIterable {
        case kind, ring, phase, site, symbol, module, process, pid, port, mmio, vector, msr, leaf, device, register

        /// The column, and kinds of events that have it.
        fileprivate var column: (sql: String, kinds: [EventKind]) {
            switch self {
            case .kind: ("k.name", [])
            case .ring: ("s.ring", [])
            case .phase: ("s.phase", [])
            case .site: ("s.address", [])
            case .symbol: ("coalesce(y.name, '')", [])
            case .module: ("coalesce(y.module, CASE WHEN y.id IS NULL THEN '' ELSE 'kernel' END)", [])
            case .process: ("p.name", [])
            case .pid: ("p.pid", [])
            case .port: ("m.subject", [.portIn, .portOut])
            case .mmio: ("m.subject", [.mmioRead, .mmioWrite])
            case .vector:
                ("m.subject", [.exception, .interruptAsserted, .interruptDelivered, .interruptInstruction])
            case .msr: ("m.subject", [.rdmsr, .wrmsr])
            case .leaf: ("m.subject", [.cpuid])
            case .device: ("coalesce(r.device, '')", [])
            case .register: ("coalesce(r.name, '')", [])
            }
        }

        fileprivate var isText: Bool {
            switch self {
            case .kind, .phase, .symbol, .module, .process, .device, .register: true
            default: false
            }
        }
    }

    private let terms: [Term]

    /// What the filter asks for.
    package var keys: [Key] { terms.map(\.key) }

    /// What lets everything pass.
    package init() { terms = [] }

    package init(_ text: String) throws(Failure) {
        var parser = FilterParser(text)
        var terms: [Term] = []
        while let word = try parser.next() {
            guard let key = Key(rawValue: word.key) else {
                let keys = Key.allCases.map(\.rawValue).joined(separator: ", ")
                throw Failure(column: word.column, reason: "\(word.key) is no key; there are \(keys)")
            }
            var values: [Value] = []
            for (text, column) in word.values { values.append(try Self.value(key, text, column)) }
            terms.append(Term(key: key, place: word.column, isNegated: word.isNegated, values: values))
        }
        self.terms = terms
    }

    private static func value(_ key: Key, _ text: String, _ column: Int) throws(Failure) -> Value {
        guard !key.isText else {
            let isPattern = text.contains { "*?[".contains($0) }
            if key == .kind, !isPattern, !EventKind.recorded.contains(where: { "\($0)" == text }) {
                throw Failure(column: column, reason: "\(text) is no kind of event")
            }
            if key == .phase, !isPattern, !Phase.allCases.contains(where: { "\($0)" == text }) {
                let phases = Phase.allCases.map { "\($0)" }.joined(separator: ", ")
                throw Failure(column: column, reason: "\(text) is no phase; there are \(phases)")
            }
            return .text(text)
        }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { number($0) }
        guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last else {
            throw Failure(column: column, reason: "expected a number or two such as 0x40-0x43, found \"\(text)\"")
        }
        return .numbers(first...last)
    }

    private static func number(_ text: Substring) -> UInt64? {
        text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    }

    /// The same on events themselves. What they do not hold, such as symbols and processes, cannot be asked of them.
    package func predicate() throws(Failure) -> (EventRecord) -> Bool {
        var tests: [(EventRecord) -> Bool] = []
        for term in terms {
            let (key, kinds) = (term.key, term.key.column.kinds)
            let isNegated = term.isNegated
            if term.key == .kind {
                let matching = EventKind.recorded.filter { kind in
                    term.values.contains { value in
                        if case .text(let text) = value { Self.matches("\(kind)", text) } else { false }
                    }
                }
                let numbers = Set(matching.map(\.rawValue))
                tests.append { numbers.contains($0.kind) != isNegated }
                continue
            }
            let ranges = term.values.compactMap { value -> ClosedRange<UInt64>? in
                if case .numbers(let range) = value { range } else { nil }
            }
            guard ranges.count == term.values.count, term.key != .pid else {
                throw Failure(
                    column: term.place, reason: "events do not hold a \(term.key.rawValue); analyze and sql know it")
            }
            let numbers = Set(kinds.map(\.rawValue))
            tests.append { record in
                guard numbers.isEmpty || numbers.contains(record.kind) else { return false }
                let number =
                    switch key {
                    case .ring: UInt64(record.ring)
                    case .site: record.address
                    default: record.operand
                    }
                return ranges.contains { $0.contains(number) } != isNegated
            }
        }
        return { record in tests.allSatisfy { $0(record) } }
    }

    /// Whether a text is as a pattern with `*` and `?` says.
    private static func matches(_ text: String, _ pattern: String) -> Bool {
        fnmatch(pattern, text, 0) == 0
    }

    /// A condition on summaries `m`, sites `s`, kinds `k`, processes `p`, symbols `y` and registers `r`.
    package var condition: (sql: String, arguments: StatementArguments) {
        var conditions: [String] = []
        var arguments = StatementArguments()
        for term in terms {
            let (column, kinds) = term.key.column
            var alternatives: [String] = []
            for value in term.values {
                switch value {
                case .text(let text):
                    alternatives.append("\(column) GLOB ?")
                    arguments += [text]
                case .numbers(let range):
                    // Columns are signed: the upper half of the numbers lies below zero.
                    let (first, last) = (range.lowerBound.column, range.upperBound.column)
                    let isSplit = first >= 0 && last < 0
                    alternatives.append(
                        isSplit ? "(\(column) >= ? OR \(column) <= ?)" : "(\(column) >= ? AND \(column) <= ?)")
                    arguments += [first, last]
                }
            }
            var sql = "(" + alternatives.joined(separator: " OR ") + ")"
            if term.isNegated { sql = "NOT " + sql }
            if !kinds.isEmpty {
                let names = kinds.map { "'\($0)'" }.joined(separator: ", ")
                sql = "(k.name IN (\(names)) AND \(sql))"
            }
            conditions.append(sql)
        }
        return (conditions.isEmpty ? "1" : conditions.joined(separator: " AND "), arguments)
    }
}

/// Splits a filter into terms.
private struct FilterParser {
    struct Word {
        var key: String
        var column: Int
        var isNegated: Bool
        var values: [(text: String, column: Int)]
    }

    private let characters: [Character]
    private var place = 0

    init(_ text: String) { characters = Array(text) }

    private var current: Character? { place < characters.count ? characters[place] : nil }

    mutating func next() throws(Filter.Failure) -> Word? {
        while current == " " { place += 1 }
        guard current != nil else { return nil }
        let column = place + 1
        var key = ""
        while let character = current, character.isLetter {
            key.append(character)
            place += 1
        }
        guard !key.isEmpty else {
            throw Filter.Failure(column: column, reason: "expected a term such as kind=cpuid")
        }
        let isNegated = current == "!"
        if isNegated { place += 1 }
        guard current == "=" else {
            throw Filter.Failure(column: place + 1, reason: "expected = or != behind \(key)")
        }
        place += 1
        var values = [try value()]
        while current == "," {
            place += 1
            values.append(try value())
        }
        guard current == nil || current == " " else {
            throw Filter.Failure(column: place + 1, reason: "expected a space between terms")
        }
        return Word(key: key, column: column, isNegated: isNegated, values: values)
    }

    private mutating func value() throws(Filter.Failure) -> (text: String, column: Int) {
        let column = place + 1
        var text = ""
        if current == "\"" {
            place += 1
            while let character = current, character != "\"" {
                text.append(character)
                place += 1
            }
            guard current == "\"" else { throw Filter.Failure(column: column, reason: "the quotes are not closed") }
            place += 1
            return (text, column)
        }
        while let character = current, character != " ", character != "," {
            text.append(character)
            place += 1
        }
        guard !text.isEmpty else { throw Filter.Failure(column: column, reason: "expected a value") }
        return (text, column)
    }
}
