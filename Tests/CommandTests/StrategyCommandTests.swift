import Foundation
import Replayer
import Testing

/// Replaying under strategies, as the command does it.
struct StrategyCommandTests {
    private static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    private static let sample = repository + "/traces/v1-paging-long.tline"

    private func json(_ arguments: [String]) throws -> [String: Any] {
        let run = try CommandRun(arguments + ["--json"])
        #expect(run.code == 0, "\(run.errors)")
        return try #require(try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
    }

    /// A value with its keys in order.
    private func text(_ value: Any?) throws -> String {
        let data = try JSONSerialization.data(
            withJSONObject: try #require(value), options: [.sortedKeys, .fragmentsAllowed])
        return String(decoding: data, as: UTF8.self)
    }

    private func strategies(_ object: [String: Any]) throws -> [[String: Any]] {
        try #require(object["strategies"] as? [[String: Any]])
    }

    @Test func badInputIsOneSentence() throws {
        let folder = try TemporaryFolder()
        let bad = try folder.file("costs.json", Array("{}".utf8))
        for (arguments, says) in [
            (["compare", Self.sample, "--strategy", "magic"], "there is no strategy \"magic\"; expected native, nops"),
            (["replay", Self.sample, "--strategy", "magic"], "there is no strategy \"magic\""),
            (["strategies", "magic"], "there is no strategy \"magic\""),
            (["compare", Self.sample, "--costs", "z80"], "there is no cost table or file \"z80\""),
            (["compare", Self.sample, "--costs", bad], "\"name\" is missing"),
            (["compare", Self.sample, "--devices", "psychic"], "expected direct, emulated, inplace, virtual"),
            (["compare", Self.sample, "--devices", "floppy=direct"], "there is no group \"floppy\""),
            (["compare", Self.sample, "--mutation", "none"], "there is no mutation"),
            (["compare", Self.sample, "--from", "50%", "--to", "10%"], "before its beginning"),
            (["replay", Self.sample, "--strategy", "nops", "--screen", "x"], "--strategy cannot be used"),
            (["compare", folder.path + "/none"], "No such file"),
        ] {
            let run = try CommandRun(arguments)
            #expect(run.code == 2, "\(arguments)")
            #expect(run.errors.contains(says), "\(run.errors)")
            #expect(run.errors.split(separator: "\n").count == 1, "\(run.errors)")
        }
    }

    @Test func everyStrategyRunsOverASampleWithoutFindings() throws {
        let object = try json(["compare", Self.sample, "--audit"])
        let all = try strategies(object)
        #expect(all.compactMap { $0["name"] as? String } == StrategyCatalog.all.map { $0.name })
        for entry in all {
            #expect((entry["findings"] as? [String])?.isEmpty == true)
            for key in ["cycles_added", "ratio_to_native"] {
                let range = try #require(entry[key] as? [String: Double])
                let values = ["low", "typical", "high"].compactMap { range[$0] }
                #expect(values.count == 3 && values == values.sorted(), "\(entry["name"] ?? "") \(key) \(values)")
            }
        }
        #expect((all[0]["cycles_added"] as? [String: Double])?.values.allSatisfy { $0 == 0 } == true)
        #expect(object["divergence"] is NSNull)
    }

    /// What one strategy charges does not depend on which others run beside it, nor on the engine.
    @Test func aStrategyIsTheSameAlone() throws {
        let together = try strategies(try json(["compare", Self.sample, "--engine", "interpreter"]))
        for name in ["binary-translation", "xen-inplace", "vtx-ept"] {
            let alone = try strategies(
                try json(["replay", Self.sample, "--strategy", name, "--engine", "translator"]))
            let left = try #require(alone.first { $0["name"] as? String == name })
            let right = try #require(together.first { $0["name"] as? String == name })
            for key in ["cycles_added", "by_class", "world_switches", "details"] {
                #expect(try text(left[key]) == text(right[key]), "\(name) \(key)")
            }
        }
    }

    /// A delay loop is bounded by time: ten times the delay is the same work.
    @Test(arguments: ["32", "64"]) func delaysStayOutOfTheHeadline(width: String) throws {
        let folder = try TemporaryFolder()
        let results = try ["1ms", "10ms"].map { delay in
            let trace = folder.path + "/\(delay).tline"
            let recording = try CommandRun([
                "record", "-o", trace, "--firmware",
                "\(Self.repository)/.cache/guests/primitives/wait-\(delay)-\(width).bin", "--memory", "32M", "--stdin",
                "none", "--expect", "debug-exit:0",
            ])
            #expect(recording.code == 0, "\(recording.errors)")
            return try json(["compare", trace])
        }
        #expect(try text(results[0]["native_cycles"]) == text(results[1]["native_cycles"]))
        let (short, long) = (try strategies(results[0]), try strategies(results[1]))
        for (left, right) in zip(short, long) {
            for key in ["cycles_added", "ratio_to_native", "world_switches"] {
                #expect(try text(left[key]) == text(right[key]), "\(left["name"] ?? "") \(key)")
            }
        }
        let waits = results.compactMap { ($0["wait_cycles"] as? [String: Double])?["typical"] }
        #expect(waits.count == 2 && waits[1] > 9 * waits[0])
    }

    /// A polling loop is priced by the port that it polls, also when nothing but polls came from there.
    @Test func pollsKeepTheirPort() throws {
        let folder = try TemporaryFolder()
        let trace = folder.path + "/port.tline"
        let recording = try CommandRun([
            "record", "-o", trace, "--firmware", "\(Self.repository)/.cache/guests/primitives/port-in-64.bin",
            "--memory",
            "32M", "--stdin", "none", "--expect", "debug-exit:0",
        ])
        #expect(recording.code == 0, "\(recording.errors)")
        let entry = try #require(
            try strategies(
                try json([
                    "replay", trace, "--strategy", "binary-translation", "--costs", "prescott", "--include-waits",
                ])
            ).first)
        let device = try #require((entry["by_class"] as? [String: [String: Double]])?["device"]?["typical"])
        let table = try #require(BuiltInCosts.table("prescott"))
        let one =
            table.cycles(.inlineEmulation).typical - table.cycles(.portInstruction).typical
            - table.cycles(.portBus).typical
        // 1,000 reads of port 80h after 16 to warm up, and a few other accesses.
        #expect(abs(device / (1016 * one) - 1) < 0.05, "\(device)")
    }

    @Test(arguments: StrategyCatalog.all.map { $0.name }) func aStrategyDescribesItself(name: String) throws {
        let text = try CommandRun(["strategies", name, "--costs", "pentium4"])
        #expect(text.code == 0 && text.output.hasPrefix(name + ": "))
        let paths = try #require(try json(["strategies", name])["paths"] as? [[String: Any]])
        #expect(name == "native" ? paths.isEmpty : !paths.isEmpty)
        #expect(paths.allSatisfy { ($0["mechanism"] as? String)?.isEmpty == false })
    }
}
