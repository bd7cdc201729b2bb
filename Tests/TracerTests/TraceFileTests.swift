import CEngine
import Foundation
import Replayer
import Testing
import Tracer
import VMM

/// What is in a trace file that is damaged, foreign or cut off is said, and nothing else happens.
struct TraceFileTests {
    private let folder: TraceFolder

    init() throws { folder = try TraceFolder() }

    /// A small trace with every stream in it.
    private func smallTrace() throws -> [UInt8] {
        var guest = RecordedGuest()
        guest.kernel = RecordedGuest.marker
        guest.digestEvery = 4000
        guest.checkpointEvery = 8000
        return try contents(guest.record(folder.path + "/small.tline").path)
    }

    /// Reads everything there is; what was wrong, if anything.
    private func complaint(_ path: String) -> String? {
        do throws(TraceError) {
            let reader = try TraceReader(path)
            _ = try TraceCheck(reader)
            return reader.isComplete ? nil : "incomplete"
        } catch {
            return error.description
        }
    }

    @Test func everyLengthIsReadAsFarAsItGoes() throws {
        let bytes = try smallTrace()
        var incomplete = 0
        var lastReach: UInt64 = 0
        for length in 0..<bytes.count {
            let path = try folder.file("cut.tline", Array(bytes[..<length]))
            let said = try #require(self.complaint(path), "length \(length)")
            guard said == "incomplete" else {
                #expect(said.contains("byte"), "length \(length): \(said)")
                continue
            }
            incomplete += 1
            let reach = try TraceReader(path).reach.position.count
            #expect(reach >= lastReach)
            guard reach != lastReach || incomplete == 1 else { continue }
            lastReach = reach
            // A longer prefix replays at least as far.
            let replay = try? Replay(TraceReader(path))
            try replay?.begin()
            if let replay { #expect(try replay.run() == .cutOff && replay.position.count == reach) }
        }
        #expect(incomplete > bytes.count / 2)
    }

    @Test func everyFlippedBitIsNoticed() throws {
        let bytes = try smallTrace()
        var random = SeededRandom(SeededRandom.runSeed)
        for _ in 0..<1000 {
            let place = Int.random(in: 0..<bytes.count, using: &random)
            let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &random)
            var damaged = bytes
            damaged[place] ^= bit
            let path = try folder.file("flip.tline", damaged)
            #expect(complaint(path) != nil, "byte \(place), bit \(bit)")
        }
    }

    @Test func foreignFilesAreRefused() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        let noise = (0..<5000).map { _ in UInt8.random(in: 0...255, using: &random) }
        for foreign in [[], [0x89], Array("\u{7F}ELF".utf8) + noise, noise, Array("{\"outcome\": 1}".utf8)] {
            let error = #expect(throws: TraceError.self) { try TraceReader(folder.file("foreign", foreign)) }
            guard case .notATrace = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
        #expect(throws: TraceError.cannotRead(errno: EISDIR)) { try TraceReader(folder.path) }
        #expect(throws: TraceError.cannotRead(errno: ENOENT)) { try TraceReader(folder.path + "/none") }
        let header = Array(try smallTrace()[..<32])
        #expect(throws: TraceError.self) { try TraceReader(folder.file("h", header + noise)) }
    }

    @Test func aNewerVersionIsRefused() throws {
        var bytes = try smallTrace()
        bytes[8] = 2
        let error = #expect(throws: TraceError.self) { try TraceReader(folder.file("new.tline", bytes)) }
        #expect(error == .newerVersion(found: 2, supported: 1))
    }

    /// Lengths that no block has are refused before anything is allocated for them.
    @Test func hugeLengthsAreRefused() throws {
        let reader = try TraceReader(RecordedGuest().record(folder.path + "/t.tline").path)
        for items in [UInt32.max, TraceFormat.mostItems + 1] {
            let path = folder.path + "/huge.tline"
            try rewrite(reader, to: path) { $0.header.items = items }
            let said = try #require(self.complaint(path))
            #expect(said.contains("byte") && said.contains("items"), "\(said)")
        }
    }

