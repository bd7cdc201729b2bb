import CEngine
import CZydis

@inline(__always) private func moveRR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    cpu.setRegister(op.pointee.destination, op.pointee.source.load(as: T.self))
    return op + 1
}

@inline(__always) private func moveRM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let value = cpu.load(T.self, op) else { return nil }
    cpu.setRegister(op.pointee.destination, value)
    return op + 1
}

@inline(__always) private func moveMR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    cpu.store(op.pointee.source.load(as: T.self), op) ? op + 1 : nil
}

/// MOVZX and MOVSX: from a narrow `S`, through `convert`, to a wide `D`.
@inline(__always) private func extendRR<S: Word, D: Word>(
    _ cpu: CPU, _ op: OperationPointer, _: D.Type, _ convert: (S) -> D
) -> Next {
    cpu.setRegister(op.pointee.destination, convert(op.pointee.source.load(as: S.self)))
    return op + 1
}

@inline(__always) private func extendRM<S: Word, D: Word>(
    _ cpu: CPU, _ op: OperationPointer, _: D.Type, _ convert: (S) -> D
) -> Next {
    guard let value = cpu.load(S.self, op) else { return nil }
    cpu.setRegister(op.pointee.destination, convert(value))
    return op + 1
}

@inline(__always) private func zero<S: Word, D: Word>(_ value: S) -> D { D(truncatingIfNeeded: value) }
@inline(__always) private func sign<S: Word, D: Word>(_ value: S) -> D { D(truncatingIfNeeded: value.signed) }

@inline(__always) private func exchangeRR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let offset = UInt16(truncatingIfNeeded: op.pointee.source - cpu.raw)
    let a: T = cpu.register(op.pointee.destination)
    let b: T = cpu.register(offset)
    cpu.setRegister(op.pointee.destination, b)
    cpu.setRegister(offset, a)
    return op + 1
}

/// XCHG with memory; the register is `source` whichever way it is written.
@inline(__always) private func exchangeMR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    let offset = UInt16(truncatingIfNeeded: op.pointee.source - cpu.raw)
    let old = place.loadUnaligned(as: T.self)
    cpu.finishUpdate(place, cpu.register(offset, as: T.self), op)
    cpu.setRegister(offset, old)
    return op + 1
}

@inline(__always) private func exchangeAddRR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let offset = UInt16(truncatingIfNeeded: op.pointee.source - cpu.raw)
    let a: T = cpu.register(op.pointee.destination)
    let sum = Add.apply(cpu, a, cpu.register(offset, as: T.self))
    cpu.setRegister(offset, a)
    cpu.setRegister(op.pointee.destination, sum)
    return op + 1
}

@inline(__always) private func exchangeAddMR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    let offset = UInt16(truncatingIfNeeded: op.pointee.source - cpu.raw)
    let old = place.loadUnaligned(as: T.self)
    cpu.finishUpdate(place, Add.apply(cpu, old, cpu.register(offset, as: T.self)), op)
    cpu.setRegister(offset, old)
    return op + 1
}

@inline(__always) private func compareExchangeRR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let old: T = cpu.register(op.pointee.destination)
    let expected = cpu.gpr(Register.rax, as: T.self)
    _ = Subtract.apply(cpu, expected, old)
    if old == expected {
        cpu.setRegister(op.pointee.destination, op.pointee.source.load(as: T.self))
    } else {
        cpu.setGPR(Register.rax, to: old)
    }
    return op + 1
}

/// CMPXCHG with memory writes in either case, so that a fault does not depend on the comparison.
@inline(__always) private func compareExchangeMR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    let old = place.loadUnaligned(as: T.self)
    let expected = cpu.gpr(Register.rax, as: T.self)
    _ = Subtract.apply(cpu, expected, old)
    cpu.finishUpdate(place, old == expected ? op.pointee.source.load(as: T.self) : old, op)
    if old != expected { cpu.setGPR(Register.rax, to: old) }
    return op + 1
}

