import DifferentialRun
import Testing

/// Random programs in both engines. The comparison is a program of its own, `blockdiff`: a crash of translated code
/// then ends that program and not the test run.
@Suite struct BlockDifferentialTests {
    private func run(_ arguments: [String]) throws -> DifferentialRun { try DifferentialRun("blockdiff", arguments) }

    @Test(.timeLimit(.minutes(10))) func aMillionBlocksAgree() throws {
        let seed = DifferentialRun.seed
        let runs = try DifferentialRun.all("blockdiff", (0..<2).map { ["--seed", seed, "--shard", "\($0)/2"] })
        for line in runs.flatMap(\.lines) { print(line) }
        #expect(runs.allSatisfy { $0.code == 0 })
        let blocks = runs.reduce(0) { $0 + $1.totals[0] }
        let programs = runs.reduce(0) { $0 + $1.totals[1] }
        print("compared in both engines: \(blocks) blocks of \(programs) programs, seed \(seed)")
        #expect(blocks >= 1_000_000)
    }

    @Test func earlierFailuresStayFixed() throws {
        let cases = try DifferentialRun.cases("blocks")
        #expect(!cases.isEmpty)
        let run = try run(cases)
        for line in run.lines { print(line) }
        #expect(run.code == 0 && run.totals[1] == cases.count / 2)
    }

    @Test func theHostIsComparedToo() throws {
        let run = try run(["--setting", "64-user", "--blocks", "3000", "--failures", "1", "--spoil-host"])
        let isComparable = !run.lines.contains { $0.hasPrefix("not compared with the host CPU") }
        #expect(run.code == (isComparable ? 1 : 0))
        #expect(run.lines.contains { $0.contains("register 3: host") } == isComparable)
    }

    /// Bugs put into the translator one at a time: random programs must find each. Most are found within the first
    /// hundreds of programs; a crash is a find, too.
    @Test(.timeLimit(.minutes(10))) func everySeededBugIsFound() throws {
        let bugs = try run(["--list-bugs"]).lines
        #expect(bugs.count >= 20)
        var found: [String] = []
        for bug in bugs {
            let run = try run(["--bug", bug, "--blocks", "400000", "--failures", "1", "--no-shrink"])
            let isFound = run.code == 1 && run.totals[2] > 0 || run.code < 0
            #expect(isFound, "\(bug): \(run.code) \(run.lines.last ?? "")")
            if isFound { found.append("\(bug) (\(run.code < 0 ? "crash" : "\(run.totals[1]) programs"))") }
        }
        print("seeded bugs found: \(found.joined(separator: ", "))")
    }
}
