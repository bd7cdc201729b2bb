import Foundation
import Testing

/// SplitMix64, so that a seed names a guest.
private struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) } }
}

private func littleEndian(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) }
}

/// A multiboot image at 1 MB whose code starts at 0x100020.
private func multiboot(_ code: [UInt8]) -> [UInt8] {
    let flags: UInt32 = 0x1_0000
    let magic: UInt32 = 0x1BAD_B002
    let header = [magic, flags, 0 &- (magic &+ flags), 0x10_0000, 0x10_0000, 0, 0x11_0000, 0x10_0020]
    return header.flatMap(littleEndian) + code
}

/// Guests that do everything wrong, and some that strain the translator. Whatever they execute or program, the command must end by itself with one of its
/// documented outcomes.
private enum HostileGuest: String, CaseIterable {
    /// Random firmware: 16-bit code from the reset vector on.
    case firmware
    /// Random 32-bit code.
    case code
    /// Random code under random page tables, except for the first 4 MB.
    case pageTables
    /// Random values to and from random ports.
    case ports
    /// Random values to and from random addresses, devices' included.
    case memory
    /// A loop that changes its own code in every round, as often as it is executed.
    case rewriting
    /// Returns at every place of a large area, all of them called by chance.
    case jumping
    /// More code, each block executed often enough to be translated, than any cache holds.
    case filling

    /// Hardly anything of it depends on the seed.
    var isDeterministic: Bool { [.rewriting, .jumping, .filling].contains(self) }

    /// Code that changes under way is decoded again each time.
    var limit: String { self == .rewriting ? "30000" : "1000000" }

    func image(_ random: inout Generator) -> (option: String, bytes: [UInt8]) {
        switch self {
        case .firmware:
            // The reset vector jumps to the start of the image.
            let reset: [UInt8] = [0xEA, 0x00, 0x00, 0x00, 0xF0]
            return ("--firmware", random.bytes(65536 - 16) + reset + random.bytes(11))
        case .code: return ("--kernel", multiboot(random.bytes(16384)))
        case .pageTables: return ("--kernel", multiboot(pageTables(&random)))
        case .ports:
            let start = random.bytes(4)
            return ("--kernel", multiboot([0xB8] + start + HostileGuest.portLoop))
        case .memory:
            let start = random.bytes(4)
            return ("--kernel", multiboot([0xB8] + start + HostileGuest.memoryLoop))
        case .rewriting:
            let place = UInt8.random(in: 0...3, using: &random)
            return ("--kernel", multiboot(HostileGuest.rewritingLoop(place)))
        case .jumping: return ("--kernel", multiboot([0xB8] + random.bytes(4) + HostileGuest.jumpingLoop))
        case .filling: return ("--kernel", multiboot(HostileGuest.fillingLoop))
        }
    }

    /// inc dword [the immediate of the next instruction, or the instruction `place` bytes into it]; add eax, imm; and
    /// again.
    static func rewritingLoop(_ place: UInt8) -> [UInt8] {
        // 100020: FF 05 …; 100026: 05 imm32; 10002B: EB F3
        [0xFF, 0x05] + littleEndian(0x10_0027 + UInt32(place)) + [0x05, 1, 0, 0, 0, 0xEB, 0xF3]
    }

    /// mov edi, 200000h; mov ecx, 100000h; mov al, C3h; rep stosb; then imul ebx, ebx, …; lea edx, [ebx+eax]; and a
    /// call to a place in the area, for ever.
    private static let jumpingLoop: [UInt8] = [
        0x89, 0xC3, 0xBF, 0, 0, 0x20, 0, 0xB9, 0, 0, 0x10, 0, 0xB0, 0xC3, 0xF3, 0xAA, 0xBC, 0, 0, 0x40, 0,
        0x69, 0xDB, 0x6D, 0x4E, 0xC6, 0x41, 0x81, 0xC3, 0x39, 0x30, 0, 0, 0x89, 0xDA, 0xC1, 0xEA, 12,
        0x81, 0xC2, 0, 0, 0x20, 0, 0xFF, 0xD2, 0xEB, 0xE5,
    ]

    /// Fills 3 MB with INC EAX; RET and a jump over it, then calls each 40 times, for ever: mov edi, 200000h; 1: mov
    /// dword [edi], 0000C340h; add edi, 3; cmp edi, 4FFFF0h; jb 1; 2: mov edx, 200000h; 3: mov ecx, 40; 4: call edx;
    /// loop 4; add edx, 3; cmp edx, 4FFFF0h; jb 3; jmp 2
    private static let fillingLoop: [UInt8] = [
        0xBC, 0, 0, 0x60, 0, 0xBF, 0, 0, 0x20, 0, 0xC7, 0x07, 0x40, 0xC3, 0, 0, 0x83, 0xC7, 3,
        0x81, 0xFF, 0xF0, 0xFF, 0x4F, 0, 0x72, 0xEF,
        0xBA, 0, 0, 0x20, 0, 0xB9, 40, 0, 0, 0, 0xFF, 0xD2, 0xE2, 0xFC, 0x83, 0xC2, 3,
        0x81, 0xFA, 0xF0, 0xFF, 0x4F, 0, 0x72, 0xEC, 0xEB, 0xE5,
    ]

