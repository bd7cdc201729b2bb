import Foundation
import Replayer
import Testing

/// One of the guests that isolate a primitive, `guests/primitives/NAME.S`, for one width. Comments at its top say how
/// often it does its operation (`// Operations: 1000`) and for which widths it is built if not both (`// Widths: 64`).
private struct PrimitiveGuest: CustomTestStringConvertible, Sendable {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let all: [PrimitiveGuest] = {
        let folder = repository.appendingPathComponent("guests/primitives")
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".S") }.sorted().flatMap { file -> [PrimitiveGuest] in
            let text = (try? String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)) ?? ""
            var widths = ["32", "64"]
            var operations = 0
            for line in text.split(separator: "\n").prefix(while: { $0.hasPrefix("//") }) {
                let words = line.split(separator: " ").map(String.init)
                if words[1] == "Operations:" { operations = Int(words[2]) ?? 0 }
                if words[1] == "Widths:" { widths = Array(words[2...]) }
            }
            return widths.map { PrimitiveGuest(name: file.dropLast(2) + "-" + $0, operations: operations) }
        }
    }()

    /// Assembles what changed; false if that failed.
    static let isBuilt: Bool = {
        let process = Process()
        process.executableURL = repository.appendingPathComponent("scripts/build-guests")
        process.standardOutput = FileHandle.nullDevice
        do { try process.run() } catch { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    var name: String
    var operations: Int
    var testDescription: String { name }

    var arguments: [String] {
        [
            "--firmware", "\(Self.repository.path)/.cache/guests/primitives/\(name).bin", "--memory", "32M", "--stdin",
            "none", "--timeout", "60", "--expect", "debug-exit:0",
        ]
    }
}

struct PrimitiveGuestTests {
    @Test func thereAreGuests() { #expect(PrimitiveGuest.all.count >= 50) }

    /// It runs in both engines, sees itself that it did its operations, and sets both marks.
    @Test(arguments: PrimitiveGuest.all)
    private func itDoesItsOperations(guest: PrimitiveGuest) throws {
        try #require(PrimitiveGuest.isBuilt)
        let lockstep = try CommandRun(["run", "--engine", "both", "--check-every", "100003"] + guest.arguments)
        #expect(lockstep.code == 0, "\(lockstep.errors)")
        let folder = try TemporaryFolder()
        let trace = folder.path + "/guest.tline"
        let recording = try CommandRun(["record", "-o", trace, "--detail", "paging"] + guest.arguments)
        #expect(recording.code == 0, "\(recording.errors)")
        let info = try CommandRun(["info", trace]).output.split(separator: "\n")
        let marks = info.filter { $0.hasPrefix("mark ") }.compactMap { $0.split(separator: " ").last }
        #expect(marks == ["begin", "end"])
        #expect(guest.operations > 0)
    }

    /// The two guests that differ by a pair of instructions.
    private func pair(_ width: String) throws -> [PrimitiveGuest] {
        try #require(PrimitiveGuest.isBuilt)
        return try ["pair-a", "pair-b"].map { name in
            try #require(PrimitiveGuest.all.first { $0.name == "\(name)-\(width)" })
        }
    }

    /// The two guests differ by one CLI and one STI in each of their iterations, and by nothing else.
    @Test(arguments: ["32", "64"]) func thePairDiffersByOnePair(width: String) throws {
        let folder = try TemporaryFolder()
        let counts = try pair(width).map { guest in
            let summary = folder.path + "/\(guest.name).json"
            _ = try CommandRun(["run", "--json-summary", summary] + guest.arguments)
            let object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: summary)))
            return try #require((object as? [String: Any])?["instructions"] as? Int)
        }
        #expect(counts[1] - counts[0] == 2 * (1000 + 16))
    }

    /// The difference of the two is named as that pair and nothing else, though it moved what follows it.
    @Test(arguments: ["32", "64"]) func diffNamesThePair(width: String) throws {
        let folder = try TemporaryFolder()
        let traces = try pair(width).map { guest in
            let trace = folder.path + "/\(guest.name).tline"
            let recording = try CommandRun(["record", "-o", trace] + guest.arguments)
            #expect(recording.code == 0, "\(recording.errors)")
            return trace
        }
        let run = try CommandRun(["diff", "--json"] + traces)
        let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any]
        let changes = try #require(object?["changes"] as? [[String: Any]])
        #expect(changes.compactMap { $0["kind"] as? String } == ["cli", "sti"])
        #expect(changes.allSatisfy { $0["before"] as? Int == 0 && $0["after"] as? Int == 1000 + 16 })
        let itself = try CommandRun(["diff", traces[0], traces[0]])
        #expect(itself.code == 0 && itself.output.isEmpty)
    }

    /// Every guest that a cost table's check names exists.
    @Test(arguments: BuiltInCosts.names) func checksNameGuests(table: String) throws {
        let names = Set(PrimitiveGuest.all.map(\.name))
        for check in try #require(BuiltInCosts.table(table)).checks {
            #expect(names.contains(check.guest), "\(check.guest)")
        }
    }
}
