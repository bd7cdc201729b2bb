import Replayer

/// What strategies did with a trace, as a store keeps it. In `counts` sites have the store's numbers.
package struct StoredModel {
    /// Parts of the guest's time that charges are kept by.
    package static let parts: UInt64 = 160

    package let id: Int64
    package let counts: ModelCounts
    /// Where the first part of the time begins, and how many counts each covers.
    package let partStart: UInt64
    package let partCounts: UInt64
    package let verifiedEvents: UInt64
    package let verifiedDigests: UInt64

    /// The store's number of each of the run's sites.
    package let siteNumbers: [Int64]
}

/// Which run of which program a store's model is.
package struct ModelKey: Equatable {
    /// The choices within the strategies, as text.
    package var options: String
    /// Which build of the program ran them; another one runs them again.
    package var build: String

    package init(options: String, build: String) {
        self.options = options
        self.build = build
    }
}

extension AnalysisStore {
    /// For each process the first of the same name. Charges are told apart by processes' names, of which there are few.
    static let namesakes = """
        SELECT p.id, q.process FROM process p
        JOIN (SELECT name, min(id) AS process FROM process GROUP BY name) q ON q.name = p.name
        """

    /// How a run is to be divided so that the store can take it.
    package func divisions() throws -> RunDivisions {
        let sql = """
            SELECT i.start, r.process FROM interval i JOIN (\(Self.namesakes)) r ON r.id = i.process ORDER BY i.start
            """
        var starts: [RunDivisions.Start] = []
        for row in try rows(sql) {
            guard case .integer(let count) = row[0], case .integer(let process) = row[1],
                starts.last?.process != Int(process)
            else { continue }
            starts.append(RunDivisions.Start(count: UInt64(bitPattern: count), process: Int(process)))
        }
        let (start, size) = try timeParts
        return RunDivisions(starts: starts, ends: (1..<StoredModel.parts).map { start + $0 * size })
    }

    package var startCount: UInt64 { UInt64(meta["start"] ?? "") ?? 0 }
    package var endCount: UInt64 { max(UInt64(meta["end"] ?? "") ?? 0, startCount) }

    /// The parts of the guest's time that charges are kept by begin with the kernel, since what comes before is in no
    /// result: where the first begins, and how many counts each covers.
    var timeParts: (start: UInt64, size: UInt64) {
        get throws {
            let sql = "SELECT min(m.first) FROM summary m JOIN site s ON s.id = m.site WHERE s.phase = 'kernel'"
            var start = startCount
            if case .integer(let first) = try rows(sql).first?[0] { start = UInt64(bitPattern: first) }
            return (start, max((endCount - min(start, endCount) + StoredModel.parts) / StoredModel.parts, 1))
        }
    }
}

extension AnalysisStore {
    /// What the places in the guest's code are called, by number: symbol and offset, where there is one.
    package func siteNames() throws -> [Int64: String] {
        var names: [Int64: String] = [:]
        let sql = """
            SELECT s.id, coalesce(y.module || ':', '') || y.name
                || CASE WHEN s.offset > 0 THEN printf('+0x%x', s.offset) ELSE '' END
            FROM site s JOIN symbol y ON y.id = s.symbol
            """
        for row in try rows(sql) {
            if case .integer(let number) = row[0], case .text(let name) = row[1] { names[number] = name }
        }
        return names
    }
}
