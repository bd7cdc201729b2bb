import ArgumentParser
import Tracer
import VMM

/// A place in a trace as the user names it.
enum PositionArgument {
    case count(UInt64)
    case event(UInt64)
    case percent(Double)
    case mark(String)

    static let help = "a count, event:N, a percentage such as 40%, or a mark"

    init(_ argument: String) throws {
        guard !argument.isEmpty else { throw ValidationError("expected \(Self.help)") }
        if let count = UInt64(argument) {
            self = .count(count)
        } else if argument.hasPrefix("event:") {
            guard let number = UInt64(argument.dropFirst(6)) else { throw ValidationError("expected \(Self.help)") }
            self = .event(number)
        } else if argument.hasPrefix("mark:") {
            self = .mark(String(argument.dropFirst(5)))
        } else if argument.hasSuffix("%"), let percent = Double(argument.dropLast()) {
            guard (0...100).contains(percent) else { throw ValidationError("expected 0% to 100%") }
            self = .percent(percent)
        } else {
            self = .mark(argument)
        }
    }

    /// The count that is meant.
    func count(in reader: TraceReader) throws(TraceError) -> UInt64 {
        let (start, end) = (reader.manifest.start.count, reader.reach.position.count)
        switch self {
        case .count(let count):
            guard (start...max(start, end)).contains(count) else {
                throw .unusable("position \(count) is outside the trace, which goes from count \(start) to \(end)")
            }
            return count
        case .percent(let percent):
            return start + UInt64(Double(end - min(start, end)) * percent / 100)
        case .event(let number):
            let first = reader.blocks(.events).first?.header.firstItem ?? 0
            guard number >= first, number < reader.reach.events else {
                guard !reader.blocks(.events).isEmpty else { throw .unusable("the trace holds no events") }
                throw .unusable(
                    "event \(number) is outside the trace, which has events \(first) to \(reader.reach.events - 1)")
            }
            return try EventCursor(reader, from: number).next()?.count ?? start
        case .mark(let text):
            let marks = try reader.marks()
            guard let mark = marks.first(where: { $0.text == text }) ?? marks.first(where: { $0.text.contains(text) })
            else {
                throw .unusable(
                    marks.isEmpty
                        ? "the trace has no marks, so none is \"\(text)\""
                        : "the trace has no mark \"\(text)\"; the first is \"\(marks[0].text)\"")
            }
            return mark.position.count
        }
    }
}

/// Opening a trace with the file's name in every complaint.
enum OpenTrace {
    static func reader(_ path: String) throws(CommandError) -> TraceReader {
        try describing(path) { () throws(TraceError) in
            let parts = try FlightParts.salvage(path)
            if !parts.isEmpty {
                StandardError.say("\(path) was made of what a killed recording left: \(parts.joined(separator: ", "))")
            }
            return try TraceReader(path)
        }
    }

    static func describing<T>(_ path: String, _ body: () throws(TraceError) -> T) throws(CommandError) -> T {
        do {
            return try body()
        } catch {
            throw .trace(path: path, error)
        }
    }
}

/// Where replay finds the images that a trace does not hold: the files they came from, or others.
struct ImageFiles {
    /// Paths by role, from `--image ROLE=PATH`.
    let overrides: [TraceImage.Role: String]

    init(_ arguments: [ImageArgument]) {
        overrides = Dictionary(arguments.map { ($0.role, $0.path) }, uniquingKeysWith: { $1 })
    }

    private func path(_ image: TraceImage) -> String { overrides[image.role] ?? image.path }

    func bytes(_ image: TraceImage) throws(TraceError) -> [UInt8] {
        do throws(CommandError) {
            let file = try FileDescriptor.reading(path(image))
            defer { file.close() }
            return try file.readAll(path(image), limit: 4 << 30)
        } catch {
            throw .unusable("the trace does not hold the \(image.role.rawValue); \(error.description)")
        }
    }

    func disk(_ image: TraceImage) throws(TraceError) -> any BlockSource {
        do throws(CommandError) {
            let disk = try DiskImage(path(image))
            guard disk.byteCount == image.size else {
                throw .badFile(path: path(image), reason: "has \(disk.byteCount) bytes, expected \(image.size)")
            }
            return disk
        } catch {
            throw .unusable("the trace does not hold the \(image.role.rawValue); \(error.description)")
        }
    }
}

/// `ROLE=PATH`.
struct ImageArgument {
    let role: TraceImage.Role
    let path: String

    init(_ argument: String) throws {
        let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2, let role = TraceImage.Role(rawValue: parts[0]) else {
            let roles = TraceImage.Role.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("expected ROLE=PATH, where ROLE is one of \(roles)")
        }
        self.role = role
        path = parts[1]
    }
}
