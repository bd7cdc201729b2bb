import CEngine

// The arithmetic flags are kept as the result that made them and its carries, and worked out when they are read.
//
// `flagResult` is the result, sign-extended to 64 bits: ZF is "it is zero", SF its top bit, PF the parity of its
// low byte. `flagCarries` has CF in bit 63, CF xor OF in bit 62, AF in bit 3. To express combinations no result has
// (after POPF, say), bits 8 to 15 are exclusive-ored into the byte whose parity is PF and bit 16 into SF.
private let carriesMask: UInt64 = 0xc000_0000_0000_0008

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Sets the flags of `result`, whose carry out of each bit position is given in `carries`.
    @inline(__always) package func setFlags<T: Word>(_ result: T, carries: T) {
        pointee.flagResult = UInt64(bitPattern: Int64(truncatingIfNeeded: result.signed))
        let wide = UInt64(truncatingIfNeeded: carries)
        if T.bitWidth == 64 {
            pointee.flagCarries = wide & carriesMask
        } else {
            pointee.flagCarries = (wide & 8) | ((wide &<< UInt64(64 - T.bitWidth)) & carriesMask)
        }
    }

    /// Sets the flags of a logical result: CF, OF and AF clear.
    @inline(__always) package func setLogicFlags<T: Word>(_ result: T) {
        pointee.flagResult = UInt64(bitPattern: Int64(truncatingIfNeeded: result.signed))
        pointee.flagCarries = 0
    }

    /// Sets the flags of `result` with CF, OF and AF given.
    @inline(__always) package func setFlags<T: Word>(_ result: T, cf: Bool, of: Bool, af: Bool) {
        pointee.flagResult = UInt64(bitPattern: Int64(truncatingIfNeeded: result.signed))
        pointee.flagCarries = (cf ? 1 << 63 : 0) | (cf != of ? 1 << 62 : 0) | (af ? 8 : 0)
    }

    @inline(__always) package var cf: Bool { pointee.flagCarries >> 63 != 0 }
    @inline(__always) package var zf: Bool { pointee.flagResult == 0 }
    @inline(__always) package var of: Bool {
        (pointee.flagCarries ^ (pointee.flagCarries &<< 1)) >> 63 != 0
    }
    @inline(__always) package var sf: Bool {
        (pointee.flagResult >> 63) ^ ((pointee.flagCarries >> 16) & 1) != 0
    }
    @inline(__always) package var af: Bool { pointee.flagCarries & 8 != 0 }
    @inline(__always) package var pf: Bool {
        let byte = UInt8(truncatingIfNeeded: pointee.flagResult ^ (pointee.flagCarries >> 8))
        return byte.nonzeroBitCount & 1 == 0
    }

    /// The six arithmetic flags in their RFLAGS places.
    package var arithmeticFlags: UInt64 {
        (cf ? RFlags.cf : 0) | (pf ? RFlags.pf : 0) | (af ? RFlags.af : 0) | (zf ? RFlags.zf : 0)
            | (sf ? RFlags.sf : 0) | (of ? RFlags.of : 0)
    }

    /// Sets the six arithmetic flags from their RFLAGS places.
    package func setArithmeticFlags(_ rflags: UInt64) {
        let cf = rflags & RFlags.cf != 0
        let of = rflags & RFlags.of != 0
        pointee.flagResult = rflags & RFlags.zf != 0 ? 0 : 0x100
        pointee.flagCarries =
            (cf ? 1 << 63 : 0) | (cf != of ? 1 << 62 : 0) | (rflags & RFlags.af != 0 ? 8 : 0)
            | (rflags & RFlags.pf != 0 ? 0 : 0x100) | (rflags & RFlags.sf != 0 ? 1 << 16 : 0)
    }

    /// RFLAGS as PUSHF would show it, RF and VM included.
    package var rflags: UInt64 { pointee.flags | RFlags.reserved1 | arithmeticFlags }

    /// Replaces the whole of RFLAGS; bits that do not exist are dropped.
    package func setRFlags(_ value: UInt64) {
        setArithmeticFlags(value)
        pointee.flags = value & RFlags.all & ~RFlags.arithmetic & ~RFlags.reserved1
    }

    /// Sets or clears CF alone.
    @inline(__always) package func setCF(_ value: Bool) {
        let overflow = of
        let carry: UInt64 = value ? 1 << 63 : 0
        let difference: UInt64 = value != overflow ? 1 << 62 : 0
        pointee.flagCarries = (pointee.flagCarries & ~(3 << 62)) | carry | difference
    }

    /// A condition by its encoding in Jcc, SETcc and CMOVcc (SDM volume 2, appendix B.1.4.7).
    @inline(__always) package func condition(_ code: UInt8) -> Bool {
        let value: Bool
        switch code >> 1 {
        case 0: value = of
        case 1: value = cf
        case 2: value = zf
        case 3: value = cf || zf
        case 4: value = sf
        case 5: value = pf
        case 6: value = sf != of
        default: value = zf || sf != of
        }
        return value != (code & 1 != 0)
    }
}
