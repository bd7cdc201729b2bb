import Foundation
import Testing

/// The models against published figures, as `make check-costs` shows them.
struct CheckCostsTests {
    @Test func everyCheckOfATableIsShown() throws {
        let repository = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
        let folder = try TemporaryFolder()
        let file = folder.path + "/checks.json"
        let run = try CommandRun(
            shell: "TRAPLINE=\(CommandRun.executable.path) JSON=\(file) \(repository)/scripts/check-costs zen3")
        #expect(run.code == 0, "\(run.errors)")
        let lines = run.output.split(separator: "\n")
        #expect(lines.count == 4)
        #expect(lines.last?.contains("of 2 checks have a typical value within 1.5 times") == true)
        let rows = try #require(
            try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: file))) as? [[String: Any]])
        #expect(rows.map { $0["guest"] as? String } == ["cpuid-64", "port-in-64"])
        for row in rows {
            let values = ["low", "typical", "high"].compactMap { row[$0] as? Double }
            #expect(values.count == 3 && values == values.sorted())
            let published = try #require(row["published"] as? Double)
            let error = try #require(row["error"] as? Double)
            #expect(abs((values[1] - published) / published - error) < 1e-3)
        }
    }
}
