import Analyzer
import Testing

struct DifferenceTests {
    private func summary(_ places: [(String, UInt64)], counts: UInt64 = 1000) -> TraceSummary {
        TraceSummary(
            places: Dictionary(
                uniqueKeysWithValues: places.map { (TraceSummary.Place(name: $0.0, kind: "cli", ring: 0), $0.1) }),
            counts: counts)
    }

    @Test func nothingDiffersFromItself() {
        let one = summary([("a+0x0", 3), ("b+0x1", 5)])
        let difference = TraceDifference(one, one)
        #expect(difference.changes.isEmpty)
        for threshold in TraceDifference.Threshold.allCases { #expect(difference.measure(threshold) == 0) }
    }

    @Test func changesAreMeasured() {
        let difference = TraceDifference(
            summary([("a+0x0", 100), ("gone+0x0", 7)]), summary([("a+0x0", 150), ("new+0x0", 1)], counts: 1100))
        #expect(difference.changes.map(\.place.name) == ["a+0x0", "gone+0x0", "new+0x0"])
        #expect(difference.changes.map(\.percent) == [50, -100, nil])
        #expect(difference.measure(.site) == 50)
        #expect(difference.measure(.new) == 1)
        #expect(difference.measure(.vanished) == 1)
        #expect(difference.measure(.counts) == 10)
        #expect(abs(difference.measure(.samples) - 44 * 100 / 107) < 1e-9)
    }
}
