import CEngine
import CZydis

// Loads, stores and everything else that moves x87 registers around.

/// What a masked stack underflow or invalid operand stores as integer or packed decimal.
private enum Indefinite {
    static let single: UInt64 = 0xffc0_0000
    static let double: UInt64 = 0xfff8_0000_0000_0000
    /// The smallest integer, in each size.
    static let word: UInt64 = 0x8000, doubleword: UInt64 = 0x8000_0000, quadword: UInt64 = 0x8000_0000_0000_0000
    /// Packed decimal, which looks like this 80-bit number.
    static let decimal = X87Register(significand: 0xc000_0000_0000_0000, signExponent: 0xffff)
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: 80-bit memory operands

    /// The linear address of the upper 16 bits of `op`'s 80-bit memory operand, or nil with #GP or #SS recorded.
    private func upperAddress(_ op: OperationPointer, write: Bool) -> UInt64? {
        let offset = effectiveAddress(op) &+ 8
        if op.pointee.flags & OperationFlags.checkSegment != 0 {
            guard checkSegment(Int(op.pointee.segment), offset: offset, size: 2, write: write, op) else { return nil }
        }
        return (offset &+ register(op.pointee.segmentBase)) & pointee.linearMask
    }

    /// Loads `op`'s 80-bit memory operand: 64 bits, then 16.
    fileprivate func load80(_ op: OperationPointer) -> X87Register? {
        let isStack = op.pointee.segment == UInt8(SegmentIndex.ss)
        guard let significand = load(UInt64.self, op), let upper = upperAddress(op, write: false),
            let signExponent = read(UInt16.self, linear: upper, op, stack: isStack)
        else { return nil }
        return X87Register(significand: significand, signExponent: signExponent)
    }

    /// Stores the same way, after both pages are known to be writable.
    fileprivate func store80(_ value: X87Register, _ op: OperationPointer) -> Bool {
        let isStack = op.pointee.segment == UInt8(SegmentIndex.ss)
        guard let lower = linearAddress(op, size: 8, write: true) else { return false }
        if op.pointee.flags & OperationFlags.checkSegment != 0 || (lower &+ 9) & ~pageMask < 9 {
            guard beginUpdate(UInt64.self, linear: lower, op) != nil else { return false }
        }
        guard let upper = upperAddress(op, write: true) else { return false }
        if (lower ^ upper) & pageMask != 0 {
            guard beginUpdate(UInt16.self, linear: upper, op) != nil else { return false }
        }
        return write(value.significand, linear: lower, op, stack: isStack)
            && write(value.signExponent, linear: upper, op, stack: isStack)
    }

    // MARK: Loads

    /// Pushes a value, or the default NaN if `empty` says that it came from an empty register, or if the stack is full.
    @inline(__always) fileprivate func pushOrFault(
        _ op: OperationPointer, _ value: X87Register, from empty: Bool = false
    ) -> Next {
        if _slowPath(empty || !isEmpty(7)) {
            if x87StackFault(op, overflow: !empty) { pushX87(.indefinite) }
            return op + 1
        }
        pointee.fsw &= ~X87Status.c1
        pushX87(value)
        return op + 1
    }

    /// FLD m32, FILD and so on, by the row's function.
    @inline(__always) fileprivate func loadX87(_ op: OperationPointer, size: Int) -> Next {
        guard x87Ready(op), let source = sourcePointer(op, size: size) else { return nil }
        return convertAndPush(op, source)
    }

    /// Pushes what the row's function makes of `source`, right where it will be ST(0).
    @inline(__always) fileprivate func convertAndPush(_ op: OperationPointer, _ source: UnsafeRawPointer) -> Next {
        if _slowPath(!isEmpty(7)) { return pushOrFault(op, .zero) }
        let status = runX87(op, st(7), source)
        if commitX87(op, status, suppressing: X87Status.invalid) {
            rotateStack(by: -1)
            setEmpty(0, false)
        }
        return op + 1
    }

    /// FLD m32 and m64: normal numbers and zeros are converted here, others by the host.
    @inline(__always) fileprivate func loadFloat<T: BinaryFloatingPoint>(
        _ op: OperationPointer, _ value: T, _ source: UnsafeRawPointer
    ) -> Next {
        guard _fastPath(value.isNormal || value.isZero) else { return convertAndPush(op, source) }
        let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
        if value.isZero { return pushOrFault(op, X87Register(significand: 0, signExponent: sign)) }
        let fraction = UInt64(value.significandBitPattern) << UInt64(63 - T.significandBitCount)
        let bias = 0x3fff - (1 << (T.exponentBitCount - 1)) + 1
        let exponent = UInt16(truncatingIfNeeded: Int(value.exponentBitPattern) + bias)
        return pushOrFault(op, X87Register(significand: 1 << 63 | fraction, signExponent: sign | exponent))
    }

