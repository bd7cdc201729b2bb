/// A seeded stream of pseudo-random numbers (SplitMix64): the same on every host.
package struct Random {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// A stream of its own for each combination of the given numbers.
    package init(_ parts: UInt64...) {
        state = 0x6a09_e667_f3bc_c908
        for part in parts {
            state ^= part
            state = next()
        }
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, `bound`.
    package mutating func below(_ bound: Int) -> Int {
        Int(truncatingIfNeeded: ((next() >> 32) &* UInt64(bound)) >> 32)
    }

    package mutating func within(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }

    /// True in `percent` of 100 cases.
    package mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

    package mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }
}

/// FNV-1a of a text, to give each form a stream of its own.
package func stableHash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
}

/// Hexadecimal digits without leading zeros.
package func hex<T: BinaryInteger>(_ value: T) -> String { String(value, radix: 16) }
