import CEngine
import CZydis

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Where a direct branch of `op` leads: `displacement` was made relative to the block's start.
    @inline(__always) fileprivate func target(_ op: OperationPointer) -> UInt64 {
        (pointee.blockRIP &+ op.pointee.displacement) & op.pointee.addressMask
    }

    /// Whether a target lies inside CS, or is canonical in 64-bit code; otherwise #GP(0) at `op`.
    @inline(__always) fileprivate func isValidTarget(_ rip: UInt64, _ op: OperationPointer) -> Bool {
        if pointee.mode & ModeKey.sizeMask == ModeKey.code64 {
            if _fastPath(isCanonical(rip)) { return true }
        } else if _fastPath(rip <= UInt64(pointee.segments.1.limit)) {
            return true
        }
        _ = generalProtection(at: op)
        return false
    }

    /// Takes a direct branch, which may be conditional and so stand inside a block.
    @inline(__always) fileprivate func takeBranch(_ op: OperationPointer) -> Next {
        let target = target(op)
        guard isValidTarget(target, op) else { return nil }
        pointee.count &-= UInt64(op.pointee.remaining) &- 1
        return branch(to: target, op)
    }

    /// Takes an indirect branch.
    @inline(__always) fileprivate func takeIndirect(_ target: UInt64, _ op: OperationPointer) -> Next {
        guard isValidTarget(target, op) else { return nil }
        countIndirectBranch()
        return jump(to: target)
    }

    /// Marks the slot at the top of the stack as a return address of the kernel, or no longer (`CallMarks`).
    @inline(__always) fileprivate func markCall(_ isCalled: Bool) {
        if _slowPath(pointee.callMarks != nil), pointee.cpl != 3 { processor.markCall(isCalled) }
    }

    /// Counts an indirect branch or a return of the kernel, which a binary translator has to look up.
    @inline(__always) fileprivate func countIndirectBranch() {
        if pointee.cpl != 3 { pointee.kernelIndirectBranches &+= 1 }
    }
}

@inline(__always) private func jumpR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    cpu.takeIndirect(UInt64(truncatingIfNeeded: cpu.register(op.pointee.destination, as: T.self)), op)
}

@inline(__always) private func jumpM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let target = cpu.load(T.self, op) else { return nil }
    return cpu.takeIndirect(UInt64(truncatingIfNeeded: target), op)
}

@inline(__always) private func callRelative<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let target = cpu.target(op)
    guard cpu.isValidTarget(target, op) else { return nil }
    guard cpu.push(T(truncatingIfNeeded: cpu.rip(after: op)), op) else { return nil }
    cpu.markCall(true)
    return cpu.branch(to: target, op)
}

@inline(__always) private func callTo<T: Word>(_ cpu: CPU, _ op: OperationPointer, _ target: T) -> Next {
    let target = UInt64(truncatingIfNeeded: target)
    guard cpu.isValidTarget(target, op) else { return nil }
    guard cpu.push(T(truncatingIfNeeded: cpu.rip(after: op)), op) else { return nil }
    cpu.markCall(true)
    cpu.countIndirectBranch()
    return cpu.jump(to: target)
}

@inline(__always) private func callR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    callTo(cpu, op, cpu.register(op.pointee.destination, as: T.self))
}

@inline(__always) private func callM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let target = cpu.load(T.self, op) else { return nil }
    return callTo(cpu, op, target)
}

/// Near RET; `immediate` more bytes leave the stack.
@inline(__always) private func returnNear<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let target = cpu.peek(T.self, op) else { return nil }
    let rip = UInt64(truncatingIfNeeded: target)
    guard cpu.isValidTarget(rip, op) else { return nil }
    cpu.markCall(false)
    cpu.adjustStack(by: UInt64(MemoryLayout<T>.size) &+ op.pointee.immediate)
    cpu.countIndirectBranch()
    return cpu.jump(to: rip)
}

/// LOOP, LOOPE and LOOPNE: rCX at the address size counts down.
@inline(__always) private func loop(_ cpu: CPU, _ op: OperationPointer, _ condition: Bool) -> Next {
    let count = countRegister(cpu, op) &- 1
    let masked = count & counterMask(op)
    if masked != 0 && condition {
        guard cpu.isValidTarget(cpu.target(op), op) else { return nil }
        setCounter(cpu, op, masked)
        return cpu.takeBranch(op)
    }
    setCounter(cpu, op, masked)
    return op + 1
}

/// `addressMask` of a branch cuts its target; the counter's own width is in `scale`: 0 for CX, 1 for ECX, 2 for RCX.
@inline(__always) private func counterMask(_ op: OperationPointer) -> UInt64 {
    op.pointee.scale == 0 ? 0xffff : op.pointee.scale == 1 ? 0xffff_ffff : ~0
}

@inline(__always) private func countRegister(_ cpu: CPU, _ op: OperationPointer) -> UInt64 {
    cpu.gpr(Register.rcx) & counterMask(op)
}

@inline(__always) private func setCounter(_ cpu: CPU, _ op: OperationPointer, _ value: UInt64) {
    switch op.pointee.scale {
    case 0: cpu.setGPR(Register.rcx, to: UInt16(truncatingIfNeeded: value))
    default: cpu.setGPR(Register.rcx, value)
    }
}

