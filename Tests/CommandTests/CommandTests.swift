import Foundation
import Testing

/// Bad input: the arguments after `run`, with FOLDER for a folder of files, and what the one sentence says.
private let badInputs: [(arguments: [String], says: String)] = [
    (["--kernel", "FOLDER/none"], "cannot read FOLDER/none: No such file or directory"),
    (["--kernel", "FOLDER"], "cannot read FOLDER: Is a directory"),
    (["--kernel", "FOLDER/empty"], "FOLDER/empty: the file is empty"),
    (["--kernel", "FOLDER/text"], "FOLDER/text: not a bootable kernel"),
    (["--kernel", "/dev/zero", "--memory", "16M"], "/dev/zero: the file has more than the 16777216 bytes"),
    (["--firmware", "/dev/zero"], "/dev/zero: the file has more than the 16777216 bytes"),
    (["--json-summary", "/dev/full"], "cannot write /dev/full: No space left on device"),
    (["--firmware", "FOLDER/text"], "FOLDER/text: a firmware image of 5 bytes, expected a multiple of 64 KB"),
    (["--firmware", "FOLDER/rom", "--kernel", "FOLDER/rom"], "either --kernel or --firmware"),
    (["--firmware", "FOLDER/rom", "--disk", "FOLDER/qcow2"], "FOLDER/qcow2: a qcow2 image, expected a raw one"),
    (["--firmware", "FOLDER/rom", "--disk", "FOLDER/empty"], "FOLDER/empty: the image is empty"),
    (["--initrd", "FOLDER/text"], "need --kernel"),
    (["--exec", "true"], "need --kernel"),
    (["--memory", "15M"], "expected 16M to 3G"),
    (["--memory", "4G"], "expected 16M to 3G"),
    (["--memory", "99999999999999999999G"], "expected a number with K, M or G"),
    (["--memory", "many"], "expected a number with K, M or G"),
    (["--cpu", "z80"], "'z80' is invalid for '--cpu"),
    (["--chipset", "none"], "'none' is invalid for '--chipset"),
    (["--instructions-per-us", "0"], "expected a number from 1 to 1000000"),
    (["--start-date", "yesterday"], "expected a date from 1970 to 2099"),
    (["--engine", "jit"], "translator"),
    (["--check-every", "1000"], "--check-every needs --engine both"),
    (["--engine", "both", "--check-every", "0"], "--check-every is 0"),
    (["--engine", "both", "--check-snapshots", "1000"], "--check-snapshots needs one engine"),
    (["--engine", "both", "--debug-flip", "5:xyz:1"], "expected the name of a 64-bit register"),
    (["--expect", "success"], "expected one of power-off"),
    (["--expect", "debug-exit:256"], "expected one of power-off"),
    (["--reset", "later"], "'later' is invalid for '--reset"),
    (["--debug-trace", "100"], "'100' is invalid for '--debug-trace"),
    (["--debug-trace", "0:0"], "'0:0' is invalid for '--debug-trace"),
    (["--debug-console", "FOLDER/none/log"], "cannot write FOLDER/none/log: No such file or directory"),
    (["--stdin", "file"], "'file' is invalid for '--stdin"),
    (["--timeout", "-1"], "--timeout"),
    (["--max-instructions", "0"], "--max-instructions is 0"),
    (["--stop-on", ""], "the text for --stop-on is empty"),
    (["--json-summary", "FOLDER/none/x"], "cannot write FOLDER/none/x: No such file or directory"),
    (["--screen", "FOLDER"], "cannot write FOLDER: Is a directory"),
    (["--frobnicate"], "Unknown option '--frobnicate'"),
]

struct CommandTests {
    @Test(arguments: badInputs.indices) func badInputIsOneSentence(index: Int) throws {
        let folder = try TemporaryFolder()
        _ = try folder.file("empty", [])
        _ = try folder.file("text", Array("hello".utf8))
        _ = try folder.file("rom", [UInt8](repeating: 0xF4, count: 65536))
        _ = try folder.file("qcow2", [0x51, 0x46, 0x49, 0xFB] + [UInt8](repeating: 0, count: 508))
        func inFolder(_ text: String) -> String { text.replacingOccurrences(of: "FOLDER", with: folder.path) }
        let (arguments, says) = badInputs[index]
        let run = try CommandRun(["run"] + arguments.map(inFolder))
        #expect(run.code == 2)
        #expect(run.errors.contains(inFolder(says)), "\(run.errors)")
        let sentences = run.errors.split(separator: "\n")
        #expect(sentences.allSatisfy { $0.hasPrefix("trapline: ") })
        // Only what goes wrong in writing a result comes after a run.
        #expect(sentences.count == (says.hasSuffix("No space left on device") ? 2 : 1), "\(run.errors)")
    }

    @Test func theBuiltinGuestRunsAndIsSummarized() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/summary.json"
        let run = try CommandRun(["run", "--json-summary", path])
        #expect(run.code == 0)
        #expect(run.output.hasSuffix("GUEST-DONE\r\n"))
        #expect(run.errors.hasPrefix("trapline: the guest powered off after "))
        let json = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
        let summary = try #require(json as? [String: Any])
        #expect(summary["outcome"] as? String == "power-off")
        #expect(summary["exit_value"] is NSNull)
        #expect((summary["digest"] as? String)?.count == 32)
        #expect((summary["instructions"] as? Int ?? 0) > 100_000)
        let events = try #require(summary["events"] as? [String: Int])
        #expect(events["swapgs"] == 2000 && events["cpuid"] ?? 0 > 1000 && events["interruptInstruction"] == 101)
        for name in ["post", "virtual_ns", "wall_s", "mips", "engine", "machine"] { #expect(summary[name] != nil) }
    }

