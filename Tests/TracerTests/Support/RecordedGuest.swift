import Foundation
import Replayer
import Testing
import Tracer
import VMM

/// Seeded random numbers (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    /// The seed of the run, given by SEED=N.
    static var runSeed: UInt64 { UInt64(ProcessInfo.processInfo.environment["TRAPLINE_SEED"] ?? "1") ?? 1 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

/// A folder that is removed with its contents when the test is over.
final class TraceFolder {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "tracer-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
        return path + "/" + name
    }
}

/// A disk in memory.
final class BytesDisk: BlockSource {
    let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
    var byteCount: UInt64 { UInt64(bytes.count) }
    func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        for index in 0..<buffer.count {
            let place = offset + UInt64(index)
            buffer[index] = place < byteCount ? bytes[Int(place)] : 0
        }
    }
}

/// Guests of a few instructions, and their recordings.
struct RecordedGuest {
    var kernel = BuiltinGuest.kernel
    var engine = Engine.interpreter
    var memory: UInt64 = 16 << 20
    var detail = TraceDetail.events
    var digestEvery: UInt64 = 20_000
    var checkpointEvery: UInt64 = 50_000
    var keepLast: UInt64?
    /// Console input by the count from which on it waits.
    var input: [(count: UInt64, bytes: [UInt8])] = []
    /// Counts between two looks at the outside.
    var slice: UInt64 = 10_000
    var limit: UInt64 = 5_000_000
    /// The recording is closed.
    var closes = true
    var startAt: UInt64 = 0

    /// A multiboot image that runs `code`, 32-bit code entered at 0x100020 with flat segments.
    static func image(_ code: [UInt8]) -> [UInt8] {
        let words: [UInt32] = [
            0x1BAD_B002, 0x1_0000, 0 &- (0x1BAD_B002 &+ 0x1_0000), 0x10_0000, 0x10_0000, 0, 0x10_8000, 0x10_0020,
        ]
        return words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } } + code
    }

    /// Adds up bytes from the console, storing and echoing each, until it gets a 0x2E, and ends with their sum.
    static let listener = image([
        0xBB, 0x00, 0x50, 0x10, 0x00,  // mov ebx, 0x105000
        0x0F, 0x31, 0xBA, 0xFD, 0x03, 0x00, 0x00, 0xEC, 0xA8, 0x01, 0x74, 0xF4,  // RDTSC, until LSR.DR
        0xBA, 0xF8, 0x03, 0x00, 0x00, 0xEC, 0x88, 0x03, 0x43, 0xEE,  // read, store, echo
        0x00, 0xC1, 0x3C, 0x2E, 0x75, 0xE4,  // add cl, al; until '.'
        0x88, 0xC8, 0xE6, 0xF4, 0xEB, 0xFE,
    ])

    /// Writes two marks to port 0xE9 by OUTSB with a loop between them, and ends through isa-debug-exit.
    static let marker: [UInt8] = {
        let first: [UInt8] = [0xFC, 0xBE, 0x4B, 0x00, 0x10, 0x00, 0xBA, 0xE9, 0, 0, 0, 0xB9, 6, 0, 0, 0, 0xF3, 0x6E]
        let loop: [UInt8] = [0xB9, 0x10, 0x27, 0, 0, 0xE2, 0xFE]
        let second: [UInt8] = [0xBE, 0x51, 0x00, 0x10, 0x00, 0xB9, 7, 0, 0, 0, 0xF3, 0x6E]
        let end: [UInt8] = [0xB0, 0x01, 0xE6, 0xF4, 0xEB, 0xFE]
        return image(first + loop + second + end + Array("first\nsecond\n".utf8))
    }()

    func configuration() throws -> MachineConfiguration {
        var configuration = MachineConfiguration(
            cpu: CPUModel.named("x86-64", apic: true)!,
            boot: .multiboot(try MultibootKernel(kernel), modules: [], commandLine: "of the test %\n"))
        configuration.memorySize = memory
        configuration.engine = engine
        return configuration
    }

    /// What a recording was like.
    struct Result {
        var path: String
        var outcome: Outcome?
        var count: UInt64
        var digest: StateDigest
        var text: String
        var statistics: TraceStatistics
    }

    /// Runs the guest and records it into `path`.
    func record(_ path: String) throws -> Result {
        let configuration = try configuration()
        let machine = try Machine(configuration)
        var text: [UInt8] = []
        machine.devices.onConsoleOutput = { text.append($0) }
        var manifest = TraceManifest(configuration, writer: "test")
        let images = ImageContents.all(of: configuration, paths: ImagePaths(), embed: true)
        manifest.images = images.map(\.image)
        var options = Recorder.Options()
        options.detail = detail
        options.digestEvery = digestEvery
        options.checkpointEvery = checkpointEvery
        options.keepLast = keepLast
        machine.expectsInput = !input.isEmpty
        if startAt > 0 { _ = machine.run(until: startAt) }
        let recorder = try Recorder(machine, to: path, manifest, images: images, disks: [], options)
        machine.devices.onMarkOutput = { recorder.markByte($0) }
        var waiting = input
        var outcome: Outcome?
        while outcome == nil {
            let count = machine.clock.count
            let next = min(recorder.nextStop(after: count), (count / slice + 1) * slice, limit)
            let stop = machine.run(until: next)
            if case .ended(let end) = stop { outcome = end }
            if case .limit = stop { recorder.reached() }
            if outcome == nil, machine.clock.count >= limit { outcome = .limit }
            guard outcome == nil else { break }
            if let first = waiting.first, machine.clock.count >= first.count {
                let taken = machine.devices.consoleInput(first.bytes[...])
                recorder.input(first.bytes.prefix(taken))
                waiting[0].bytes.removeFirst(taken)
                if waiting[0].bytes.isEmpty { waiting.removeFirst() }
                if waiting.isEmpty {
                    machine.expectsInput = false
                    recorder.expectsInput(false)
                }
            }
        }
        let digest = machine.digest
        let statistics = try recorder.finish(closes ? outcome : nil, digest: closes ? digest : nil)
        return Result(
            path: path, outcome: outcome, count: machine.clock.count, digest: digest,
            text: String(decoding: text, as: UTF8.self), statistics: statistics)
    }
}

/// The bytes of a file.
func contents(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }
