import Foundation
import Replayer
import Testing
import Tracer
import VMM

/// The samples of `traces/` replay as they were recorded. When they do not, the machine or the format has changed; if
/// that is meant, `scripts/record-samples` makes new ones.
struct TraceSampleTests {
    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("traces").path
    private static let names = ((try? folderContents(folder)) ?? []).filter { $0.hasSuffix(".tline") }

    @Test func thereAreSamples() {
        #expect(Self.names.count >= 10)
        #expect(Self.names.contains { $0.hasPrefix("v\(TraceFormat.version)-") })
    }

    @Test(arguments: names, Engine.allCases)
    func itReplays(name: String, engine: Engine) throws {
        let reader = try TraceReader(Self.folder + "/" + name)
        let end = try #require(reader.end)
        var options = Replay.Options()
        options.engine = engine
        for start in [nil, end.progress.position.count / 2] as [UInt64?] {
            let replay = try Replay(reader, options)
            try replay.begin(at: start)
            let outcome = Outcome(name: end.outcome, exitValue: end.exitValue)
            #expect(try replay.run() == .outcome(outcome!), "from \(start ?? 0)")
            #expect(replay.machine.digest == end.digest)
        }
    }
}
