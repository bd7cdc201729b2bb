import GRDB
import SwiftProtobuf

/// A trace as Perfetto shows it: which process the guest was in, marks, and how many events of each kind there were
/// over time.
///
/// Time is the guest's: counts at the recorded rate, without the time that it was idle.
package struct PerfettoExport {
    private static let sequence: UInt32 = 1
    private static let root: UInt64 = 1
    private static let processes: UInt64 = 2
    private static let marks: UInt64 = 3
    private static let firstCounter: UInt64 = 1000

    private let store: AnalysisStore
    private let write: ([UInt8]) throws -> Void
    private let rate: UInt64

    /// `write` takes the file in pieces.
    package init(_ store: AnalysisStore, _ write: @escaping ([UInt8]) throws -> Void) {
        self.store = store
        self.write = write
        rate = max(1, UInt64(store.meta["instructions_per_us"] ?? "") ?? 1000)
    }

    package func run() throws {
        try descriptor(Self.root, "Trapline guest") { track in
            track.process.pid = 1
            track.process.processName = "Trapline guest"
        }
        try descriptor(Self.processes, "process") { $0.parentUuid = Self.root }
        try descriptor(Self.marks, "marks") { $0.parentUuid = Self.root }
        try writeProcesses()
        try writeMarks()
        try writeCounters()
    }

    private func nanoseconds(_ count: UInt64) -> UInt64 {
        let product = count.multipliedFullWidth(by: 1000)
        return product.high < rate ? rate.dividingFullWidth(product).quotient : .max
    }

    // MARK: Tracks

    private func writeProcesses() throws {
        let sql = "SELECT i.start, i.stop, p.name, p.pid FROM interval i JOIN process p ON p.id = i.process ORDER BY 1"
        try store.query(sql) { _, values in
            guard let values, case .text(let name) = values[2] else { return }
            let pid = Self.number(values[3])
            let label = pid > 0 ? "\(name) \(pid)" : name
            try event(.sliceBegin, Self.processes, at: Self.number(values[0])) { event in
                event.name = label
                event.categories = ["process"]
            }
            try event(.sliceEnd, Self.processes, at: Self.number(values[1])) { _ in }
        }
    }

    private func writeMarks() throws {
        try store.query("SELECT count, text FROM mark ORDER BY count") { _, values in
            guard let values, case .text(let text) = values[1] else { return }
            try event(.instant, Self.marks, at: Self.number(values[0])) { event in
                event.name = text
                event.categories = ["mark"]
            }
        }
    }

    /// One counter for each kind: how many events there were in each part of the timeline. Parts without events are
    /// written where one with events ends.
    private func writeCounters() throws {
        let size = UInt64(store.meta["bucket_counts"] ?? "") ?? 1
        let start = UInt64(store.meta["start"] ?? "") ?? 0
        var kind: Int64 = -1
        var track = Self.firstCounter
        var next: UInt64 = 0
        let sql = """
            SELECT t.kind, k.name, t.bucket, sum(t.samples) FROM timeline t JOIN kind k ON k.id = t.kind
            GROUP BY t.kind, t.bucket ORDER BY t.kind, t.bucket
            """
        func value(_ bucket: UInt64, _ value: Int64) throws {
            try event(.counter, track, at: start &+ bucket &* size) { $0.counterValue = value }
        }
        try store.query(sql) { _, values in
            guard let values, case .integer(let number) = values[0], case .text(let name) = values[1] else { return }
            let bucket = Self.number(values[2])
            if number != kind {
                if kind >= 0 { try value(next, 0) }
                kind = number
                track = Self.firstCounter + UInt64(number)
                next = bucket
                try descriptor(track, name) { track in
                    track.parentUuid = Self.root
                    track.counter.unit = .count
                }
            }
            if bucket > next { try value(next, 0) }
            try value(bucket, Int64(bitPattern: Self.number(values[3])))
            next = bucket + 1
        }
        if kind >= 0 { try value(next, 0) }
    }

    private static func number(_ value: TableValue) -> UInt64 {
        if case .integer(let number) = value { UInt64(bitPattern: number) } else { 0 }
    }

    // MARK: Packets

    private func descriptor(
        _ uuid: UInt64, _ name: String, _ fill: (inout Perfetto_Protos_TrackDescriptor) -> Void
    ) throws {
        var packet = Perfetto_Protos_TracePacket()
        packet.trustedPacketSequenceID = Self.sequence
        packet.trackDescriptor.uuid = uuid
        packet.trackDescriptor.name = name
        fill(&packet.trackDescriptor)
        try add(packet)
    }

    private func event(
        _ type: Perfetto_Protos_TrackEvent.TypeEnum, _ track: UInt64, at count: UInt64,
        _ fill: (inout Perfetto_Protos_TrackEvent) -> Void
    ) throws {
        var packet = Perfetto_Protos_TracePacket()
        packet.timestamp = nanoseconds(count)
        packet.trustedPacketSequenceID = Self.sequence
        packet.trackEvent.type = type
        packet.trackEvent.trackUuid = track
        fill(&packet.trackEvent)
        try add(packet)
    }

    /// A trace is a message with packets as its one repeated field: messages of one packet put together are one.
    private func add(_ packet: Perfetto_Protos_TracePacket) throws {
        var trace = Perfetto_Protos_Trace()
        trace.packet = [packet]
        try write(trace.serializedBytes())
    }
}
