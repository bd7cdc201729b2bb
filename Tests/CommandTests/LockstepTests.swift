import Foundation
import Testing

/// `--engine both`: that it agrees when nothing is wrong, and that it finds a fault that was put into one machine.
struct LockstepTests {
    private func run(_ arguments: [String], input: String? = nil) throws -> CommandRun {
        try CommandRun(["run", "--engine", "both", "--memory", "16M"] + arguments, input: input)
    }

    @Test func bothEnginesAgreeAndTheConsoleAppearsOnce() throws {
        let alone = try CommandRun(["run", "--memory", "16M"])
        for interval in ["1009", "50000"] {
            let both = try run(["--check-every", interval])
            #expect(both.code == 0, "\(both.errors)")
            #expect(both.output == alone.output)
        }
    }

    @Test func everySingleCountCanBeChecked() throws {
        #expect(try run(["--check-every", "1", "--max-instructions", "300"]).code == 18)
    }

    @Test func bothEnginesEndAtTheSameText() throws {
        let both = try run(["--stop-on", "interrupts    "])
        #expect(both.code == 0, "\(both.errors)")
        #expect(both.output.hasSuffix("timer interrupts    "))
    }

    @Test(arguments: ["10000", "777"]) func aFlippedRegisterIsFoundAtItsCount(interval: String) throws {
        let both = try run(["--check-every", interval, "--debug-flip", "54321:rcx:5"])
        #expect(both.code == 24)
        #expect(both.errors.contains("equal after count 54320, different after count 54321"), "\(both.errors)")
        #expect(both.errors.contains("\n  rcx  0000000000000000  0000000000000020\n"), "\(both.errors)")
        #expect(both.errors.contains("\n  54320  000000000010035f  ec"), "\(both.errors)")
    }

    @Test func aFlippedByteOfMemoryIsFoundAtItsCount() throws {
        let both = try run(["--check-every", "10000", "--debug-flip", "12345:0x5003:6"])
        #expect(both.code == 24)
        #expect(both.errors.contains("equal after count 12344, different after count 12345"), "\(both.errors)")
        #expect(both.errors.contains("page 0x5000+0x3  00"), "\(both.errors)")
    }

    /// Input arrives in both machines at the same count, and again when the search repeats the run.
    @Test func inputIsPartOfWhatIsRepeated() throws {
        // A multiboot kernel that reads the serial port for ever: in al, 3FDh; test al, 1; jz; in al, 3F8h; add ebx,eax
        let words: [UInt32] = [
            0x1BAD_B002, 0x1_0000, 0 &- (0x1BAD_B002 &+ 0x1_0000), 0x10_0000, 0x10_0000, 0, 0x10_1000, 0x10_0020,
        ]
        let code: [UInt8] = [
            0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 1, 0x74, 0xF7, 0x66, 0xBA, 0xF8, 0x03, 0xEC, 0x01, 0xC3, 0xEB, 0xEE,
        ]
        let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } } + code
        let folder = try TemporaryFolder()
        let kernel = ["--kernel", try folder.file("kernel", bytes), "--max-instructions", "5000000"]
        let input = String(repeating: "some input ", count: 50)
        #expect(try run(kernel, input: input).code == 18)
        let both = try run(kernel + ["--debug-flip", "4500001:rsi:63"], input: input)
        #expect(both.code == 24)
        #expect(both.errors.contains("equal after count 4500000, different after count 4500001"), "\(both.errors)")
        #expect(!both.errors.contains("did not recur") && !both.errors.contains("\n  rbx "), "\(both.errors)")
    }
}
