import CEngine
import CZydis

// RET far and IRET in every mode (SDM volume 2).

extension Decoding {
    /// The handler of RET far, with or without an immediate.
    package func farReturn() -> Handler? {
        if !isImmediate(0) { op.pointee.immediate = 0 }
        return { cpu, op in cpu.farReturn(op) }
    }
}

/// Where a far return or IRET goes.
private struct ReturnTarget {
    var rip: UInt64
    var selector: UInt16
    var descriptor: Descriptor
    var cpl: UInt8 { Selector.rpl(selector) }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: RET far

    fileprivate func farReturn(_ op: OperationPointer) -> Next {
        let size = operandSize(op)
        let extra = Int(truncatingIfNeeded: op.pointee.immediate & 0xffff)
        var frame = StackFrame(self)
        guard let rip = frame.pop(size: size, op), let cs = frame.pop(size: size, op) else { return leave(at: op) }
        let selector = UInt16(truncatingIfNeeded: cs)
        if isRealOrVirtual8086 {
            guard rip <= UInt64(pointee.segments.1.limit) else { return generalProtection(at: op) }
            frame.skip(extra)
            setGPR(Register.rsp, frame.rsp)
            loadRealSegment(SegmentIndex.cs, selector)
            return finishTransfer(to: rip, op)
        }
        guard let target = returnTarget(rip, selector) else { return leave(at: op) }
        frame.skip(extra)
        if target.cpl == pointee.cpl {
            guard markAccessed(target.descriptor) else { return leave(at: op) }
            setGPR(Register.rsp, frame.rsp)
            setCS(selector, target.descriptor, cpl: pointee.cpl)
            return finishTransfer(to: rip, op)
        }
        guard let rsp = frame.pop(size: size, op), let ss = frame.pop(size: size, op),
            returnToOuterRing(target, UInt16(truncatingIfNeeded: ss), rsp, extra: extra)
        else { return leave(at: op) }
        return finishTransfer(to: rip, op)
    }

    /// Reads and checks the code segment of a return.
    private func returnTarget(_ rip: UInt64, _ selector: UInt16) -> ReturnTarget? {
        let code = Selector.code(selector)
        let rpl = Selector.rpl(selector)
        guard !Selector.isNull(selector) else {
            setFault(ExceptionVector.gp, code: 0)
            return nil
        }
        guard let descriptor = readDescriptor(selector) else { return nil }
        guard descriptor.isCode, rpl >= pointee.cpl, codeSizeIsValid(descriptor),
            descriptor.isConforming ? descriptor.dpl <= rpl : descriptor.dpl == rpl
        else {
            setFault(ExceptionVector.gp, code: code)
            return nil
        }
        guard descriptor.isPresent else {
            setFault(ExceptionVector.np, code: code)
            return nil
        }
        guard codeAllows(rip, descriptor) else {
            setFault(ExceptionVector.gp, code: 0)
            return nil
        }
        return ReturnTarget(rip: rip, selector: selector, descriptor: descriptor)
    }

    /// Loads SS:RSP and CS of a return that also pops a stack pointer: to an outer ring, or IRET in 64-bit mode.
    private func returnToOuterRing(_ target: ReturnTarget, _ ss: UInt16, _ rsp: UInt64, extra: Int) -> Bool {
        let isOuter = target.cpl != pointee.cpl
        let to64 = isLongMode && target.descriptor.isLong
        if Selector.isNull(ss) {
            guard to64, target.cpl != 3, Selector.rpl(ss) == target.cpl else { return reject(ExceptionVector.gp, 0) }
            guard markAccessed(target.descriptor) else { return false }
            setNullSegment(SegmentIndex.ss, ss)
            pointee.segments.2.attributes = UInt16(target.cpl) << 5
        } else {
            guard let descriptor = stackDescriptor(ss, cpl: target.cpl, vector: ExceptionVector.gp),
                markAccessed(target.descriptor), markAccessed(descriptor)
            else { return false }
            pointee.segments.2 = descriptor.register(ss)
        }
        setCS(target.selector, target.descriptor, cpl: target.cpl)
        let isBig = pointee.segments.2.attributes & SegmentAttributes.big != 0
        let mask: UInt64 = to64 ? ~0 : isBig ? 0xffff_ffff : 0xffff
        let kept = to64 ? 0 : gpr(Register.rsp) & ~mask & 0xffff_ffff
        setGPR(Register.rsp, kept | ((rsp &+ UInt64(extra)) & mask))
        if isOuter { dropInnerSegments() }
        return true
    }

    // MARK: IRET