    /// imul eax, 0x41C64E6D; add eax, 0x3039; mov edx, eax; shr edx, 16; out dx, eax; out dx, al; in al, dx; in eax,
    /// dx;
    /// and again.
    private static let portLoop: [UInt8] = [
        0x69, 0xC0, 0x6D, 0x4E, 0xC6, 0x41, 0x05, 0x39, 0x30, 0, 0, 0x89, 0xC2, 0xC1, 0xEA, 16, 0xEF, 0xEE, 0xEC, 0xED,
        0xEB, 0xEA,
    ]

    /// imul eax, 0x41C64E6D; add eax, 0x3039; mov edx, eax; rol edx, 11; skip an address in the first 2 MB; mov
    /// [edx], eax;
    /// mov ecx, [edx]; and again.
    private static let memoryLoop: [UInt8] = [
        0x69, 0xC0, 0x6D, 0x4E, 0xC6, 0x41, 0x05, 0x39, 0x30, 0, 0, 0x89, 0xC2, 0xC1, 0xC2, 11,
        0x81, 0xFA, 0, 0, 0x20, 0, 0x72, 0xE8, 0x89, 0x02, 0x8B, 0x0A, 0xEB, 0xE2,
    ]

    private func pageTables(_ random: inout Generator) -> [UInt8] {
        let enable: [UInt8] =
            [0xB8] + littleEndian(0x10_1000) + [0x0F, 0x22, 0xD8]  // CR3
            + [0xB8] + littleEndian(0x10) + [0x0F, 0x22, 0xE0]  // CR4.PSE
            + [0x0F, 0x20, 0xC0, 0x0D] + littleEndian(0x8001_0000) + [0x0F, 0x22, 0xC0]  // CR0.PG and WP
        let code = enable + random.bytes(0x1000 - 0x20 - enable.count)
        var directory = (0..<1024).map { _ in
            UInt32(truncatingIfNeeded: random.next()) | (Bool.random(using: &random) ? 1 : 0)
        }
        directory[0] = 0x83
        return code + directory.flatMap(littleEndian) + random.bytes(0x2000)
    }
}

private let outcomes: Set<Int32> = [0, 10, 12, 14, 16, 18, 20]

struct HostileGuestTests {
    private static let seed = UInt64(ProcessInfo.processInfo.environment["TRAPLINE_SEED"] ?? "1") ?? 1

    /// Both engines must come to the same states, too; a difference has an exit code of its own.
    @Test(arguments: HostileGuest.allCases, 0..<24)
    private func noGuestHarmsTheHost(guest: HostileGuest, number: Int) throws {
        if guest.isDeterministic && number >= 4 { return }
        var random = Generator(state: Self.seed &* 1000 &+ UInt64(number))
        let (option, bytes) = guest.image(&random)
        let folder = try TemporaryFolder()
        let file = try folder.file("guest", bytes)
        let model = ["x86-64", "x86-64-intel", "pentium4"][number % 3]
        let run = try CommandRun([
            "run", option, file, "--memory", "16M", "--cpu", model, "--max-instructions", guest.limit, "--timeout", "60",
            "--stdin", "none", "--engine", "both", "--check-every", "250007",
        ])
        // isa-debug-exit gives odd codes of the guest's choice.
        #expect(
            outcomes.contains(run.code) || (run.code > 0 && run.code & 1 == 1),
            "seed \(Self.seed), \(guest.rawValue) \(number): \(run.code) \(run.errors.suffix(3000))")
    }

    /// Guests that make as much code as they can go on for long without memory growing: what a run takes beyond the
    /// guest's RAM stays below a bound.
    @Test(arguments: [HostileGuest.rewriting, .jumping, .filling])
    private func memoryIsBounded(guest: HostileGuest) throws {
        var random = Generator(state: Self.seed)
        let bytes = guest == .rewriting ? multiboot(HostileGuest.rewritingLoop(0)) : guest.image(&random).bytes
        let folder = try TemporaryFolder()
        let file = try folder.file("guest", bytes)
        let arguments = [
            "run", "--kernel", file, "--memory", "16M", "--max-instructions",
            guest == .rewriting ? "3000000" : "150000000", "--timeout", "100", "--stdin", "none", "--engine",
            "translator",
        ]
        let (code, peak) = try CommandRun.peakMemory(arguments)
        print("\(guest.rawValue): at most \(peak >> 20) MB")
        #expect(code == 18 && peak > 0)
        #expect(peak < (16 + 200) << 20, "\(guest.rawValue) took \(peak) bytes")
    }
}
