import CEngine
import CZydis

// LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR.

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Reads the limit and base that LGDT and LIDT load. On a fault `op` has been left.
    fileprivate func loadTable(_ op: OperationPointer) -> DescriptorTable? {
        guard pointee.cpl == 0 else {
            _ = generalProtection(at: op)
            return nil
        }
        let size = is64Bit ? 10 : 6
        guard let linear = linearAddress(op, size: size, write: false),
            let limit = read(UInt16.self, linear: linear, op)
        else { return nil }
        let baseAddress = (linear &+ 2) & pointee.linearMask
        guard is64Bit else {
            guard let base = read(UInt32.self, linear: baseAddress, op) else { return nil }
            let is16 = op.pointee.flags & OperationFlags.operand16 != 0
            return DescriptorTable(base: UInt64(is16 ? base & 0xff_ffff : base), limit: limit)
        }
        guard let base = read(UInt64.self, linear: baseAddress, op) else { return nil }
        guard isCanonical(base) else {
            _ = generalProtection(at: op)
            return nil
        }
        return DescriptorTable(base: base, limit: limit)
    }

    fileprivate func storeTable(_ table: DescriptorTable, _ op: OperationPointer) -> Next {
        var image = (table.base << 16 | UInt64(table.limit), table.base >> 48)
        let size = is64Bit ? 10 : 6
        let done = withUnsafeBytes(of: &image) { bytes in
            store(bytes: UnsafeRawBufferPointer(rebasing: bytes[..<size]), op)
        }
        return done ? op + 1 : nil
    }

    /// The selector operand of LLDT and LTR. On a fault `op` has been left.
    private func privilegedSelector(_ op: OperationPointer) -> UInt16? {
        guard pointee.cpl == 0 else {
            _ = generalProtection(at: op)
            return nil
        }
        if op.pointee.flags & OperationFlags.memory != 0 { return load(UInt16.self, op) }
        return register(op.pointee.destination)
    }

    /// Reads a descriptor for LDTR or TR and checks its type. The fault is recorded, `op` not left.
    private func systemSegment(_ selector: UInt16, types: UInt32) -> Descriptor? {
        let code = Selector.code(selector)
        guard selector & Selector.local == 0 else {
            setFault(ExceptionVector.gp, code: code)
            return nil
        }
        guard let descriptor = readDescriptor(selector) else { return nil }
        guard descriptor.isSystem, types & (1 << UInt32(descriptor.type)) != 0 else {
            setFault(ExceptionVector.gp, code: code)
            return nil
        }
        guard descriptor.isPresent else {
            setFault(ExceptionVector.np, code: code)
            return nil
        }
        guard let whole = extend(descriptor, selector) else { return nil }
        guard !isLongMode || isCanonical(whole.base) else {
            setFault(ExceptionVector.gp, code: code)
            return nil
        }
        return whole
    }

    fileprivate func loadLDTR(_ op: OperationPointer) -> Next {
        guard let selector = privilegedSelector(op) else { return nil }
        if Selector.isNull(selector) {
            pointee.segments.6.selector = selector
            pointee.segments.6.attributes = 0
            return op + 1
        }
        guard let descriptor = systemSegment(selector, types: 1 << SystemType.ldt) else { return leave(at: op) }
        pointee.segments.6 = descriptor.register(selector)
        return op + 1
    }

    fileprivate func loadTR(_ op: OperationPointer) -> Next {
        guard let selector = privilegedSelector(op) else { return nil }
        guard !Selector.isNull(selector) else { return generalProtection(at: op) }
        let types: UInt32 = 1 << SystemType.tss32Available | (isLongMode ? 0 : 1 << SystemType.tss16Available)
        guard let descriptor = systemSegment(selector, types: types), markBusy(true, tssAt: descriptor.address) else {
            return leave(at: op)
        }
        pointee.segments.7 = descriptor.register(selector)
        pointee.segments.7.attributes |= SystemType.busy
        return op + 1
    }

    /// Stores a 16-bit system register: to memory as it is, to a register zero-extended.
    fileprivate func storeSelector(_ selector: UInt16, _ op: OperationPointer) -> Next {
        if op.pointee.flags & OperationFlags.memory != 0 { return store(selector, op) ? op + 1 : nil }
        if operandSize(op) == 2 {
            setRegister(op.pointee.destination, selector)
        } else {
            setRegister(op.pointee.destination, UInt64(selector))
        }
        return op + 1
    }
}

extension InstructionTable {
    mutating func addDescriptorTables() {
        row(ZYDIS_MNEMONIC_LGDT) { cpu, op in
            guard let table = cpu.loadTable(op) else { return nil }
            cpu.pointee.gdtr = table
            return op + 1
        }
        row(ZYDIS_MNEMONIC_LIDT) { cpu, op in
            guard let table = cpu.loadTable(op) else { return nil }
            cpu.pointee.idtr = table
            return op + 1
        }
        row(ZYDIS_MNEMONIC_SGDT) { cpu, op in cpu.storeTable(cpu.pointee.gdtr, op) }
        row(ZYDIS_MNEMONIC_SIDT) { cpu, op in cpu.storeTable(cpu.pointee.idtr, op) }
        protectedRow(ZYDIS_MNEMONIC_LLDT) { _ in { cpu, op in cpu.loadLDTR(op) } }
        protectedRow(ZYDIS_MNEMONIC_LTR) { _ in { cpu, op in cpu.loadTR(op) } }
        protectedRow(ZYDIS_MNEMONIC_SLDT) { _ in { cpu, op in cpu.storeSelector(cpu.pointee.segments.6.selector, op) } }
        protectedRow(ZYDIS_MNEMONIC_STR) { _ in { cpu, op in cpu.storeSelector(cpu.pointee.segments.7.selector, op) } }
    }
}
