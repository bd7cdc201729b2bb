/// A value of a JSON text, with the line it begins on so that whoever finds it wrong can say where.
package struct JSONNode {
    package enum Value {
        case null
        case bool(Bool)
        case number(Double)
        case string(String)
        case array([JSONNode])
        /// In the order of the text; a key may appear twice.
        case object([(key: String, node: JSONNode)])
    }

    package var value: Value
    /// From 1.
    package var line: Int

    /// What it is, for a sentence.
    package var kind: String {
        switch value {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let number): JSONText.decimal(number)
        case .string(let string): JSONText.quote(string)
        case .array: "an array"
        case .object: "an object"
        }
    }
}

/// Where a text stopped being JSON.
package struct JSONSyntaxError: Error, Equatable {
    package var line: Int
    package var expected: String
    package var found: String
}

/// Reads JSON (RFC 8259) from bytes. A cost table is written by hand, so it matters more that an error has its line and
/// that no key is lost than that large texts are read fast.
package struct JSONText {
    private let bytes: [UInt8]
    private var next = 0
    private var line = 1
    private var depth = 0

    /// More than any table needs, and little enough for the stack.
    private static let maximumDepth = 32

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    package static func parse(_ bytes: [UInt8]) throws(JSONSyntaxError) -> JSONNode {
        var text = JSONText(bytes)
        let node = try text.node()
        text.skipSpace()
        guard text.next == bytes.count else { throw text.error("the end of the file") }
        return node
    }

    // MARK: Values

    private mutating func node() throws(JSONSyntaxError) -> JSONNode {
        skipSpace()
        let start = line
        guard next < bytes.count else { throw error("a value") }
        switch bytes[next] {
        case UInt8(ascii: "{"): return JSONNode(value: try object(), line: start)
        case UInt8(ascii: "["): return JSONNode(value: try array(), line: start)
        case UInt8(ascii: "\""): return JSONNode(value: .string(try string()), line: start)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            return JSONNode(value: .number(try number()), line: start)
        default:
            for (word, value) in [("true", JSONNode.Value.bool(true)), ("false", .bool(false)), ("null", .null)]
            where bytes[next...].starts(with: word.utf8) {
                next += word.utf8.count
                return JSONNode(value: value, line: start)
            }
            throw error("a value")
        }
    }

    private mutating func object() throws(JSONSyntaxError) -> JSONNode.Value {
        try enter()
        var members: [(key: String, node: JSONNode)] = []
        skipSpace()
        if take("}") {
            depth -= 1
            return .object(members)
        }
        repeat {
            skipSpace()
            guard peek == UInt8(ascii: "\"") else { throw error("a key in double quotes") }
            let key = try string()
            skipSpace()
            guard take(":") else { throw error("a colon after the key \(Self.quote(key))") }
            members.append((key, try node()))
            skipSpace()
        } while take(",")
        guard take("}") else { throw error("a comma or }") }
        depth -= 1
        return .object(members)
    }

    private mutating func array() throws(JSONSyntaxError) -> JSONNode.Value {
        try enter()
        var values: [JSONNode] = []
        skipSpace()
        if take("]") {
            depth -= 1
            return .array(values)
        }
        repeat {
            values.append(try node())
            skipSpace()
        } while take(",")
        guard take("]") else { throw error("a comma or ]") }
        depth -= 1
        return .array(values)
    }

    private mutating func enter() throws(JSONSyntaxError) {
        next += 1
        depth += 1
        guard depth <= Self.maximumDepth else { throw error("at most \(Self.maximumDepth) levels of brackets") }
    }

    private mutating func number() throws(JSONSyntaxError) -> Double {
        let start = next
        func isDigit(_ index: Int) -> Bool {
            index < bytes.count && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[index])
        }
        if peek == UInt8(ascii: "-") { next += 1 }
        guard isDigit(next) else { throw error("a digit") }
        if peek == UInt8(ascii: "0") { next += 1 } else { while isDigit(next) { next += 1 } }
        if peek == UInt8(ascii: ".") {
            next += 1
            guard isDigit(next) else { throw error("a digit after the decimal point") }
            while isDigit(next) { next += 1 }
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            next += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { next += 1 }
            guard isDigit(next) else { throw error("a digit of the exponent") }
            while isDigit(next) { next += 1 }
        }
        // What is too large for a double becomes infinity, and is refused by whoever wants a finite number.
        return Double(String(decoding: bytes[start..<next], as: UTF8.self)) ?? .infinity
    }

    private mutating func string() throws(JSONSyntaxError) -> String {
        next += 1
        var scalars: [UInt8] = []
        while let byte = peek, byte != UInt8(ascii: "\"") {
            guard byte >= 0x20 else { throw error("a closing double quote on the same line") }
            next += 1
            guard byte == UInt8(ascii: "\\") else {
                scalars.append(byte)
                continue
            }
            scalars += Array(String(try escaped()).utf8)
        }
        guard take("\"") else { throw error("a closing double quote") }
        return String(decoding: scalars, as: UTF8.self)
    }

    private mutating func escaped() throws(JSONSyntaxError) -> Unicode.Scalar {
        guard let byte = peek else { throw error("an escape sequence") }
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"):
            next += 1
            return Unicode.Scalar(byte)
        case UInt8(ascii: "u"):
            next += 1
            let first = try hexadecimal()
            if let scalar = Unicode.Scalar(first) { return scalar }
            // A surrogate: only with its other half.
            guard first < 0xdc00, take("\\"), take("u") else { throw error("the other half of a surrogate pair") }
            let second = try hexadecimal()
            guard (0xdc00...0xdfff).contains(second),
                let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
            else { throw error("the other half of a surrogate pair") }
            return scalar
        default:
            let plain: [UInt8: Unicode.Scalar] = [
                UInt8(ascii: "b"): "\u{8}", UInt8(ascii: "f"): "\u{c}", UInt8(ascii: "n"): "\n",
                UInt8(ascii: "r"): "\r", UInt8(ascii: "t"): "\t",
            ]
            guard let scalar = plain[byte] else { throw error("an escape sequence") }
            next += 1
            return scalar
        }
    }

    private mutating func hexadecimal() throws(JSONSyntaxError) -> UInt32 {
        let digits = bytes[next..<min(next + 4, bytes.count)].compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        guard digits.count == 4 else { throw error("four hexadecimal digits") }
        let value = digits.reduce(UInt32(0)) { $0 << 4 | UInt32($1) }
        next += 4
        return value
    }

    // MARK: Bytes

    private var peek: UInt8? { next < bytes.count ? bytes[next] : nil }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: character) else { return false }
        next += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\n"): line += 1
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): break
            default: return
            }
            next += 1
        }
    }

    private func error(_ expected: String) -> JSONSyntaxError {
        let found: String
        switch peek {
        case nil: found = "the end of the file"
        case UInt8(ascii: "\n"): found = "the end of the line"
        case .some(let byte) where (0x21...0x7e).contains(byte): found = "'\(Character(Unicode.Scalar(byte)))'"
        case .some(let byte): found = "the byte 0x\(String(byte, radix: 16))"
        }
        return JSONSyntaxError(line: line, expected: expected, found: found)
    }

    // MARK: Writing

    /// A string in double quotes.
    package static func quote(_ string: String) -> String {
        var quoted = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }

    /// The shortest text of a number, without a fraction if it has none.
    package static func decimal(_ number: Double) -> String {
        guard let integer = Int64(exactly: number) else { return "\(number)" }
        return "\(integer)"
    }
}
