import CEngine
import VMM

/// Gives the events of one event block back, in order, with the payload of string I/O as records behind its event.
package final class EventDecoder {
    private let model: EventModel
    private var sites: [Site] = []
    private var offset: UInt64 = 0
    private var columns: [[UInt8]] = Array(repeating: [], count: EventColumn.names.count)
    private var cursors = [Int](repeating: 0, count: EventColumn.names.count)
    /// Expected events before the next one with a mask; nil if it is not read yet.
    private var run: UInt64 = 0
    private var needsRun = true
    private var left = 0
    private var payloadLeft: UInt64 = 0
    private var record = EventRecord()

    package init(rate: UInt64) { model = EventModel(rate: rate) }

    /// Begins with a block of the events stream; `sites` are those of its epoch.
    package func begin(_ block: Block, sites: [Site]) throws(TraceError) {
        self.sites = sites
        offset = block.offset
        model.grow(to: sites.count)
        model.reset(count: block.header.firstCount)
        for (index, name) in EventColumn.names.enumerated() {
            columns[index] = block.columns.first { $0.id == name.0 }?.bytes ?? []
            cursors[index] = 0
        }
        left = Int(block.header.items)
        needsRun = true
        run = 0
        payloadLeft = 0
    }

    /// The next record, nil after the block's last one. The pointer is valid until the next call.
    package func next() throws(TraceError) -> EventRecord? {
        if payloadLeft > 0 { return try nextPayload() }
        guard left > 0 else { return nil }
        left -= 1
        if needsRun {
            run = cursors[0] < columns[0].count ? try varint(EventColumn.runs) : 0
            needsRun = false
        }
        if run > 0 {
            run -= 1
            try expected()
        } else {
            needsRun = true
            try masked()
        }
        if record.flags & 1 != 0 {
            let (bytes, overflow) = record.value.multipliedReportingOverflow(by: UInt64(record.detail))
            let index = Int(EventColumn.payload) - 1
            guard !overflow, bytes <= UInt64(columns[index].count - cursors[index]) else {
                throw damaged("\(record.value) elements of payload", "fewer")
            }
            payloadLeft = bytes
        }
        return record
    }

    /// The number of the last event's site in its epoch's dictionary.
    package var site: Int { Int(model.last) }

    /// Numbers of events that were not taken.
    package var eventsLeft: Int { left }

    private func expected() throws(TraceError) {
        let site = model.next[model.nextContext]
        guard site < UInt32(sites.count) else { throw damaged("a site below \(sites.count)", "none") }
        let delta = model.delta[model.deltaContext(site)]
        finish(site, delta, 0, 0)
    }

    private func masked() throws(TraceError) {
        let index = Int(EventColumn.masks) - 1
        guard cursors[index] < columns[index].count else { throw damaged("a mask for each event", "fewer") }
        let mask = columns[index][cursors[index]]
        cursors[index] += 1
        guard mask & ~EventMask.all == 0 else { throw damaged("a mask below 64", "\(mask)") }
        let nextContext = model.nextContext
        var site = UInt64(model.next[nextContext])
        if mask & EventMask.site != 0 { site = try varint(EventColumn.sites) }
        guard site < UInt64(sites.count) else { throw damaged("a site below \(sites.count)", "\(site)") }
        let number = UInt32(site)
        let deltaContext = model.deltaContext(number)
        if mask & EventMask.delta != 0 { model.delta[deltaContext] = unzigzag(try varint(EventColumn.deltas)) }
        model.next[nextContext] = number
        let at = Int(number)
        if mask & EventMask.operand != 0 {
            model.operand[at] &+= UInt64(bitPattern: unzigzag(try varint(EventColumn.operands)))
        }
        var difference: UInt64 = 0
        var changed: UInt64 = 0
        if mask & EventMask.value != 0 {
            if EventModel.valueModel(sites[at].kind) == .flags {
                changed = try varint(EventColumn.flags)
            } else {
                difference = UInt64(bitPattern: unzigzag(try varint(EventColumn.values)))
            }
        }
        if mask & EventMask.detail != 0 {
            model.detail[at] ^= UInt32(truncatingIfNeeded: try varint(EventColumn.details))
        }
        if mask & EventMask.address != 0 {
            model.address[at] &+= UInt64(bitPattern: unzigzag(try varint(EventColumn.addresses)))
        }
        finish(number, model.delta[deltaContext], difference, changed)
        // An event with a mask is what the site is expected to do next time.
        model.value[at] = record.value
    }

    /// Puts the record together and moves on.
    @inline(__always) private func finish(_ site: UInt32, _ delta: Int64, _ difference: UInt64, _ changed: UInt64) {
        let at = Int(site)
        let entry = sites[at]
        let count = model.count &+ UInt64(bitPattern: delta)
        let isTimestamp = EventModel.valueModel(entry.kind) == .timestamp
        let base = isTimestamp ? model.expectedTimestamp(at: count) : model.value[at]
        record = EventRecord(
            count: count, address: entry.isFree ? model.address[at] : entry.address, operand: model.operand[at],
            value: (base &+ difference) ^ changed, kind: entry.kind, ring: entry.ring, size: entry.size,
            flags: entry.flags, detail: model.detail[at])
        if isTimestamp {
            model.timestamp = record.value
            model.timestampCount = count
        }
        model.beforeLast = model.last
        model.last = site
        model.count = count
    }

    private func nextPayload() throws(TraceError) -> EventRecord {
        let index = Int(EventColumn.payload) - 1
        let count = Int(min(payloadLeft, 16))
        var words: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &words) {
            for byte in 0..<count { $0[byte] = columns[index][cursors[index] + byte] }
        }
        cursors[index] += count
        payloadLeft -= UInt64(count)
        return EventRecord(
            count: record.count, address: record.address, operand: UInt64(littleEndian: words.0),
            value: UInt64(littleEndian: words.1), kind: EventKind.payload.rawValue, ring: record.ring,
            size: UInt8(count), flags: 0, detail: 0)
    }

    @inline(__always) private func varint(_ column: UInt8) throws(TraceError) -> UInt64 {
        let index = Int(column) - 1
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while cursors[index] < columns[index].count {
            let byte = columns[index][cursors[index]]
            cursors[index] += 1
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw damaged("a number of at most 64 bits in column \(column)", "none")
    }

    private func damaged(_ expected: String, _ found: String) -> TraceError {
        .malformed(offset: offset, expected: expected + " in the event block", found: found)
    }
}
