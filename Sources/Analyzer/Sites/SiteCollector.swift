import CEngine
import Tracer
import VMM

/// Adds a trace's events up in one pass, by site, subject and process, and by time. Memory depends on how many
/// different ones there are, which is bounded, and not on how many events.
package final class SiteCollector {
    /// Different sites, subjects and processes, taken together, that a trace may have.
    private static let mostRows = 4 << 20
    package static let buckets: UInt64 = 1000
    private static let tooMany = TraceError.unusable(
        "the trace has events at more than \(mostRows) different sites, which is not analyzed")

    /// A key and the process that it belongs to.
    package struct Row: Hashable {
        package var key: SiteKey
        package var process: Int
    }

    /// Events of one kind and ring in one part of the run.
    package struct Bucket {
        package var number: UInt64
        package var kind: UInt8
        package var ring: UInt8
        package var samples: UInt64
    }

    /// Where a site's last event was added.
    private struct Slot {
        var address: UInt64 = 0
        var subject: UInt64 = 0
        var generation: UInt32 = 0
        var tag: UInt32 = 0
        var row: Int32 = 0
    }

    private static let slotMask = 0x3FFF
    /// How far positions can lie behind their order.
    private static let disorder: UInt64 = 1_000_000

    private let reader: TraceReader
    private let counts: Range<UInt64>
    private let registers: RegisterMap
    private var phases: PhaseMap
    private let processes: any ProcessSource
    /// What has been added since the last switch of address spaces, whose process is not known yet.
    private var rows: [(key: SiteKey, totals: SiteTotals)] = []
    private var rowNumbers: [SiteKey: Int32] = [:]
    private var slots = [Slot](repeating: Slot(), count: slotMask + 1)
    private var generation: UInt32 = 1
    private var lastCount: UInt64
    package private(set) var totals: [Row: SiteTotals] = [:]
    package private(set) var timeline: [Bucket] = []
    private var bucketCounts = [UInt64](repeating: 0, count: 256 * 4)
    private var bucket: UInt64 = 0
    private var bucketEnd: UInt64
    /// Counts that a part of the timeline covers.
    package let bucketSize: UInt64
    package private(set) var events: UInt64 = 0
    /// Called with each event, its key and number; for what wants more than sums.
    package var onEvent: ((EventRecord, SiteKey, _ number: UInt64) throws -> Void)?

    /// Takes the events whose counts are in `counts`.
    package init(
        _ reader: TraceReader, counts: Range<UInt64>, registers: RegisterMap, phases: PhaseMap,
        processes: any ProcessSource
    ) {
        self.reader = reader
        self.counts = counts
        self.registers = registers
        self.phases = phases
        self.processes = processes
        lastCount = counts.lowerBound
        bucketSize = max(1, (counts.upperBound - counts.lowerBound) / Self.buckets + 1)
        bucketEnd = counts.lowerBound &+ bucketSize
    }

    /// Reads the events. The process watch is finished then, too.
    package func run() throws {
        let blocks = reader.blocks(.events)
        let first = blocks.first { $0.header.lastCount >= counts.lowerBound } ?? blocks.last
        let cursor = try EventCursor(reader, from: first?.header.firstItem ?? 0)
        while true {
            let (records, first) = try cursor.nextBatch()
            guard let last = records.last else { break }
            try take(records, first: first)
            guard rows.count <= Self.mostRows else { throw Self.tooMany }
            // Positions inside a repeated instruction can lie behind its own.
            if last.count >= counts.upperBound, last.count - counts.upperBound > Self.disorder { break }
        }
        flushBucket()
        try endInterval(at: min(lastCount, reader.reach.position.count), next: nil)
    }

    private func take(_ records: UnsafeBufferPointer<EventRecord>, first: UInt64) throws {
        let payload = EventKind.payload.rawValue
        let control = EventKind.writeControl.rawValue
        var number = first
        for record in records where record.kind != payload {
            defer { number &+= 1 }
            guard counts.contains(record.count) else {
                if record.count < counts.lowerBound { lastCount = record.count }
                continue
            }
            if record.ring == 3, !processes.isKnown { try processes.sample(at: record.count) }
            let row = add(record)
            if let onEvent { try onEvent(record, rows[row].key, number) }
            if record.kind == control, record.operand == 3 {
                try endInterval(at: record.count, next: record.value)
            }
        }
    }

    @inline(__always) private func add(_ record: EventRecord) -> Int {
        let delta = record.count > lastCount ? record.count &- lastCount : 0
        lastCount = max(lastCount, record.count)
        if record.count >= bucketEnd { nextBucket(record.count) }
        bucketCounts[Int(record.kind) << 2 | Int(record.ring & 3)] &+= 1
        events &+= 1
        let subject: UInt64
        switch SiteKey.subjects[Int(record.kind)] {
        case .none: subject = 0
        case .operand: subject = record.operand
        case .memory: subject = registers.canonical(memory: record.operand)
        }
        let tag = UInt32(record.kind) << 16 | UInt32(record.ring) << 8 | UInt32(record.size)
        let hash = (record.address ^ UInt64(tag) << 40) &* 0x9E37_79B9_7F4A_7C15
        let place = Int(hash >> 40) & Self.slotMask
        let slot = slots[place]
        var row = Int(slot.row)
        let isSame = slot.address == record.address && slot.subject == subject && slot.tag == tag
        if !isSame || slot.generation != generation {
            row = findRow(record, subject)
            slots[place] = Slot(
                address: record.address, subject: subject, generation: generation, tag: tag, row: Int32(row))
        }
        rows[row].totals.add(record.count, delta)
        return row
    }

    @inline(never) private func findRow(_ record: EventRecord, _ subject: UInt64) -> Int {
        let key = SiteKey(
            address: record.address, kind: record.kind, ring: record.ring, size: record.size,
            phase: phases.phase(record.address, ring: record.ring), subject: subject)
        if let row = rowNumbers[key] { return Int(row) }
        rows.append((key, SiteTotals()))
        rowNumbers[key] = Int32(rows.count - 1)
        return rows.count - 1
    }

    // MARK: Time

    private func nextBucket(_ count: UInt64) {
        flushBucket()
        bucket = (count - counts.lowerBound) / bucketSize
        bucketEnd = counts.lowerBound &+ (bucket + 1) &* bucketSize
    }

    private func flushBucket() {
        for index in bucketCounts.indices where bucketCounts[index] > 0 {
            timeline.append(
                Bucket(
                    number: bucket, kind: UInt8(index >> 2), ring: UInt8(index & 3), samples: bucketCounts[index]))
            bucketCounts[index] = 0
        }
    }

    // MARK: Processes

    /// The address space changes to `next`: what was added belongs to the process that ran until now.
    private func endInterval(at count: UInt64, next: UInt64?) throws {
        let process = try processes.endInterval(at: count, next: next)
        for (key, sums) in rows { totals[Row(key: key, process: process), default: SiteTotals()].add(sums) }
        guard totals.count <= Self.mostRows else { throw Self.tooMany }
        rows.removeAll(keepingCapacity: true)
        rowNumbers.removeAll(keepingCapacity: true)
        generation &+= 1
    }
}
