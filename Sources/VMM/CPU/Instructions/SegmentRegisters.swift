import CEngine
import CZydis

// MOV, PUSH and POP of segment registers, LDS to LGS, LAR, LSL, VERR, VERW, ARPL, SWAPGS. The number of the segment
// register is in the operation's `immediate`.

extension Decoding {
    /// The handler of a MOV with a segment, control or debug register; nil for any other MOV.
    package mutating func systemMove() -> Handler? {
        if let segment = segmentNumber(0) { return moveToSegment(segment) }
        if let segment = segmentNumber(1) { return moveFromSegment(segment) }
        return controlMove() ?? debugMove()
    }

    /// The handler of PUSH Sreg; nil for any other PUSH.
    package mutating func segmentPush() -> Handler? {
        guard let segment = segmentNumber(0) else { return nil }
        op.pointee.immediate = UInt64(segment)
        switch size {
        case 2: return { cpu, op in cpu.push(cpu.selector(op), op) ? op + 1 : nil }
        case 4: return { cpu, op in cpu.push(UInt32(cpu.selector(op)), op) ? op + 1 : nil }
        default: return { cpu, op in cpu.push(UInt64(cpu.selector(op)), op) ? op + 1 : nil }
        }
    }

    /// The handler of POP Sreg; nil for any other POP.
    package mutating func segmentPop() -> Handler? {
        guard let segment = segmentNumber(0) else { return nil }
        op.pointee.immediate = UInt64(segment)
        endsBlock = true
        switch size {
        case 2: return { cpu, op in cpu.popSegment(op, UInt16.self) }
        case 4: return { cpu, op in cpu.popSegment(op, UInt32.self) }
        default: return { cpu, op in cpu.popSegment(op, UInt64.self) }
        }
    }

    /// The register class of a register operand.
    func registerClass(_ index: Int) -> ZydisRegisterClass {
        isRegister(index) ? ZydisRegisterGetClass(operands[index].reg.value) : ZYDIS_REGCLASS_INVALID
    }

    private func segmentNumber(_ index: Int) -> Int? {
        registerClass(index) == ZYDIS_REGCLASS_SEGMENT ? number(index) : nil
    }

    private mutating func moveToSegment(_ segment: Int) -> Handler? {
        guard segment != SegmentIndex.cs else { return { cpu, op in cpu.undefined(at: op) } }
        op.pointee.immediate = UInt64(segment)
        // In 64-bit code nothing that was decoded depends on the data segments.
        endsBlock = !is64 || segment == SegmentIndex.ss
        return isMemory(1)
            ? { cpu, op in
                guard let selector = cpu.load(UInt16.self, op) else { return nil }
                return cpu.moveToSegment(selector, op)
            }
            : { cpu, op in cpu.moveToSegment(op.pointee.source.load(as: UInt16.self), op) }
    }

    private mutating func moveFromSegment(_ segment: Int) -> Handler? {
        op.pointee.immediate = UInt64(segment)
        if isMemory(0) { return { cpu, op in cpu.store(cpu.selector(op), op) ? op + 1 : nil } }
        switch operands[0].size {
        case 16:
            return { cpu, op in
                cpu.setRegister(op.pointee.destination, cpu.selector(op))
                return op + 1
            }
        default:
            return { cpu, op in
                cpu.setRegister(op.pointee.destination, UInt64(cpu.selector(op)))
                return op + 1
            }
        }
    }

