import GRDB

extension AnalysisStore {
    /// Folded stacks for flame graphs: process, phase or module, symbol and kind of event, and a number of events.
    /// `body` takes a line at a time.
    package func folded(_ filter: Filter = Filter(), _ body: (String) throws -> Void) throws {
        let (condition, arguments) = filter.condition
        let sql = """
            SELECT p.name, CASE WHEN s.phase = 'kernel' THEN coalesce(y.module, 'kernel') ELSE s.phase END,
                coalesce(y.name, printf('0x%x', s.address)), k.name, sum(m.samples)
            \(HotSpots.tables) WHERE \(condition) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
            """
        try query(sql, arguments) { _, values in
            guard let values, case .integer(let samples) = values[4] else { return }
            let frames = values[..<4].map { value -> String in
                guard case .text(let text) = value else { return "?" }
                return Self.frame(text)
            }
            try body(frames.joined(separator: ";") + " \(samples)\n")
        }
    }

    /// Writes the store into a new file that holds nothing else.
    package func copy(to path: String) throws {
        do {
            try queue.writeWithoutTransaction { try $0.execute(sql: "VACUUM INTO ?", arguments: [path]) }
        } catch let error as DatabaseError {
            throw AnalysisError("cannot write \(path): \(error.message ?? "error \(error.resultCode.rawValue)")")
        }
    }

    /// A table of the store with everything in words.
    package enum Table: String, CaseIterable {
        case sites, timeline, events

        package var sql: String {
            switch self {
            case .sites:
                """
                SELECT printf('0x%x', s.address) AS address, k.name AS kind, s.ring, s.phase, p.name AS process, p.pid,
                    y.name AS symbol, y.module, s.offset, printf('0x%x', m.subject) AS subject, r.device,
                    r.name AS register, m.samples, m.first, m.last, m.delta_min, m.delta_max, m.delta_sum
                \(HotSpots.tables) ORDER BY m.samples DESC, s.id, p.id, m.subject
                """
            case .timeline:
                """
                SELECT (SELECT value FROM meta WHERE key = 'start') + t.bucket
                    * (SELECT value FROM meta WHERE key = 'bucket_counts') AS count, k.name AS kind, t.ring, t.samples
                FROM timeline t JOIN kind k ON k.id = t.kind ORDER BY t.bucket, k.id, t.ring
                """
            case .events:
                """
                SELECT e.number, e.count, k.name AS kind, s.ring, printf('0x%x', s.address) AS address,
                    y.name AS symbol, printf('0x%x', e.subject) AS subject, printf('0x%x', e.value) AS value, e.detail,
                    e.samples, e.delta
                FROM event_run e JOIN site s ON s.id = e.site JOIN kind k ON k.id = s.kind
                LEFT JOIN symbol y ON y.id = s.symbol ORDER BY e.number
                """
            }
        }
    }
}