    // MARK: Stores

    /// Stores ST(0) as the row's function converts it, `indefinite` if it is empty, and pops as the row says.
    @inline(__always) fileprivate func storeX87<T: Word>(
        _ type: T.Type, _ op: OperationPointer, indefinite: UInt64
    ) -> Next {
        guard x87Ready(op) else { return nil }
        var status = UInt32(X87Status.invalid | X87Status.stackFault)
        var value = (indefinite, UInt64(0))
        if _fastPath(!isEmpty(0)) { status = runX87(op, &value, st(0)) }
        if UInt16(truncatingIfNeeded: status) & ~pointee.fcw & X87Status.suppressingStores == 0 {
            guard store(T(truncatingIfNeeded: value.0), op) else { return nil }
        }
        if commitX87(op, status, suppressing: X87Status.suppressingStores) { popX87(op) }
        return op + 1
    }

    /// FST ST(i) and FSTP ST(i).
    @inline(__always) fileprivate func storeIndexed(_ op: OperationPointer) -> Next {
        guard x87Ready(op) else { return nil }
        if _slowPath(isEmpty(0)) {
            guard x87StackFault(op) else { return op + 1 }
            setST(x87Index(op), .indefinite)
        } else {
            pointee.fsw &= ~X87Status.c1
            setST(x87Index(op), st(0).pointee)
        }
        popX87(op)
        return op + 1
    }

    /// FCMOVcc: the operands must be there whatever the condition.
    @inline(__always) fileprivate func moveIf(_ op: OperationPointer, _ condition: Bool) -> Next {
        guard x87Ready(op) else { return nil }
        let index = x87Index(op)
        if _slowPath(isEmpty(0) || isEmpty(index)) {
            if x87StackFault(op) { setST(0, .indefinite) }
        } else if condition {
            st(0).pointee = st(index).pointee
        }
        return op + 1
    }

    /// FCHS and FABS: replaces ST(0)'s sign.
    @inline(__always) fileprivate func changeSign(_ op: OperationPointer, _ change: (UInt16) -> UInt16) -> Next {
        guard x87Ready(op) else { return nil }
        if _slowPath(isEmpty(0)) {
            if x87StackFault(op) { setST(0, .indefinite) }
        } else {
            pointee.fsw &= ~X87Status.c1
            st(0).pointee.signExponent = change(st(0).pointee.signExponent)
        }
        return op + 1
    }

    /// FXAM's C3, C2, C0 for ST(0); C1 is its sign, even if it is empty (SDM volume 2, FXAM).
    fileprivate var classOfTop: UInt16 {
        let value = st(0).pointee
        let sign = value.signExponent >> 15 != 0 ? X87Status.c1 : 0
        if isEmpty(0) { return sign | X87Status.c3 | X87Status.c0 }
        let integerBit = value.significand >> 63 != 0
        switch value.signExponent & 0x7fff {
        case 0: return sign | X87Status.c3 | (value.significand == 0 ? 0 : X87Status.c2)
        case _ where !integerBit: return sign
        case 0x7fff: return sign | X87Status.c0 | (value.significand << 1 == 0 ? X87Status.c2 : 0)
        default: return sign | X87Status.c2
        }
    }
}

// MARK: Handlers

private let load16: Handler = { cpu, op in cpu.loadX87(op, size: 2) }
private let load32: Handler = { cpu, op in cpu.loadX87(op, size: 4) }
private let load64: Handler = { cpu, op in cpu.loadX87(op, size: 8) }
private let loadSingle: Handler = { cpu, op in
    guard cpu.x87Ready(op), let source = cpu.sourcePointer(op, size: 4) else { return nil }
    return cpu.loadFloat(op, Float(bitPattern: source.loadUnaligned(as: UInt32.self)), source)
}
private let loadDouble: Handler = { cpu, op in
    guard cpu.x87Ready(op), let source = cpu.sourcePointer(op, size: 8) else { return nil }
    return cpu.loadFloat(op, Double(bitPattern: source.loadUnaligned(as: UInt64.self)), source)
}
private let loadExtended: Handler = { cpu, op in
    guard cpu.x87Ready(op), let value = cpu.load80(op) else { return nil }
    return cpu.pushOrFault(op, value)
}
private let loadDecimal: Handler = { cpu, op in
    guard cpu.x87Ready(op), var value = cpu.load80(op) else { return nil }
    return cpu.convertAndPush(op, &value)
}
private let loadIndexed: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    let index = cpu.x87Index(op)
    return cpu.pushOrFault(op, cpu.st(index).pointee, from: cpu.isEmpty(index))
}
private let loadConstant: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    return cpu.convertAndPush(op, op.pointee.source)
}

