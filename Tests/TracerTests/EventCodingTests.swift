import CEngine
import Testing
import Tracer
import VMM

/// Delay loops, which the recorder takes together, come back event by event.
struct EventCodingTests {
    private let folder: TraceFolder

    init() throws { folder = try TraceFolder() }

    @Test(arguments: [1000, 250, 3] as [UInt64]) func loopsComeBack(rate: UInt64) throws {
        var random = SeededRandom(SeededRandom.runSeed &+ rate)
        // Enough that a loop crosses from one block to the next.
        let records = Self.loops(&random, rate == 1000 ? 1_400_000 : 300_000)
        let path = folder.path + "/e.tline"
        let writer = try TraceWriter(path, rate: rate, epoch: 0, firstEvent: 0)
        var manifest = TraceManifest(try RecordedGuest().configuration(), writer: "test")
        manifest.instructionsPerMicrosecond = rate
        writer.append(Block(.manifest, epoch: 0, items: 1, counts: 0...0, [(1, Array(manifest.text.utf8))]))
        var start = 0
        while start < records.count {
            let size = min(Int.random(in: 1...3000, using: &random), records.count - start)
            records[start..<start + size].withUnsafeBufferPointer { writer.append($0) }
            start += size
            if Int.random(in: 0..<100, using: &random) == 0 {
                writer.sync(TraceProgress(position: TracePosition(count: 0, nanoseconds: 0)).block(epoch: 0))
            }
        }
        let events = records.filter { $0.kind != EventKind.payload.rawValue }.count
        #expect(writer.eventNumber == UInt64(events))
        writer.sync(TraceProgress(position: TracePosition(count: 0, nanoseconds: 0)).block(epoch: 0))
        _ = try writer.finish(complete: true)
        let reader = try TraceReader(path)
        let cursor = try EventCursor(reader)
        var different = 0
        for record in records where try cursor.next().map({ Self.differs($0, record) }) ?? true { different += 1 }
        #expect(different == 0)
        #expect(try cursor.next() == nil)
        #expect(try reader.eventCounts().reduce(0, +) == UInt64(events))
        // The same at once, as a replay compares them.
        let again = try EventCursor(reader)
        var taken = 0
        var number: UInt64 = 0
        records.withUnsafeBufferPointer { records in
            while taken < records.count {
                let same = again.takeSame(
                    records.baseAddress! + taken, records.count - taken, limit: UInt64(records.count))
                taken += same.records
                number += same.events
                if same.records == 0 { break }
            }
        }
        #expect(taken == records.count && number == UInt64(events))
    }

    /// What a trace keeps of a record is compared; other flags are not.
    private static func differs(_ found: EventRecord, _ record: EventRecord) -> Bool {
        found.count != record.count || found.address != record.address || found.operand != record.operand
            || found.value != record.value || found.kind != record.kind || found.ring != record.ring
            || found.size != record.size || found.flags != record.flags & EventFlags.hasPayload
            || found.detail != record.detail
    }

    /// Loops of one to three events of many lengths, some of which are disturbed, with other events between.
    private static func loops(_ random: inout SeededRandom, _ count: Int) -> [EventRecord] {
        let kinds: [EventKind] = [.rdtsc, .pause, .rdtscp, .portIn, .pushf, .mmioRead, .interruptDelivered, .portOut]
        var records: [EventRecord] = []
        var position: UInt64 = 1000
        var timestamp: UInt64 = 7
        while records.count < count {
            let period = Int.random(in: 1...3, using: &random)
            let loop = (0..<period).map { _ in
                EventRecord(
                    count: UInt64.random(in: 0...40, using: &random),
                    address: 0x1000 + UInt64.random(in: 0..<5, using: &random),
                    operand: UInt64.random(in: 0..<2, using: &random), value: random.next() & 3,
                    kind: kinds.randomElement(using: &random)!.rawValue, ring: 0, size: 2,
                    flags: UInt8.random(in: 0..<4, using: &random) << 1,
                    detail: UInt32.random(in: 0..<2, using: &random))
            }
            let exponent = UInt64.random(in: 0...17, using: &random)
            let length = Int(random.next() & ((1 << exponent) - 1))
            let disturbed = Bool.random(using: &random) ? Int.random(in: 0...length, using: &random) : -1
            let follows = Bool.random(using: &random)
            let valueStep = UInt64.random(in: 0..<4, using: &random) / 3
            for index in 0..<length {
                var record = loop[index % period]
                timestamp &+= record.count
                position &+= record.count
                record.count = position
                if record.kind == EventKind.rdtsc.rawValue, follows { record.value = timestamp }
                if !follows { record.value &+= UInt64(index / period) &* valueStep }
                if index == disturbed {
                    switch UInt8.random(in: 0..<7, using: &random) {
                    case 0: record.value ^= 1
                    case 1: record.operand ^= 1
                    case 2: record.detail ^= 1
                    case 3: record.address ^= 1
                    case 4: record.ring ^= 1
                    case 5: position &+= 1
                    default: record.flags ^= 2
                    }
                }
                records.append(record)
            }
            guard Int.random(in: 0..<4, using: &random) == 0 else { continue }
            // String I/O with its bytes, alike enough to be a loop.
            for _ in 0..<5 {
                records.append(
                    EventRecord(
                        count: position, address: 0x99, operand: 0x1f0, value: 8, kind: EventKind.portIn.rawValue,
                        ring: 0, size: 2, flags: EventFlags.hasPayload, detail: 2))
                records.append(
                    EventRecord(
                        count: position, address: 0x99, operand: 1, value: 2, kind: EventKind.payload.rawValue, ring: 0,
                        size: 16, flags: 0, detail: 0))
                position &+= 10
            }
        }
        return records
    }
}