    // MARK: Events

    /// Any sequence of events comes back as it was.
    @Test func eventsComeBack() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        for rate in [1000, 250, 3] as [UInt64] {
            let records = Self.randomEvents(&random, 30_000)
            let path = folder.path + "/e.tline"
            let writer = try TraceWriter(path, rate: rate, epoch: 0, firstEvent: 0)
            var manifest = TraceManifest(try RecordedGuest().configuration(), writer: "test")
            manifest.instructionsPerMicrosecond = rate
            writer.append(Block(.manifest, epoch: 0, items: 1, counts: 0...0, [(1, Array(manifest.text.utf8))]))
            for start in stride(from: 0, to: records.count, by: 7001) {
                records[start..<min(start + 7001, records.count)].withUnsafeBufferPointer { writer.append($0) }
                let position = TracePosition(count: 0, nanoseconds: 0)
                writer.sync(TraceProgress(position: position).block(epoch: 0))
            }
            _ = try writer.finish(complete: true)
            let reader = try TraceReader(path)
            let cursor = try EventCursor(reader)
            for (index, record) in records.enumerated() {
                let found = try #require(try cursor.next())
                #expect(Self.text(found) == Self.text(record), "record \(index)")
                guard Self.text(found) == Self.text(record) else { break }
            }
            #expect(try cursor.next() == nil)
            let total = records.filter { $0.kind != EventKind.payload.rawValue }
            for first in [0, 1, 6999, 7000, 7001, 12345] where first < total.count {
                let cursor = try EventCursor(reader, from: UInt64(first))
                #expect(try cursor.next().map(Self.text) == Self.text(total[first]), "from \(first)")
            }
        }
    }

    private static func text(_ record: EventRecord) -> String {
        "\(record.count) \(record.address) \(record.operand) \(record.value) \(record.kind) \(record.ring) "
            + "\(record.size) \(record.flags) \(record.detail)"
    }

    private static func randomEvents(_ random: inout SeededRandom, _ count: Int) -> [EventRecord] {
        let kinds = EventKind.recorded
        var records: [EventRecord] = []
        var position: UInt64 = 0
        while records.count < count {
            position &+= UInt64.random(in: 0...(Bool.random(using: &random) ? 3 : 100_000), using: &random)
            let kind = kinds.randomElement(using: &random)!
            let isFar = UInt8.random(in: 0..<20, using: &random) == 0
            let isString = kind == .portIn && Bool.random(using: &random)
            let elements = UInt64.random(in: 0...40, using: &random)
            records.append(
                EventRecord(
                    count: isFar ? random.next() : position,
                    address: Bool.random(using: &random) ? random.next() : 0x1000 + UInt64(kind.rawValue),
                    operand: Bool.random(using: &random) ? random.next() : 5,
                    value: isString ? elements : kind == .rdtsc ? position : random.next() >> (random.next() & 63),
                    kind: kind.rawValue, ring: UInt8.random(in: 0...3, using: &random), size: UInt8(position & 15),
                    flags: isString ? EventFlags.hasPayload : 0, detail: isString ? 2 : UInt32(position & 3)))
            guard isString else { continue }
            for start in stride(from: UInt64(0), to: elements * 2, by: 16) {
                let size = min(16, elements * 2 - start)
                func masked(_ bytes: UInt64) -> UInt64 {
                    bytes >= 8 ? random.next() : random.next() & ((1 << (bytes * 8)) - 1)
                }
                let last = records[records.count - 1]
                records.append(
                    EventRecord(
                        count: last.count, address: last.address, operand: masked(min(size, 8)),
                        value: masked(size - min(size, 8)), kind: EventKind.payload.rawValue, ring: last.ring,
                        size: UInt8(size), flags: 0, detail: 0))
            }
        }
        return records
    }
}
