import CEngine
import Tracer
import VMM

/// Compares the events of a replay with the recorded ones as they come.
package final class EventVerifier: EventSink {
    private let cursor: EventCursor
    /// Recorded events up to here count.
    private let limit: UInt64
    /// Kinds that the trace does not hold, though the machine reports them.
    private var skipsPaging: Bool
    /// Recorded events of these kinds are passed over too.
    private var skipsRecordedPaging = false
    /// Events that were the same.
    package private(set) var verified: UInt64 = 0
    package private(set) var divergence: Divergence?
    package private(set) var failure: TraceError?
    private var next: UInt64
    /// Whether the last event was within the limit, so that its payload is.
    private var isComparing = false

    /// Changes a recorded event before it is compared, for tests of the comparison.
    package var fault: ((UInt64, inout EventRecord) -> Void)?

    package init(_ reader: TraceReader, from first: UInt64, limit: UInt64) throws(TraceError) {
        cursor = try EventCursor(reader, from: first)
        self.limit = limit
        next = first
        skipsPaging = reader.manifest.detail != .paging
    }

    /// From now on no paging events are compared, recorded ones neither.
    package func skipPaging() {
        skipsRecordedPaging = !skipsPaging
        skipsPaging = true
    }

    package func receive(_ events: UnsafeBufferPointer<EventRecord>) {
        guard divergence == nil, failure == nil, var record = events.baseAddress else { return }
        let end = record + events.count
        while record < end {
            if fault == nil, !skipsRecordedPaging {
                let same = cursor.takeSame(record, end - record, limit: limit)
                if same.events > 0 { isComparing = true }
                verified &+= same.events
                next &+= same.events
                record += same.records
            }
            guard record < end else { return }
            // Whatever is not simply the same.
            if Self.isModels(record.pointee.kind) || (skipsPaging && Self.isPaging(record.pointee.kind)) {
                record += 1
                continue
            }
            compare(record)
            if divergence != nil || failure != nil { return }
            record += 1
        }
    }

    private static func isPaging(_ kind: UInt8) -> Bool {
        switch EventKind(rawValue: kind) {
        case .tlbFill, .firstTouch, .pageTableWrite, .descriptorWrite: true
        default: false
        }
    }

    /// Whether events of a kind come only because a model watches.
    private static func isModels(_ kind: UInt8) -> Bool { kind > EventKind.payload.rawValue }

    private func compare(_ place: UnsafePointer<EventRecord>) {
        var record = place.pointee
        record.flags &= EventRecord.keptFlags
        let isPayload = record.kind == EventKind.payload.rawValue
        if !isPayload { isComparing = next < limit }
        guard isComparing else { return }
        do throws(TraceError) {
            guard var recorded = try nextRecorded() else {
                divergence = Divergence(
                    kind: .event, position: TracePosition(count: record.count, nanoseconds: 0), event: next,
                    site: record.address,
                    differences: [
                        Divergence.Difference(
                            "event", recorded: "none", replayed: EventText.name(record.kind))
                    ])
                return
            }
            recorded.flags &= EventRecord.keptFlags
            if let fault { fault(cursor.number, &recorded) }
            if EventText.differences(recorded, record).isEmpty {
                if !isPayload {
                    verified &+= 1
                    next &+= 1
                }
                return
            }
            divergence = Divergence(
                kind: .event, position: TracePosition(count: record.count, nanoseconds: 0), event: cursor.number,
                site: record.address, differences: EventText.differences(recorded, record))
        } catch {
            failure = error
        }
    }

    private func nextRecorded() throws(TraceError) -> EventRecord? {
        while let recorded = try cursor.next() {
            guard skipsRecordedPaging, Self.isPaging(recorded.kind) else { return recorded }
            next &+= 1
        }
        return nil
    }

    /// At the end of the replay, or at a digest: events that were recorded before it and did not come.
    func finish(expecting events: UInt64, at position: TracePosition) {
        guard divergence == nil, failure == nil, next < events else { return }
        do throws(TraceError) {
            // Behind the last of these events nothing was compared yet: what is passed over may reach just there.
            while next < events, let recorded = try cursor.next() {
                if skipsRecordedPaging, Self.isPaging(recorded.kind) {
                    next &+= 1
                    continue
                }
                divergence = Divergence(
                    kind: .event, position: position, event: cursor.number, site: recorded.address,
                    differences: [
                        Divergence.Difference("event", recorded: EventText.name(recorded.kind), replayed: "none")
                    ])
                return
            }
        } catch {
            failure = error
        }
    }
}
