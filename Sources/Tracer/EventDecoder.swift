import CEngine
import VMM

/// Gives the events of one event block back, in order, with the payload of string I/O as records behind its event.
final class EventDecoder {
    /// A column that is read from front to back.
    private struct Cursor {
        var next: UnsafePointer<UInt8>
        var end: UnsafePointer<UInt8>

        var left: Int { end - next }
    }

    private var model: EventModel
    private var epoch: UInt32 = 0
    private var offset: UInt64 = 0
    /// The columns one after the other, and where each is read. Owned here.
    private var bytes: UnsafeMutablePointer<UInt8>
    private let cursors: UnsafeMutablePointer<Cursor>
    /// Expected events before the next one with a mask, once that is read.
    private var run: UInt64 = 0
    private var needsRun = true
    private var left = 0
    /// Bytes that still follow the event `owner`.
    private var payloadLeft: UInt64 = 0
    private var owner = EventRecord()
    /// What is damaged in the block, once that was met.
    private var failure: TraceError?
    private let payload = EventKind.payload.rawValue

    init(rate: UInt64) {
        model = EventModel(rate: rate)
        bytes = .allocate(capacity: 1)
        cursors = .allocate(capacity: EventColumn.names.count)
        cursors.initialize(repeating: Cursor(next: bytes, end: bytes), count: EventColumn.names.count)
    }

    deinit {
        bytes.deallocate()
        cursors.deallocate()
        model.deallocate()
    }

    /// Begins with a block of the events stream; `sites` are those of its epoch.
    func begin(_ block: Block, sites: [Site]) {
        offset = block.offset
        if block.header.epoch != epoch || model.siteCount != sites.count {
            epoch = block.header.epoch
            model.removeSites()
            for site in sites { model.add(site) }
        }
        model.reset(count: block.header.firstCount)
        bytes.deallocate()
        bytes = .allocate(capacity: block.columns.reduce(1) { $0 + $1.bytes.count })
        var start = bytes
        for (index, name) in EventColumn.names.enumerated() {
            let column = block.columns.first { $0.id == name.0 }?.bytes ?? []
            for (place, byte) in column.enumerated() { start[place] = byte }
            cursors[index] = Cursor(next: start, end: start + column.count)
            start += column.count
        }
        left = Int(block.header.items)
        needsRun = true
        run = 0
        payloadLeft = 0
        failure = nil
    }

    /// Writes the next records to `output`, as many as are left and have room. What is damaged is an error once all
    /// before it has been given.
    /// - Returns: how many; 0 at the block's end.
    func decode(into output: UnsafeMutablePointer<EventRecord>, capacity: Int) throws(TraceError) -> Int {
        var count = 0
        if failure == nil {
            do throws(TraceError) {
                try decode(into: output, capacity, &count)
            } catch {
                failure = error
            }
        }
        if let failure, count == 0 { throw failure }
        return count
    }

    private func decode(
        into output: UnsafeMutablePointer<EventRecord>, _ capacity: Int, _ count: inout Int
    ) throws(TraceError) {
        while count < capacity {
            let record = output + count
            if payloadLeft > 0 {
                record.pointee = nextPayload()
                count &+= 1
                continue
            }
            guard left > 0 else { break }
            if needsRun {
                run = cursor(EventColumn.runs).pointee.left > 0 ? try varint(EventColumn.runs) : 0
                needsRun = false
            }
            left &-= 1
            if run > 0 {
                run &-= 1
                try expected(record)
            } else {
                needsRun = true
                try masked(record)
            }
            if record.pointee.flags & EventFlags.hasPayload != 0 { try beginPayload(record.pointee) }
            count &+= 1
        }
    }

    @inline(__always) private func expected(_ record: UnsafeMutablePointer<EventRecord>) throws(TraceError) {
        let site = model.next[model.nextContext]
        guard Int(site) < model.siteCount else { throw damaged("a site below \(model.siteCount)", "none") }
        let delta = model.delta[model.deltaContext(site)]
        finish(record, site, delta, 0, 0)
    }

