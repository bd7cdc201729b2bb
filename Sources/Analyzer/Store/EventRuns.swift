import CEngine
import GRDB
import VMM

/// Events one after the other, those of one place that come at equal distances in one row.
final class EventRuns {
    private struct Run {
        var number: UInt64
        var count: UInt64
        var last: UInt64
        var site: Int64
        var value: UInt64
        var detail: UInt32
        var samples: UInt64 = 1
        var delta: UInt64 = 0
    }

    /// Open runs; more are closed, so that memory stays bounded.
    private static let mostOpen = 1 << 16
    private let statement: Statement
    private var open: [SiteKey: Run] = [:]

    init(_ database: Database) throws {
        statement = try database.makeStatement(sql: "INSERT INTO event_run VALUES (?,?,?,?,?,?,?,?)")
    }

    func add(_ record: EventRecord, _ key: SiteKey, site: Int64, _ number: UInt64) throws {
        let kind = EventKind(rawValue: record.kind)
        // The time-stamp follows from the position.
        let value = kind == .rdtsc || kind == .rdtscp ? 0 : record.value
        if let run = open[key] {
            let delta = record.count &- run.last
            if run.value == value, run.detail == record.detail, run.samples == 1 || run.delta == delta {
                open[key]?.samples += 1
                open[key]?.delta = delta
                open[key]?.last = record.count
                return
            }
            try write(run, key)
        }
        if open.count >= Self.mostOpen { try finish() }
        open[key] = Run(
            number: number, count: record.count, last: record.count, site: site, value: value, detail: record.detail)
    }

    func finish() throws {
        for (key, run) in open.sorted(by: { $0.value.number < $1.value.number }) { try write(run, key) }
        open.removeAll(keepingCapacity: true)
    }

    private func write(_ run: Run, _ key: SiteKey) throws {
        try statement.execute(arguments: [
            run.number.column, run.count.column, run.site, key.subject.column, run.value.column, Int64(run.detail),
            run.samples.column, run.delta.column,
        ])
    }
}
