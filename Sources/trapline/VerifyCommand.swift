import ArgumentParser
import Tracer

/// `trapline verify`: reads every byte of a trace, without running anything.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check a trace file: checksums, index, every event; replay checks what it means.",
        discussion: "Example: trapline verify boot.tline")

    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @Flag(help: "Write JSON.")
    var json = false

    func run() throws {
        let reader = try OpenTrace.reader(trace)
        let progress = ProgressLine("checking")
        let check = try OpenTrace.describing(trace) { () throws(TraceError) in
            try TraceCheck(reader) { progress.show($0) }
        }
        progress.clear()
        if json {
            let document = JSON.object([
                ("complete", .bool(reader.isComplete)), ("blocks", .integer(UInt64(reader.blocks.count))),
                ("events", .integer(check.events)), ("pages", .integer(check.pages)),
                ("lost_bytes", .integer(reader.lostBytes)),
            ])
            FileDescriptor.standardOutput.writeAll(Array(document.document.utf8))
        }
        let state =
            reader.isComplete
            ? "complete" : "incomplete: it ends at byte \(reader.fileSize - reader.lostBytes) of \(reader.fileSize)"
        StandardError.say(
            "\(trace) is sound and \(state); \(reader.blocks.count) blocks, \(check.events) events, "
                + "\(check.pages) pages")
    }
}
