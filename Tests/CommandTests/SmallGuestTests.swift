import Foundation
import Testing

/// One of the project's own guests, `guests/NAME.S`. Comments at its top may say with which options it runs
/// (`// Run: --reset continue`) and how it ends if not by isa-debug-exit (`// Ends: triple-fault`).
private struct SmallGuest: CustomTestStringConvertible, Sendable {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Every guest that lies in the folder.
    static let all: [SmallGuest] = {
        let folder = repository.appendingPathComponent("guests")
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".S") }.sorted().map {
            SmallGuest(name: String($0.dropLast(2)), source: folder.appendingPathComponent($0))
        }
    }()

    /// Assembles what changed; what the script said if it failed.
    static let buildFailure: String? = {
        let process = Process()
        let output = Pipe()
        process.executableURL = repository.appendingPathComponent("scripts/build-guests")
        process.standardOutput = FileHandle.nullDevice
        process.standardError = output
        do { try process.run() } catch { return "\(error)" }
        let errors = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return process.terminationStatus == 0 ? nil : errors
    }()

    var name: String
    var options: [String] = []
    var ending: String?
    var testDescription: String { name }

    init(name: String, source: URL) {
        self.name = name
        let text = (try? String(contentsOf: source, encoding: .utf8)) ?? ""
        for line in text.split(separator: "\n").prefix(while: { $0.hasPrefix("//") }) {
            let words = line.split(separator: " ").map(String.init)
            if words[1] == "Run:" { options = Array(words[2...]) }
            if words[1] == "Ends:" { ending = words[2] }
        }
    }

    var arguments: [String] {
        let built = Self.repository.path + "/.cache/guests/small/" + name
        let image = name.hasPrefix("multiboot") ? ["--kernel", built + ".elf"] : ["--firmware", built + ".bin"]
        return image + options + (ending.map { ["--expect", $0] } ?? [])
    }
}

struct SmallGuestTests {
    /// The machines that every guest runs on.
    private static let machines: [[String]] = [
        ["--cpu", "x86-64"],
        ["--cpu", "x86-64-intel", "--chipset", "xtpic"],
        ["--cpu", "x86-64-intel"],
        ["--cpu", "pentium4", "--chipset", "xtpic"],
        ["--cpu", "pentium4"],
    ]

    @Test func thereAreGuests() { #expect(SmallGuest.all.count >= 18) }

    @Test(arguments: SmallGuest.all, machines)
    private func everyCheckPasses(guest: SmallGuest, machine: [String]) throws {
        if let failure = SmallGuest.buildFailure {
            Issue.record("scripts/build-guests: \(failure)")
            return
        }
        // Both engines, compared on the way and at the end.
        let engines = ["--engine", "both", "--check-every", "1000003", "--memory", "32M"]
        let run = try CommandRun(["run", "--stdin", "none", "--timeout", "120"] + engines + guest.arguments + machine)
        let lines = run.output.split(separator: "\n")
        let unexpected = lines.filter { !$0.hasPrefix("ok ") && !$0.hasPrefix("skip ") }
        if guest.ending == nil {
            #expect(unexpected.count == 1 && unexpected.first?.hasSuffix(" failed 00000000") == true, "\(unexpected)")
            #expect(run.code == 1, "\(run.errors)")
        } else {
            #expect(unexpected.isEmpty, "\(unexpected)")
            #expect(run.code == 0, "\(run.errors)")
        }
        #expect(lines.contains { $0.hasPrefix("ok ") || $0.hasPrefix("skip all") })
    }
}