private func compareExchange8B(_ cpu: CPU, _ op: OperationPointer) -> Next {
    guard let place = cpu.beginUpdate(UInt64.self, op) else { return nil }
    let old = place.loadUnaligned(as: UInt64.self)
    let expected = cpu.gpr(Register.rdx) << 32 | cpu.gpr(Register.rax) & 0xffff_ffff
    let replacement = cpu.gpr(Register.rcx) << 32 | cpu.gpr(Register.rbx) & 0xffff_ffff
    cpu.finishUpdate(place, old == expected ? replacement : old, op)
    setZF(cpu, old == expected)
    if old != expected {
        cpu.setGPR(Register.rax, old & 0xffff_ffff)
        cpu.setGPR(Register.rdx, old >> 32)
    }
    return op + 1
}

private func compareExchange16B(_ cpu: CPU, _ op: OperationPointer) -> Next {
    guard let linear = cpu.linearAddress(op, size: 16, write: true) else { return nil }
    guard linear & 15 == 0 else { return cpu.generalProtection(at: op) }
    let kind: AccessKind = op.pointee.segment == SegmentIndex.ss ? [.stack] : []
    guard cpu.processor.readForUpdate(linear, size: 16, kind, op) else { return nil }
    let old = XMMRegister(low: cpu.pointee.scratch.0, high: cpu.pointee.scratch.1)
    let isEqual = old.low == cpu.gpr(Register.rax) && old.high == cpu.gpr(Register.rdx)
    let new = isEqual ? XMMRegister(low: cpu.gpr(Register.rbx), high: cpu.gpr(Register.rcx)) : old
    (cpu.pointee.scratch.0, cpu.pointee.scratch.1) = (new.low, new.high)
    cpu.processor.commitUpdate(linear, size: 16, op)
    setZF(cpu, isEqual)
    if !isEqual {
        cpu.setGPR(Register.rax, old.low)
        cpu.setGPR(Register.rdx, old.high)
    }
    return op + 1
}

private func setZF(_ cpu: CPU, _ value: Bool) {
    cpu.setArithmeticFlags(cpu.arithmeticFlags & ~RFlags.zf | (value ? RFlags.zf : 0))
}

@inline(__always) private func lea<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    cpu.setRegister(op.pointee.destination, T(truncatingIfNeeded: cpu.effectiveAddress(op)))
    return op + 1
}

