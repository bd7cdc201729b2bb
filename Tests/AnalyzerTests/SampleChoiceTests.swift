import Analyzer
import Testing

/// Which events of a site are sampled.
struct SampleChoiceTests {
    @Test(arguments: [1, 2, 63, 64, 65, 66, 127, 128, 129, 1000, 4096, 100_003] as [UInt64])
    func oneOfEachWindowIsChosen(events: UInt64) {
        for seed in 0..<20 as Range<UInt64> {
            var choice = SampleChoice(seed: seed)
            for event in 0..<events { choice.take(count: event) }
            let counts = choice.counts
            #expect(counts.count <= SampleChoice.most && counts.count >= min(Int(events), SampleChoice.most / 2))
            #expect(counts.indices.map(choice.weight).reduce(0, +) == events)
            for (index, count) in counts.enumerated() {
                #expect(count / choice.window == UInt64(index), "seed \(seed)")
            }
        }
    }

    /// Two callers take turns; neither may get much more than its half.
    @Test func aPatternDoesNotFallInStep() {
        var odd: UInt64 = 0
        for seed in 0..<50 as Range<UInt64> {
            var choice = SampleChoice(seed: seed)
            for event in 0..<10_000 as Range<UInt64> { choice.take(count: event) }
            for (index, count) in choice.counts.enumerated() where count & 1 == 1 { odd += choice.weight(index) }
        }
        #expect(odd > 200_000 && odd < 300_000, "\(odd) of 500000")
    }
}
