/// Operand values that meet the edges of instructions more often than chance would.
extension Random {
    /// An integer: the limits of each size, single bits, small numbers, or random bits.
    package mutating func integer() -> UInt64 {
        switch below(10) {
        case 0, 1, 2: return next()
        case 3: return next() >> UInt64(below(64))
        case 4: return UInt64(below(80))
        case 5: return 0 &- UInt64(below(80))
        case 6: return 1 << UInt64(below(64))
        case 7: return pick(Random.limits)
        case 8: return pick(Random.limits) &+ UInt64(below(5)) &- 2
        default: return next() & 0x8080_8080_8080_8080 | next() & 0x0f0f_0f0f_0f0f_0f0f
        }
    }

    private static let limits: [UInt64] = [
        0, 1, ~0, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
        0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, 0xffff_ffff_8000_0000, 0xffff_ffff_0000_0000,
    ]

    /// The bits of a binary floating-point number of the given format.
    private mutating func float(exponentBits: Int, fractionBits: Int) -> UInt64 {
        let sign = (next() & 1) << UInt64(exponentBits + fractionBits)
        let fractionMask = (UInt64(1) << UInt64(fractionBits)) - 1
        let top = (1 << exponentBits) - 1
        let bias = top >> 1
        let fraction: UInt64
        switch below(6) {
        case 0: fraction = 0
        case 1: fraction = fractionMask
        case 2: fraction = 1 << UInt64(below(fractionBits))
        case 3: fraction = next() & fractionMask & (~0 << UInt64(below(fractionBits)))
        default: fraction = next() & fractionMask
        }
        let exponent: Int
        switch below(20) {
        case 0: return sign  // zero
        case 1: return sign | UInt64(top) << UInt64(fractionBits)  // infinity
        case 2: exponent = 0  // denormal
        case 3: exponent = top  // NaN, quiet or signalling
        case 4: exponent = top - 1 - below(3)
        case 5: exponent = 1 + below(4)
        case 6: exponent = below(top + 1)
        case 7, 8, 9: exponent = bias + below(66)  // integers, and near their limits
        default: exponent = bias - 3 + below(7)
        }
        return sign | UInt64(min(max(exponent, 0), top)) << UInt64(fractionBits) | fraction
    }

    package mutating func float32() -> UInt32 { UInt32(truncatingIfNeeded: float(exponentBits: 8, fractionBits: 23)) }
    package mutating func float64() -> UInt64 { float(exponentBits: 11, fractionBits: 52) }

    /// An x87 extended value: significand, sign and exponent. Pseudo-denormals, unnormals and pseudo-NaNs included.
    package mutating func float80() -> (significand: UInt64, signExponent: UInt16) {
        let sign = UInt16(next() & 1) << 15
        let integerBit: UInt64 = 1 << 63
        var fraction: UInt64
        switch below(6) {
        case 0: fraction = 0
        case 1: fraction = ~0
        case 2: fraction = 1 << UInt64(below(63))
        case 3: fraction = next() & (~0 << UInt64(below(63)))
        default: fraction = next()
        }
        fraction &= integerBit - 1
        switch below(24) {
        case 0: return (0, sign)
        case 1: return (integerBit, sign | 0x7fff)
        case 2: return (fraction, sign)  // denormal
        case 3: return (fraction | integerBit, sign)  // pseudo-denormal
        case 4: return (fraction | integerBit, sign | 0x7fff)  // NaN
        case 5:
            return chance(50)
                ? (fraction, sign | UInt16(1 + below(0x7fff)))  // unnormal, pseudo-NaN
                : (0xc000_0000_0000_0000, 0xffff)  // the indefinite value
        case 6: return (fraction | integerBit, sign | UInt16(1 + below(0x7ffe)))
        case 7: return (fraction | integerBit, sign | UInt16(0x7ffe - below(3)))
        case 8: return (fraction | integerBit, sign | UInt16(1 + below(80)))
        case 9, 10, 11: return (fraction | integerBit, sign | UInt16(0x3fff + below(70)))
        case 12: return (fraction | integerBit, sign | UInt16(0x3fff + 120 + below(20)))  // near float32's limit
        case 13: return (fraction | integerBit, sign | UInt16(0x3fff - 150 + below(30)))
        case 14: return (fraction | integerBit, sign | UInt16(0x3fff + 1020 + below(8)))  // near float64's limit
        case 15: return (fraction | integerBit, sign | UInt16(0x3fff - 1080 + below(64)))
        default: return (fraction | integerBit, sign | UInt16(0x3fff - 4 + below(9)))
        }
    }
}
