import CEngine
import CZydis

/// A shift or rotation; `count` is masked to 5 or 6 bits already and not zero.
protocol ShiftOperation {
    static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T
}

enum ShiftLeft: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        let result: T = count >= T.bitWidth ? 0 : value &<< T(truncatingIfNeeded: count)
        let carry = count <= T.bitWidth && (value >> T(T.bitWidth - count)) & 1 != 0
        cpu.setFlags(result, cf: carry, of: carry != (result >> T(T.bitWidth - 1) != 0), af: false)
        return result
    }
}

enum ShiftRight: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        let result: T = count >= T.bitWidth ? 0 : value &>> T(truncatingIfNeeded: count)
        let carry = count <= T.bitWidth && (value >> T(count - 1)) & 1 != 0
        // OF is the old sign bit for one-bit shifts; for others it is undefined, and here what the last of so many
        // one-bit shifts would give.
        cpu.setFlags(result, cf: carry, of: count == 1 && value >> T(T.bitWidth - 1) != 0, af: false)
        return result
    }
}

enum ShiftArithmeticRight: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        let result = T(truncatingIfNeeded: value.signed >> count)
        let carry = (value.signed >> (count - 1)) & 1 != 0
        cpu.setFlags(result, cf: carry, of: false, af: false)
        return result
    }
}

enum RotateLeft: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        let distance = count & (T.bitWidth - 1)
        let result = distance == 0 ? value : (value << T(distance)) | (value >> T(T.bitWidth - distance))
        let carry = result & 1 != 0
        setCarryAndOverflow(cpu, carry, carry != (result >> T(T.bitWidth - 1) != 0))
        return result
    }
}

enum RotateRight: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        let distance = count & (T.bitWidth - 1)
        let result = distance == 0 ? value : (value >> T(distance)) | (value << T(T.bitWidth - distance))
        let top = result >> T(T.bitWidth - 1) != 0
        setCarryAndOverflow(cpu, top, top != ((result >> T(T.bitWidth - 2)) & 1 != 0))
        return result
    }
}

enum RotateCarryLeft: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        var carry = cpu.cf
        var result = value
        for _ in 0..<count % (T.bitWidth + 1) {
            let top = result >> T(T.bitWidth - 1) != 0
            result = (result << 1) | (carry ? 1 : 0)
            carry = top
        }
        setCarryAndOverflow(cpu, carry, carry != (result >> T(T.bitWidth - 1) != 0))
        return result
    }
}

enum RotateCarryRight: ShiftOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ value: T, _ count: Int) -> T {
        var carry = cpu.cf
        var result = value
        for _ in 0..<count % (T.bitWidth + 1) {
            let low = result & 1 != 0
            result = (result >> 1) | (carry ? 1 << T(T.bitWidth - 1) : 0)
            carry = low
        }
        let top = result >> T(T.bitWidth - 1) != 0
        setCarryAndOverflow(cpu, carry, top != ((result >> T(T.bitWidth - 2)) & 1 != 0))
        return result
    }
}

@inline(__always) private func setCarryAndOverflow(_ cpu: CPU, _ carry: Bool, _ overflow: Bool) {
    let carryBit: UInt64 = carry ? 1 << 63 : 0
    let differenceBit: UInt64 = carry != overflow ? 1 << 62 : 0
    cpu.pointee.flagCarries = (cpu.pointee.flagCarries & ~(3 << 62)) | carryBit | differenceBit
}

@inline(__always) private func shiftCount<T: Word>(_ op: OperationPointer, _: T.Type) -> Int {
    Int(op.pointee.source.load(as: UInt8.self)) & (T.bitWidth == 64 ? 63 : 31)
}

@inline(__always)
private func shiftR<O: ShiftOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    let count = shiftCount(op, T.self)
    let value: T = cpu.register(op.pointee.destination)
    // Even a count of zero clears the upper half of a 32-bit destination.
    cpu.setRegister(op.pointee.destination, count == 0 ? value : O.apply(cpu, value, count))
    return op + 1
}

@inline(__always)
private func shiftM<O: ShiftOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    let count = shiftCount(op, T.self)
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    let value = place.loadUnaligned(as: T.self)
    cpu.finishUpdate(place, count == 0 ? value : O.apply(cpu, value, count), op)
    return op + 1
}

/// SHLD: bits move in from `fill`. For counts above a 16-bit operand's width the result is undefined; here the
/// 48-bit concatenation fill:value:fill shifts on, as Intel's processors do.
@inline(__always) func shiftLeftDouble<T: Word>(_ cpu: CPU, _ value: T, _ fill: T, _ count: Int) -> T {
    let result: T
    let carry: Bool
    if count <= T.bitWidth {
        result = count == T.bitWidth ? fill : (value << T(count)) | (fill >> T(T.bitWidth - count))
        carry = (value >> T(T.bitWidth - count)) & 1 != 0
    } else {
        let rest = count - T.bitWidth
        result = (fill << T(rest)) | (value >> T(T.bitWidth - rest))
        carry = (fill >> T(T.bitWidth - rest)) & 1 != 0
    }
    cpu.setFlags(result, cf: carry, of: (result ^ value) >> T(T.bitWidth - 1) != 0, af: false)
    return result
}

