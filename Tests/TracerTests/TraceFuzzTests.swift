import CEngine
import Foundation
import Replayer
import Testing
import Tracer
import VMM

/// Traces whose checksums are right and whose contents are not: whatever they hold, reading them ends with a result or
/// a sentence. The corpus are the traces of `traces/` and a fresh one; `TRAPLINE_FUZZ` is the number of rounds.
struct TraceFuzzTests {
    private static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private let folder: TraceFolder

    init() throws { folder = try TraceFolder() }

    private var rounds: Int { Int(ProcessInfo.processInfo.environment["TRAPLINE_FUZZ"] ?? "") ?? 300 }

    private func corpus() throws -> [String] {
        let samples = Self.repository.appendingPathComponent("traces").path
        let names = (try? folderContents(samples)) ?? []
        var guest = RecordedGuest()
        guest.detail = .paging
        return [try guest.record(folder.path + "/fresh.tline").path]
            + names.filter { $0.hasSuffix(".tline") }.map { samples + "/" + $0 }
    }

    /// Changes some bytes of a column as a fuzzer does: bits, interesting values, cuts and repetitions.
    private func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard !bytes.isEmpty else { return bytes.append(UInt8.random(in: 0...255, using: &random)) }
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch UInt8.random(in: 0..<6, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[place] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random)!
        case 2: bytes.removeSubrange(place...)
        case 3: bytes.insert(contentsOf: bytes[place...].prefix(32), at: place)
        case 4: bytes.replaceSubrange(place..<place, with: [UInt8](repeating: 0xff, count: 9) + [1])
        default:
            for index in place..<min(place + 8, bytes.count) {
                bytes[index] = UInt8.random(in: 0...255, using: &random)
            }
        }
    }

    @Test func soundChecksumsOverNonsense() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        let corpus = try corpus().map { try TraceReader($0) }
        var refused = 0
        for round in 0..<rounds {
            let reader = corpus[round % corpus.count]
            let victim = Int.random(in: 0..<reader.blocks.count, using: &random)
            let path = folder.path + "/fuzzed.tline"
            var index = 0
            try rewrite(reader, to: path) { block in
                defer { index += 1 }
                guard index == victim else { return }
                guard !block.columns.isEmpty, UInt8.random(in: 0..<10, using: &random) > 0 else {
                    block.header.firstItem = random.next() >> (random.next() & 63)
                    block.header.items = UInt32.random(in: 0...1000, using: &random)
                    return
                }
                let column = Int.random(in: 0..<block.columns.count, using: &random)
                for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&block.columns[column].bytes, &random) }
            }
            if !survives(path, random.next()) { refused += 1 }
        }
        #expect(refused > rounds / 4)
    }

    /// Does everything that can be done with a trace.
    /// - Returns: whether nothing was found to be wrong.
    private func survives(_ path: String, _ choice: UInt64) -> Bool {
        do throws(TraceError) {
            let reader = try TraceReader(path)
            let isSound = (try? TraceCheck(reader)) != nil
            // Machines that a trace invents may be large; the test has no room for many of them.
            guard reader.manifest.memorySize <= 512 << 20 else { return isSound }
            let replay = try Replay(reader)
            var looks = 0
            replay.isInterrupted = {
                looks += 1
                return looks > 10
            }
            try replay.begin(at: choice % 3 == 0 ? nil : choice % 300_000)
            return try replay.run() == .outcome(.powerOff) && isSound
        } catch {
            return false
        }
    }
}
