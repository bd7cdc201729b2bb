import ArgumentParser
import Tracer

/// `trapline strip`: a copy of a trace without some of its parts.
struct StripCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "strip",
        abstract: "Copy a trace without its images, events or checkpoints.",
        discussion: """
            Without events and checkpoints a trace still replays; without images it wants the files.

            Example: trapline strip boot.tline -o small.tline --events --checkpoints
            """)

    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @Option(name: .shortAndLong, help: ArgumentHelp("The trace to write.", valueName: "file"), completion: .file())
    var output: String
    @Flag(help: "Without the images that came from files; their digests stay.")
    var images = false
    @Flag(help: "Without the events, as if recorded with --detail inputs.")
    var events = false
    @Flag(help: "Without the checkpoints.")
    var checkpoints = false
    @Flag(help: "Write JSON.")
    var json = false

    mutating func validate() throws {
        guard images || events || checkpoints else {
            throw ValidationError("nothing to strip: give --images, --events or --checkpoints")
        }
        guard output != trace else { throw ValidationError("the stripped trace needs a file of its own") }
    }

    func run() throws {
        let reader = try OpenTrace.reader(trace)
        let strip = TraceStrip(images: images, events: events, checkpoints: checkpoints)
        let progress = ProgressLine("copying")
        let written = try OpenTrace.describing(output) { () throws(TraceError) in
            try strip.copy(reader, to: output) { progress.show($0) }
        }
        progress.clear()
        if json {
            let document = JSON.object([("bytes_before", .integer(reader.fileSize)), ("bytes", .integer(written))])
            FileDescriptor.standardOutput.writeAll(Array(document.document.utf8))
        }
        StandardError.say("\(output) has \(written) bytes, \(trace) has \(reader.fileSize)")
    }
}
