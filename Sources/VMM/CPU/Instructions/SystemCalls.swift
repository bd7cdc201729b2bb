import CEngine
import CZydis

// SYSCALL, SYSRET, SYSENTER, SYSEXIT with the points where vendors differ (SDM and APM volume 3).

extension UnsafeMutablePointer where Pointee == CPUState {
    /// A flat segment that fast system calls load without a descriptor.
    private func flat(_ selector: UInt64, _ attributes: UInt16, dpl: UInt8) -> SegmentRegister {
        SegmentRegister(
            base: 0, limit: 0xffff_ffff, selector: UInt16(truncatingIfNeeded: selector),
            attributes: attributes | UInt16(dpl) << 5)
    }

    /// Enters flat code and stack segments of a ring. RFLAGS, RSP and RIP are the caller's.
    private func enterFlat(cs: UInt64, ss: UInt64, _ code: UInt16, cpl: UInt8) {
        pointee.segments.1 = flat(cs, code, dpl: cpl)
        pointee.segments.2 = flat(ss, FlatSegment.data, dpl: cpl)
        pointee.cpl = cpl
    }

    // MARK: SYSCALL and SYSRET

    fileprivate func systemCall(_ op: OperationPointer) -> Next {
        guard pointee.efer & EFER.sce != 0, is64Bit || processor.model.hasLegacySyscall, isProtected else {
            return undefined(at: op)
        }
        let returnRIP = truncateRIP(rip(after: op))
        let cs = (pointee.star >> 32) & 0xfffc
        let target: UInt64
        setGPR(Register.rcx, returnRIP)
        if isLongMode {
            setGPR(11, rflags & ~RFlags.rf)
            target = is64Bit ? pointee.lstar : pointee.cstar
            setRFlags(rflags & ~pointee.syscallMask & ~RFlags.rf)
            enterFlat(cs: cs, ss: cs &+ 8, FlatSegment.code64, cpl: 0)
        } else {
            target = pointee.star & 0xffff_ffff
            setRFlags(rflags & ~(RFlags.if | RFlags.vm | RFlags.rf))
            enterFlat(cs: cs, ss: cs &+ 8, FlatSegment.code32, cpl: 0)
        }
        return finishTransfer(to: target, op)
    }

    fileprivate func systemReturn(_ op: OperationPointer) -> Next {
        let model = processor.model
        guard pointee.efer & EFER.sce != 0, is64Bit || model.hasLegacySyscall else { return undefined(at: op) }
        guard isProtected, !isVirtual8086, pointee.cpl == 0 else { return generalProtection(at: op) }
        let to64 = op.pointee.flags & OperationFlags.operand64 != 0
        let target = to64 ? gpr(Register.rcx) : gpr(Register.rcx) & 0xffff_ffff
        if to64 && model.sysretChecksRIP && !isCanonical(target) { return generalProtection(at: op) }
        let base = (pointee.star >> 48) & 0xffff
        let cs = ((to64 ? base &+ 16 : base) & 0xffff) | 3
        let ss = ((base &+ 8) & 0xffff) | 3
        let oldSS = pointee.segments.2
        if isLongMode {
            setRFlags(gpr(11) & ~(RFlags.rf | RFlags.vm))
        } else {
            setRFlags(rflags | RFlags.if)
        }
        enterFlat(cs: cs, ss: ss, to64 ? FlatSegment.code64 : FlatSegment.code32, cpl: 3)
        if model.sysretKeepsSSAttributes {
            pointee.segments.2 = oldSS
            pointee.segments.2.selector = UInt16(truncatingIfNeeded: ss)
        }
        return finishTransfer(to: target, op)
    }

    // MARK: SYSENTER and SYSEXIT

    fileprivate func systemEnter(_ op: OperationPointer) -> Next {
        if isLongMode && !processor.model.hasLongModeSysenter { return undefined(at: op) }
        guard isProtected, pointee.sysenterCS & 0xfffc != 0 else { return generalProtection(at: op) }
        let cs = pointee.sysenterCS & 0xfffc
        let long = isLongMode
        setRFlags(rflags & ~(RFlags.if | RFlags.vm | RFlags.rf))
        enterFlat(cs: cs, ss: cs &+ 8, long ? FlatSegment.code64 : FlatSegment.code32, cpl: 0)
        setGPR(Register.rsp, long ? pointee.sysenterESP : pointee.sysenterESP & 0xffff_ffff)
        return finishTransfer(to: long ? pointee.sysenterEIP : pointee.sysenterEIP & 0xffff_ffff, op)
    }

    fileprivate func systemExit(_ op: OperationPointer) -> Next {
        if isLongMode && !processor.model.hasLongModeSysenter { return undefined(at: op) }
        guard isProtected, !isVirtual8086, pointee.cpl == 0, pointee.sysenterCS & 0xfffc != 0 else {
            return generalProtection(at: op)
        }
        let to64 = op.pointee.flags & OperationFlags.operand64 != 0
        let (target, stack) = (gpr(Register.rdx), gpr(Register.rcx))
        if to64 && !(isCanonical(target) && isCanonical(stack)) { return generalProtection(at: op) }
        let cs = ((pointee.sysenterCS &+ (to64 ? 32 : 16)) & 0xfffc) | 3
        enterFlat(cs: cs, ss: cs &+ 8, to64 ? FlatSegment.code64 : FlatSegment.code32, cpl: 3)
        setGPR(Register.rsp, to64 ? stack : stack & 0xffff_ffff)
        return finishTransfer(to: to64 ? target : target & 0xffff_ffff, op)
    }
}

extension InstructionTable {
    mutating func addSystemCalls() {
        row(ZYDIS_MNEMONIC_SYSCALL, endsBlock: true) { cpu, op in cpu.systemCall(op) }
        row(ZYDIS_MNEMONIC_SYSRET, endsBlock: true) { cpu, op in cpu.systemReturn(op) }
        row(ZYDIS_MNEMONIC_SYSENTER, endsBlock: true) { cpu, op in cpu.systemEnter(op) }
        row(ZYDIS_MNEMONIC_SYSEXIT, endsBlock: true) { cpu, op in cpu.systemExit(op) }
    }
}
