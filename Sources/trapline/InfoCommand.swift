import ArgumentParser
import Tracer
import VMM

/// `trapline info`: what a trace is and holds.
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Say what a trace holds, and how many bytes each part takes.",
        discussion: "Example: trapline info boot.tline --json")

    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @Flag(help: "Write JSON.")
    var json = false

    func run() throws {
        let reader = try OpenTrace.reader(trace)
        let progress = ProgressLine("reading")
        let info = try OpenTrace.describing(trace) { () throws(TraceError) in
            try TraceInfo(reader) { progress.show($0) }
        }
        progress.clear()
        FileDescriptor.standardOutput.writeAll(Array((json ? info.json.document : info.text).utf8))
    }
}

/// The facts about a trace that `info` shows.
struct TraceInfo {
    private let reader: TraceReader
    private let statistics: TraceStatistics
    private let counts: [UInt64]
    private let marks: [TraceMark]
    private let inputBytes: UInt64
    private let lastDigest: StateDigest?

    init(_ reader: TraceReader, progress: (Double) -> Void) throws(TraceError) {
        self.reader = reader
        var statistics = TraceStatistics()
        for entry in reader.blocks {
            progress(Double(entry.offset) / Double(max(reader.fileSize, 1)))
            if entry.stream == .events {
                statistics.note(entry.header, try reader.payload(entry))
            } else {
                statistics.note(entry.header, size: UInt64(entry.header.length))
            }
        }
        self.statistics = statistics
        counts = try reader.eventCounts()
        marks = try reader.marks()
        inputBytes = UInt64(
            try reader.journal().entries.filter { $0.kind == JournalEntry.Kind.consoleInput.rawValue }
                .reduce(0) { $0 + $1.bytes.count })
        if let end = reader.end {
            lastDigest = end.digest
        } else {
            lastDigest = try reader.blocks(.digests).last.map { entry throws(TraceError) in
                try DigestRecord.record(reader.load(entry)).digest
            }
        }
    }

    private func bytes(_ streams: TraceStream...) -> UInt64 {
        streams.reduce(0) { $0 + (statistics.streams[$1.rawValue] ?? 0) }
    }

    private var events: UInt64 { counts.reduce(0, +) }
    /// Events other than reading the time-stamp counter and PAUSE.
    private var otherEvents: UInt64 {
        let delays: [EventKind] = [.rdtsc, .rdtscp, .pause]
        return events - delays.reduce(0) { $0 + counts[Int($1.rawValue)] }
    }
    private var eventBytes: UInt64 { bytes(.events, .sites) }
    private var instructions: UInt64 {
        let end = reader.reach.position.count
        return end - min(reader.manifest.start.count, end)
    }

    var json: JSON {
        let manifest = reader.manifest
        return .object([
            ("version", .integer(UInt64(TraceFormat.version))),
            ("complete", .bool(reader.isComplete)),
            ("outcome", reader.end.map { .string($0.outcome) } ?? .null),
            ("start", .integer(manifest.start.count)),
            ("instructions", .integer(instructions)),
            ("virtual_ns", .integer(reader.reach.position.nanoseconds)),
            ("events", .integer(events)),
            ("event_bytes", .integer(eventBytes)),
            ("non_rdtsc_events", .integer(otherEvents)),
            ("bytes_per_event", .number(ratio(eventBytes, events))),
            ("bytes_per_non_rdtsc_event", .number(ratio(eventBytes, otherEvents))),
            ("input_bytes", .integer(inputBytes)),
            ("image_bytes", .integer(bytes(.images))),
            ("checkpoint_bytes", .integer(bytes(.checkpoints, .pages))),
            ("checkpoints", .integer(UInt64(reader.blocks(.checkpoints).count))),
            ("digest_bytes", .integer(bytes(.digests))),
            ("digests", .integer(UInt64(reader.blocks(.digests).count))),
            ("file_bytes", .integer(reader.fileSize)),
            ("lost_bytes", .integer(reader.lostBytes)),
            ("digest", lastDigest.map { .string($0.description) } ?? .null),
            ("detail", .string(manifest.detail.rawValue)),
            ("engine", .string(manifest.engine.rawValue)),
            (
                "machine",
                .object([
                    ("cpu", .string(manifest.cpu)), ("chipset", .string(manifest.chipset.rawValue)),
                    ("memory_bytes", .integer(manifest.memorySize)),
                    ("instructions_per_us", .integer(manifest.instructionsPerMicrosecond)),
                    ("start_date", .integer(manifest.startDate)),
                    ("reset", .string(manifest.continuesAfterReset ? "continue" : "exit")),
                    ("boot", .string(manifest.boot.rawValue)), ("command_line", .string(manifest.commandLine)),
                ])
            ),
            ("images", .array(manifest.images.map(imageJSON))),
            (
                "marks",
                .array(
                    marks.map {
                        .object([("count", .integer($0.position.count)), ("text", .string($0.text))])
                    })
            ),
            ("streams", .object(streams.map { ($0.name, .integer($0.bytes)) })),
            (
                "event_kinds",
                .object(
                    counts.indices.filter { counts[$0] > 0 }.map { ("\(Self.kindName($0))", .integer(counts[$0])) })
            ),
        ])
    }

