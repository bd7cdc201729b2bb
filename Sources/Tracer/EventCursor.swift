import CEngine
import VMM

/// Walks a trace's events from one of them on, block by block.
package final class EventCursor {
    private static let capacity = 512

    private let reader: TraceReader
    private let blocks: [IndexEntry]
    private var nextBlock: Int
    private let decoder: EventDecoder
    private var hasBlock = false
    /// Decoded records, of which those from `place` up to `filled` were not taken. Owned here.
    private let buffer: UnsafeMutablePointer<EventRecord>
    private var place = 0
    private var filled = 0
    /// The number of the event that the last call of `next` gave, or that its payload belongs to.
    package private(set) var number: UInt64 = 0
    private var upcoming: UInt64
    /// What is damaged, once that was met.
    private var failure: TraceError?
    private let payload = EventKind.payload.rawValue

    /// Stands before event `first`, or the first that the trace has.
    package init(_ reader: TraceReader, from first: UInt64 = 0) throws(TraceError) {
        self.reader = reader
        blocks = reader.blocks(.events)
        decoder = EventDecoder(rate: reader.manifest.instructionsPerMicrosecond)
        nextBlock = blocks.lastIndex { $0.header.firstItem <= first } ?? 0
        upcoming = nextBlock < blocks.count ? blocks[nextBlock].header.firstItem : 0
        buffer = .allocate(capacity: Self.capacity)
        try skip(to: first)
    }

    deinit { buffer.deallocate() }

    /// Passes the events before `first` with their payload.
    private func skip(to first: UInt64) throws(TraceError) {
        guard upcoming < first else { return }
        while true {
            let records = try window()
            guard let record = records.first, record.kind == payload || upcoming < first else { return }
            var taken = 0
            var events: UInt64 = 0
            for record in records {
                if record.kind != payload {
                    guard upcoming + events < first else { break }
                    events += 1
                }
                taken += 1
            }
            take(taken, events: events)
        }
    }

    /// The next record; payload of string I/O comes as records of its own behind the event. Nil at the end.
    package func next() throws(TraceError) -> EventRecord? {
        if place == filled { try fill() }
        guard place < filled else { return nil }
        let record = buffer[place]
        take(1, events: record.kind == payload ? 0 : 1)
        return record
    }

    /// The next records, as many as are at hand, and the number of the first that is not payload. Empty at the end;
    /// valid until the next call of anything.
    package func nextBatch() throws(TraceError) -> (records: UnsafeBufferPointer<EventRecord>, first: UInt64) {
        let records = try window()
        let first = upcoming
        var events: UInt64 = 0
        for record in records where record.kind != payload { events += 1 }
        take(records.count, events: events)
        return (records, first)
    }

    /// Passes the records that follow, as long as they are the same as `records`, of which there are `count`, and
    /// before event `limit`. It may stop earlier, where a block ends or where the trace is damaged.
    /// - Returns: how many, and how many of them are not payload.
    package func takeSame(
        _ records: UnsafePointer<EventRecord>, _ count: Int, limit: UInt64
    ) -> (records: Int, events: UInt64) {
        guard let recorded = try? window(), upcoming < limit else { return (0, 0) }
        let most = min(count, recorded.count)
        var taken = 0
        var event = upcoming
        while taken < most, EventRecord.isSame(recorded.baseAddress! + taken, records + taken) {
            if records[taken].kind != payload {
                guard event < limit else { break }
                event &+= 1
            }
            taken &+= 1
        }
        let events = event - upcoming
        take(taken, events: events)
        return (taken, events)
    }

    /// The records that follow, at least one unless they are at their end. Valid until the next call of anything.
    private func window() throws(TraceError) -> UnsafeBufferPointer<EventRecord> {
        if place == filled { try fill() }
        return UnsafeBufferPointer(start: buffer + place, count: filled - place)
    }

    /// Passes the first `records` of the window, of which `events` are not payload.
    @inline(__always) private func take(_ records: Int, events: UInt64) {
        place += records
        upcoming += events
        if events > 0 { number = upcoming - 1 }
    }

    private func fill() throws(TraceError) {
        if let failure { throw failure }
        do throws(TraceError) {
            try decode()
        } catch {
            failure = error
            throw error
        }
    }

    private func decode() throws(TraceError) {
        place = 0
        filled = 0
        while true {
            if hasBlock {
                filled = try decoder.decode(into: buffer, capacity: Self.capacity)
                if filled > 0 { return }
            }
            guard nextBlock < blocks.count else {
                hasBlock = false
                return
            }
            let entry = blocks[nextBlock]
            nextBlock += 1
            guard !hasBlock || entry.header.firstItem == upcoming else {
                throw .malformed(
                    offset: entry.offset, expected: "event \(upcoming)", found: "\(entry.header.firstItem)")
            }
            upcoming = entry.header.firstItem
            decoder.begin(try reader.load(entry), sites: try reader.sites(epoch: entry.header.epoch))
            hasBlock = true
        }
    }
}