private let storeSingle: Handler = { cpu, op in cpu.storeX87(UInt32.self, op, indefinite: Indefinite.single) }
private let storeDouble: Handler = { cpu, op in cpu.storeX87(UInt64.self, op, indefinite: Indefinite.double) }
private let storeInteger16: Handler = { cpu, op in cpu.storeX87(UInt16.self, op, indefinite: Indefinite.word) }
private let storeInteger32: Handler = { cpu, op in cpu.storeX87(UInt32.self, op, indefinite: Indefinite.doubleword) }
private let storeInteger64: Handler = { cpu, op in cpu.storeX87(UInt64.self, op, indefinite: Indefinite.quadword) }
private let storeIndexedRegister: Handler = { cpu, op in cpu.storeIndexed(op) }
private let storeExtended: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    var value = cpu.st(0).pointee
    if _slowPath(cpu.isEmpty(0)) {
        if cpu.pointee.fcw & X87Status.invalid == 0 {
            _ = cpu.x87StackFault(op)
            return op + 1
        }
        value = .indefinite
    }
    guard cpu.store80(value, op) else { return nil }
    if cpu.isEmpty(0) { _ = cpu.x87StackFault(op) }
    cpu.pointee.fsw &= ~X87Status.c1
    cpu.popX87(op)
    return op + 1
}
private let storeDecimal: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    var status = UInt32(X87Status.invalid | X87Status.stackFault)
    var value = Indefinite.decimal
    if !cpu.isEmpty(0) { status = cpu.runX87(op, &value, cpu.st(0)) }
    if UInt16(truncatingIfNeeded: status) & ~cpu.pointee.fcw & X87Status.suppressingStores == 0 {
        guard cpu.store80(value, op) else { return nil }
    }
    if cpu.commitX87(op, status, suppressing: X87Status.suppressingStores) { cpu.popX87(op) }
    return op + 1
}
/// FSTPNCE, an alias of FSTP ST(i) that only pops if ST(0) is empty.
private let storeUnchecked: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    if !cpu.isEmpty(0) { cpu.setST(cpu.x87Index(op), cpu.st(0).pointee) }
    cpu.pointee.fsw &= ~X87Status.c1
    cpu.popX87()
    return op + 1
}

private let exchange: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    let index = cpu.x87Index(op)
    if _slowPath(cpu.isEmpty(0) || cpu.isEmpty(index)) {
        guard cpu.x87StackFault(op) else { return op + 1 }
        if cpu.isEmpty(0) { cpu.setST(0, .indefinite) }
        if cpu.isEmpty(index) { cpu.setST(index, .indefinite) }
    }
    cpu.pointee.fsw &= ~X87Status.c1
    let value = cpu.st(0).pointee
    cpu.st(0).pointee = cpu.st(index).pointee
    cpu.st(index).pointee = value
    return op + 1
}
private let moveIfBelow: Handler = { cpu, op in cpu.moveIf(op, cpu.cf) }
private let moveIfEqual: Handler = { cpu, op in cpu.moveIf(op, cpu.zf) }
private let moveIfBelowOrEqual: Handler = { cpu, op in cpu.moveIf(op, cpu.cf || cpu.zf) }
private let moveIfUnordered: Handler = { cpu, op in cpu.moveIf(op, cpu.pf) }
private let moveIfNotBelow: Handler = { cpu, op in cpu.moveIf(op, !cpu.cf) }
private let moveIfNotEqual: Handler = { cpu, op in cpu.moveIf(op, !cpu.zf) }
private let moveIfAbove: Handler = { cpu, op in cpu.moveIf(op, !cpu.cf && !cpu.zf) }
private let moveIfOrdered: Handler = { cpu, op in cpu.moveIf(op, !cpu.pf) }

private let negate: Handler = { cpu, op in cpu.changeSign(op) { $0 ^ 0x8000 } }
private let absolute: Handler = { cpu, op in cpu.changeSign(op) { $0 & 0x7fff } }
private let examine: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.pointee.fsw = (cpu.pointee.fsw & ~X87Status.conditions) | cpu.classOfTop
    return op + 1
}

private let incrementTop: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.pointee.fsw &= ~X87Status.c1
    cpu.rotateStack(by: 1)
    return op + 1
}
private let decrementTop: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.pointee.fsw &= ~X87Status.c1
    cpu.rotateStack(by: -1)
    return op + 1
}
/// FFREE, and FFREEP with a pop.
private let free: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.pointee.fsw &= ~X87Status.c1
    cpu.setEmpty(cpu.x87Index(op), true)
    cpu.popX87(op)
    return op + 1
}

// MARK: Rows

extension InstructionTable {
    mutating func addX87Moves() {
        addX87Loads()
        addX87Stores()
        addX87Registers()
    }

