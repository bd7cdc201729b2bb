import Replayer

/// A JSON value that keeps the order of its members.
indirect enum JSON {
    case string(String)
    case integer(UInt64)
    case signed(Int64)
    case number(Double)
    case bool(Bool)
    case null
    case array([JSON])
    case object([(String, JSON)])

    /// The text, with each member of the outermost object on a line of its own.
    var document: String {
        guard case .object(let members) = self else { return text + "\n" }
        return "{\n" + members.map { "  \(JSONText.quote($0)): \($1.text)" }.joined(separator: ",\n") + "\n}\n"
    }

    /// The text on one line.
    var text: String {
        switch self {
        case .string(let string): JSONText.quote(string)
        case .integer(let integer): "\(integer)"
        case .signed(let integer): "\(integer)"
        case .number(let number): number.isFinite ? "\((number * 1000).rounded() / 1000)" : "null"
        case .bool(let value): value ? "true" : "false"
        case .null: "null"
        case .array(let values): "[" + values.map(\.text).joined(separator: ", ") + "]"
        case .object(let members):
            "{" + members.map { "\(JSONText.quote($0)): \($1.text)" }.joined(separator: ", ") + "}"
        }
    }
}