/// MOV between the accumulator and an absolute offset has no ModRM byte, and shares the other forms' handlers.
extension InstructionTable {
    mutating func addMoves() {
        let rr = SizedHandlers(
            { moveRR($0, $1, UInt8.self) }, { moveRR($0, $1, UInt16.self) },
            { moveRR($0, $1, UInt32.self) }, { moveRR($0, $1, UInt64.self) })
        let rm = SizedHandlers(
            { moveRM($0, $1, UInt8.self) }, { moveRM($0, $1, UInt16.self) },
            { moveRM($0, $1, UInt32.self) }, { moveRM($0, $1, UInt64.self) })
        let mr = SizedHandlers(
            { moveMR($0, $1, UInt8.self) }, { moveMR($0, $1, UInt16.self) },
            { moveMR($0, $1, UInt32.self) }, { moveMR($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_MOV) { decoding in
            if let special = decoding.systemMove() { return special }
            return (decoding.isMemory(0) ? mr : decoding.isMemory(1) ? rm : rr)[decoding.size]
        }
        addExtensions()
        let leaHandlers = SizedHandlers(
            { lea($0, $1, UInt8.self) }, { lea($0, $1, UInt16.self) },
            { lea($0, $1, UInt32.self) }, { lea($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_LEA) { leaHandlers[$0.size] }
        addExchanges()
        addConditionalMoves()
        row(ZYDIS_MNEMONIC_XLAT) { decoding in
            decoding.op.pointee.base = UInt16(Register.rbx * 8)
            decoding.useHiddenSegment()
            return { cpu, op in
                op.pointee.displacement = UInt64(cpu.gpr(Register.rax, as: UInt8.self))
                guard let value = cpu.load(UInt8.self, op) else { return nil }
                cpu.setGPR(Register.rax, to: value)
                return op + 1
            }
        }
        row(ZYDIS_MNEMONIC_NOP) { _ in { _, op in op + 1 } }
        row(ZYDIS_MNEMONIC_PAUSE) { _, op in op + 1 }
        addAccumulatorExtensions()
    }

    private mutating func addExtensions() {
        let zero8RR = SizedHandlers(
            { extendRR($0, $1, UInt16.self) { (v: UInt8) in zero(v) } },
            { extendRR($0, $1, UInt16.self) { (v: UInt8) in zero(v) } },
            { extendRR($0, $1, UInt32.self) { (v: UInt8) in zero(v) } },
            { extendRR($0, $1, UInt64.self) { (v: UInt8) in zero(v) } })
        let zero8RM = SizedHandlers(
            { extendRM($0, $1, UInt16.self) { (v: UInt8) in zero(v) } },
            { extendRM($0, $1, UInt16.self) { (v: UInt8) in zero(v) } },
            { extendRM($0, $1, UInt32.self) { (v: UInt8) in zero(v) } },
            { extendRM($0, $1, UInt64.self) { (v: UInt8) in zero(v) } })
        let zero16RR = SizedHandlers(
            { extendRR($0, $1, UInt16.self) { (v: UInt16) in zero(v) } },
            { extendRR($0, $1, UInt16.self) { (v: UInt16) in zero(v) } },
            { extendRR($0, $1, UInt32.self) { (v: UInt16) in zero(v) } },
            { extendRR($0, $1, UInt64.self) { (v: UInt16) in zero(v) } })
        let zero16RM = SizedHandlers(
            { extendRM($0, $1, UInt16.self) { (v: UInt16) in zero(v) } },
            { extendRM($0, $1, UInt16.self) { (v: UInt16) in zero(v) } },
            { extendRM($0, $1, UInt32.self) { (v: UInt16) in zero(v) } },
            { extendRM($0, $1, UInt64.self) { (v: UInt16) in zero(v) } })
        row(ZYDIS_MNEMONIC_MOVZX) { decoding in
            let isByte = decoding.operands[1].size == 8
            return decoding.isMemory(1)
                ? (isByte ? zero8RM : zero16RM)[decoding.size] : (isByte ? zero8RR : zero16RR)[decoding.size]
        }
        let sign8RR = SizedHandlers(
            { extendRR($0, $1, UInt16.self) { (v: UInt8) in sign(v) } },
            { extendRR($0, $1, UInt16.self) { (v: UInt8) in sign(v) } },
            { extendRR($0, $1, UInt32.self) { (v: UInt8) in sign(v) } },
            { extendRR($0, $1, UInt64.self) { (v: UInt8) in sign(v) } })
        let sign8RM = SizedHandlers(
            { extendRM($0, $1, UInt16.self) { (v: UInt8) in sign(v) } },
            { extendRM($0, $1, UInt16.self) { (v: UInt8) in sign(v) } },
            { extendRM($0, $1, UInt32.self) { (v: UInt8) in sign(v) } },
            { extendRM($0, $1, UInt64.self) { (v: UInt8) in sign(v) } })
        let sign16RR = SizedHandlers(
            { extendRR($0, $1, UInt16.self) { (v: UInt16) in sign(v) } },
            { extendRR($0, $1, UInt16.self) { (v: UInt16) in sign(v) } },
            { extendRR($0, $1, UInt32.self) { (v: UInt16) in sign(v) } },
            { extendRR($0, $1, UInt64.self) { (v: UInt16) in sign(v) } })
        let sign16RM = SizedHandlers(
            { extendRM($0, $1, UInt16.self) { (v: UInt16) in sign(v) } },
            { extendRM($0, $1, UInt16.self) { (v: UInt16) in sign(v) } },
            { extendRM($0, $1, UInt32.self) { (v: UInt16) in sign(v) } },
            { extendRM($0, $1, UInt64.self) { (v: UInt16) in sign(v) } })
        row(ZYDIS_MNEMONIC_MOVSX) { decoding in
            let isByte = decoding.operands[1].size == 8
            return decoding.isMemory(1)
                ? (isByte ? sign8RM : sign16RM)[decoding.size] : (isByte ? sign8RR : sign16RR)[decoding.size]
        }
        let sign32RR = SizedHandlers(
            { moveRR($0, $1, UInt16.self) }, { moveRR($0, $1, UInt16.self) },
            { moveRR($0, $1, UInt32.self) }, { extendRR($0, $1, UInt64.self) { (v: UInt32) in sign(v) } })
        let sign32RM = SizedHandlers(
            { moveRM($0, $1, UInt16.self) }, { moveRM($0, $1, UInt16.self) },
            { moveRM($0, $1, UInt32.self) }, { extendRM($0, $1, UInt64.self) { (v: UInt32) in sign(v) } })
        let truncateRM: Handler = { extendRM($0, $1, UInt16.self) { (v: UInt32) in UInt16(truncatingIfNeeded: v) } }
        row(ZYDIS_MNEMONIC_MOVSXD) { d in
            if d.isMemory(1) && d.size == 2 && d.state.processor.model.movsxdReads32 { return truncateRM }
            return (d.isMemory(1) ? sign32RM : sign32RR)[d.size]
        }
    }

    private mutating func addExchanges() {
        let xchgRR = SizedHandlers(
            { exchangeRR($0, $1, UInt8.self) }, { exchangeRR($0, $1, UInt16.self) },
            { exchangeRR($0, $1, UInt32.self) }, { exchangeRR($0, $1, UInt64.self) })
        let xchgMR = SizedHandlers(
            { exchangeMR($0, $1, UInt8.self) }, { exchangeMR($0, $1, UInt16.self) },
            { exchangeMR($0, $1, UInt32.self) }, { exchangeMR($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_XCHG) { decoding in
            if decoding.isMemory(1) { decoding.op.pointee.source = decoding.register(0) }
            return (decoding.isMemory(0) || decoding.isMemory(1) ? xchgMR : xchgRR)[decoding.size]
        }
        let xaddRR = SizedHandlers(
            { exchangeAddRR($0, $1, UInt8.self) }, { exchangeAddRR($0, $1, UInt16.self) },
            { exchangeAddRR($0, $1, UInt32.self) }, { exchangeAddRR($0, $1, UInt64.self) })
        let xaddMR = SizedHandlers(
            { exchangeAddMR($0, $1, UInt8.self) }, { exchangeAddMR($0, $1, UInt16.self) },
            { exchangeAddMR($0, $1, UInt32.self) }, { exchangeAddMR($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_XADD) { ($0.isMemory(0) ? xaddMR : xaddRR)[$0.size] }
        let cmpxchgRR = SizedHandlers(
            { compareExchangeRR($0, $1, UInt8.self) }, { compareExchangeRR($0, $1, UInt16.self) },
            { compareExchangeRR($0, $1, UInt32.self) }, { compareExchangeRR($0, $1, UInt64.self) })
        let cmpxchgMR = SizedHandlers(
            { compareExchangeMR($0, $1, UInt8.self) }, { compareExchangeMR($0, $1, UInt16.self) },
            { compareExchangeMR($0, $1, UInt32.self) }, { compareExchangeMR($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_CMPXCHG) { ($0.isMemory(0) ? cmpxchgMR : cmpxchgRR)[$0.size] }
        row(ZYDIS_MNEMONIC_CMPXCHG8B) { cpu, op in compareExchange8B(cpu, op) }
        row(ZYDIS_MNEMONIC_CMPXCHG16B) { cpu, op in compareExchange16B(cpu, op) }
    }

    private mutating func addAccumulatorExtensions() {
        row(ZYDIS_MNEMONIC_CBW) { cpu, op in
            cpu.setGPR(Register.rax, to: UInt16(bitPattern: Int16(cpu.gpr(0, as: UInt8.self).signed)))
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CWDE) { cpu, op in
            cpu.setGPR(Register.rax, to: UInt32(bitPattern: Int32(cpu.gpr(0, as: UInt16.self).signed)))
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CDQE) { cpu, op in
            cpu.setGPR(Register.rax, UInt64(bitPattern: Int64(cpu.gpr(0, as: UInt32.self).signed)))
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CWD) { cpu, op in
            cpu.setGPR(Register.rdx, to: UInt16(bitPattern: cpu.gpr(0, as: UInt16.self).signed >> 15))
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CDQ) { cpu, op in
            cpu.setGPR(Register.rdx, to: UInt32(bitPattern: cpu.gpr(0, as: UInt32.self).signed >> 31))
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CQO) { cpu, op in
            cpu.setGPR(Register.rdx, UInt64(bitPattern: cpu.gpr(0).signed >> 63))
            return op + 1
        }
    }

    private mutating func addConditionalMoves() {
        for (code, mnemonic) in ConditionCode.cmov.enumerated() {
            row(mnemonic) { decoding in
                decoding.op.pointee.immediate = UInt64(code)
                return (decoding.isMemory(1) ? conditionalMoveRM : conditionalMoveRR)[decoding.size]
            }
        }
        for (code, mnemonic) in ConditionCode.setcc.enumerated() {
            row(mnemonic) { decoding in
                decoding.op.pointee.immediate = UInt64(code)
                return decoding.isMemory(0)
                    ? { cpu, op in
                        let value: UInt8 = cpu.condition(UInt8(truncatingIfNeeded: op.pointee.immediate)) ? 1 : 0
                        return cpu.store(value, op) ? op + 1 : nil
                    }
                    : { cpu, op in
                        let value: UInt8 = cpu.condition(UInt8(truncatingIfNeeded: op.pointee.immediate)) ? 1 : 0
                        cpu.setRegister(op.pointee.destination, value)
                        return op + 1
                    }
            }
        }
    }
}

/// CMOVcc reads its operand, and clears the upper half of a 32-bit destination, whatever the condition.
@inline(__always) private func conditionalMove<T: Word>(_ cpu: CPU, _ op: OperationPointer, _ value: T) -> Next {
    let taken = cpu.condition(UInt8(truncatingIfNeeded: op.pointee.immediate))
    cpu.setRegister(op.pointee.destination, taken ? value : cpu.register(op.pointee.destination, as: T.self))
    return op + 1
}

@inline(__always) private func cmovRR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    conditionalMove(cpu, op, op.pointee.source.load(as: T.self))
}

@inline(__always) private func cmovRM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let value = cpu.load(T.self, op) else { return nil }
    return conditionalMove(cpu, op, value)
}

private let conditionalMoveRR = SizedHandlers(
    { cmovRR($0, $1, UInt8.self) }, { cmovRR($0, $1, UInt16.self) },
    { cmovRR($0, $1, UInt32.self) }, { cmovRR($0, $1, UInt64.self) })
private let conditionalMoveRM = SizedHandlers(
    { cmovRM($0, $1, UInt8.self) }, { cmovRM($0, $1, UInt16.self) },
    { cmovRM($0, $1, UInt32.self) }, { cmovRM($0, $1, UInt64.self) })

/// Mnemonics of the conditional instructions in the order of their condition codes.
enum ConditionCode {
    static let cmov = [
        ZYDIS_MNEMONIC_CMOVO, ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB, ZYDIS_MNEMONIC_CMOVNB, ZYDIS_MNEMONIC_CMOVZ,
        ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVNBE, ZYDIS_MNEMONIC_CMOVS,
        ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP, ZYDIS_MNEMONIC_CMOVNP, ZYDIS_MNEMONIC_CMOVL,
        ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE, ZYDIS_MNEMONIC_CMOVNLE,
    ]
    static let setcc = [
        ZYDIS_MNEMONIC_SETO, ZYDIS_MNEMONIC_SETNO, ZYDIS_MNEMONIC_SETB, ZYDIS_MNEMONIC_SETNB, ZYDIS_MNEMONIC_SETZ,
        ZYDIS_MNEMONIC_SETNZ, ZYDIS_MNEMONIC_SETBE, ZYDIS_MNEMONIC_SETNBE, ZYDIS_MNEMONIC_SETS, ZYDIS_MNEMONIC_SETNS,
        ZYDIS_MNEMONIC_SETP, ZYDIS_MNEMONIC_SETNP, ZYDIS_MNEMONIC_SETL, ZYDIS_MNEMONIC_SETNL, ZYDIS_MNEMONIC_SETLE,
        ZYDIS_MNEMONIC_SETNLE,
    ]
    static let jcc = [
        ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB, ZYDIS_MNEMONIC_JNB, ZYDIS_MNEMONIC_JZ,
        ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE, ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS,
        ZYDIS_MNEMONIC_JP, ZYDIS_MNEMONIC_JNP, ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE,
        ZYDIS_MNEMONIC_JNLE,
    ]
}
