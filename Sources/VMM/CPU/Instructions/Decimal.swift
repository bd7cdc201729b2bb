import CEngine
import CZydis

// Decimal adjustments (SDM volume 2). Flags that it leaves undefined: OF is cleared; AAA and AAS set SF, ZF and PF
// from AL.
extension InstructionTable {
    mutating func addDecimal() {
        row(ZYDIS_MNEMONIC_DAA) { cpu, op in adjustDecimal(cpu, op, subtract: false) }
        row(ZYDIS_MNEMONIC_DAS) { cpu, op in adjustDecimal(cpu, op, subtract: true) }
        row(ZYDIS_MNEMONIC_AAA) { cpu, op in adjustASCII(cpu, op, subtract: false) }
        row(ZYDIS_MNEMONIC_AAS) { cpu, op in adjustASCII(cpu, op, subtract: true) }
        row(ZYDIS_MNEMONIC_AAM) { cpu, op in
            let base = UInt8(truncatingIfNeeded: op.pointee.immediate)
            guard base != 0 else { return cpu.fault(ExceptionVector.de, at: op) }
            let al = cpu.gpr(Register.rax, as: UInt8.self)
            cpu.setGPR(Register.rax, to: UInt16(al / base) << 8 | UInt16(al % base))
            cpu.setLogicFlags(al % base)
            return op + 1
        }
        row(ZYDIS_MNEMONIC_AAD) { cpu, op in
            let ax = cpu.gpr(Register.rax, as: UInt16.self)
            let base = UInt8(truncatingIfNeeded: op.pointee.immediate)
            let result = UInt8(truncatingIfNeeded: ax) &+ UInt8(truncatingIfNeeded: ax >> 8) &* base
            cpu.setGPR(Register.rax, to: UInt16(result))
            cpu.setLogicFlags(result)
            return op + 1
        }
        row(ZYDIS_MNEMONIC_SALC) { cpu, op in
            cpu.setGPR(Register.rax, to: cpu.cf ? UInt8(0xff) : UInt8(0))
            return op + 1
        }
    }
}

private func adjustDecimal(_ cpu: CPU, _ op: OperationPointer, subtract: Bool) -> Next {
    let al = cpu.gpr(Register.rax, as: UInt8.self)
    let lowAdjust = al & 15 > 9 || cpu.af
    let highAdjust = al > 0x99 || cpu.cf
    let correction: UInt8 = (lowAdjust ? 6 : 0) &+ (highAdjust ? 0x60 : 0)
    let result = subtract ? al &- correction : al &+ correction
    // DAS also reports the borrow of its first step.
    let carry = highAdjust || (subtract && lowAdjust && al < 6)
    cpu.setGPR(Register.rax, to: result)
    cpu.setFlags(result, cf: carry, of: false, af: lowAdjust)
    return op + 1
}

private func adjustASCII(_ cpu: CPU, _ op: OperationPointer, subtract: Bool) -> Next {
    let ax = cpu.gpr(Register.rax, as: UInt16.self)
    let adjust = ax & 15 > 9 || cpu.af
    let adjusted = !adjust ? ax : subtract ? ax &- 0x106 : ax &+ 0x106
    let result = adjusted & 0xff0f
    cpu.setGPR(Register.rax, to: result)
    cpu.setFlags(UInt8(truncatingIfNeeded: result), cf: adjust, of: false, af: adjust)
    return op + 1
}
