import CEngine
import CZydis

// Multiplication and division. Flags that the SDM leaves undefined have one definition here: MUL and IMUL set SF, ZF
// and
// PF from the low half and clear AF; DIV and IDIV leave all flags alone.

@inline(__always) private func setMultiplyFlags<T: Word>(_ cpu: CPU, _ low: T, overflow: Bool) {
    cpu.setFlags(low, cf: overflow, of: overflow, af: false)
}

/// AL * operand → AX, or rAX * operand → rDX:rAX.
@inline(__always) private func multiply<T: Word>(_ cpu: CPU, _ operand: T) {
    let (high, low) = cpu.gpr(Register.rax, as: T.self).multipliedFullWidth(by: operand)
    setWide(cpu, high, low)
    setMultiplyFlags(cpu, low, overflow: high != 0)
}

@inline(__always) private func multiplySigned<T: Word>(_ cpu: CPU, _ operand: T) {
    let (high, low) = cpu.gpr(Register.rax, as: T.self).signed.multipliedFullWidth(by: operand.signed)
    let lowWord = T(truncatingIfNeeded: low)
    setWide(cpu, T(truncatingIfNeeded: high), lowWord)
    setMultiplyFlags(cpu, lowWord, overflow: high != (lowWord.signed < 0 ? -1 : 0))
}

/// Puts a double-width value into AX or rDX:rAX.
@inline(__always) private func setWide<T: Word>(_ cpu: CPU, _ high: T, _ low: T) {
    if T.bitWidth == 8 {
        cpu.setGPR(Register.rax, to: UInt16(truncatingIfNeeded: high) << 8 | UInt16(truncatingIfNeeded: low))
    } else {
        cpu.setGPR(Register.rax, to: low)
        cpu.setGPR(Register.rdx, to: high)
    }
}

@inline(__always) private func wideHigh<T: Word>(_ cpu: CPU, _: T.Type) -> T {
    T.bitWidth == 8 ? T(truncatingIfNeeded: cpu.gpr(Register.rax) >> 8) : cpu.gpr(Register.rdx, as: T.self)
}

/// False for #DE.
@inline(__always) private func divide<T: Word>(_ cpu: CPU, _ divisor: T) -> Bool {
    let high = wideHigh(cpu, T.self)
    guard divisor != 0, high < divisor else { return false }
    let (quotient, remainder) = divisor.dividingFullWidth((high, cpu.gpr(Register.rax, as: T.self)))
    setQuotient(cpu, quotient, remainder)
    return true
}

@inline(__always) private func divideSigned<T: Word>(_ cpu: CPU, _ divisor: T) -> Bool {
    let high = wideHigh(cpu, T.self)
    let low = cpu.gpr(Register.rax, as: T.self)
    guard divisor != 0 else { return false }
    let isNegative = high.signed < 0
    // The magnitude of the dividend, as a pair of words.
    let magnitudeLow = isNegative ? 0 &- low : low
    let magnitudeHigh = isNegative ? ~high &+ (low == 0 ? 1 : 0) : high
    let magnitude = divisor.signed.magnitude
    let unsignedDivisor = T(truncatingIfNeeded: magnitude)
    guard magnitudeHigh < unsignedDivisor else { return false }
    let (quotient, remainder) = unsignedDivisor.dividingFullWidth((magnitudeHigh, magnitudeLow))
    let negativeQuotient = isNegative != (divisor.signed < 0)
    let limit: T = 1 << T(T.bitWidth - 1)
    guard negativeQuotient ? quotient <= limit : quotient < limit else { return false }
    setQuotient(cpu, negativeQuotient ? 0 &- quotient : quotient, isNegative ? 0 &- remainder : remainder)
    return true
}

@inline(__always) private func setQuotient<T: Word>(_ cpu: CPU, _ quotient: T, _ remainder: T) {
    if T.bitWidth == 8 {
        cpu.setGPR(Register.rax, to: UInt16(truncatingIfNeeded: remainder) << 8 | UInt16(truncatingIfNeeded: quotient))
    } else {
        cpu.setGPR(Register.rax, to: quotient)
        cpu.setGPR(Register.rdx, to: remainder)
    }
}

@inline(__always) private func mulR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    multiply(cpu, cpu.register(op.pointee.destination, as: T.self))
    return op + 1
}

@inline(__always) private func mulM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let operand = cpu.load(T.self, op) else { return nil }
    multiply(cpu, operand)
    return op + 1
}

@inline(__always) private func imulR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    multiplySigned(cpu, cpu.register(op.pointee.destination, as: T.self))
    return op + 1
}

@inline(__always) private func imulM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let operand = cpu.load(T.self, op) else { return nil }
    multiplySigned(cpu, operand)
    return op + 1
}

@inline(__always) private func divR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    divide(cpu, cpu.register(op.pointee.destination, as: T.self)) ? op + 1 : cpu.fault(ExceptionVector.de, at: op)
}

@inline(__always) private func divM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let operand = cpu.load(T.self, op) else { return nil }
    return divide(cpu, operand) ? op + 1 : cpu.fault(ExceptionVector.de, at: op)
}

@inline(__always) private func idivR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    divideSigned(cpu, cpu.register(op.pointee.destination, as: T.self)) ? op + 1 : cpu.fault(ExceptionVector.de, at: op)
}