extension Decoding {
    /// Prepares a relative branch: the target relative to the block's start, and the mask that cuts it.
    /// What runs on if it is not taken stays in the block.
    fileprivate mutating func wireBranch(endsBlock ends: Bool = false) {
        op.pointee.displacement = operands[0].imm.value.u &+ UInt64(op.pointee.offset) &+ UInt64(instruction.length)
        op.pointee.scale = instruction.address_width == 16 ? 0 : instruction.address_width == 32 ? 1 : 2
        op.pointee.addressMask = branchMask
        op.pointee.link = nil
        endsBlock = ends
    }

    /// IP, EIP or RIP by the operand size.
    private var branchMask: UInt64 {
        if is64 { return usesAMD16 ? 0xffff : ~0 }
        return instruction.operand_width == 16 ? 0xffff : 0xffff_ffff
    }

    /// AMD processors honour an operand-size prefix on near branches in 64-bit code.
    private var usesAMD16: Bool { instruction.operand_width == 16 }
}

extension InstructionTable {
    mutating func addBranches() {
        addConditionalBranches()
        let jumpRegister = SizedHandlers(
            { jumpR($0, $1, UInt16.self) }, { jumpR($0, $1, UInt16.self) },
            { jumpR($0, $1, UInt32.self) }, { jumpR($0, $1, UInt64.self) })
        let jumpMemory = SizedHandlers(
            { jumpM($0, $1, UInt16.self) }, { jumpM($0, $1, UInt16.self) },
            { jumpM($0, $1, UInt32.self) }, { jumpM($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_JMP) { decoding in
            decoding.endsBlock = true
            if decoding.instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR { return decoding.farJump() }
            if decoding.isImmediate(0) {
                decoding.wireBranch(endsBlock: true)
                return { cpu, op in cpu.takeBranch(op) }
            }
            return (decoding.isMemory(0) ? jumpMemory : jumpRegister)[decoding.size]
        }
        addCalls()
        let returns = SizedHandlers(
            { returnNear($0, $1, UInt16.self) }, { returnNear($0, $1, UInt16.self) },
            { returnNear($0, $1, UInt32.self) }, { returnNear($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_RET) { decoding in
            decoding.endsBlock = true
            decoding.op.pointee.immediate &= 0xffff
            if decoding.instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR { return decoding.farReturn() }
            return returns[decoding.size]
        }
    }

    private mutating func addCalls() {
        let relative = SizedHandlers(
            { callRelative($0, $1, UInt16.self) }, { callRelative($0, $1, UInt16.self) },
            { callRelative($0, $1, UInt32.self) }, { callRelative($0, $1, UInt64.self) })
        let callRegister = SizedHandlers(
            { callR($0, $1, UInt16.self) }, { callR($0, $1, UInt16.self) },
            { callR($0, $1, UInt32.self) }, { callR($0, $1, UInt64.self) })
        let callMemory = SizedHandlers(
            { callM($0, $1, UInt16.self) }, { callM($0, $1, UInt16.self) },
            { callM($0, $1, UInt32.self) }, { callM($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_CALL) { decoding in
            decoding.endsBlock = true
            if decoding.instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR { return decoding.farCall() }
            if decoding.isImmediate(0) {
                decoding.wireBranch(endsBlock: true)
                return relative[decoding.size]
            }
            return (decoding.isMemory(0) ? callMemory : callRegister)[decoding.size]
        }
    }

    private mutating func addConditionalBranches() {
        let handlers: [Handler] = [
            { cpu, op in cpu.of ? cpu.takeBranch(op) : op + 1 }, { cpu, op in cpu.of ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.cf ? cpu.takeBranch(op) : op + 1 }, { cpu, op in cpu.cf ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.zf ? cpu.takeBranch(op) : op + 1 }, { cpu, op in cpu.zf ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.condition(6) ? cpu.takeBranch(op) : op + 1 },
            { cpu, op in cpu.condition(6) ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.sf ? cpu.takeBranch(op) : op + 1 }, { cpu, op in cpu.sf ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.pf ? cpu.takeBranch(op) : op + 1 }, { cpu, op in cpu.pf ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.condition(12) ? cpu.takeBranch(op) : op + 1 },
            { cpu, op in cpu.condition(12) ? op + 1 : cpu.takeBranch(op) },
            { cpu, op in cpu.condition(14) ? cpu.takeBranch(op) : op + 1 },
            { cpu, op in cpu.condition(14) ? op + 1 : cpu.takeBranch(op) },
        ]
        for (code, mnemonic) in ConditionCode.jcc.enumerated() {
            row(mnemonic) { decoding in
                decoding.wireBranch()
                return handlers[code]
            }
        }
        for mnemonic in [ZYDIS_MNEMONIC_JCXZ, ZYDIS_MNEMONIC_JECXZ, ZYDIS_MNEMONIC_JRCXZ] {
            row(mnemonic) { decoding in
                decoding.wireBranch()
                return { cpu, op in countRegister(cpu, op) == 0 ? cpu.takeBranch(op) : op + 1 }
            }
        }
        row(ZYDIS_MNEMONIC_LOOP) { decoding in
            decoding.wireBranch()
            return { cpu, op in loop(cpu, op, true) }
        }
        row(ZYDIS_MNEMONIC_LOOPE) { decoding in
            decoding.wireBranch()
            return { cpu, op in loop(cpu, op, cpu.zf) }
        }
        row(ZYDIS_MNEMONIC_LOOPNE) { decoding in
            decoding.wireBranch()
            return { cpu, op in loop(cpu, op, !cpu.zf) }
        }
    }
}
