import Dispatch
import Foundation
import Testing

/// The commands that write and read traces, each in a process of its own.
struct RecordCommandTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func field(_ text: String, _ key: String) throws -> Any? {
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        return object?[key]
    }

    private func record(_ name: String, _ arguments: [String] = []) throws -> String {
        let path = folder.path + "/" + name
        let run = try CommandRun(["record", "-o", path, "--stdin", "none"] + arguments)
        #expect(run.code == 0, "\(run.errors)")
        return path
    }

    @Test func whatIsRecordedReplays() throws {
        let summary = folder.path + "/run.json"
        let trace = try record("t.tline", ["--json-summary", summary])
        let replay = try CommandRun(["replay", trace, "--json"])
        #expect(replay.code == 0, "\(replay.errors)")
        let run = try String(contentsOfFile: summary, encoding: .utf8)
        for key in ["outcome", "digest", "instructions", "virtual_ns"] {
            #expect("\(try field(run, key)!)" == "\(try field(replay.output, key)!)")
        }
        #expect(try field(replay.output, "divergence") is NSNull)
        #expect(try field(replay.output, "verified_events") as? Int ?? 0 > 10_000)
        let console = try CommandRun(["replay", trace])
        #expect(console.output.hasSuffix("GUEST-DONE\r\n"))
        #expect(try CommandRun(["replay", trace, "--quiet", "--engine", "interpreter"]).output.isEmpty)
    }

    @Test func infoNamesWhatIsThere() throws {
        let trace = try record("t.tline")
        let info = try CommandRun(["info", trace, "--json"])
        #expect(info.code == 0)
        for key in [
            "version", "complete", "instructions", "events", "event_bytes", "non_rdtsc_events", "image_bytes",
            "checkpoint_bytes", "checkpoints", "digest", "detail", "machine",
        ] {
            #expect(try field(info.output, key) != nil, "\(key)")
        }
        #expect(try field(info.output, "complete") as? Bool == true)
        #expect(try CommandRun(["info", trace]).output.contains("complete    yes, power-off"))
        #expect(try CommandRun(["verify", trace]).code == 0)
    }

    @Test func eventsAreDumped() throws {
        let trace = try record("t.tline")
        let cpuid = try CommandRun(["dump", trace, "--kind", "cpuid", "--limit", "3"])
        #expect(cpuid.output.split(separator: "\n").count == 3)
        #expect(cpuid.output.split(separator: "\n").allSatisfy { $0.contains(" cpuid ") })
        let ports = try CommandRun(["dump", trace, "--port", "0x3f8", "--json", "--limit", "2"])
        for line in ports.output.split(separator: "\n") {
            #expect(try field(String(line), "operand") as? String == "0x3f8")
            #expect(try field(String(line), "kind") as? String == "portOut")
        }
        let state = try CommandRun([
            "dump", trace, "--at", "50%", "--regs", "--stack", "--mem", "0x100000,32", "--disassemble",
        ])
        #expect(state.code == 0, "\(state.errors)")
        for word in ["rip ", "cr0 ", "100000  "] { #expect(state.output.contains(word)) }
        let middle = try CommandRun(["dump", trace, "--from", "100000", "--to", "100100"])
        for line in middle.output.split(separator: "\n") {
            #expect((100_000..<100_100).contains(Int(line.split(separator: " ")[1])!))
        }
    }

    @Test func imagesThatAreNotEmbeddedAreWanted() throws {
        let image = try folder.file("guest.img", [UInt8](repeating: 0x90, count: 1 << 20))
        let trace = try record(
            "t.tline", ["--no-embed", "--disk", image, "--max-instructions", "30000000", "--expect", "limit"])
        #expect(try CommandRun(["replay", trace, "--quiet"]).code == 0)
        let moved = folder.path + "/moved.img"
        try FileManager.default.moveItem(atPath: image, toPath: moved)
        let missing = try CommandRun(["replay", trace, "--quiet"])
        #expect(missing.code == 2 && missing.errors.contains("does not hold the disk"), "\(missing.errors)")
        #expect(try CommandRun(["replay", trace, "--quiet", "--image", "disk=" + moved]).code == 0)
        _ = try folder.file("moved.img", [UInt8](repeating: 0x91, count: 1 << 20))
        let changed = try CommandRun(["replay", trace, "--quiet", "--image", "disk=" + moved])
        #expect(changed.code == 24 && changed.errors.contains("differs at byte"), "\(changed.errors)")
    }

    @Test func aDiskImageNeedNotBeThere() throws {
        let image = try folder.file("guest.img", [UInt8](repeating: 0x90, count: 1 << 20))
        let trace = try record("t.tline", ["--disk", image, "--max-instructions", "30000000", "--expect", "limit"])
        try FileManager.default.removeItem(atPath: image)
        let replay = try CommandRun(["replay", trace, "--quiet"])
        #expect(replay.code == 0, "\(replay.errors)")
        let stripped = folder.path + "/s.tline"
        #expect(try CommandRun(["strip", trace, "-o", stripped, "--events"]).code == 0)
        #expect(try CommandRun(["replay", stripped, "--quiet"]).code == 0)
    }

    /// A file system without room: the guest stops, the reason is said, and what was written replays.
    @Test func aFullDiskIsSaid() throws {
        let trace = folder.path + "/t.tline"
        let command = CommandRun.executable.path
        for blocks in [1, 4, 40] {
            let image = try folder.file("loop.img", Self.loop)
            let run = try CommandRun(
                shell: "ulimit -f \(blocks); exec '\(command)' record -o '\(trace)' --kernel '\(image)' --memory 16 "
                    + "--stdin none --digest-every 1000 --max-instructions 50000000")
            #expect(run.code == 2, "\(blocks): \(run.errors)")
            #expect(run.errors.contains("cannot write \(trace): "), "\(run.errors)")
            let replay = try CommandRun(["replay", trace, "--quiet"])
            if blocks > 1 {
                #expect(replay.code == 0 && replay.errors.contains("incomplete"), "\(blocks): \(replay.errors)")
            } else {
                #expect(replay.code == 2, "\(replay.errors)")
            }
        }
        let full = try CommandRun(["record", "-o", "/dev/full", "--stdin", "none"])
        #expect(full.code == 2 && full.errors.contains("cannot write /dev/full"), "\(full.errors)")
    }

    /// CPUID and a growing number in memory, for ever.
    private static let loop: [UInt8] = {
        let words: [UInt32] = [
            0x1BAD_B002, 0x1_0000, 0 &- (0x1BAD_B002 &+ 0x1_0000), 0x10_0000, 0x10_0000, 0, 0x10_1000, 0x10_0020,
        ]
        // inc dword [0x106000]; cpuid; mov al, [0x106001]; out 0x80, al; jmp
        let code: [UInt8] = [
            0xFF, 0x05, 0x00, 0x60, 0x10, 0x00, 0x0F, 0xA2, 0xA0, 0x01, 0x60, 0x10, 0x00, 0xE6, 0x80, 0xEB, 0xEF,
        ]
        return words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } } + code
    }()

    @Test func aKilledRecordingReplays() throws {
        let trace = folder.path + "/t.tline"
        let image = try folder.file("loop.img", Self.loop)
        var random = SystemRandomNumberGenerator()
        var replayed = 0
        for round in 0..<50 {
            let process = Process()
            process.executableURL = CommandRun.executable
            process.arguments = [
                "record", "-o", trace, "--kernel", image, "--memory", "16", "--stdin", "none", "--digest-every",
                "1000000", "--checkpoint-every", "3000000",
            ]
            process.standardError = FileHandle.nullDevice
            try process.run()
            // Most while it starts, some after the first seconds.
            let seconds = round % 10 == 9 ? 1.6 : Double.random(in: 0.005...0.25, using: &random)
            Thread.sleep(forTimeInterval: seconds)
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            let info = try CommandRun(["info", trace, "--json"])
            guard info.code == 0 else {
                // Killed before the first block was whole: that is said.
                #expect(info.code == 2 && info.errors.split(separator: "\n").count == 1, "\(info.errors)")
                #expect(seconds < 1)
                continue
            }
            #expect(try field(info.output, "complete") as? Bool == false)
            let replay = try CommandRun(["replay", trace, "--json"])
            if replay.code == 2, replay.errors.contains("the trace does not hold the whole kernel") {
                // Killed between the manifest and the images.
                #expect(seconds < 1 && replay.errors.split(separator: "\n").count == 1, "\(replay.errors)")
                continue
            }
            #expect(replay.code == 0 && replay.errors.contains("incomplete"), "\(replay.errors)")
            #expect(try field(replay.output, "instructions") as? Int == field(info.output, "instructions") as? Int)
            replayed += 1
        }
        #expect(replayed >= 5)
    }

    /// Prints its time-stamp counter, which is its count, in units of 65,536, as eight letters and a newline, for ever.
    private static let clock: [UInt8] = {
        let words: [UInt32] = [
            0x1BAD_B002, 0x1_0000, 0 &- (0x1BAD_B002 &+ 0x1_0000), 0x10_0000, 0x10_0000, 0, 0x10_1000, 0x10_0020,
        ]
        // mov dx, 0x3fd; until al & 0x20: in al, dx
        let wait: [UInt8] = [0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 0x20, 0x74, 0xFB]
        let send: [UInt8] = [0x66, 0xBA, 0xF8, 0x03, 0x88, 0xE0, 0xEE]  // mov dx, 0x3f8; mov al, ah; out dx, al
        // rol ebx, 4; mov ah, bl; and ah, 15; add ah, 'A'
        let digit: [UInt8] = [0xC1, 0xC3, 0x04, 0x88, 0xDC, 0x80, 0xE4, 0x0F, 0x80, 0xC4, 0x41] + wait + send
        // rdtsc; shrd eax, edx, 16; mov ebx, eax; mov ecx, 8
        let begin: [UInt8] = [0x0F, 0x31, 0x0F, 0xAC, 0xD0, 0x10, 0x89, 0xC3, 0xB9, 8, 0, 0, 0]
        let line = begin + digit + [0xE2, 0 &- UInt8(digit.count + 2), 0xB4, 0x0A] + wait + send
        return words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } }
            + line + [0xEB, 0 &- UInt8(line.count + 2)]
    }()

    /// What a guest had printed a second before its recording was killed, the trace reaches.
    @Test(arguments: [[], ["--detail", "inputs"], ["--engine", "interpreter"]])
    func aKillLosesAtMostASecond(options: [String]) throws {
        let trace = folder.path + "/t.tline"
        let image = try folder.file("clock.img", Self.clock)
        var random = SystemRandomNumberGenerator()
        for _ in 0..<4 {
            let process = Process()
            process.executableURL = CommandRun.executable
            process.arguments =
                ["record", "-o", trace, "--kernel", image, "--memory", "16", "--stdin", "none"] + options
            process.standardError = FileHandle.nullDevice
            let output = Pipe()
            process.standardOutput = output
            try process.run()
            let printed = PrintedTimes(output.fileHandleForReading)
            // However long the machine takes to begin.
            for _ in 0..<600 where !printed.hasBegun { Thread.sleep(forTimeInterval: 0.1) }
            Thread.sleep(forTimeInterval: Double.random(in: 1.2...2.4, using: &random))
            let killed = DispatchTime.now()
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            // The host's time is taken when a line has been read, so the guest was there by then.
            let lines = printed.lines
            let before = lines.last { $0.time.uptimeNanoseconds + 1_000_000_000 <= killed.uptimeNanoseconds }
            let count = try #require(before.map { Self.count($0.text) }, "\(lines.count) lines")
            #expect(count > 0)
            let info = try CommandRun(["info", trace, "--json"])
            let reach = try #require(try field(info.output, "instructions") as? Int, "\(info.errors)")
            #expect(reach >= count, "the trace reaches \(reach), the guest had printed \(count)")
            #expect(reach <= Self.count(lines.last?.text ?? "") + 1_000_000_000)
        }
    }

    /// The count that a line of `clock` says.
    private static func count(_ line: String) -> Int {
        line.utf8.reduce(0) { $0 << 4 | (Int($1) - 0x41) } << 16
    }

    /// The parts of a flight recorder that was killed become one trace when it is first read, but not before.
    @Test func aKilledFlightRecorderReplays() throws {
        let trace = folder.path + "/t.tline"
        let image = try folder.file("loop.img", Self.loop)
        for seconds in [0.05, 0.4, 0.8, 1.2] {
            let process = Process()
            process.executableURL = CommandRun.executable
            process.arguments = [
                "record", "-o", trace, "--kernel", image, "--memory", "16", "--stdin", "none", "--digest-every",
                "1000000", "--keep-last", "3",
            ]
            process.standardError = FileHandle.nullDevice
            try process.run()
            Thread.sleep(forTimeInterval: seconds)
            if seconds > 1 {
                let early = try CommandRun(["info", trace])
                #expect(early.code == 2 && early.errors.contains("still being recorded"), "\(early.errors)")
            }
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            let info = try CommandRun(["info", trace, "--json"])
            guard info.code == 0 else {
                #expect(info.code == 2 && info.errors.split(separator: "\n").count == 1, "\(info.errors)")
                #expect(seconds < 0.4)
                continue
            }
            #expect(info.errors.contains("made of what a killed recording left"), "\(info.errors)")
            #expect(try field(info.output, "complete") as? Bool == false)
            if seconds > 1 { #expect(try field(info.output, "start") as? Int ?? 0 > 0) }
            let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
            #expect(files.sorted() == ["loop.img", "t.tline"])
            for from in ["0%", "50%"] {
                let replay = try CommandRun(["replay", trace, "--quiet", "--from", from])
                #expect(replay.code == 0 && replay.errors.contains("incomplete"), "\(replay.errors)")
            }
        }
    }

    @Test func aSignalClosesTheTrace() throws {
        let trace = folder.path + "/t.tline"
        let image = try folder.file("loop.img", Self.loop)
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let process = Process()
            process.executableURL = CommandRun.executable
            process.arguments = ["record", "-o", trace, "--kernel", image, "--memory", "16", "--stdin", "none"]
            process.standardError = FileHandle.nullDevice
            try process.run()
            Thread.sleep(forTimeInterval: 0.5)
            kill(process.processIdentifier, signal)
            process.waitUntilExit()
            #expect(process.terminationStatus == 28)
            let info = try CommandRun(["info", trace, "--json"])
            #expect(try field(info.output, "complete") as? Bool == true)
            #expect(try field(info.output, "outcome") as? String == "interrupted")
            #expect(try CommandRun(["replay", trace, "--quiet"]).code == 0)
        }
    }

    @Test func badTracesAreOneSentence() throws {
        let good = try Data(contentsOf: URL(fileURLWithPath: record("t.tline")))
        var damaged = good
        damaged[200] ^= 1
        var newer = good
        newer[8] = 9
        let files = try [
            folder.file("empty", []), folder.file("other", Array("#!/bin/sh\n".utf8)),
            folder.file("cut", Array(good.prefix(50))), folder.file("damaged", Array(damaged)),
            folder.file("newer", Array(newer)), folder.path, folder.path + "/nothing",
        ]
        for file in files {
            for command in [
                ["info"], ["replay", "--quiet"], ["verify"], ["dump"], ["strip", "-o", "/dev/null", "--events"],
            ] {
                let run = try CommandRun([command[0], file] + command.dropFirst())
                #expect(run.code == 2, "\(command) \(file): \(run.errors)")
                #expect(run.errors.split(separator: "\n").count == 1, "\(run.errors)")
                #expect(run.errors.contains(file))
            }
        }
    }

    @Test func badPositionsAreOneSentence() throws {
        let trace = try record("t.tline")
        for position in ["99999999999", "event:999999999", "no such mark", "101%", "event:x"] {
            let run = try CommandRun(["replay", trace, "--quiet", "--from", position])
            #expect(run.code == 2, "\(position): \(run.errors)")
        }
    }
}

/// The whole lines that a process prints, with the time at which each was read.
private final class PrintedTimes: @unchecked Sendable {
    private let lock = NSLock()
    private var collected: [(time: DispatchTime, text: String)] = []
    private let ended = DispatchSemaphore(value: 0)

    init(_ handle: FileHandle) {
        Thread { [self] in
            var rest: [UInt8] = []
            while true {
                let bytes = handle.availableData
                if bytes.isEmpty { break }
                let now = DispatchTime.now()
                rest += bytes
                while let end = rest.firstIndex(of: 0x0A) {
                    let text = String(decoding: rest[..<end], as: UTF8.self)
                    rest.removeSubrange(...end)
                    lock.withLock { collected.append((now, text)) }
                }
            }
            ended.signal()
        }.start()
    }

    /// Whether there is a first line.
    var hasBegun: Bool { lock.withLock { !collected.isEmpty } }

    /// All of them, once the process has ended.
    var lines: [(time: DispatchTime, text: String)] {
        ended.wait()
        return lock.withLock { collected }
    }
}
