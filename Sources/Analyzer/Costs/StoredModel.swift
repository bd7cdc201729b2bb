import Replayer

/// What strategies did with a trace, as a store keeps it. In `counts` sites have the store's numbers.
package struct StoredModel {
    /// Parts of the guest's time that charges are kept by.
    package static let parts: UInt64 = 160

    package let id: Int64
    package let counts: ModelCounts
    /// Counts that a part of the time covers.
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
    /// How a run is to be divided so that the store can take it.
    package func divisions() throws -> RunDivisions {
        let starts = try rows("SELECT start, process FROM interval ORDER BY start").compactMap {
            row -> RunDivisions.Start? in
            guard case .integer(let count) = row[0], case .integer(let process) = row[1] else { return nil }
            return RunDivisions.Start(count: UInt64(bitPattern: count), process: Int(process))
        }
        let (start, size) = (startCount, partCounts)
        return RunDivisions(starts: starts, ends: (1..<StoredModel.parts).map { start + $0 * size })
    }

    package var startCount: UInt64 { UInt64(meta["start"] ?? "") ?? 0 }
    package var endCount: UInt64 { max(UInt64(meta["end"] ?? "") ?? 0, startCount) }

    /// Counts that a part of the guest's time covers.
    package var partCounts: UInt64 { max((endCount - startCount + StoredModel.parts) / StoredModel.parts, 1) }
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