    package func interruptReturn(_ op: OperationPointer) -> Next {
        if !isProtected { return realInterruptReturn(op) }
        if isVirtual8086 {
            return iopl == 3 ? realInterruptReturn(op) : generalProtection(at: op)
        }
        if pointee.flags & RFlags.nt != 0 {
            return isLongMode ? generalProtection(at: op) : returnFromTask(op)
        }
        return protectedInterruptReturn(op)
    }

    private func realInterruptReturn(_ op: OperationPointer) -> Next {
        let size = operandSize(op)
        var frame = StackFrame(self)
        guard let rip = frame.pop(size: size, op), let cs = frame.pop(size: size, op),
            let image = frame.pop(size: size, op)
        else { return leave(at: op) }
        guard rip <= UInt64(pointee.segments.1.limit) else { return generalProtection(at: op) }
        var changed = RFlags.all & ~(RFlags.vm | RFlags.vif | RFlags.vip)
        if isVirtual8086 { changed &= ~RFlags.iopl }
        if size == 2 { changed &= 0xffff }
        setGPR(Register.rsp, frame.rsp)
        loadRealSegment(SegmentIndex.cs, UInt16(truncatingIfNeeded: cs))
        setRFlags((rflags & ~changed) | (image & changed))
        pointee.nmiBlocked = false
        return finishTransfer(to: rip, op)
    }

    private func protectedInterruptReturn(_ op: OperationPointer) -> Next {
        let size = operandSize(op)
        var frame = StackFrame(self)
        guard let rip = frame.pop(size: size, op), let cs = frame.pop(size: size, op),
            let image = frame.pop(size: size, op)
        else { return leave(at: op) }
        let selector = UInt16(truncatingIfNeeded: cs)
        if size == 4 && image & RFlags.vm != 0 && pointee.cpl == 0 && !isLongMode {
            return returnToVirtual8086(rip, selector, image, &frame, op)
        }
        guard let target = returnTarget(rip, selector) else { return leave(at: op) }
        let flags = returnedFlags(image, size: size)
        if target.cpl == pointee.cpl && !is64Bit {
            guard markAccessed(target.descriptor) else { return leave(at: op) }
            setGPR(Register.rsp, frame.rsp)
            setCS(selector, target.descriptor, cpl: pointee.cpl)
        } else {
            guard let rsp = frame.pop(size: size, op), let ss = frame.pop(size: size, op),
                returnToOuterRing(target, UInt16(truncatingIfNeeded: ss), rsp, extra: 0)
            else { return leave(at: op) }
        }
        setRFlags(flags)
        pointee.nmiBlocked = false
        return finishTransfer(to: rip, op)
    }

    /// RFLAGS after an IRET in protected mode at the current privilege.
    private func returnedFlags(_ image: UInt64, size: Int) -> UInt64 {
        var changed = RFlags.arithmetic | RFlags.tf | RFlags.df | RFlags.nt | RFlags.rf | RFlags.ac | RFlags.id
        if pointee.cpl <= iopl { changed |= RFlags.if }
        if pointee.cpl == 0 { changed |= RFlags.iopl | RFlags.vif | RFlags.vip }
        if size == 2 { changed &= 0xffff }
        return (rflags & ~changed) | (image & changed)
    }

    private func returnToVirtual8086(
        _ rip: UInt64, _ cs: UInt16, _ image: UInt64, _ frame: inout StackFrame, _ op: OperationPointer
    ) -> Next {
        guard let esp = frame.pop(size: 4, op), let ss = frame.pop(size: 4, op), let es = frame.pop(size: 4, op),
            let ds = frame.pop(size: 4, op), let fs = frame.pop(size: 4, op), let gs = frame.pop(size: 4, op)
        else { return leave(at: op) }
        guard rip <= 0xffff else { return generalProtection(at: op) }
        setRFlags(image)
        loadRealSegment(SegmentIndex.cs, cs)
        loadRealSegment(SegmentIndex.ss, UInt16(truncatingIfNeeded: ss))
        loadRealSegment(SegmentIndex.es, UInt16(truncatingIfNeeded: es))
        loadRealSegment(SegmentIndex.ds, UInt16(truncatingIfNeeded: ds))
        loadRealSegment(SegmentIndex.fs, UInt16(truncatingIfNeeded: fs))
        loadRealSegment(SegmentIndex.gs, UInt16(truncatingIfNeeded: gs))
        setGPR(Register.rsp, esp)
        pointee.cpl = 3
        pointee.nmiBlocked = false
        return finishTransfer(to: rip, op)
    }
}

extension InstructionTable {
    /// IRET. Far JMP, CALL and RET share their mnemonics with the near forms; the rows of those call `farJump`,
    /// `farCall` and `farReturn`.
    mutating func addFarTransfers() {
        for mnemonic in [ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ] {
            row(mnemonic, endsBlock: true) { cpu, op in cpu.interruptReturn(op) }
        }
    }
}
