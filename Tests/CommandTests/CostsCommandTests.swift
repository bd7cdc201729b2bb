import Foundation
import Replayer
import Testing

struct CostsCommandTests {
    @Test func withoutANameItListsTheTables() throws {
        let run = try CommandRun(["costs"])
        #expect(run.code == 0)
        for name in BuiltInCosts.names { #expect(run.output.contains("\n\(name) ")) }
        let json = try CommandRun(["costs", "--json"])
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        let tables = try #require(object?["tables"] as? [[String: Any]])
        #expect(tables.prefix(4).map { $0["name"] as? String } == BuiltInCosts.names)
    }

    @Test(arguments: BuiltInCosts.names) func aTableIsShownWhole(name: String) throws {
        let table = try #require(BuiltInCosts.table(name))
        let run = try CommandRun(["costs", name])
        #expect(run.code == 0)
        for cost in table.costs {
            #expect(run.output.contains("\n\(cost.primitive.name) "))
            #expect(run.output.contains(cost.source))
        }
        for check in table.checks { #expect(run.output.contains(check.source)) }
        for reason in table.hypothetical.values { #expect(run.output.contains(reason)) }
        // Nothing but text, for whoever reads it through a pipe.
        #expect(!run.output.unicodeScalars.contains("\u{1b}"))
        #expect(try CommandRun(["costs", name, "--json"]).output == table.json)
    }

    @Test func aTableOfTheUsersIsReadFromItsFile() throws {
        let folder = try TemporaryFolder()
        let text = try #require(BuiltInCosts.table("zen3")).json.replacingOccurrences(of: "\"zen3\"", with: "\"mine\"")
        let path = try folder.file("table.json", Array(text.utf8))
        #expect(try CommandRun(["costs", path]).output.hasPrefix("mine: "))
    }

    @Test func whatIsNoTableIsSaidInOneSentence() throws {
        let folder = try TemporaryFolder()
        let broken = try folder.file("broken.json", Array("{\n\"name\": }".utf8))
        let large = try folder.file("large.json", [UInt8](repeating: 32, count: CostTable.maximumFileSize + 2))
        let cases = [
            (
                "pentium5",
                "trapline: there is no cost table or file \"pentium5\"; expected pentium4, prescott, skylake, zen3"
            ),
            (broken, "trapline: \(broken): not JSON: line 2: expected a value, found '}'\n"),
            (large, "trapline: \(large): the file has more than the "),
            (folder.path + "/none.json", "trapline: cannot read \(folder.path)/none.json: No such file or directory\n"),
            (folder.path, "trapline: cannot read \(folder.path): Is a directory\n"),
        ]
        for (name, sentence) in cases {
            let run = try CommandRun(["costs", name])
            #expect(run.code == 2)
            #expect(run.output.isEmpty)
            #expect(run.errors.hasPrefix(sentence), "\(run.errors)")
            #expect(run.errors.split(separator: "\n").count == 1)
        }
    }

    // MARK: calibrate

    @Test func calibrateMakesATableOfTheHost() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/host.json"
        let run = try CommandRun(["calibrate", "-o", path, "--json"])
        #expect(run.code == 0, "\(run.errors)")
        #expect(run.errors.isEmpty)
        let report = try #require(
            try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
        let nearest = try #require(BuiltInCosts.table(report["nearest"] as? String ?? ""))
        let table = try CostTable(json: Array(Data(contentsOf: URL(fileURLWithPath: path))))
        #expect(table.name == "host")
        #expect(table.clock == report["tsc_mhz"] as? Double)
        #expect(table.hypothetical == nearest.hypothetical)
        // What a row says of itself is true: it was measured, or it is the nearest table's.
        let measured = Set(
            try #require(report["measurements"] as? [[String: Any]]).flatMap { $0["rows"] as? [String] ?? [] })
        for cost in table.costs {
            if measured.contains(cost.primitive.name) {
                #expect(cost.source.contains("measured on "))
            } else {
                #expect(cost == nearest[cost.primitive])
            }
        }
        for primitive in [Primitive.pushf, .popf, .rdtsc, .pause, .callReturn, .memoryAccess, .segmentLoad] {
            #expect(measured.contains(primitive.name))
            #expect(table[primitive].role == .input)
            #expect(table[primitive].value.typical > 0)
        }
        #expect(report["kvm"] is String || measured.contains("exitRoundTrip"))
    }

    @Test func theHostsTableIsFoundInTheCacheFolder() throws {
        let folder = try TemporaryFolder()
        let command = "XDG_CACHE_HOME=\(folder.path)/a/b \(CommandRun.executable.path)"
        let before = try CommandRun(shell: "\(command) costs host")
        #expect(before.code == 2)
        #expect(
            before.errors == "trapline: there is no cost table of this host yet; 'trapline calibrate' measures one\n")
        let run = try CommandRun(shell: "\(command) calibrate")
        #expect(run.code == 0, "\(run.errors)")
        #expect(run.output.contains("written to \(folder.path)/a/b/trapline/host.json; --costs host uses it"))
        #expect(try CommandRun(shell: "\(command) costs host").output.hasPrefix("host: "))
        #expect(try CommandRun(shell: "\(command) costs").output.contains("\nhost "))
    }

    @Test func aTableOfTheHostThatLacksARowIsToBeMeasuredAgain() throws {
        let folder = try TemporaryFolder()
        try FileManager.default.createDirectory(
            atPath: folder.path + "/trapline", withIntermediateDirectories: true)
        let rows = try #require(BuiltInCosts.table("zen3")).json.split(separator: "\n")
        let text = rows.filter { !$0.contains("\"cpuid\"") }.joined(separator: "\n")
        _ = try folder.file("trapline/host.json", Array(text.utf8))
        let run = try CommandRun(shell: "XDG_CACHE_HOME=\(folder.path) \(CommandRun.executable.path) costs host")
        #expect(run.code == 2)
        #expect(
            run.errors
                == "trapline: \(folder.path)/trapline/host.json: line 1: the row of \"cpuid\" is missing; expected one "
                + "in \"costs\" for each primitive; 'trapline calibrate' makes a new one\n")
    }

    @Test func aTableThatCannotBeWrittenIsSaidBeforeAnythingIsMeasured() throws {
        let run = try CommandRun(["calibrate", "-o", "/none/host.json"])
        #expect(run.code == 2)
        #expect(run.errors == "trapline: cannot write /none/host.json: No such file or directory\n")
    }
}