/// SHRD, the mirror image.
@inline(__always) func shiftRightDouble<T: Word>(_ cpu: CPU, _ value: T, _ fill: T, _ count: Int) -> T {
    let result: T
    let carry: Bool
    if count <= T.bitWidth {
        result = count == T.bitWidth ? fill : (value >> T(count)) | (fill << T(T.bitWidth - count))
        carry = (value >> T(count - 1)) & 1 != 0
    } else {
        let rest = count - T.bitWidth
        result = (fill >> T(rest)) | (value << T(T.bitWidth - rest))
        carry = (fill >> T(rest - 1)) & 1 != 0
    }
    cpu.setFlags(result, cf: carry, of: (result ^ value) >> T(T.bitWidth - 1) != 0, af: false)
    return result
}

/// The count of SHLD and SHRD: an immediate, or CL when `kind` of the count operand is a register.
@inline(__always) private func doubleCount<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Int {
    let usesCL = op.pointee.flags & OperationFlags.rep != 0
    let count = usesCL ? cpu.gpr(Register.rcx) : op.pointee.immediate
    return Int(count & (T.bitWidth == 64 ? 63 : 31))
}

@inline(__always) private func doubleR<T: Word>(
    _ cpu: CPU, _ op: OperationPointer, _: T.Type, _ shift: (CPU, T, T, Int) -> T
) -> Next {
    let count = doubleCount(cpu, op, T.self)
    let value: T = cpu.register(op.pointee.destination)
    let fill = op.pointee.source.load(as: T.self)
    cpu.setRegister(op.pointee.destination, count == 0 ? value : shift(cpu, value, fill, count))
    return op + 1
}

@inline(__always) private func doubleM<T: Word>(
    _ cpu: CPU, _ op: OperationPointer, _: T.Type, _ shift: (CPU, T, T, Int) -> T
) -> Next {
    let count = doubleCount(cpu, op, T.self)
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    let value = place.loadUnaligned(as: T.self)
    let fill = op.pointee.source.load(as: T.self)
    cpu.finishUpdate(place, count == 0 ? value : shift(cpu, value, fill, count), op)
    return op + 1
}

