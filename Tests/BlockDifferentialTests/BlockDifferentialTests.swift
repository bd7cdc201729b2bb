import Foundation
import Testing

/// Random programs in both engines. The comparison is a program of its own, `blockdiff`: a crash of translated code
/// then ends that program and not the test run.
@Suite struct BlockDifferentialTests {
    /// One run of the built `blockdiff`.
    private struct Run {
        var code: Int32
        var lines: [String]

        /// Starts `blockdiff` from the folder of the test's own executable.
        static func start(_ arguments: [String]) throws -> (Process, Pipe) {
            let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            let process = Process()
            let output = Pipe()
            process.executableURL = folder.appendingPathComponent("blockdiff")
            process.arguments = arguments
            process.standardOutput = output
            process.standardError = output
            try process.run()
            return (process, output)
        }

        init(_ started: (process: Process, output: Pipe)) {
            let data = started.output.fileHandleForReading.readDataToEndOfFile()
            lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
            started.process.waitUntilExit()
            let process = started.process
            code = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
        }

        /// The numbers of the last line: blocks, programs, mismatches.
        var totals: [Int] {
            let words = (lines.last ?? "").split(separator: " ")
            guard words.first == "blockdiff:" else { return [0, 0, 1] }
            return Array(words.compactMap { Int($0) }.prefix(3))
        }
    }

    @Test(.timeLimit(.minutes(10))) func aMillionBlocksAgree() throws {
        let seed = ProcessInfo.processInfo.environment["TRAPLINE_SEED"] ?? "1"
        let started = try (0..<2).map { try Run.start(["--seed", seed, "--shard", "\($0)/2"]) }
        let runs = started.map(Run.init)
        for line in runs.flatMap(\.lines) { print(line) }
        #expect(runs.allSatisfy { $0.code == 0 })
        let blocks = runs.reduce(0) { $0 + $1.totals[0] }
        print("compared in both engines: \(blocks) blocks of \(runs.reduce(0) { $0 + $1.totals[1] }) programs, seed \(seed)")
        #expect(blocks >= 1_000_000)
    }

    @Test func earlierFailuresStayFixed() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("cases/blocks")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".txt") }
        #expect(!files.isEmpty)
        let run = Run(try Run.start(files.sorted().flatMap { ["--file", folder.appendingPathComponent($0).path] }))
        for line in run.lines { print(line) }
        #expect(run.code == 0 && run.totals[1] == files.count)
    }

    /// Bugs put into the translator one at a time: random programs must find each. Most are found within the first
    /// hundreds of programs; a crash is a find, too.
    @Test(.timeLimit(.minutes(10))) func everySeededBugIsFound() throws {
        let bugs = Run(try Run.start(["--list-bugs"])).lines
        #expect(bugs.count >= 20)
        var found: [String] = []
        for bug in bugs {
            let run = Run(try Run.start(["--bug", bug, "--blocks", "400000", "--failures", "1", "--no-shrink"]))
            let isFound = run.code == 1 && run.totals[2] > 0 || run.code < 0
            #expect(isFound, "\(bug): \(run.code) \(run.lines.last ?? "")")
            if isFound { found.append("\(bug) (\(run.code < 0 ? "crash" : "\(run.totals[1]) programs"))") }
        }
        print("seeded bugs found: \(found.joined(separator: ", "))")
    }
}
