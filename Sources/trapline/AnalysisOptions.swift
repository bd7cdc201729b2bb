import Analyzer
import ArgumentParser
import Replayer
import Tracer
import VMM

/// The options of every command that looks into a trace's analysis.
struct AnalysisOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @Option(
        help: ArgumentHelp("Keep the analysis in this file, not in the cache.", valueName: "file"), completion: .file())
    var db: String?
    @Option(
        help: ArgumentHelp("Symbols: a System.map, or an ELF file with a symbol table. Repeatable.", valueName: "file"),
        completion: .file())
    var symbols: [String] = []
    @Flag(help: "Load every event, not only sums.")
    var events = false
    @Option(
        help: ArgumentHelp("Where an image is that the trace does not hold.", valueName: "role=file"),
        transform: { try ImageArgument($0) })
    var image: [ImageArgument] = []

    var request: AnalysisRequest {
        AnalysisRequest(
            trace: trace, db: db, symbols: symbols, events: events, images: ImageFiles(image), imageArguments: image)
    }
}

/// Which analysis is wanted.
struct AnalysisRequest {
    /// What a symbol file may have.
    private static let largestSymbols: UInt64 = 2 << 30

    var trace: String
    var db: String?
    var symbols: [String] = []
    var events = false
    var images = ImageFiles([])
    var imageArguments: [ImageArgument] = []

    /// The analysis of the trace, made now if it was not before.
    func store() throws -> AnalysisStore {
        let reader = try OpenTrace.reader(trace)
        guard reader.manifest.detail != .inputs else {
            throw CommandError.trace(
                path: trace,
                .unusable("the trace holds no events; replay it with --record FILE --detail events to have them"))
        }
        let files = try symbolFiles()
        let identity = try StoreIdentity(path: trace, reader, symbolFiles: files)
        do {
            return try AnalysisStore.open(identity, named: db, withEvents: events) {
                try TraceAnalysis(reader, symbolFiles: files, makeReplay: replayMaker(reader))
            }
        } catch let error as TraceError {
            throw CommandError.trace(path: trace, error)
        }
    }

    /// The trace with its guest's memory, kernel and symbols.
    func analysis() throws -> TraceAnalysis {
        let reader = try OpenTrace.reader(trace)
        return try TraceAnalysis(reader, symbolFiles: symbolFiles(), makeReplay: replayMaker(reader))
    }

    /// Samples the kernel's call stacks, if the store has none yet; with `paging` also at events that only models see.
    func addStacks(to store: AnalysisStore, paging: Bool) throws {
        EndingSignal.watch()
        let progress = ProgressLine("reading stacks")
        try store.addStacks(analysis, paging: paging) {
            progress.show($0)
            return !EndingSignal.wasReceived
        }
        if EndingSignal.wasReceived { throw EndingSignal.interrupted("there are no stacks") }
    }

    /// The counts between two positions of the trace, at least one; nil without positions.
    func counts(of part: [PositionArgument]) throws(CommandError) -> Range<UInt64>? {
        guard let from = part.first, let to = part.last else { return nil }
        let reader = try OpenTrace.reader(trace)
        return try OpenTrace.describing(trace) { () throws(TraceError) in
            let (first, last) = (try from.count(in: reader), try to.count(in: reader))
            guard first <= last else {
                throw .unusable("--between ends at count \(last), which is before its beginning, count \(first)")
            }
            return first..<max(last, first + 1)
        }
    }

    /// Builds replays of the trace that do not verify.
    func replayMaker() throws -> () throws(TraceError) -> Replay { try replayMaker(OpenTrace.reader(trace)) }

    private func replayMaker(_ reader: TraceReader) -> () throws(TraceError) -> Replay {
        let images = images
        return { () throws(TraceError) in
            var options = Replay.Options()
            options.verifies = false
            return try Replay(
                reader, options, file: { image throws(TraceError) in try images.bytes(image) },
                disk: { image throws(TraceError) in try images.disk(image) })
        }
    }

    private func symbolFiles() throws -> [SymbolFile] {
        try symbols.map { path in
            let file = try FileDescriptor.reading(path)
            defer { file.close() }
            return try SymbolFile(file.readAll(path, limit: Self.largestSymbols), path: path)
        }
    }
}
