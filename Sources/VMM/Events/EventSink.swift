import CEngine

/// Takes the guest's events in batches, in order. A sink must not touch the machine.
package protocol EventSink: AnyObject {
    /// The buffer belongs to the processor and is reused after the call.
    func receive(_ events: UnsafeBufferPointer<EventRecord>)
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Counts an event, and buffers it if a sink is attached. The position is `CPUState.position`.
    @inline(__always) package func emit(
        _ kind: EventKind, address: UInt64, operand: UInt64, value: UInt64, detail: UInt32 = 0, size: UInt8 = 0
    ) {
        cpu_event_count(self, Int32(kind.rawValue)).pointee &+= 1
        if _slowPath(cpu_leaves_transfer(self).pointee != 0) { processor.endTransfer() }
        if _slowPath(pointee.events != nil) {
            append(
                EventRecord(
                    count: pointee.position, address: address, operand: operand, value: value, kind: kind.rawValue,
                    ring: pointee.cpl, size: size, flags: 0, detail: detail))
        }
    }

    /// Puts a record into the sink's buffer, handing the buffer over when it is full.
    @inline(never) package func append(_ record: EventRecord) {
        if _slowPath(cpu_leaves_transfer(self).pointee != 0) { processor.endTransfer() }
        guard let events = pointee.events else { return }
        var record = record
        if pointee.flags & RFlags.if != 0 { record.flags |= EventFlags.interruptsEnabled }
        record.flags |= pointee.cpl << EventFlags.ringShift
        // The count stays below the capacity because a full buffer is emptied at once.
        events[Int(pointee.eventCount)] = record
        pointee.eventCount &+= 1
        if pointee.eventCount == pointee.eventCapacity { processor.flushEvents() }
    }
}