    private mutating func addX87Loads() {
        x87Selecting(ZYDIS_MNEMONIC_FLD) { d in
            guard d.isMemory(0) else { return loadIndexed }
            switch d.operandSize(0) {
            case 4:
                d.op.pointee.x87 = x87_fld_single
                return loadSingle
            case 8:
                d.op.pointee.x87 = x87_fld_double
                return loadDouble
            default: return loadExtended
            }
        }
        x87Selecting(ZYDIS_MNEMONIC_FILD) { d in
            switch d.operandSize(0) {
            case 2:
                d.op.pointee.x87 = x87_fild_word
                return load16
            case 4:
                d.op.pointee.x87 = x87_fild_doubleword
                return load32
            default:
                d.op.pointee.x87 = x87_fild_quadword
                return load64
            }
        }
        x87Row(ZYDIS_MNEMONIC_FBLD, loadDecimal, x87_fbld)
        x87Row(ZYDIS_MNEMONIC_FLD1, loadConstant, x87_fld1)
        x87Row(ZYDIS_MNEMONIC_FLDL2T, loadConstant, x87_fldl2t)
        x87Row(ZYDIS_MNEMONIC_FLDL2E, loadConstant, x87_fldl2e)
        x87Row(ZYDIS_MNEMONIC_FLDPI, loadConstant, x87_fldpi)
        x87Row(ZYDIS_MNEMONIC_FLDLG2, loadConstant, x87_fldlg2)
        x87Row(ZYDIS_MNEMONIC_FLDLN2, loadConstant, x87_fldln2)
        x87Row(ZYDIS_MNEMONIC_FLDZ, loadConstant, x87_fldz)
    }

    private mutating func addX87Stores() {
        for (mnemonic, pops) in [(ZYDIS_MNEMONIC_FST, 0), (ZYDIS_MNEMONIC_FSTP, 1)] {
            x87Selecting(mnemonic, pops: pops) { d in
                guard d.isMemory(0) else { return storeIndexedRegister }
                switch d.operandSize(0) {
                case 4:
                    d.op.pointee.x87 = x87_fst_single
                    return storeSingle
                case 8:
                    d.op.pointee.x87 = x87_fst_double
                    return storeDouble
                default: return storeExtended
                }
            }
        }
        for (mnemonic, pops) in [(ZYDIS_MNEMONIC_FIST, 0), (ZYDIS_MNEMONIC_FISTP, 1)] {
            storeInteger(mnemonic, pops, x87_fist_word, x87_fist_doubleword, x87_fist_quadword)
        }
        storeInteger(
            ZYDIS_MNEMONIC_FISTTP, 1, x87_fisttp_word, x87_fisttp_doubleword, x87_fisttp_quadword)
        x87Row(ZYDIS_MNEMONIC_FBSTP, pops: 1, storeDecimal, x87_fbstp)
        x87Row(ZYDIS_MNEMONIC_FSTPNCE, storeUnchecked)
    }

    private mutating func storeInteger(
        _ mnemonic: ZydisMnemonic, _ pops: Int, _ word: @escaping X87Function, _ doubleword: @escaping X87Function,
        _ quadword: @escaping X87Function
    ) {
        x87Selecting(mnemonic, pops: pops) { d in
            switch d.operandSize(0) {
            case 2:
                d.op.pointee.x87 = word
                return storeInteger16
            case 4:
                d.op.pointee.x87 = doubleword
                return storeInteger32
            default:
                d.op.pointee.x87 = quadword
                return storeInteger64
            }
        }
    }

    private mutating func addX87Registers() {
        x87Row(ZYDIS_MNEMONIC_FXCH, exchange)
        x87Row(ZYDIS_MNEMONIC_FCMOVB, moveIfBelow)
        x87Row(ZYDIS_MNEMONIC_FCMOVE, moveIfEqual)
        x87Row(ZYDIS_MNEMONIC_FCMOVBE, moveIfBelowOrEqual)
        x87Row(ZYDIS_MNEMONIC_FCMOVU, moveIfUnordered)
        x87Row(ZYDIS_MNEMONIC_FCMOVNB, moveIfNotBelow)
        x87Row(ZYDIS_MNEMONIC_FCMOVNE, moveIfNotEqual)
        x87Row(ZYDIS_MNEMONIC_FCMOVNBE, moveIfAbove)
        x87Row(ZYDIS_MNEMONIC_FCMOVNU, moveIfOrdered)
        x87Row(ZYDIS_MNEMONIC_FCHS, negate)
        x87Row(ZYDIS_MNEMONIC_FABS, absolute)
        x87Row(ZYDIS_MNEMONIC_FXAM, examine)
        x87Row(ZYDIS_MNEMONIC_FINCSTP, incrementTop)
        x87Row(ZYDIS_MNEMONIC_FDECSTP, decrementTop)
        x87Row(ZYDIS_MNEMONIC_FFREE, free)
        x87Row(ZYDIS_MNEMONIC_FFREEP, pops: 1, free)
    }
}
