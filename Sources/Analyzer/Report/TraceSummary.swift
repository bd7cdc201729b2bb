/// A trace's events by place, as they can be compared with another trace's: places are told apart by symbol and offset,
/// which do not move with the kernel.
package struct TraceSummary: Equatable {
    /// Where events come from, in a form that two traces share.
    package struct Place: Hashable, Comparable {
        /// Symbol and offset; without a symbol the phase, of user code with the process. In a guest without any
        /// symbols, the address.
        package var name: String
        package var kind: String
        package var ring: UInt8

        package init(name: String, kind: String, ring: UInt8) {
            self.name = name
            self.kind = kind
            self.ring = ring
        }

        package static func < (left: Place, right: Place) -> Bool {
            (left.name, left.kind, left.ring) < (right.name, right.kind, right.ring)
        }
    }

    package var places: [Place: UInt64]
    /// Counts that the guest ran.
    package var counts: UInt64

    package init(places: [Place: UInt64], counts: UInt64) {
        self.places = places
        self.counts = counts
    }

    package init(_ store: AnalysisStore) throws {
        let sql = """
            SELECT CASE WHEN y.id IS NOT NULL
                    THEN coalesce(y.module || ':', '') || y.name || printf('+0x%x', s.offset)
                WHEN s.phase = 'user' THEN '(user) ' || p.name
                WHEN s.address <> 0 AND k.name <> 'interruptDelivered' AND NOT EXISTS (SELECT 1 FROM symbol)
                    THEN printf('0x%x', s.address)
                ELSE '(' || s.phase || ')' END,
                k.name, s.ring, sum(m.samples)
            \(HotSpots.tables) GROUP BY 1, 2, 3
            """
        var places: [Place: UInt64] = [:]
        try store.query(sql) { _, values in
            guard let values, case .text(let name) = values[0], case .text(let kind) = values[1],
                case .integer(let ring) = values[2], case .integer(let samples) = values[3]
            else { return }
            places[Place(name: name, kind: kind, ring: UInt8(truncatingIfNeeded: ring))] = UInt64(clamping: samples)
        }
        self.places = places
        let (start, end) = (UInt64(store.meta["start"] ?? "") ?? 0, UInt64(store.meta["end"] ?? "") ?? 0)
        counts = end - min(start, end)
    }

    package var samples: UInt64 { places.values.reduce(0, &+) }
}

/// What is different between two traces.
package struct TraceDifference {
    /// One place's numbers of events before and after; zero where there were none.
    package struct Change: Equatable {
        package var place: TraceSummary.Place
        package var before: UInt64
        package var after: UInt64

        /// In percent of what was before; nil if there was nothing.
        package var percent: Double? {
            before > 0 ? (Double(after) - Double(before)) * 100 / Double(before) : nil
        }
    }

    /// What a difference is measured by.
    package enum Threshold: String, CaseIterable {
        /// All events together, in percent.
        case samples
        /// Any one place in both, in percent.
        case site
        /// Counts of the guest, in percent.
        case counts
        /// How many places are new, and are gone.
        case new, vanished
        /// Modelled cycles, in percent; not of a summary.
        case cycles
    }

    /// Largest changes first.
    package let changes: [Change]
    package let before: TraceSummary
    package let after: TraceSummary

    package init(_ before: TraceSummary, _ after: TraceSummary) {
        self.before = before
        self.after = after
        let alignment = SiteAlignment(before.places.keys, after.places.keys)
        changes = alignment.pairs.compactMap { pair -> Change? in
            guard let place = pair.after ?? pair.before else { return nil }
            let change = Change(
                place: place, before: pair.before.flatMap { before.places[$0] } ?? 0,
                after: pair.after.flatMap { after.places[$0] } ?? 0)
            return change.before == change.after ? nil : change
        }.sorted { left, right in
            let (first, second) = (Self.size(left), Self.size(right))
            return first == second ? left.place < right.place : first > second
        }
    }

    /// The places of two traces that are the same place of the code.
    package static func pairs(
        _ before: some Sequence<TraceSummary.Place>, _ after: some Sequence<TraceSummary.Place>
    ) -> [(before: TraceSummary.Place?, after: TraceSummary.Place?)] {
        SiteAlignment(before, after).pairs
    }

    private static func size(_ change: Change) -> UInt64 {
        change.after > change.before ? change.after - change.before : change.before - change.after
    }

    /// How large the difference is by one measure.
    package func measure(_ threshold: Threshold) -> Double {
        switch threshold {
        case .samples: Self.percent(before.samples, after.samples)
        case .counts: Self.percent(before.counts, after.counts)
        case .site:
            changes.filter { $0.before > 0 && $0.after > 0 }.map { abs($0.percent ?? 0) }.max() ?? 0
        case .new: Double(changes.filter { $0.before == 0 }.count)
        case .cycles: 0
        case .vanished: Double(changes.filter { $0.after == 0 }.count)
        }
    }

    private static func percent(_ before: UInt64, _ after: UInt64) -> Double {
        guard before != after else { return 0 }
        return before > 0 ? abs(Double(after) - Double(before)) * 100 / Double(before) : .infinity
    }
}