    /// LDS, LES, LFS, LGS or LSS.
    fileprivate mutating func loadFarPointer(_ segment: Int) -> Handler? {
        op.pointee.immediate = UInt64(segment)
        endsBlock = true
        limitFarPointer()
        return { cpu, op in cpu.loadPointerAndSegment(op) }
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The selector that an operation names by number.
    fileprivate func selector(_ op: OperationPointer) -> UInt16 { segment(segmentNumber(op)).pointee.selector }

    private func segmentNumber(_ op: OperationPointer) -> Int { Int(truncatingIfNeeded: op.pointee.immediate & 7) }

    /// After MOV to SS or POP SS, interrupts and debug traps wait for one instruction, so that it can load RSP.
    private func shadowStackLoad(_ number: Int) {
        if number == SegmentIndex.ss { pointee.interruptShadow = 2 }
    }

    fileprivate func moveToSegment(_ selector: UInt16, _ op: OperationPointer) -> Next {
        let number = segmentNumber(op)
        guard loadSegment(number, selector) else { return leave(at: op) }
        if is64Bit && number != SegmentIndex.ss { return op + 1 }
        return finishSegmentLoad(number, op)
    }

    private func finishSegmentLoad(_ number: Int, _ op: OperationPointer) -> Next {
        let next = leave(after: op)
        updateMode()
        shadowStackLoad(number)
        return next
    }

    /// RSP is added to at the width of the old stack, before SS changes.
    fileprivate func popSegment<T: Word>(_ op: OperationPointer, _: T.Type) -> Next {
        let number = segmentNumber(op)
        guard let value = peek(T.self, op) else { return nil }
        let rsp = gpr(Register.rsp)
        adjustStack(by: UInt64(MemoryLayout<T>.size))
        guard loadSegment(number, UInt16(truncatingIfNeeded: value)) else {
            setGPR(Register.rsp, rsp)
            return leave(at: op)
        }
        return finishSegmentLoad(number, op)
    }

    fileprivate func loadPointerAndSegment(_ op: OperationPointer) -> Next {
        guard let (selector, offset) = loadFarPointer(op) else { return nil }
        let number = segmentNumber(op)
        guard loadSegment(number, selector) else { return leave(at: op) }
        switch operandSize(op) {
        case 2: setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: offset))
        default: setRegister(op.pointee.destination, offset)
        }
        let next = leave(after: op)
        updateMode()
        return next
    }

    // MARK: Looking at descriptors

    /// The 16-bit operand of LAR, LSL, VERR, VERW and ARPL's source.
    fileprivate func selectorOperand(_ op: OperationPointer, isMemory: Bool) -> UInt16? {
        isMemory ? load(UInt16.self, op) : op.pointee.source.load(as: UInt16.self)
    }

    fileprivate enum Inspection {
        case fault
        case invisible
        case visible(Descriptor)
    }

    /// The descriptor that `selector` names, if a program at this privilege may look at it. Not visible is no fault.
    fileprivate func inspect(_ selector: UInt16, allowsSystem: UInt32) -> Inspection {
        guard !Selector.isNull(selector), let address = descriptorAddress(selector) else { return .invisible }
        guard let low = readSystem(UInt64.self, linear: address) else { return .fault }
        let descriptor = Descriptor(low: low, address: address)
        if descriptor.isSystem && allowsSystem & (1 << UInt32(descriptor.type)) == 0 { return .invisible }
        let isFree = descriptor.isCode && descriptor.isConforming
        let privilege = max(pointee.cpl, Selector.rpl(selector))
        return isFree || privilege <= descriptor.dpl ? .visible(descriptor) : .invisible
    }

    fileprivate func setZF(_ value: Bool) {
        setArithmeticFlags((arithmeticFlags & ~RFlags.zf) | (value ? RFlags.zf : 0))
    }

    /// System descriptor types that LAR or LSL can read, as a bit set.
    fileprivate func visibleTypes(gates: Bool) -> UInt32 {
        let segments: UInt32 = 1 << SystemType.ldt | 1 << SystemType.tss32Available | 1 << SystemType.tss32Busy
        if isLongMode { return segments | (gates ? 1 << SystemType.callGate32 : 0) }
        let old: UInt32 = 1 << SystemType.tss16Available | 1 << SystemType.tss16Busy
        let gateTypes: UInt32 = 1 << SystemType.callGate16 | 1 << SystemType.callGate32 | 1 << SystemType.taskGate
        return segments | old | (gates ? gateTypes : 0)
    }

    fileprivate func loadAccessRights(_ op: OperationPointer, isMemory: Bool, isLimit: Bool) -> Next {
        guard let selector = selectorOperand(op, isMemory: isMemory) else { return nil }
        switch inspect(selector, allowsSystem: visibleTypes(gates: !isLimit)) {
        case .fault: return leave(at: op)
        case .invisible: setZF(false)
        case .visible(let descriptor):
            let value = isLimit ? descriptor.limit : UInt32(truncatingIfNeeded: descriptor.low >> 32) & 0x00ff_ff00
            if operandSize(op) == 2 {
                setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: value))
            } else {
                setRegister(op.pointee.destination, value)
            }
            setZF(true)
        }
        return op + 1
    }

    fileprivate func verify(_ op: OperationPointer, isMemory: Bool, write: Bool) -> Next {
        let operand: UInt16? = isMemory ? load(UInt16.self, op) : register(op.pointee.destination)
        guard let selector = operand else { return nil }
        switch inspect(selector, allowsSystem: 0) {
        case .fault: return leave(at: op)
        case .invisible: setZF(false)
        case .visible(let descriptor): setZF(write ? descriptor.isWritableData : descriptor.isReadable)
        }
        return op + 1
    }

    fileprivate func adjustRPL(_ op: OperationPointer, isMemory: Bool) -> Next {
        let source = op.pointee.source.load(as: UInt16.self) & Selector.rplMask
        guard isMemory else {
            let value: UInt16 = register(op.pointee.destination)
            let raises = value & Selector.rplMask < source
            if raises { setRegister(op.pointee.destination, (value & ~Selector.rplMask) | source) }
            setZF(raises)
            return op + 1
        }
        // Processors write only what changes.
        guard let value = load(UInt16.self, op) else { return nil }
        let raises = value & Selector.rplMask < source
        if raises, !store((value & ~Selector.rplMask) | source, op) { return nil }
        setZF(raises)
        return op + 1
    }

    fileprivate func swapGS(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        let base = pointee.segments.5.base
        pointee.segments.5.base = pointee.kernelGSBase
        pointee.kernelGSBase = base
        return op + 1
    }
}

