import CEngine
import VMM

/// Events on their way to the writing thread: records as they are, and *repeats*.
///
/// Nearly all events of a boot come from delay loops, in which two events alternate and each is like the one two before
/// but for the time. Seeing that takes less than copying them. A repeat stands for events each of which is like the one
/// two before plus a fixed step; the two records in front of it are events.
enum EventRepeat {
    /// The kind of a record that is a repeat: `count` events, whose counts grow by `operand` from one to the next but
    /// one, and the values by `value` for the first, third …, and by `address` for the others.
    static let kind: UInt8 = 0xff
}

/// Fills buffers for the writing thread. Belongs to the guest's thread.
struct EventPacker {
    static let capacity = 4096

    /// The buffer that is being filled, of `capacity` records; it belongs to whoever gave it.
    private(set) var buffer: UnsafeMutablePointer<EventRecord>
    private(set) var count = 0
    /// Events so far; payload belongs to its event.
    private(set) var events: UInt64
    /// Records at the end of the buffer that are not repeats.
    private var literals = 0
    /// The last record of the buffer is a repeat that may go on.
    private var isRepeating = false
    /// Of an open repeat: the next event and the one after it, and how they grow.
    private var next = Expectation()
    private var afterNext = Expectation()
    private var step: UInt64 = 0
    /// A constant here, which a call into another module is not.
    private let payload = EventKind.payload.rawValue

    private struct Expectation {
        var count: UInt64 = 0, address: UInt64 = 0, operand: UInt64 = 0, value: UInt64 = 0, tail: UInt64 = 0
        var valueStep: UInt64 = 0

        /// Zero if `record` is as expected.
        @inline(__always) func difference(_ record: UnsafePointer<EventRecord>) -> UInt64 {
            (record.pointee.count ^ count) | (record.pointee.address ^ address) | (record.pointee.operand ^ operand)
                | (record.pointee.value ^ value) | (EventRecord.tail(record) ^ tail)
        }

        @inline(__always) mutating func grow(by step: UInt64) {
            count &+= step
            value &+= valueStep
        }
    }

    /// Begins behind event `events` with an empty buffer.
    init(_ buffer: UnsafeMutablePointer<EventRecord>, events: UInt64) {
        precondition(MemoryLayout<EventRecord>.offset(of: \.kind) == 32 && MemoryLayout<EventRecord>.stride == 40)
        precondition(EventRecord.keptFlags == EventFlags.hasPayload)
        self.buffer = buffer
        self.events = events
    }

    /// Takes a batch. `handOver` is given each buffer that is full, with its number of records, and gives an empty one.
    mutating func append(
        _ batch: UnsafeBufferPointer<EventRecord>,
        handOver: (UnsafeMutablePointer<EventRecord>, Int) -> UnsafeMutablePointer<EventRecord>
    ) {
        guard var record = batch.baseAddress else { return }
        let end = record + batch.count
        while record < end {
            if isRepeating {
                record = goOn(record, end)
                continue
            }
            if literals >= 2, record + 1 < end, beginRepeat(record) { continue }
            buffer[count] = record.pointee
            count &+= 1
            literals &+= 1
            if record.pointee.kind != payload { events &+= 1 }
            record += 1
            if count >= Self.capacity - 1 { restart(handOver(buffer, count)) }
        }
    }

    /// Goes on with an empty buffer, the old one having been handed over.
    mutating func restart(_ empty: UnsafeMutablePointer<EventRecord>) {
        buffer = empty
        count = 0
        literals = 0
        isRepeating = false
    }

    /// Whether `record` and the one behind it are like the two before, the same counts later.
    @inline(__always) private mutating func beginRepeat(_ record: UnsafePointer<EventRecord>) -> Bool {
        let (first, second) = (buffer + (count - 2), buffer + (count - 1))
        let tail = EventRecord.tail(record)
        let otherTail = EventRecord.tail(record + 1)
        let growth = record.pointee.count &- first.pointee.count
        let differs =
            (EventRecord.tail(first) ^ tail) | (EventRecord.tail(second) ^ otherTail)
            | (first.pointee.address ^ record[0].address) | (second.pointee.address ^ record[1].address)
            | (first.pointee.operand ^ record[0].operand) | (second.pointee.operand ^ record[1].operand)
            | ((record[1].count &- second.pointee.count) ^ growth)
        guard differs == 0, canRepeat(tail), canRepeat(otherTail) else { return false }
        next = Expectation(
            count: record[0].count, address: record[0].address, operand: record[0].operand, value: record[0].value,
            tail: tail, valueStep: record[0].value &- first.pointee.value)
        afterNext = Expectation(
            count: record[1].count, address: record[1].address, operand: record[1].operand, value: record[1].value,
            tail: otherTail, valueStep: record[1].value &- second.pointee.value)
        step = growth
        buffer[count] = EventRecord(
            count: 0, address: afterNext.valueStep, operand: step, value: next.valueStep, kind: EventRepeat.kind,
            ring: 0, size: 0, flags: 0, detail: 0)
        count &+= 1
        literals = 0
        isRepeating = true
        return true
    }

    /// Payload and its events stay what they are.
    @inline(__always) private func canRepeat(_ tail: UInt64) -> Bool {
        UInt8(truncatingIfNeeded: tail) != payload && tail >> 24 & UInt64(EventRecord.keptFlags) == 0
    }

    /// Adds the records that go on as the open repeat does, and closes it at the first that does not.
    /// - Returns: the first record that is not taken.
    @inline(__always) private mutating func goOn(
        _ start: UnsafePointer<EventRecord>, _ end: UnsafePointer<EventRecord>
    ) -> UnsafePointer<EventRecord> {
        var (even, odd, step) = (next, afterNext, step)
        var record = start
        while record + 1 < end, even.difference(record) | odd.difference(record + 1) == 0 {
            even.grow(by: step)
            odd.grow(by: step)
            record += 2
        }
        if record < end {
            if even.difference(record) == 0 {
                even.grow(by: step)
                swap(&even, &odd)
                record += 1
            }
            if record < end { isRepeating = false }
        }
        (next, afterNext) = (even, odd)
        let taken = UInt64(record - start)
        buffer[count - 1].count &+= taken
        events &+= taken
        return record
    }
}
