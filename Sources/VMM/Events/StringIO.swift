import CEngine

/// INS or OUTS, as far as it has not been reported yet.
///
/// It is one event, however often the run stops between two of its elements: what was moved is kept here while it is
/// left, until it goes on, or until anything else happens that is reported. So where a caller stops the run does not
/// show in the events. A transfer of more than `most` elements is reported in parts; it counts once.
package struct StringTransfer {
    /// Elements of one record.
    package static let most: UInt64 = 65_536

    /// The event: `count` is the position of the first element, `value` the number of elements.
    package var event = EventRecord()
    /// What they were, while a sink is attached.
    package var payload: [UInt8] = []

    package init() {}
}

// That a transfer was left, and so is counted already, is the processor's state. What it has moved so far belongs to
// the sink.
extension Processor {
    /// What a transfer has moved that was left between two elements. Who goes on with the events in another machine
    /// sets it after attaching the sink there; without it the sink gets the rest only.
    package var leftTransfer: StringTransfer? {
        get { cpu_leaves_transfer(cpu).pointee != 0 ? transfer : nil }
        set { transfer = newValue }
    }

    /// Begins a transfer, or goes on with the one that was left, which nothing came after. Events on the way come
    /// before its own.
    /// - Returns: whether it was left, and so is counted.
    func beginTransfer(_ event: EventRecord) -> Bool {
        let wasLeft = cpu_leaves_transfer(cpu).pointee != 0
        cpu_leaves_transfer(cpu).pointee = 0
        if wasLeft, transfer != nil { return true }
        transfer = StringTransfer()
        transfer?.event = event
        return wasLeft
    }

    /// Keeps an element that was moved.
    func noteStringIO(_ value: UInt32, size: Int) {
        guard cpu.pointee.events != nil, transfer != nil else { return }
        for index in 0..<size { transfer?.payload.append(UInt8(truncatingIfNeeded: value >> UInt32(index * 8))) }
        transfer?.event.value &+= 1
        guard transfer?.event.value == StringTransfer.most else { return }
        reportTransfer()
        transfer?.event.count &+= StringTransfer.most
        transfer?.event.value = 0
        transfer?.payload.removeAll(keepingCapacity: true)
    }

    /// Keeps the transfer until it goes on.
    func leaveTransfer() { cpu_leaves_transfer(cpu).pointee = 1 }

    /// Reports the transfer, which has ended or will not go on at once.
    func endTransfer() {
        cpu_leaves_transfer(cpu).pointee = 0
        reportTransfer()
        transfer = nil
    }

    private func reportTransfer() {
        guard cpu.pointee.events != nil, let transfer else { return }
        let event = transfer.event
        cpu.append(event)
        let bytes = transfer.payload
        for start in stride(from: 0, to: bytes.count, by: 16) {
            let part = bytes[start..<min(start + 16, bytes.count)]
            var words: (UInt64, UInt64) = (0, 0)
            withUnsafeMutableBytes(of: &words) { $0.copyBytes(from: part) }
            cpu.append(
                EventRecord(
                    count: event.count, address: event.address, operand: words.0, value: words.1,
                    kind: EventKind.payload.rawValue, ring: event.ring, size: UInt8(part.count), flags: 0, detail: 0))
        }
    }
}