extension InstructionTable {
    mutating func addSegmentRegisters() {
        row(ZYDIS_MNEMONIC_LES) { $0.loadFarPointer(SegmentIndex.es) }
        row(ZYDIS_MNEMONIC_LDS) { $0.loadFarPointer(SegmentIndex.ds) }
        row(ZYDIS_MNEMONIC_LFS) { $0.loadFarPointer(SegmentIndex.fs) }
        row(ZYDIS_MNEMONIC_LGS) { $0.loadFarPointer(SegmentIndex.gs) }
        row(ZYDIS_MNEMONIC_LSS) { $0.loadFarPointer(SegmentIndex.ss) }
        row(ZYDIS_MNEMONIC_SWAPGS) { cpu, op in cpu.swapGS(op) }
        protectedRow(ZYDIS_MNEMONIC_LAR) { decoding in
            if decoding.isMemory(1) { return { cpu, op in cpu.loadAccessRights(op, isMemory: true, isLimit: false) } }
            return { cpu, op in cpu.loadAccessRights(op, isMemory: false, isLimit: false) }
        }
        protectedRow(ZYDIS_MNEMONIC_LSL) { decoding in
            if decoding.isMemory(1) { return { cpu, op in cpu.loadAccessRights(op, isMemory: true, isLimit: true) } }
            return { cpu, op in cpu.loadAccessRights(op, isMemory: false, isLimit: true) }
        }
        protectedRow(ZYDIS_MNEMONIC_VERR) { decoding in
            if decoding.isMemory(0) { return { cpu, op in cpu.verify(op, isMemory: true, write: false) } }
            return { cpu, op in cpu.verify(op, isMemory: false, write: false) }
        }
        protectedRow(ZYDIS_MNEMONIC_VERW) { decoding in
            if decoding.isMemory(0) { return { cpu, op in cpu.verify(op, isMemory: true, write: true) } }
            return { cpu, op in cpu.verify(op, isMemory: false, write: true) }
        }
        protectedRow(ZYDIS_MNEMONIC_ARPL) { decoding in
            if decoding.isMemory(0) { return { cpu, op in cpu.adjustRPL(op, isMemory: true) } }
            return { cpu, op in cpu.adjustRPL(op, isMemory: false) }
        }
    }

    /// Adds a row for an instruction that does not exist in real and virtual-8086 mode.
    mutating func protectedRow(_ mnemonic: ZydisMnemonic, _ select: @escaping HandlerChoice) {
        row(mnemonic) { decoding in decoding.isProtected ? select(&decoding) : nil }
    }
}