    @Test func exitCodesFollowTheOutcomeAndTheExpectation() throws {
        for (arguments, code): ([String], Int32) in [
            (["--stop-on", "ring 3"], 0), (["--fail-on", "ring 3"], 22), (["--max-instructions", "1000"], 18),
            (["--max-instructions", "1000", "--expect", "limit"], 0), (["--expect", "limit"], 26),
            (["--max-instructions", "1000", "--expect", "power-off"], 18), (["--expect", "power-off"], 0),
        ] {
            #expect(try CommandRun(["run"] + arguments).code == code, "\(arguments)")
        }
    }

    @Test func aTextEndsTheRunAtItsLastByte() throws {
        let run = try CommandRun(["run", "--stop-on", "interrupts    "])
        #expect(run.output.hasSuffix("timer interrupts    "))
    }

    @Test func twoProcessesEndAlike() throws {
        let folder = try TemporaryFolder()
        let digests = try ["1", "2"].map { name in
            let path = folder.path + "/" + name
            _ = try CommandRun(["run", "--json-summary", path, "--chipset", "xtpic"])
            let json = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
            return (json as? [String: Any])?["digest"] as? String
        }
        #expect(digests[0] != nil && digests[0] == digests[1])
    }

    @Test func snapshotsOnTheWayChangeNothing() throws {
        let plain = try CommandRun(["run", "--memory", "16M", "--digest-every", "100000"])
        let replaced = try CommandRun([
            "run", "--memory", "16M", "--digest-every", "100000", "--check-snapshots", "30011",
        ])
        func digests(_ run: CommandRun) -> [Substring] {
            run.errors.split(separator: "\n").filter { $0.hasPrefix("digest") }
        }
        #expect(digests(plain).count == 2)
        #expect(digests(plain) == digests(replaced))
        #expect(plain.output == replaced.output)
    }

    @Test func aTripleFaultShowsTheRegisters() throws {
        let folder = try TemporaryFolder()
        let words: [UInt32] = [
            0x1BAD_B002, 0x1_0000, 0 &- (0x1BAD_B002 &+ 0x1_0000), 0x10_0000, 0x10_0000, 0, 0x10_1000, 0x10_0020,
        ]
        let code: [UInt8] = [0x0F, 0x01, 0x1D, 0x30, 0x00, 0x10, 0x00, 0xCC] + [UInt8](repeating: 0, count: 16)
        let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } } + code
        let run = try CommandRun(["run", "--kernel", try folder.file("kernel", bytes)])
        #expect(run.code == 14)
        for text in ["the guest triple-faulted at 0x100027", "bytes  cc", "rip 00100027", "cr0 ", "cs   0010"] {
            #expect(run.errors.contains(text), "\(run.errors)")
        }
    }

    @Test func debugOutputGoesToItsFileAndATraceToStandardError() throws {
        let folder = try TemporaryFolder()
        // 64 KB of firmware: OUT 0E9h,AL with 'O', 'K', then OUT 0F4h,AL.
        var rom = [UInt8](repeating: 0, count: 65536)
        rom.replaceSubrange(0xFFF0..<0xFFFA, with: [0xB0, 0x4F, 0xE6, 0xE9, 0xB0, 0x4B, 0xE6, 0xE9, 0xE6, 0xF4])
        let log = try folder.file("log", Array("what was there before".utf8))
        let firmware = try folder.file("rom", rom)
        let run = try CommandRun(["run", "--firmware", firmware, "--debug-console", log, "--debug-trace", "0:2"])
        #expect(run.code == 0x4B << 1 | 1)
        #expect(try String(contentsOf: URL(fileURLWithPath: log), encoding: .utf8) == "OK")
        let lines = run.errors.split(separator: "\n")
        #expect(lines.count == 3 && lines[1].hasPrefix("1 f000:0000fff2 e6e9 out 0xE9, al | ax="), "\(run.errors)")
    }

    @Test func lostConsoleTextIsNoSuccess() throws {
        let folder = try TemporaryFolder()
        // 64 KB of firmware: MOV DX,3F8h; MOV AL,'O'; OUT DX,AL; OUT 0F4h,AL.
        var rom = [UInt8](repeating: 0, count: 65536)
        rom.replaceSubrange(0xFFF0..<0xFFF8, with: [0xBA, 0xF8, 0x03, 0xB0, 0x4F, 0xEE, 0xE6, 0xF4])
        let firmware = try folder.file("rom", rom)
        #expect(try CommandRun(["run", "--firmware", firmware]).output == "O")
        for expectation in [[], ["--expect", "debug-exit"]] {
            let run = try CommandRun(["run", "--firmware", firmware] + expectation, outputPath: "/dev/full")
            #expect(run.code == 28)
            let sentence = "standard output could not be written (No space left on device)"
            #expect(run.errors.contains(sentence) && run.errors.split(separator: "\n").count == 1, "\(run.errors)")
        }
    }

    @Test func qemuSpellingsAreAccepted() throws {
        let folder = try TemporaryFolder()
        let text = try folder.file("text", Array("hello".utf8))
        let run = try CommandRun(["run", "-m", "32", "-kernel", text, "-append", "-m"])
        #expect(run.code == 2 && run.errors.contains("not a bootable kernel"))
    }
}
