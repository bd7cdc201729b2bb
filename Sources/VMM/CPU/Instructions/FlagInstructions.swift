import CEngine
import CZydis

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Virtual-8086 mode below IOPL 3, where CLI, STI, PUSHF, POPF, INT n and IRET fault (SDM volume 3, 20.2.7).
    package var isIOPLSensitive: Bool { isVirtual8086 && iopl < 3 }

    /// The flags that POPF and IRET may change at the present privilege (SDM volume 2, POPF).
    package var changeableFlags: UInt64 {
        var mask = RFlags.arithmetic | RFlags.tf | RFlags.df | RFlags.nt | RFlags.ac | RFlags.id
        if pointee.cpl <= iopl || !isProtected { mask |= RFlags.if }
        if pointee.cpl == 0 { mask |= RFlags.iopl }
        return mask
    }
}

@inline(__always) private func pushFlags<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard !cpu.isIOPLSensitive else { return cpu.generalProtection(at: op) }
    let image = cpu.rflags & ~(RFlags.vm | RFlags.rf)
    return cpu.push(T(truncatingIfNeeded: image), op) ? op + 1 : nil
}

/// POPF may enable interrupts or single-stepping, so the block ends.
@inline(__always) private func popFlags<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard !cpu.isIOPLSensitive else { return cpu.generalProtection(at: op) }
    guard let value = cpu.pop(T.self, op) else { return nil }
    var mask = cpu.changeableFlags
    if T.bitWidth == 16 { mask &= 0xffff }
    let old = cpu.rflags & ~RFlags.rf
    cpu.setRFlags((old & ~mask) | (UInt64(truncatingIfNeeded: value) & mask))
    cpu.processor.modeChanged()
    return cpu.leave(after: op)
}

/// CLI and STI need CPL <= IOPL in protected mode.
private func mayChangeIF(_ cpu: CPU) -> Bool {
    !cpu.isProtected || cpu.pointee.cpl <= cpu.iopl
}

extension InstructionTable {
    mutating func addFlagInstructions() {
        row(ZYDIS_MNEMONIC_PUSHF) { pushFlags($0, $1, UInt16.self) }
        row(ZYDIS_MNEMONIC_PUSHFD) { pushFlags($0, $1, UInt32.self) }
        row(ZYDIS_MNEMONIC_PUSHFQ) { pushFlags($0, $1, UInt64.self) }
        row(ZYDIS_MNEMONIC_POPF, endsBlock: true) { popFlags($0, $1, UInt16.self) }
        row(ZYDIS_MNEMONIC_POPFD, endsBlock: true) { popFlags($0, $1, UInt32.self) }
        row(ZYDIS_MNEMONIC_POPFQ, endsBlock: true) { popFlags($0, $1, UInt64.self) }
        row(ZYDIS_MNEMONIC_CLI) { cpu, op in
            guard mayChangeIF(cpu) else { return cpu.generalProtection(at: op) }
            cpu.pointee.flags &= ~RFlags.if
            return op + 1
        }
        // Interrupts stay off for one more instruction, if they were off.
        row(ZYDIS_MNEMONIC_STI, endsBlock: true) { cpu, op in
            guard mayChangeIF(cpu) else { return cpu.generalProtection(at: op) }
            if cpu.pointee.flags & RFlags.if == 0 { cpu.pointee.interruptShadow = 1 }
            cpu.pointee.flags |= RFlags.if
            return cpu.leave(after: op)
        }
        row(ZYDIS_MNEMONIC_CLC) { cpu, op in
            cpu.setCF(false)
            return op + 1
        }
        row(ZYDIS_MNEMONIC_STC) { cpu, op in
            cpu.setCF(true)
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CMC) { cpu, op in
            cpu.setCF(!cpu.cf)
            return op + 1
        }
        row(ZYDIS_MNEMONIC_CLD) { cpu, op in
            cpu.pointee.flags &= ~RFlags.df
            return op + 1
        }
        row(ZYDIS_MNEMONIC_STD) { cpu, op in
            cpu.pointee.flags |= RFlags.df
            return op + 1
        }
        row(ZYDIS_MNEMONIC_LAHF) { cpu, op in
            cpu.setRegister(1, UInt8(truncatingIfNeeded: cpu.arithmeticFlags | RFlags.reserved1))
            return op + 1
        }
        row(ZYDIS_MNEMONIC_SAHF) { cpu, op in
            let ah: UInt8 = cpu.register(1)
            cpu.setArithmeticFlags((cpu.arithmeticFlags & RFlags.of) | UInt64(ah))
            return op + 1
        }
    }
}
