import CEngine
import VMM

/// Walks a trace's events from one of them on, block by block.
package final class EventCursor {
    private let reader: TraceReader
    private let blocks: [IndexEntry]
    private var nextBlock: Int
    private let decoder: EventDecoder
    private var hasBlock = false
    /// The number of the event that the last call of `next` gave, or that its payload belongs to.
    package private(set) var number: UInt64 = 0
    private var upcoming: UInt64

    /// Stands before event `first`, or the first that the trace has.
    package init(_ reader: TraceReader, from first: UInt64 = 0) throws(TraceError) {
        self.reader = reader
        blocks = reader.blocks(.events)
        decoder = EventDecoder(rate: reader.manifest.instructionsPerMicrosecond)
        nextBlock = blocks.lastIndex { $0.header.firstItem <= first } ?? 0
        upcoming = nextBlock < blocks.count ? blocks[nextBlock].header.firstItem : 0
        while upcoming < first, try next() != nil {}
        pending = nil
        if upcoming == first { try skipPayload() }
    }

    /// A record that was read ahead.
    private var pending: EventRecord?

    /// Reads on to the next event that is not payload.
    private func skipPayload() throws(TraceError) {
        guard hasBlock else { return }
        while let record = try read() {
            if record.kind == EventKind.payload.rawValue { continue }
            pending = record
            return
        }
    }

    /// The next record; payload of string I/O comes as records of its own behind the event. Nil at the end.
    package func next() throws(TraceError) -> EventRecord? {
        var record = pending
        pending = nil
        if record == nil { record = try read() }
        guard let record else { return nil }
        if record.kind != EventKind.payload.rawValue {
            number = upcoming
            upcoming += 1
        }
        return record
    }

    private func read() throws(TraceError) -> EventRecord? {
        while true {
            if hasBlock, let record = try decoder.next() { return record }
            guard nextBlock < blocks.count else {
                hasBlock = false
                return nil
            }
            let entry = blocks[nextBlock]
            nextBlock += 1
            guard !hasBlock || entry.header.firstItem == upcoming else {
                throw .malformed(
                    offset: entry.offset, expected: "event \(upcoming)", found: "\(entry.header.firstItem)")
            }
            upcoming = entry.header.firstItem
            try decoder.begin(reader.load(entry), sites: reader.sites(epoch: entry.header.epoch))
            hasBlock = true
        }
    }
}