    private func masked(_ record: UnsafeMutablePointer<EventRecord>) throws(TraceError) {
        let masks = cursor(EventColumn.masks)
        guard masks.pointee.left > 0 else { throw damaged("a mask for each event", "fewer") }
        let mask = masks.pointee.next.pointee
        masks.pointee.next += 1
        guard mask & ~EventMask.all == 0 else { throw damaged("a mask below 64", "\(mask)") }
        let nextContext = model.nextContext
        var number = UInt64(model.next[nextContext])
        if mask & EventMask.site != 0 { number = try varint(EventColumn.sites) }
        guard number < UInt64(model.siteCount) else { throw damaged("a site below \(model.siteCount)", "\(number)") }
        let site = UInt32(number)
        let state = model.sites + Int(site)
        let deltaContext = model.deltaContext(site)
        if mask & EventMask.delta != 0 { model.delta[deltaContext] = unzigzag(try varint(EventColumn.deltas)) }
        model.next[nextContext] = site
        if mask & EventMask.operand != 0 {
            state.pointee.operand &+= UInt64(bitPattern: unzigzag(try varint(EventColumn.operands)))
        }
        var difference: UInt64 = 0
        var changed: UInt64 = 0
        if mask & EventMask.value != 0 {
            if state.pointee.model == .flags {
                changed = try varint(EventColumn.flags)
            } else {
                difference = UInt64(bitPattern: unzigzag(try varint(EventColumn.values)))
            }
        }
        if mask & EventMask.detail != 0 {
            state.pointee.detail ^= UInt32(truncatingIfNeeded: try varint(EventColumn.details))
        }
        if mask & EventMask.address != 0 {
            let change = UInt64(bitPattern: unzigzag(try varint(EventColumn.addresses)))
            // The address of a site that has one is not the event's to change.
            if state.pointee.isFree { state.pointee.address &+= change }
        }
        finish(record, site, model.delta[deltaContext], difference, changed)
        // An event with a mask is what the site is expected to do next time.
        state.pointee.value = record.pointee.value
    }

    /// Puts the record together and moves on.
    @inline(__always) private func finish(
        _ record: UnsafeMutablePointer<EventRecord>, _ site: UInt32, _ delta: Int64, _ difference: UInt64,
        _ changed: UInt64
    ) {
        let state = model.sites + Int(site)
        let count = model.count &+ UInt64(bitPattern: delta)
        let isTimestamp = state.pointee.model == .timestamp
        let base = isTimestamp ? model.expectedTimestamp(at: count) : state.pointee.value
        let value = (base &+ difference) ^ changed
        record.pointee.count = count
        record.pointee.address = state.pointee.address
        record.pointee.operand = state.pointee.operand
        record.pointee.value = value
        EventRecord.setTail(record, state.pointee.key, state.pointee.detail)
        if isTimestamp {
            model.timestamp = value
            model.timestampCount = count
        }
        model.step(site, count)
    }

    // MARK: Payload

    private func beginPayload(_ record: EventRecord) throws(TraceError) {
        let (size, overflow) = record.value.multipliedReportingOverflow(by: UInt64(record.detail))
        guard !overflow, size <= UInt64(cursor(EventColumn.payload).pointee.left) else {
            throw damaged("\(record.value) elements of payload", "fewer")
        }
        payloadLeft = size
        owner = record
    }

    private func nextPayload() -> EventRecord {
        let column = cursor(EventColumn.payload)
        let count = Int(min(payloadLeft, 16))
        var words: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &words) { for byte in 0..<count { $0[byte] = column.pointee.next[byte] } }
        column.pointee.next += count
        payloadLeft -= UInt64(count)
        return EventRecord(
            count: owner.count, address: owner.address, operand: UInt64(littleEndian: words.0),
            value: UInt64(littleEndian: words.1), kind: payload, ring: owner.ring, size: UInt8(count), flags: 0,
            detail: 0)
    }

    // MARK: Columns

    @inline(__always) private func cursor(_ column: UInt8) -> UnsafeMutablePointer<Cursor> {
        cursors + (Int(column) - 1)
    }

    private func varint(_ number: UInt8) throws(TraceError) -> UInt64 {
        let column = cursor(number)
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while column.pointee.left > 0 {
            let byte = column.pointee.next.pointee
            column.pointee.next += 1
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw damaged("a number of at most 64 bits in column \(number)", "none")
    }

    @inline(never) private func damaged(_ expected: String, _ found: String) -> TraceError {
        .malformed(offset: offset, expected: expected + " in the event block", found: found)
    }
}