@inline(__always) private func idivM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let operand = cpu.load(T.self, op) else { return nil }
    return divideSigned(cpu, operand) ? op + 1 : cpu.fault(ExceptionVector.de, at: op)
}

/// IMUL with an explicit destination: the product cut to its size.
@inline(__always) private func imulTo<T: Word>(_ cpu: CPU, _ op: OperationPointer, _ a: T, _ b: T) -> Next {
    let (high, low) = a.signed.multipliedFullWidth(by: b.signed)
    let result = T(truncatingIfNeeded: low)
    cpu.setRegister(op.pointee.destination, result)
    setMultiplyFlags(cpu, result, overflow: high != (result.signed < 0 ? -1 : 0))
    return op + 1
}

@inline(__always) private func imul2R<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    imulTo(cpu, op, cpu.register(op.pointee.destination, as: T.self), op.pointee.source.load(as: T.self))
}

@inline(__always) private func imul2M<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let b = cpu.load(T.self, op) else { return nil }
    return imulTo(cpu, op, cpu.register(op.pointee.destination, as: T.self), b)
}

@inline(__always) private func imul3R<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    imulTo(cpu, op, op.pointee.source.load(as: T.self), T(truncatingIfNeeded: op.pointee.immediate))
}

@inline(__always) private func imul3M<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let a = cpu.load(T.self, op) else { return nil }
    return imulTo(cpu, op, a, T(truncatingIfNeeded: op.pointee.immediate))
}

extension InstructionTable {
    mutating func addMultiply() {
        let (mulRegister, mulMemory) = (
            SizedHandlers(
                { mulR($0, $1, UInt8.self) }, { mulR($0, $1, UInt16.self) },
                { mulR($0, $1, UInt32.self) }, { mulR($0, $1, UInt64.self) }),
            SizedHandlers(
                { mulM($0, $1, UInt8.self) }, { mulM($0, $1, UInt16.self) },
                { mulM($0, $1, UInt32.self) }, { mulM($0, $1, UInt64.self) })
        )
        row(ZYDIS_MNEMONIC_MUL) { ($0.isMemory(0) ? mulMemory : mulRegister)[$0.size] }
        let (divRegister, divMemory) = (
            SizedHandlers(
                { divR($0, $1, UInt8.self) }, { divR($0, $1, UInt16.self) },
                { divR($0, $1, UInt32.self) }, { divR($0, $1, UInt64.self) }),
            SizedHandlers(
                { divM($0, $1, UInt8.self) }, { divM($0, $1, UInt16.self) },
                { divM($0, $1, UInt32.self) }, { divM($0, $1, UInt64.self) })
        )
        row(ZYDIS_MNEMONIC_DIV) { ($0.isMemory(0) ? divMemory : divRegister)[$0.size] }
        let (idivRegister, idivMemory) = (
            SizedHandlers(
                { idivR($0, $1, UInt8.self) }, { idivR($0, $1, UInt16.self) },
                { idivR($0, $1, UInt32.self) }, { idivR($0, $1, UInt64.self) }),
            SizedHandlers(
                { idivM($0, $1, UInt8.self) }, { idivM($0, $1, UInt16.self) },
                { idivM($0, $1, UInt32.self) }, { idivM($0, $1, UInt64.self) })
        )
        row(ZYDIS_MNEMONIC_IDIV) { ($0.isMemory(0) ? idivMemory : idivRegister)[$0.size] }
        addSignedMultiply()
    }

    private mutating func addSignedMultiply() {
        let one = (
            SizedHandlers(
                { imulR($0, $1, UInt8.self) }, { imulR($0, $1, UInt16.self) },
                { imulR($0, $1, UInt32.self) }, { imulR($0, $1, UInt64.self) }),
            SizedHandlers(
                { imulM($0, $1, UInt8.self) }, { imulM($0, $1, UInt16.self) },
                { imulM($0, $1, UInt32.self) }, { imulM($0, $1, UInt64.self) })
        )
        let two = (
            SizedHandlers(
                { imul2R($0, $1, UInt16.self) }, { imul2R($0, $1, UInt16.self) },
                { imul2R($0, $1, UInt32.self) }, { imul2R($0, $1, UInt64.self) }),
            SizedHandlers(
                { imul2M($0, $1, UInt16.self) }, { imul2M($0, $1, UInt16.self) },
                { imul2M($0, $1, UInt32.self) }, { imul2M($0, $1, UInt64.self) })
        )
        let three = (
            SizedHandlers(
                { imul3R($0, $1, UInt16.self) }, { imul3R($0, $1, UInt16.self) },
                { imul3R($0, $1, UInt32.self) }, { imul3R($0, $1, UInt64.self) }),
            SizedHandlers(
                { imul3M($0, $1, UInt16.self) }, { imul3M($0, $1, UInt16.self) },
                { imul3M($0, $1, UInt32.self) }, { imul3M($0, $1, UInt64.self) })
        )
        row(ZYDIS_MNEMONIC_IMUL) { decoding in
            switch decoding.instruction.operand_count_visible {
            case 1: (decoding.isMemory(0) ? one.1 : one.0)[decoding.size]
            case 2: (decoding.isMemory(1) ? two.1 : two.0)[decoding.size]
            default: (decoding.isMemory(1) ? three.1 : three.0)[decoding.size]
            }
        }
    }
}