extension InstructionTable {
    mutating func addShifts() {
        let shlR = SizedHandlers(
            { shiftR($0, $1, ShiftLeft.self, UInt8.self) }, { shiftR($0, $1, ShiftLeft.self, UInt16.self) },
            { shiftR($0, $1, ShiftLeft.self, UInt32.self) }, { shiftR($0, $1, ShiftLeft.self, UInt64.self) })
        let shlM = SizedHandlers(
            { shiftM($0, $1, ShiftLeft.self, UInt8.self) }, { shiftM($0, $1, ShiftLeft.self, UInt16.self) },
            { shiftM($0, $1, ShiftLeft.self, UInt32.self) }, { shiftM($0, $1, ShiftLeft.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_SHL) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? shlM : shlR)[decoding.size]
        }
        let shrR = SizedHandlers(
            { shiftR($0, $1, ShiftRight.self, UInt8.self) }, { shiftR($0, $1, ShiftRight.self, UInt16.self) },
            { shiftR($0, $1, ShiftRight.self, UInt32.self) }, { shiftR($0, $1, ShiftRight.self, UInt64.self) })
        let shrM = SizedHandlers(
            { shiftM($0, $1, ShiftRight.self, UInt8.self) }, { shiftM($0, $1, ShiftRight.self, UInt16.self) },
            { shiftM($0, $1, ShiftRight.self, UInt32.self) }, { shiftM($0, $1, ShiftRight.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_SHR) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? shrM : shrR)[decoding.size]
        }
        let sarR = SizedHandlers(
            { shiftR($0, $1, ShiftArithmeticRight.self, UInt8.self) },
            { shiftR($0, $1, ShiftArithmeticRight.self, UInt16.self) },
            { shiftR($0, $1, ShiftArithmeticRight.self, UInt32.self) },
            { shiftR($0, $1, ShiftArithmeticRight.self, UInt64.self) })
        let sarM = SizedHandlers(
            { shiftM($0, $1, ShiftArithmeticRight.self, UInt8.self) },
            { shiftM($0, $1, ShiftArithmeticRight.self, UInt16.self) },
            { shiftM($0, $1, ShiftArithmeticRight.self, UInt32.self) },
            { shiftM($0, $1, ShiftArithmeticRight.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_SAR) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? sarM : sarR)[decoding.size]
        }
        let rolR = SizedHandlers(
            { shiftR($0, $1, RotateLeft.self, UInt8.self) }, { shiftR($0, $1, RotateLeft.self, UInt16.self) },
            { shiftR($0, $1, RotateLeft.self, UInt32.self) }, { shiftR($0, $1, RotateLeft.self, UInt64.self) })
        let rolM = SizedHandlers(
            { shiftM($0, $1, RotateLeft.self, UInt8.self) }, { shiftM($0, $1, RotateLeft.self, UInt16.self) },
            { shiftM($0, $1, RotateLeft.self, UInt32.self) }, { shiftM($0, $1, RotateLeft.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_ROL) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? rolM : rolR)[decoding.size]
        }
        let rorR = SizedHandlers(
            { shiftR($0, $1, RotateRight.self, UInt8.self) }, { shiftR($0, $1, RotateRight.self, UInt16.self) },
            { shiftR($0, $1, RotateRight.self, UInt32.self) }, { shiftR($0, $1, RotateRight.self, UInt64.self) })
        let rorM = SizedHandlers(
            { shiftM($0, $1, RotateRight.self, UInt8.self) }, { shiftM($0, $1, RotateRight.self, UInt16.self) },
            { shiftM($0, $1, RotateRight.self, UInt32.self) }, { shiftM($0, $1, RotateRight.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_ROR) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? rorM : rorR)[decoding.size]
        }
        let rclR = SizedHandlers(
            { shiftR($0, $1, RotateCarryLeft.self, UInt8.self) }, { shiftR($0, $1, RotateCarryLeft.self, UInt16.self) },
            { shiftR($0, $1, RotateCarryLeft.self, UInt32.self) }, { shiftR($0, $1, RotateCarryLeft.self, UInt64.self) }
        )
        let rclM = SizedHandlers(
            { shiftM($0, $1, RotateCarryLeft.self, UInt8.self) }, { shiftM($0, $1, RotateCarryLeft.self, UInt16.self) },
            { shiftM($0, $1, RotateCarryLeft.self, UInt32.self) }, { shiftM($0, $1, RotateCarryLeft.self, UInt64.self) }
        )
        row(ZYDIS_MNEMONIC_RCL) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? rclM : rclR)[decoding.size]
        }
        let rcrR = SizedHandlers(
            { shiftR($0, $1, RotateCarryRight.self, UInt8.self) },
            { shiftR($0, $1, RotateCarryRight.self, UInt16.self) },
            { shiftR($0, $1, RotateCarryRight.self, UInt32.self) },
            { shiftR($0, $1, RotateCarryRight.self, UInt64.self) })
        let rcrM = SizedHandlers(
            { shiftM($0, $1, RotateCarryRight.self, UInt8.self) },
            { shiftM($0, $1, RotateCarryRight.self, UInt16.self) },
            { shiftM($0, $1, RotateCarryRight.self, UInt32.self) },
            { shiftM($0, $1, RotateCarryRight.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_RCR) { decoding in
            decoding.wireShiftCount()
            return (decoding.isMemory(0) ? rcrM : rcrR)[decoding.size]
        }
        let shldR = SizedHandlers(
            { doubleR($0, $1, UInt16.self, shiftLeftDouble) }, { doubleR($0, $1, UInt16.self, shiftLeftDouble) },
            { doubleR($0, $1, UInt32.self, shiftLeftDouble) }, { doubleR($0, $1, UInt64.self, shiftLeftDouble) })
        let shldM = SizedHandlers(
            { doubleM($0, $1, UInt16.self, shiftLeftDouble) }, { doubleM($0, $1, UInt16.self, shiftLeftDouble) },
            { doubleM($0, $1, UInt32.self, shiftLeftDouble) }, { doubleM($0, $1, UInt64.self, shiftLeftDouble) })
        row(ZYDIS_MNEMONIC_SHLD) { decoding in
            decoding.wireDoubleShiftCount()
            return (decoding.isMemory(0) ? shldM : shldR)[decoding.size]
        }
        let shrdR = SizedHandlers(
            { doubleR($0, $1, UInt16.self, shiftRightDouble) }, { doubleR($0, $1, UInt16.self, shiftRightDouble) },
            { doubleR($0, $1, UInt32.self, shiftRightDouble) }, { doubleR($0, $1, UInt64.self, shiftRightDouble) })
        let shrdM = SizedHandlers(
            { doubleM($0, $1, UInt16.self, shiftRightDouble) }, { doubleM($0, $1, UInt16.self, shiftRightDouble) },
            { doubleM($0, $1, UInt32.self, shiftRightDouble) }, { doubleM($0, $1, UInt64.self, shiftRightDouble) })
        row(ZYDIS_MNEMONIC_SHRD) { decoding in
            decoding.wireDoubleShiftCount()
            return (decoding.isMemory(0) ? shrdM : shrdR)[decoding.size]
        }
    }
}

extension Decoding {
    /// Makes `source` the count: CL, or the immediate (1 where none is written).
    fileprivate func wireShiftCount() {
        if isRegister(1) {
            op.pointee.source = state.raw + Register.rcx * 8
        } else {
            op.pointee.source = immediatePointer
        }
    }

    /// Notes in the operation whether the count is CL.
    fileprivate func wireDoubleShiftCount() {
        op.pointee.flags &= ~OperationFlags.rep
        if isRegister(2) { op.pointee.flags |= OperationFlags.rep }
    }
}