    private func imageJSON(_ image: TraceImage) -> JSON {
        .object([
            ("role", .string(image.role.rawValue)), ("bytes", .integer(image.size)),
            ("embedded", .bool(image.isEmbedded)), ("path", .string(image.path)),
        ])
    }

    private static func kindName(_ kind: Int) -> String {
        EventKind(rawValue: UInt8(kind)).map { "\($0)" } ?? "kind\(kind)"
    }

    private func ratio(_ bytes: UInt64, _ count: UInt64) -> Double { count > 0 ? Double(bytes) / Double(count) : 0 }

    /// Streams with their bytes, and the events' columns behind their stream.
    private var streams: [(name: String, bytes: UInt64)] {
        var rows: [(name: String, bytes: UInt64)] = []
        for stream in TraceStream.allCases {
            guard let bytes = statistics.streams[stream.rawValue] else { continue }
            rows.append(("\(stream)", bytes))
            guard stream == .events else { continue }
            for (id, name) in EventColumn.names {
                if let column = statistics.eventColumns[id] { rows.append(("events.\(name)", column.stored)) }
            }
        }
        return rows
    }

    var text: String {
        let manifest = reader.manifest
        var lines = [
            "format      version \(TraceFormat.version), written by \(manifest.writer), "
                + "detail \(manifest.detail.rawValue)",
            "machine     \(manifest.cpu), \(manifest.chipset.rawValue), \(manifest.memorySize >> 20) MB, "
                + "\(manifest.instructionsPerMicrosecond) instructions a microsecond, "
                + "engine \(manifest.engine.rawValue)",
            "complete    \(reader.isComplete ? "yes" : "no, \(reader.lostBytes) bytes behind the last whole block")"
                + (reader.end.map { ", \($0.outcome)" } ?? ""),
            "position    count \(manifest.start.count) to \(reader.reach.position.count), "
                + "\(reader.reach.position.nanoseconds) ns",
            "digest      \(lastDigest?.description ?? "none")",
        ]
        for image in manifest.images {
            lines.append(
                "image       \(image.role.rawValue), \(image.size) bytes, "
                    + "\(image.isEmbedded ? "embedded" : "not embedded"), \(image.path)")
        }
        for mark in marks.prefix(20) { lines.append("mark        \(mark.position.count) \(mark.text)") }
        if marks.count > 20 { lines.append("mark        and \(marks.count - 20) more") }
        lines.append(
            "events      \(events), \(otherEvents) of them neither RDTSC nor PAUSE, in \(eventBytes) bytes: "
                + "\(RunResult.decimal(ratio(eventBytes, events))) an event, "
                + "\(RunResult.decimal(ratio(eventBytes, otherEvents))) for each of those")
        lines.append(
            "state       \(reader.blocks(.checkpoints).count) checkpoints, \(reader.blocks(.digests).count) digests")
        lines.append("stream                   bytes  per event  per 1000 instructions")
        for row in streams {
            lines.append(
                Self.padded(row.name, 16) + Self.right("\(row.bytes)", 14)
                    + Self.right(RunResult.decimal(ratio(row.bytes, events)), 11)
                    + Self.right(RunResult.decimal(ratio(row.bytes * 1000, instructions)), 23))
        }
        lines.append(Self.padded("file", 16) + Self.right("\(reader.fileSize)", 14))
        return lines.map { $0 + "\n" }.joined()
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(width - text.count, 0))
    }

    private static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(width - text.count, 0)) + text
    }
}
