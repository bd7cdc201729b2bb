/// Byte offsets in an image of FXSAVE64 (SDM volume 1, 10.5.1).
package enum FXImage {
    package static let fcw = 0, fsw = 2, ftw = 4, fop = 6, fip = 8, fdp = 16, mxcsr = 24, mxcsrMask = 28
    package static func st(_ index: Int) -> Int { 32 + index * 16 }
    package static func xmm(_ index: Int) -> Int { 160 + index * 16 }
    package static let bytes = 512

    /// State after FNINIT, and MXCSR's default.
    package static func initialize(_ image: UnsafeMutableRawPointer) {
        image.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        image.storeBytes(of: 0x37f, toByteOffset: fcw, as: UInt16.self)
        image.storeBytes(of: 0x1f80, toByteOffset: mxcsr, as: UInt32.self)
    }
}

/// What the vector registers of a case mostly hold.
package enum LaneKind { case integer, float32, float64 }

extension Random {
    /// Fills a whole image with a valid random state.
    package mutating func fillFloatState(_ image: UnsafeMutableRawPointer, lanes: LaneKind, mmx: Bool = false, needsMXCSR: Bool)
    {
        FXImage.initialize(image)
        fillX87(image, mmx: mmx)
        image.storeBytes(of: mxcsr(random: needsMXCSR), toByteOffset: FXImage.mxcsr, as: UInt32.self)
        for index in 0..<16 {
            let kind: LaneKind = chance(85) ? lanes : pick([.integer, .float32, .float64])
            let (low, high) = vector(kind)
            image.storeBytes(of: low, toByteOffset: FXImage.xmm(index), as: UInt64.self)
            image.storeBytes(of: high, toByteOffset: FXImage.xmm(index) + 8, as: UInt64.self)
        }
    }

    package mutating func vector(_ kind: LaneKind) -> (UInt64, UInt64) {
        switch kind {
        case .integer: return (integer(), integer())
        case .float64: return (float64(), float64())
        case .float32:
            return (UInt64(float32()) | UInt64(float32()) << 32, UInt64(float32()) | UInt64(float32()) << 32)
        }
    }

    package mutating func mxcsr(random: Bool) -> UInt32 {
        guard random, !chance(40) else { return 0x1f80 }
        var value: UInt32 = 0x1f80
        value |= UInt32(below(4)) << 13  // rounding control
        if chance(20) { value |= 1 << 15 }  // flush to zero
        if chance(20) { value |= 1 << 6 }  // denormals are zeros
        if chance(30) { value &= ~(UInt32(below(64)) << 7) }  // unmasked exceptions
        if chance(40) { value |= UInt32(below(64)) }  // earlier exceptions
        return value
    }

    /// A control word: rounding, precision and masks.
    package mutating func x87Control() -> UInt16 {
        guard !chance(40) else { return 0x37f }
        var value: UInt16 = 0x40 | UInt16(pick([0, 2, 3, 3])) << 8 | UInt16(below(4)) << 10 | 0x3f
        if chance(35) { value &= ~UInt16(below(64)) }
        return value
    }

    /// Control, status, tags and registers. The error summary agrees with flags and masks.
    private mutating func fillX87(_ image: UnsafeMutableRawPointer, mmx: Bool) {
        let control = x87Control()
        let tags: UInt8 = chance(40) ? 0xff : chance(25) ? 0 : UInt8(truncatingIfNeeded: next())
        var status = UInt16(below(8)) << 11 | UInt16(truncatingIfNeeded: next()) & 0x4700
        if chance(25) { status |= UInt16(below(64)) & (chance(70) ? control & 0x3f : 0x3f) }
        if chance(20) { status |= 0x40 }
        if status & 0x3f & ~control != 0 { status |= 0x8080 }
        image.storeBytes(of: control, toByteOffset: FXImage.fcw, as: UInt16.self)
        image.storeBytes(of: status, toByteOffset: FXImage.fsw, as: UInt16.self)
        image.storeBytes(of: tags, toByteOffset: FXImage.ftw, as: UInt8.self)
        let isMMX = chance(mmx ? 90 : 5)
        for index in 0..<8 {
            var value = float80()
            if isMMX { value = (integer(), 0xffff) }
            image.storeBytes(of: value.significand, toByteOffset: FXImage.st(index), as: UInt64.self)
            image.storeBytes(of: value.signExponent, toByteOffset: FXImage.st(index) + 8, as: UInt16.self)
        }
    }
}
