import CEngine
import CZydis

// Far jumps and calls: direct, indirect, through call gates, to tasks (SDM volume 2, JMP and CALL).

/// Whether a far transfer leaves a return address behind.
package enum FarTransferKind {
    case jump, call
}

extension Decoding {
    /// The handler of JMP ptr16:16/32 and JMP m16:16/32/64. Its row ends the block, as those of the other far forms.
    package func farJump() -> Handler? {
        prepareFarPointer()
        return isMemory(0)
            ? { cpu, op in cpu.farTransferThroughMemory(.jump, op) }
            : { cpu, op in cpu.farTransferDirect(.jump, op) }
    }

    /// The handler of CALL ptr16:16/32 and CALL m16:16/32/64.
    package func farCall() -> Handler? {
        prepareFarPointer()
        return isMemory(0)
            ? { cpu, op in cpu.farTransferThroughMemory(.call, op) }
            : { cpu, op in cpu.farTransferDirect(.call, op) }
    }

    private func prepareFarPointer() {
        if operands[0].type == ZYDIS_OPERAND_TYPE_POINTER {
            op.pointee.immediate = UInt64(operands[0].ptr.offset)
            op.pointee.displacement = UInt64(operands[0].ptr.segment)
        }
        limitFarPointer()
    }

    /// Where the model has no 64-bit far pointers, REX.W leaves the operand size at 32 bits.
    package func limitFarPointer() {
        if size == 8 && !state.processor.model.hasFarPointer64 { op.pointee.flags &= ~OperationFlags.operand64 }
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Effective operand size of `op`: 2, 4 or 8 bytes.
    package func operandSize(_ op: OperationPointer) -> Int {
        op.pointee.flags & OperationFlags.operand16 != 0 ? 2 : op.pointee.flags & OperationFlags.operand64 != 0 ? 8 : 4
    }

    /// The low `size` bytes of `value`.
    package func truncate(_ value: UInt64, size: Int) -> UInt64 {
        size == 2 ? value & 0xffff : size == 4 ? value & 0xffff_ffff : value
    }

    fileprivate func farTransferDirect(_ kind: FarTransferKind, _ op: OperationPointer) -> Next {
        farTransfer(kind, UInt16(truncatingIfNeeded: op.pointee.displacement), op.pointee.immediate, op)
    }

    fileprivate func farTransferThroughMemory(_ kind: FarTransferKind, _ op: OperationPointer) -> Next {
        guard let (selector, offset) = loadFarPointer(op) else { return nil }
        return farTransfer(kind, selector, offset, op)
    }

    /// Reads `op`'s far pointer operand, offset first; nil with the fault recorded and `op` left.
    package func loadFarPointer(_ op: OperationPointer) -> (selector: UInt16, offset: UInt64)? {
        let size = operandSize(op)
        guard let linear = linearAddress(op, size: size + 2, write: false) else { return nil }
        let stack = op.pointee.segment == UInt8(SegmentIndex.ss)
        let offset: UInt64?
        switch size {
        case 2: offset = read(UInt16.self, linear: linear, op, stack: stack).map { UInt64($0) }
        case 4: offset = read(UInt32.self, linear: linear, op, stack: stack).map { UInt64($0) }
        default: offset = read(UInt64.self, linear: linear, op, stack: stack)
        }
        guard let offset else { return nil }
        let next = (linear &+ UInt64(size)) & pointee.linearMask
        guard let selector = read(UInt16.self, linear: next, op, stack: stack) else { return nil }
        return (selector, offset)
    }

    private func farTransfer(
        _ kind: FarTransferKind, _ selector: UInt16, _ offset: UInt64, _ op: OperationPointer
    ) -> Next {
        if isRealOrVirtual8086 { return realFarTransfer(kind, selector, offset, op) }
        guard !Selector.isNull(selector) else { return generalProtection(at: op) }
        guard let descriptor = readDescriptor(selector) else { return leave(at: op) }
        if descriptor.isCode { return transferToCode(kind, selector, descriptor, offset, op) }
        guard descriptor.isSystem else { return generalProtection(Selector.code(selector), at: op) }
        let isGate32 = descriptor.type == SystemType.callGate32
        if isLongMode {
            guard isGate32 else { return generalProtection(Selector.code(selector), at: op) }
            return transferThroughGate(kind, selector, descriptor, op)
        }
        switch descriptor.type {
        case SystemType.callGate16, SystemType.callGate32:
            return transferThroughGate(kind, selector, descriptor, op)
        case SystemType.taskGate, SystemType.tss16Available, SystemType.tss32Available:
            return transferToTask(kind, selector, descriptor, op)
        default:
            return generalProtection(Selector.code(selector), at: op)
        }
    }

    /// Goes to `rip` in the code segment that has been loaded; `op` is retired.
    package func finishTransfer(to rip: UInt64, _ op: OperationPointer) -> Next {
        pointee.rip = rip
        pointee.count = count(before: op) &+ 1
        updateMode()
        return nil
    }

    /// Return address of a call, cut to the operand size.
    private func returnRIP(_ op: OperationPointer) -> UInt64 { truncateRIP(rip(after: op)) }

    // MARK: Real and virtual-8086 mode

    private func realFarTransfer(
        _ kind: FarTransferKind, _ selector: UInt16, _ offset: UInt64, _ op: OperationPointer
    ) -> Next {
        let size = operandSize(op)
        guard offset <= UInt64(pointee.segments.1.limit) else { return generalProtection(at: op) }
        if kind == .call {
            var frame = StackFrame(self)
            guard frame.push(UInt64(pointee.segments.1.selector), size: size),
                frame.push(returnRIP(op), size: size)
            else { return leave(at: op) }
            setGPR(Register.rsp, frame.rsp)
        }
        loadRealSegment(SegmentIndex.cs, selector)
        return finishTransfer(to: offset, op)
    }

    // MARK: To a code segment

    private func transferToCode(
        _ kind: FarTransferKind, _ selector: UInt16, _ descriptor: Descriptor, _ offset: UInt64, _ op: OperationPointer
    ) -> Next {
        let code = Selector.code(selector)
        let allowed =
            descriptor.isConforming
            ? descriptor.dpl <= pointee.cpl
            : Selector.rpl(selector) <= pointee.cpl && descriptor.dpl == pointee.cpl
        guard allowed, codeSizeIsValid(descriptor) else { return generalProtection(code, at: op) }
        guard descriptor.isPresent else { return fault(ExceptionVector.np, code: code, at: op) }
        guard codeAllows(offset, descriptor) else { return generalProtection(at: op) }
        var frame = StackFrame(self)
        if kind == .call {
            let size = operandSize(op)
            guard frame.push(UInt64(pointee.segments.1.selector), size: size),
                frame.push(returnRIP(op), size: size)
            else { return leave(at: op) }
        }
        guard markAccessed(descriptor) else { return leave(at: op) }
        setGPR(Register.rsp, frame.rsp)
        setCS(selector, descriptor, cpl: pointee.cpl)
        return finishTransfer(to: offset, op)
    }

    // MARK: Call gates

    private func transferThroughGate(
        _ kind: FarTransferKind, _ selector: UInt16, _ gate: Descriptor, _ op: OperationPointer
    ) -> Next {
        let code = Selector.code(selector)
        guard gate.dpl >= max(pointee.cpl, Selector.rpl(selector)) else { return generalProtection(code, at: op) }
        guard gate.isPresent else { return fault(ExceptionVector.np, code: code, at: op) }
        guard let gate = extend(gate, selector) else { return leave(at: op) }
        let target = gate.gateSelector
        let targetCode = Selector.code(target)
        guard !Selector.isNull(target) else { return generalProtection(at: op) }
        guard let descriptor = readDescriptor(target) else { return leave(at: op) }
        let isInner = !descriptor.isConforming && descriptor.dpl < pointee.cpl
        guard descriptor.isCode, descriptor.dpl <= pointee.cpl, !(kind == .jump && isInner),
            !isLongMode || (descriptor.isLong && !descriptor.isBig)
        else { return generalProtection(targetCode, at: op) }
        guard descriptor.isPresent else { return fault(ExceptionVector.np, code: targetCode, at: op) }
        guard codeAllows(gate.gateOffset, descriptor) else { return generalProtection(at: op) }
        guard kind == .call else {
            guard markAccessed(descriptor) else { return leave(at: op) }
            setCS(target, descriptor, cpl: pointee.cpl)
            return finishTransfer(to: gate.gateOffset, op)
        }
        let done = isInner ? callInnerRing(gate, descriptor, op) : callSameRing(gate, descriptor, op)
        return done ? finishTransfer(to: gate.gateOffset, op) : leave(at: op)
    }

    /// Size of what a call through `gate` pushes.
    private func pushSize(_ gate: Descriptor) -> Int {
        isLongMode ? 8 : gate.type == SystemType.callGate32 ? 4 : 2
    }

    private func callSameRing(_ gate: Descriptor, _ descriptor: Descriptor, _ op: OperationPointer) -> Bool {
        let size = pushSize(gate)
        var frame = StackFrame(self)
        if isLongMode { frame = StackFrame(self, long: frame.rsp, cpl: pointee.cpl) }
        guard frame.push(UInt64(pointee.segments.1.selector), size: size), frame.push(returnRIP(op), size: size),
            markAccessed(descriptor)
        else { return false }
        setGPR(Register.rsp, frame.rsp)
        setCS(gate.gateSelector, descriptor, cpl: pointee.cpl)
        return true
    }

    private func callInnerRing(_ gate: Descriptor, _ descriptor: Descriptor, _ op: OperationPointer) -> Bool {
        let size = pushSize(gate)
        let cpl = descriptor.dpl
        guard var stack = innerStack(cpl: cpl) else { return false }
        guard stack.frame.push(UInt64(pointee.segments.2.selector), size: size),
            stack.frame.push(gpr(Register.rsp), size: size),
            isLongMode || copyParameters(gate.gateParameters, size: size, to: &stack.frame, op),
            stack.frame.push(UInt64(pointee.segments.1.selector), size: size),
            stack.frame.push(returnRIP(op), size: size),
            markAccessed(descriptor), commit(stack, cpl: cpl)
        else { return false }
        setCS(gate.gateSelector, descriptor, cpl: cpl)
        return true
    }

    /// Copies a call gate's parameters from the caller's stack, keeping their order.
    private func copyParameters(_ count: Int, size: Int, to frame: inout StackFrame, _ op: OperationPointer) -> Bool {
        for index in stride(from: count - 1, through: 0, by: -1) {
            var source = StackFrame(self)
            source.skip(index * size)
            guard let value = source.pop(size: size, op), frame.push(value, size: size) else { return false }
        }
        return true
    }
}

/// The stack of an inner ring, from the TSS; SS is not loaded yet.
package struct InnerStack {
    package var frame: StackFrame
    /// Absent in long mode, where SS becomes null.
    fileprivate let descriptor: Descriptor?
    fileprivate let selector: UInt16
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Finds the stack of ring `cpl` in the TSS and checks its segment (SDM volume 3, 5.8.5 and 8.14.5).
    package func innerStack(cpl: UInt8, ext: UInt32 = 0) -> InnerStack? {
        let tss = pointee.segments.7
        func outside(_ last: UInt64) -> Bool {
            guard last > UInt64(tss.limit) else { return false }
            setFault(ExceptionVector.ts, code: Selector.code(tss.selector, ext: ext))
            return true
        }
        if isLongMode {
            let offset = 4 + 8 * UInt64(cpl)
            guard !outside(offset + 7), let rsp = readSystem(UInt64.self, linear: tss.base &+ offset) else {
                return nil
            }
            return InnerStack(frame: StackFrame(self, long: rsp, cpl: cpl, ext: ext), descriptor: nil, selector: 0)
        }
        let pointer: UInt64
        let selectorAddress: UInt64
        if tss.attributes & 8 != 0 {
            let offset = 4 + 8 * UInt64(cpl)
            guard !outside(offset + 5),
                let esp = readSystem(UInt32.self, linear: systemAddress(tss.base, offset))
            else { return nil }
            (pointer, selectorAddress) = (UInt64(esp), systemAddress(tss.base, offset + 4))
        } else {
            let offset = 2 + 4 * UInt64(cpl)
            guard !outside(offset + 3),
                let sp = readSystem(UInt16.self, linear: systemAddress(tss.base, offset))
            else { return nil }
            (pointer, selectorAddress) = (UInt64(sp), systemAddress(tss.base, offset + 2))
        }
        guard let selector = readSystem(UInt16.self, linear: selectorAddress),
            let descriptor = stackDescriptor(selector, cpl: cpl, vector: ExceptionVector.ts, ext: ext)
        else { return nil }
        let frame = StackFrame(self, descriptor.register(selector), pointer: pointer, cpl: cpl, ext: ext)
        return InnerStack(frame: frame, descriptor: descriptor, selector: selector)
    }

    /// Loads SS and RSP of an inner ring's stack; the caller enters its code segment next.
    package func commit(_ stack: InnerStack, cpl: UInt8) -> Bool {
        if let descriptor = stack.descriptor {
            guard markAccessed(descriptor) else { return false }
            pointee.segments.2 = descriptor.register(stack.selector)
        } else {
            setNullStackSegment(cpl: cpl)
        }
        setGPR(Register.rsp, stack.frame.rsp)
        return true
    }
}
