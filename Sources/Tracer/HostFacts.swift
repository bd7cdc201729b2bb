import CEngine
import CXXHash

/// What of the host's CPU the engine's results rest on. A trace names it, so that a host that would compute differently
/// is refused before it does.
package struct HostFacts: Equatable {
    /// XXH3 of what the host's x87 and SSE instructions make of a fixed set of operands: normal and subnormal numbers,
    /// infinities, NaNs, each rounding mode, each precision.
    package var x87: UInt64
    package var sse: UInt64

    package init(x87: UInt64, sse: UInt64) {
        self.x87 = x87
        self.sse = sse
    }

    /// Those of this host.
    package static let current = HostFacts(x87: measureX87(), sse: measureSSE())

    /// What differs from `recorded`, by name; nil if nothing does.
    package func difference(from recorded: HostFacts) -> String? {
        if x87 != recorded.x87 {
            return "x87 arithmetic (recorded \(hexadecimal(recorded.x87)), here \(hexadecimal(x87)))"
        }
        if sse != recorded.sse {
            return "SSE arithmetic (recorded \(hexadecimal(recorded.sse)), here \(hexadecimal(sse)))"
        }
        return nil
    }

    /// Significand, sign and exponent of the operands.
    private static let values: [(UInt64, UInt16)] = [
        (0, 0), (0x8000_0000_0000_0000, 0x3FFF), (0xC90F_DAA2_2168_C235, 0x4000), (0xAAAA_AAAA_AAAA_AAAB, 0xBFFD),
        (1, 0), (0x7FFF_FFFF_FFFF_FFFF, 0x8000), (0xFFFF_FFFF_FFFF_FFFF, 0x7FFE), (0x8000_0000_0000_0001, 0x0001),
        (0x8000_0000_0000_0000, 0x7FFF), (0xC000_0000_0000_1234, 0xFFFF), (0x8000_0000_0000_1234, 0x7FFF),
        (0x9000_0000_0000_0000, 0x403E),
    ]

    private static func measureX87() -> UInt64 {
        let operations: [X87Function] = [
            x87_fadd, x87_fsub, x87_fmul, x87_fdiv, x87_fsqrt, x87_frndint, x87_fscale, x87_fprem,
        ]
        var results: [UInt64] = []
        for control in stride(from: UInt32(0x3F), through: 0xF3F, by: 0x100) where (control >> 8) & 3 != 1 {
            for operation in operations {
                for (significand, exponent) in values {
                    for (otherSignificand, otherExponent) in values {
                        var destination = X87Register(
                            significand: significand, signExponent: exponent, pad: (0, 0, 0))
                        var source = X87Register(
                            significand: otherSignificand, signExponent: otherExponent, pad: (0, 0, 0))
                        let status = operation(control, &destination, &source)
                        results += [destination.significand, UInt64(destination.signExponent), UInt64(status)]
                    }
                }
            }
        }
        return results.withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) }
    }

    private static func measureSSE() -> UInt64 {
        let patterns: [UInt64] = [
            0, 0x3FF0_0000_0000_0000, 0x4009_21FB_5444_2D18, 0xBFD5_5555_5555_5555, 1, 0x800F_FFFF_FFFF_FFFF,
            0x7FEF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000, 0xFFF8_0000_0000_1234, 0x7FF0_0000_0000_1234,
            0x3F80_0000_0000_0001, 0x0080_0001_7F7F_FFFF,
        ]
        let operations: [SIMDFunction] = [
            sse_addpd, sse_subpd, sse_mulpd, sse_divpd, sse_sqrtpd, sse_minpd, sse_maxpd, sse_addps, sse_mulps,
            sse_divps, sse_sqrtps, sse_cvtpd2ps, sse_cvtps2pd, sse_cvttpd2dq, sse_cvtpd2dq, sse_cvtdq2pd, sse_pmaddwd,
        ]
        var results: [UInt64] = []
        for operation in operations {
            for first in patterns {
                for second in patterns {
                    var destination = XMMRegister(low: first, high: second)
                    var source = XMMRegister(low: second, high: first &+ 1)
                    operation(&destination, &source, 0)
                    results += [destination.low, destination.high]
                }
            }
        }
        return results.withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) }
    }
}
