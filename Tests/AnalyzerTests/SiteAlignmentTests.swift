import Analyzer
import Testing

/// Which places of two traces are the same.
struct SiteAlignmentTests {
    private func places(_ texts: [String]) -> [TraceSummary.Place: UInt64] {
        Dictionary(
            uniqueKeysWithValues: texts.map { text in
                let parts = text.split(separator: " ").map(String.init)
                return (TraceSummary.Place(name: parts[0], kind: parts[1], ring: 0), UInt64(parts[2]) ?? 0)
            })
    }

    private func changes(_ before: [String], _ after: [String]) -> [String] {
        let (left, right) = (
            TraceSummary(places: places(before), counts: 1), TraceSummary(places: places(after), counts: 1)
        )
        return TraceDifference(left, right).changes.map { "\($0.place.name) \($0.place.kind) \($0.before) \($0.after)" }
    }

    @Test func whatFollowsAnInsertionMovesAlong() {
        #expect(
            changes(
                ["f+0x2 in 7", "f+0x4 rdtsc 7", "f+0x9 cli 1", "g+0x0 cli 3"],
                ["f+0x2 in 7", "f+0x4 cli 7", "f+0x5 sti 7", "f+0x6 rdtsc 7", "f+0xb cli 1", "g+0x0 cli 3"])
                == ["f+0x4 cli 0 7", "f+0x5 sti 0 7"])
    }

    @Test func addressesAreMatchedInOrderToo() {
        #expect(changes(["0x1000 cli 5", "0x1002 sti 5"], ["0x1000 sti 5"]) == ["0x1000 cli 5 0"])
    }

    @Test func symbolsDoNotMix() {
        #expect(changes(["f+0x0 cli 5"], ["g+0x0 cli 5"]).sorted() == ["f+0x0 cli 5 0", "g+0x0 cli 0 5"])
    }

    @Test func phasesAndPrograms() {
        #expect(changes(["(user)sh syscall 5"], ["(user)sh syscall 8"]) == ["(user)sh syscall 5 8"])
    }

    @Test func aTraceIsAsItIs() {
        let texts = (0..<500).map { "f\($0 % 7)+0x\(String($0, radix: 16)) \($0 % 3 == 0 ? "cli" : "sti") \($0 + 1)" }
        #expect(changes(texts, texts.reversed()).isEmpty)
    }
}
