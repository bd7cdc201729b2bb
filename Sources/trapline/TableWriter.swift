import Analyzer
import Glibc

/// How a table is written.
enum TableFormat {
    /// Columns in line, under a head.
    case text
    case csv
    /// An array of objects.
    case json
}

/// Writes a table row by row.
final class TableWriter {
    private static let textRows = 1000
    private let format: TableFormat
    private let output: BufferedOutput
    private var columns: [String] = []
    /// Rows of text that wait until the columns' widths are known.
    private var waiting: [[TableValue]] = []
    private var widths: [Int] = []
    private var isFirst = true

    init(_ format: TableFormat, _ output: BufferedOutput) {
        self.format = format
        self.output = output
    }

    func begin(_ columns: [String]) throws {
        self.columns = columns
        switch format {
        case .json: try output.write("[")
        case .csv: try output.write(columns.map(Self.quoted).joined(separator: ",") + "\r\n")
        case .text: break
        }
    }

    func row(_ values: [TableValue]) throws {
        switch format {
        case .json:
            let members = zip(columns, values).map { ($0, Self.json($1)) }
            try output.write((isFirst ? "\n" : ",\n") + JSON.object(members).text)
        case .csv:
            try output.write(values.map { Self.quoted(Self.text($0)) }.joined(separator: ",") + "\r\n")
        case .text:
            if widths.isEmpty {
                waiting.append(values)
                if waiting.count >= Self.textRows { try flushText() }
            } else {
                try writeText(values)
            }
        }
        isFirst = false
    }

    func end() throws {
        switch format {
        case .json: try output.write(isFirst ? "]\n" : "\n]\n")
        case .csv: break
        case .text: if widths.isEmpty { try flushText() }
        }
    }

    /// The first rows say how wide the columns are.
    private func flushText() throws {
        guard !columns.isEmpty else { return }
        widths = columns.indices.map { index in
            max(columns[index].count, waiting.map { Self.text($0[index]).count }.max() ?? 0)
        }
        let numbers = columns.indices.map { index in waiting.allSatisfy { Self.isNumber($0[index]) } }
        let head = columns.indices.map { Self.padded(columns[$0], widths[$0], right: numbers[$0]) }
        try output.write(Self.line(head))
        for row in waiting { try writeText(row) }
        waiting = []
    }

    private func writeText(_ values: [TableValue]) throws {
        try output.write(
            Self.line(
                values.indices.map {
                    Self.padded(Self.text(values[$0]), widths[$0], right: Self.isNumber(values[$0]))
                }))
    }

    private static func line(_ cells: [String]) -> String {
        var line = cells.joined(separator: "  ")
        while line.last == " " { line.removeLast() }
        return line + "\n"
    }

    private static func padded(_ text: String, _ width: Int, right: Bool) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return right ? space + text : text + space
    }

    private static func isNumber(_ value: TableValue) -> Bool {
        if case .text = value { false } else { true }
    }

    static func text(_ value: TableValue) -> String {
        switch value {
        case .null: ""
        case .integer(let number): "\(number)"
        case .real(let number): RunResult.decimal(number)
        case .text(let text): text
        }
    }

    static func json(_ value: TableValue) -> JSON {
        switch value {
        case .null: .null
        case .integer(let number): .signed(number)
        case .real(let number): .number(number)
        case .text(let text): .string(text)
        }
    }

    /// A field of CSV as RFC 4180 has it.
    static func quoted(_ field: String) -> String {
        guard field.contains(where: { "\",\r\n".contains($0) }) else { return field }
        return "\"" + field.replacing("\"", with: "\"\"") + "\""
    }
}

/// Standard output or a file, written in pieces.
final class BufferedOutput {
    private static let piece = 1 << 16
    private let descriptor: FileDescriptor
    private let path: String?
    private var bytes: [UInt8] = []

    /// Writes to `path`, or to standard output.
    init(_ path: String? = nil) throws(CommandError) {
        self.path = path
        descriptor = try path.map { path throws(CommandError) in try FileDescriptor.writing(path) } ?? .standardOutput
        // Fails on pipes and devices, where there is nothing to truncate.
        if path != nil { ftruncate(descriptor.number, 0) }
    }

    func write(_ text: String) throws { try write(Array(text.utf8)) }

    func write(_ new: [UInt8]) throws {
        bytes += new
        if bytes.count >= Self.piece { try flush() }
    }

    /// Writes the rest. A reader of standard output that went away is no error.
    func finish() throws {
        try flush()
        if path != nil { descriptor.close() }
    }

    private func flush() throws {
        defer { bytes.removeAll(keepingCapacity: true) }
        guard !descriptor.writeAll(bytes) else { return }
        if let path { throw CommandError.cannotWrite(path: path, errno: errno) }
        // Nobody reads any more.
        exit(0)
    }
}
