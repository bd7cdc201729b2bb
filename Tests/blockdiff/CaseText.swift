import DifferentialSupport
import VMM

/// Cases as text, a fact a line; `#` begins a comment.
///
///     setting 64-user
///     state 1234
///     reg 0 12345678
///     event 120 interrupt e3
///     code 40 4801d8          # add rax, rbx
enum CaseText {
    struct Failure: Error, CustomStringConvertible {
        let line: String
        var description: String { "not a line of a case: \(line)" }
    }

    static func bytes(_ bytes: [UInt8]) -> String { bytes.map { ($0 < 16 ? "0" : "") + hex($0) }.joined() }

    static func write(_ test: Case) -> String {
        var lines = [
            "setting \(test.setting.rawValue)", "limit \(test.limit)", "threshold \(test.threshold)",
            "state \(hex(test.stateSeed))", "fuel \(test.fuel)", "rflags \(hex(test.rflags))",
            "entry \(hex(test.entry))",
        ]
        if test.codeIsWritable { lines.append("writable") }
        if test.watchesEvents { lines.append("events") }
        if test.masksExceptions { lines.append("masked") }
        for (number, value) in test.registers.enumerated() where value != 0 {
            lines.append("reg \(number) \(hex(value))")
        }
        for event in test.events { lines.append("event \(event.count) \(text(event.kind))") }
        let disassembler = Disassembler()
        func code(_ word: String, _ line: CodeLine) -> String {
            let address = Linear.low + UInt64(line.offset)
            let text = disassembler.line(line.bytes, rip: address, bits: test.setting.bits).text
            let fact = "\(word) \(hex(line.offset)) \(bytes(line.bytes))"
            return fact + String(repeating: " ", count: max(36 - fact.count, 1)) + "# \(text)"
        }
        lines += test.lines.map { code("code", $0) }
        lines += test.alternates.map { code("alternate", $0) }
        return lines.map { $0 + "\n" }.joined()
    }

    private static func text(_ kind: Event.Kind) -> String {
        switch kind {
        case .check: "check"
        case .interrupt(let vector): "interrupt \(hex(vector))"
        case .nmi: "nmi"
        case .dma(let address, let value): "dma \(hex(address)) \(bytes(value))"
        case .a20: "a20"
        }
    }

    // MARK: Reading

    static func read(_ text: String) throws -> Case {
        var test: Case?
        for line in text.split(separator: "\n") {
            let words = line.prefix { $0 != "#" }.split(separator: " ").map(String.init)
            guard let word = words.first else { continue }
            if word == "setting", words.count == 2, let setting = Setting(rawValue: words[1]) {
                test = Case(setting: setting)
                continue
            }
            guard test != nil, apply(word, Array(words.dropFirst()), &test!) else {
                throw Failure(line: String(line))
            }
        }
        guard let test, test.isValid else { throw Failure(line: "(no code, or outside its area)") }
        return test
    }

    private static func apply(_ word: String, _ rest: [String], _ test: inout Case) -> Bool {
        if word == "writable", rest.isEmpty {
            test.codeIsWritable = true
            return true
        }
        if word == "events", rest.isEmpty {
            test.watchesEvents = true
            return true
        }
        if word == "masked", rest.isEmpty {
            test.masksExceptions = true
            return true
        }
        guard let first = rest.first else { return false }
        let decimal = UInt64(first)
        let number = UInt64(first, radix: 16)
        switch (word, rest.count) {
        case ("limit", 1): return set(&test.limit, decimal)
        case ("threshold", 1): return set(&test.threshold, UInt16(first))
        case ("state", 1): return set(&test.stateSeed, number)
        case ("fuel", 1): return set(&test.fuel, decimal)
        case ("rflags", 1): return set(&test.rflags, number)
        case ("entry", 1): return set(&test.entry, Int(first, radix: 16))
        case ("reg", 2):
            guard let index = decimal, index < 16, let value = UInt64(rest[1], radix: 16) else { return false }
            test.registers[Int(index)] = value
            return true
        case ("code", 2), ("alternate", 2):
            guard let offset = Int(first, radix: 16), let bytes = parse(rest[1]) else { return false }
            let line = CodeLine(offset: offset, bytes: bytes)
            if word == "code" { test.lines.append(line) } else { test.alternates.append(line) }
            return true
        case ("event", 2...4):
            guard let count = decimal, let kind = event(Array(rest.dropFirst())) else { return false }
            test.events.append(Event(count: count, kind: kind))
            return true
        default: return false
        }
    }

    private static func set<T>(_ place: inout T, _ value: T?) -> Bool {
        guard let value else { return false }
        place = value
        return true
    }

    private static func event(_ words: [String]) -> Event.Kind? {
        switch (words[0], words.count) {
        case ("check", 1): return .check
        case ("nmi", 1): return .nmi
        case ("a20", 1): return .a20
        case ("interrupt", 2): return UInt8(words[1], radix: 16).map { .interrupt($0) }
        case ("dma", 3):
            guard let address = UInt64(words[1], radix: 16), let bytes = parse(words[2]) else { return nil }
            return .dma(address, bytes)
        default: return nil
        }
    }

    private static func parse(_ text: String) -> [UInt8]? {
        let digits = Array(text)
        guard digits.count % 2 == 0, !digits.isEmpty else { return nil }
        let pairs = stride(from: 0, to: digits.count, by: 2)
        let bytes = pairs.compactMap { UInt8(String(digits[$0..<$0 + 2]), radix: 16) }
        return bytes.count == digits.count / 2 ? bytes : nil
    }
}

extension Case {
    /// Whether all code lies in its area, in ascending order.
    var isValid: Bool {
        let areInside = (lines + alternates).allSatisfy { $0.offset >= 0 && $0.offset + $0.bytes.count <= 16384 }
        let areOrdered = zip(lines, lines.dropFirst()).allSatisfy { $0.offset < $1.offset }
        let alternatesFit = alternates.allSatisfy { $0.offset >= 4096 && $0.offset + $0.bytes.count <= 8192 }
        return areInside && areOrdered && alternatesFit && !lines.isEmpty && (0..<16384).contains(entry)
    }
}
