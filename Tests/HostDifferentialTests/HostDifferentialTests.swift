import DifferentialRun
import Testing

/// Instruction semantics against the host CPU. The comparison is a program of its own, `hostdiff`: a trap in the
/// engine then ends that program and not the test run.
@Suite struct HostDifferentialTests {
    @Test(.timeLimit(.minutes(10))) func everyFormAgreesWithTheHost() throws {
        let seed = DifferentialRun.seed
        let runs = try DifferentialRun.all("hostdiff", (0..<2).map { ["--seed", seed, "--shard", "\($0)/2"] })
        for line in runs.flatMap(\.lines) { print(line) }
        #expect(runs.allSatisfy { $0.code == 0 })
        let forms = runs.reduce(0) { $0 + $1.totals[0] }
        let cases = runs.reduce(0) { $0 + $1.totals[1] }
        print("compared with the host CPU: \(forms) instruction forms, \(cases) cases, seed \(seed)")
        #expect(cases >= 500 * forms && cases >= 1_000_000)
    }

    @Test func earlierFailuresStayFixed() throws {
        let cases = try DifferentialRun.cases()
        #expect(!cases.isEmpty)
        let run = try DifferentialRun("hostdiff", cases)
        for line in run.lines { print(line) }
        #expect(run.code == 0 && run.totals[1] > 0)
    }
}
