/// Chooses which events of a site are sampled as they come: all of the first, and of many events one in each window of
/// equal length, at a place in it that is drawn from a fixed sequence so that no pattern of the guest's falls in step.
package struct SampleChoice {
    /// More than so many become half as many.
    package static let most = 256

    /// The counts of the events that are chosen, one a window.
    package private(set) var counts: [UInt64] = []
    /// Events in a window, a power of two.
    package private(set) var window: UInt64 = 1
    package private(set) var events: UInt64 = 0
    private var target: UInt64 = 0
    private let seed: UInt64

    package init(seed: UInt64) { self.seed = seed }

    /// Takes the site's next event.
    package mutating func take(count: UInt64) {
        if events == target {
            if counts.count == Self.most { halve() }
            counts.append(count)
            target = place(in: UInt64(counts.count))
        }
        events += 1
    }

    /// How many events sample `index` stands for.
    package func weight(_ index: Int) -> UInt64 {
        index + 1 < counts.count ? window : events - window * UInt64(counts.count - 1)
    }

    /// Of each two windows one, with one of their samples.
    private mutating func halve() {
        counts = (0..<counts.count / 2).map { counts[2 * $0 + Int(draw(UInt64($0)) & 1)] }
        window *= 2
    }

    /// The number of the event that is taken in a window.
    private func place(in number: UInt64) -> UInt64 { number * window + draw(number) % window }

    /// SplitMix64 of a window's number.
    private func draw(_ number: UInt64) -> UInt64 {
        var value = seed &+ (number &+ window &<< 32) &* 0x9E37_79B9_7F4A_7C15
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
