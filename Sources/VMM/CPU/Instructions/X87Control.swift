import CEngine
import CZydis

// x87 control instructions, and the images of FSTENV, FSAVE and FXSAVE.

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The tag word that FSTENV shows.
    fileprivate var x87TagWord: UInt16 {
        var tags: UInt16 = 0
        for physical in 0..<8 {
            let shift = UInt16(physical * 2)
            let isEmpty = (pointee.ftw >> shift) & X87Tags.empty == X87Tags.empty
            tags |= (isEmpty ? X87Tags.empty : cpu_fpr(self, Int32(physical)).pointee.tag) << shift
        }
        return tags
    }

    /// Takes a tag word from memory: only which registers are empty counts.
    fileprivate func setX87Tags(_ tags: UInt16) {
        let empty = tags & (tags >> 1) & 0x5555
        pointee.ftw = empty | empty << 1
    }

    fileprivate func setX87Control(_ value: UInt16) {
        pointee.fcw = (value & X87Control.writable) | X87Control.fixed
        updateX87Summary()
    }

    // MARK: Environments (SDM volume 1, 8.1.10)

    /// Writes the environment in the format of the operand size and mode: 28 or 14 bytes.
    fileprivate func putEnvironment(_ image: UnsafeMutableRawBufferPointer, _ op: OperationPointer) {
        let is16Bit = op.pointee.flags & OperationFlags.operand16 != 0
        let fields: (UInt32, UInt32, UInt32, UInt32)
        if isRealOrVirtual8086 {
            let instruction = linearX87Pointer(pointee.fip, pointee.fcs)
            let data = linearX87Pointer(pointee.fdp, pointee.fds)
            let high: UInt32 = is16Bit ? 0xf000 : 0x0fff_f000
            fields = (
                instruction & 0xffff, ((instruction >> 16) << 12) & high | UInt32(pointee.fop & 0x7ff),
                data & 0xffff, ((data >> 16) << 12) & high
            )
        } else {
            fields = (
                UInt32(truncatingIfNeeded: pointee.fip),
                UInt32(pointee.fcs) | (is16Bit ? 0 : UInt32(pointee.fop & 0x7ff) << 16),
                UInt32(truncatingIfNeeded: pointee.fdp), UInt32(pointee.fds)
            )
        }
        let words = (UInt32(pointee.fcw), UInt32(pointee.fsw), UInt32(x87TagWord))
        func put(_ index: Int, _ value: UInt32, filled: Bool = false) {
            if is16Bit {
                image.storeBytes(of: UInt16(truncatingIfNeeded: value), toByteOffset: index * 2, as: UInt16.self)
            } else {
                image.storeBytes(of: filled ? value | 0xffff_0000 : value, toByteOffset: index * 4, as: UInt32.self)
            }
        }
        put(0, words.0, filled: true)
        put(1, words.1, filled: true)
        put(2, words.2, filled: true)
        put(3, fields.0)
        put(4, fields.1)
        put(5, fields.2)
        put(6, fields.3, filled: !isRealOrVirtual8086)
    }

    /// A pointer as the real-mode formats have it.
    private func linearX87Pointer(_ offset: UInt64, _ selector: UInt16) -> UInt32 {
        UInt32(truncatingIfNeeded: offset) &+ UInt32(selector) << 4
    }

    /// Takes an environment written by `putEnvironment`.
    fileprivate func takeEnvironment(_ image: UnsafeRawBufferPointer, _ op: OperationPointer) {
        let is16Bit = op.pointee.flags & OperationFlags.operand16 != 0
        func get(_ index: Int) -> UInt32 {
            is16Bit
                ? UInt32(image.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
                : image.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)
        }
        func word(_ index: Int) -> UInt16 { UInt16(truncatingIfNeeded: get(index)) }
        pointee.fsw = word(1)
        setX87Tags(word(2))
        setX87Control(word(0))
        if isRealOrVirtual8086 {
            let high: UInt32 = is16Bit ? 0xf000 : 0x0fff_f000
            pointee.fip = UInt64((get(3) & 0xffff) | (get(4) & high) << 4)
            pointee.fdp = UInt64((get(5) & 0xffff) | (get(6) & high) << 4)
            pointee.fop = word(4) & 0x7ff
            pointee.fcs = 0
            pointee.fds = 0
        } else {
            pointee.fip = UInt64(get(3))
            pointee.fcs = word(4)
            pointee.fop = is16Bit ? 0 : UInt16(truncatingIfNeeded: get(4) >> 16) & 0x7ff
            pointee.fdp = UInt64(get(5))
            pointee.fds = word(6)
        }
    }

    private func environmentSize(_ op: OperationPointer) -> Int {
        op.pointee.flags & OperationFlags.operand16 != 0 ? 14 : 28
    }

    /// Checks the address of an environment for alignment and, in the short format without registers, its first word
    /// and last byte for rights before what is between, as processors do. False with the fault recorded.
    private func checkEnvironment(_ op: OperationPointer, size: Int, registers: Bool, write: Bool) -> Bool {
        if op.pointee.flags & OperationFlags.operand16 != 0 && !registers {
            guard probe(UInt16.self, op, at: 0, write: write),
                probe(UInt8.self, op, at: UInt64(size - 1), write: write)
            else { return false }
        }
        return isAligned(op, size: size, to: UInt64(size / 7), write: write)
    }

    /// Checks the rights on a part of the memory operand; false with the fault recorded.
    private func probe<T: Word>(
        _ type: T.Type, _ op: OperationPointer, at displacement: UInt64, write: Bool
    ) -> Bool {
        let offset = effectiveAddress(op) &+ displacement
        let size = MemoryLayout<T>.size
        if op.pointee.flags & OperationFlags.checkSegment != 0 {
            guard checkSegment(Int(op.pointee.segment), offset: offset, size: size, write: write, op) else {
                return false
            }
        }
        let linear = (offset &+ register(op.pointee.segmentBase)) & pointee.linearMask
        let isStack = op.pointee.segment == UInt8(SegmentIndex.ss)
        return write
            ? beginUpdate(T.self, linear: linear, op) != nil
            : read(T.self, linear: linear, op, stack: isStack) != nil
    }

    /// FNSTENV, or FNSAVE with the registers after the environment.
    fileprivate func saveEnvironment(_ op: OperationPointer, registers: Bool) -> Bool {
        let size = environmentSize(op)
        guard checkEnvironment(op, size: size, registers: registers, write: true) else { return false }
        return withUnsafeTemporaryAllocation(byteCount: 108, alignment: 8) { buffer in
            putEnvironment(buffer, op)
            if registers {
                for index in 0..<8 {
                    withUnsafeBytes(of: st(index).pointee) { bytes in
                        UnsafeMutableRawBufferPointer(rebasing: buffer[(size + index * 10)...])
                            .copyMemory(from: .init(rebasing: bytes[0..<10]))
                    }
                }
            }
            return store(bytes: .init(rebasing: buffer[0..<(registers ? size + 80 : size)]), op)
        }
    }

    /// FLDENV, or FRSTOR.
    fileprivate func loadEnvironment(_ op: OperationPointer, registers: Bool) -> Bool {
        let size = environmentSize(op)
        guard checkEnvironment(op, size: size, registers: registers, write: false) else { return false }
        return withUnsafeTemporaryAllocation(byteCount: 108, alignment: 8) { buffer in
            guard load(bytes: .init(rebasing: buffer[0..<(registers ? size + 80 : size)]), op) else { return false }
            takeEnvironment(.init(buffer), op)
            if registers {
                for index in 0..<8 {
                    let offset = size + index * 10
                    st(index).pointee = X87Register(
                        significand: buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
                        signExponent: buffer.loadUnaligned(fromByteOffset: offset + 8, as: UInt16.self))
                }
            }
            return true
        }
    }
}

// MARK: FXSAVE (SDM volume 1, 10.5)

/// Offsets in the 512 bytes of an FXSAVE image.
private enum FXSave {
    static let control = 0, status = 2, tags = 4, opcode = 6, instruction = 8, codeSegment = 12
    static let data = 16, dataSegment = 20, mxcsr = 24, mxcsrMask = 28, registers = 32, xmm = 160
    static let size = 512
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The image's address checked for its segment and its 16-byte alignment, and before a write for rights on its
    /// last byte, since FXSAVE does not write that far. False with the fault recorded.
    private func checkFXSave(_ op: OperationPointer, write: Bool) -> Bool {
        guard let linear = linearAddress(op, size: FXSave.size, write: write) else { return false }
        if linear & 15 != 0 {
            _ = generalProtection(at: op)
            return false
        }
        let last = (linear &+ UInt64(FXSave.size - 1)) & pointee.linearMask
        if !write || (linear ^ last) & pageMask == 0 { return true }
        return beginUpdate(UInt8.self, linear: last, op) != nil
    }

    /// XMM8 to XMM15 exist in 64-bit code only.
    private var xmmCount: Int { is64Bit ? 16 : 8 }

    fileprivate func fxsave(_ op: OperationPointer) -> Bool {
        guard checkFXSave(op, write: true) else { return false }
        let wide = op.pointee.flags & OperationFlags.operand64 != 0
        return withUnsafeTemporaryAllocation(byteCount: FXSave.size, alignment: 16) { image in
            func put<T: Word>(_ offset: Int, _ value: T) {
                image.storeBytes(of: value, toByteOffset: offset, as: T.self)
            }
            put(FXSave.control, pointee.fcw)
            put(FXSave.status, pointee.fsw)
            put(FXSave.tags, UInt16(abridgedX87Tags))
            put(FXSave.opcode, pointee.fop)
            put(FXSave.instruction, pointee.fip)
            put(FXSave.data, pointee.fdp)
            if !wide {
                put(FXSave.codeSegment, UInt32(pointee.fcs))
                put(FXSave.dataSegment, UInt32(pointee.fds))
            }
            put(FXSave.mxcsr, pointee.mxcsr)
            put(FXSave.mxcsrMask, MXCSR.mask)
            for index in 0..<8 {
                put(FXSave.registers + index * 16, st(index).pointee.significand)
                put(FXSave.registers + index * 16 + 8, UInt64(st(index).pointee.signExponent))
            }
            for index in 0..<xmmCount {
                put(FXSave.xmm + index * 16, cpu_xmm(self, Int32(index)).pointee.low)
                put(FXSave.xmm + index * 16 + 8, cpu_xmm(self, Int32(index)).pointee.high)
            }
            return store(bytes: .init(rebasing: image[0..<(FXSave.xmm + xmmCount * 16)]), op)
        }
    }

    fileprivate func fxrstor(_ op: OperationPointer) -> Bool {
        guard checkFXSave(op, write: false) else { return false }
        let wide = op.pointee.flags & OperationFlags.operand64 != 0
        return withUnsafeTemporaryAllocation(byteCount: FXSave.size, alignment: 16) { image in
            guard load(bytes: image, op) else { return false }
            func get<T: Word>(_ offset: Int, _ type: T.Type) -> T { image.load(fromByteOffset: offset, as: T.self) }
            let mxcsr = get(FXSave.mxcsr, UInt32.self)
            if mxcsr & ~MXCSR.mask != 0 {
                _ = generalProtection(at: op)
                return false
            }
            pointee.mxcsr = mxcsr
            pointee.fsw = get(FXSave.status, UInt16.self)
            setAbridgedX87Tags(get(FXSave.tags, UInt8.self))
            setX87Control(get(FXSave.control, UInt16.self))
            pointee.fop = get(FXSave.opcode, UInt16.self) & 0x7ff
            pointee.fip = wide ? get(FXSave.instruction, UInt64.self) : UInt64(get(FXSave.instruction, UInt32.self))
            pointee.fdp = wide ? get(FXSave.data, UInt64.self) : UInt64(get(FXSave.data, UInt32.self))
            pointee.fcs = wide ? 0 : get(FXSave.codeSegment, UInt16.self)
            pointee.fds = wide ? 0 : get(FXSave.dataSegment, UInt16.self)
            for index in 0..<8 {
                let offset = FXSave.registers + index * 16
                st(index).pointee = X87Register(
                    significand: get(offset, UInt64.self), signExponent: get(offset + 8, UInt16.self))
            }
            for index in 0..<xmmCount {
                let offset = FXSave.xmm + index * 16
                cpu_xmm(self, Int32(index)).pointee =
                    XMMRegister(low: get(offset, UInt64.self), high: get(offset + 8, UInt64.self))
            }
            return true
        }
    }

    /// One bit a physical register: 1 if it is not empty.
    private var abridgedX87Tags: UInt8 {
        var bits: UInt8 = 0
        for physical in 0..<8 where (pointee.ftw >> UInt16(physical * 2)) & X87Tags.empty != X87Tags.empty {
            bits |= 1 << UInt8(physical)
        }
        return bits
    }

    private func setAbridgedX87Tags(_ bits: UInt8) {
        pointee.ftw = 0
        for physical in 0..<8 where bits & (1 << UInt8(physical)) == 0 {
            pointee.ftw |= X87Tags.empty << UInt16(physical * 2)
        }
    }
}

// MARK: Handlers

private let initialize: Handler = { cpu, op in
    cpu.initializeX87()
    return op + 1
}
private let clearExceptions: Handler = { cpu, op in
    cpu.pointee.fsw &= ~(X87Status.exceptions | X87Status.stackFault | X87Status.summary | X87Status.busy)
    return op + 1
}
private let loadControl: Handler = { cpu, op in
    guard cpu.x87Ready(op), let value = cpu.load(UInt16.self, op) else { return nil }
    cpu.setX87Control(value)
    return op + 1
}
private let storeControl: Handler = { cpu, op in cpu.store(cpu.pointee.fcw, op) ? op + 1 : nil }
private let storeStatus: Handler = { cpu, op in cpu.store(cpu.pointee.fsw, op) ? op + 1 : nil }
private let storeStatusToAX: Handler = { cpu, op in
    cpu.setGPR(Register.rax, to: cpu.pointee.fsw)
    return op + 1
}
private let storeEnvironment: Handler = { cpu, op in
    guard cpu.saveEnvironment(op, registers: false) else { return nil }
    cpu.setX87Control(cpu.pointee.fcw | X87Control.masks)
    return op + 1
}
private let loadEnvironment: Handler = { cpu, op in
    guard cpu.x87Ready(op), cpu.loadEnvironment(op, registers: false) else { return nil }
    return op + 1
}
private let save: Handler = { cpu, op in
    guard cpu.saveEnvironment(op, registers: true) else { return nil }
    cpu.initializeX87()
    return op + 1
}
private let restore: Handler = { cpu, op in
    guard cpu.x87Ready(op), cpu.loadEnvironment(op, registers: true) else { return nil }
    return op + 1
}
private let fastSave: Handler = { cpu, op in cpu.fxsave(op) ? op + 1 : nil }
private let fastRestore: Handler = { cpu, op in cpu.fxrstor(op) ? op + 1 : nil }

/// WAIT: #NM only if CR0.MP and TS are both set.
private let wait: Handler = { cpu, op in
    if cpu.pointee.cr0 & (CR0.mp | CR0.ts) == CR0.mp | CR0.ts { return cpu.fault(ExceptionVector.nm, at: op) }
    return cpu.x87Ready(op) ? op + 1 : nil
}
/// FNOP, which waits.
private let waitingNoOperation: Handler = { cpu, op in cpu.x87Ready(op) ? op + 1 : nil }
/// FNENI, FNDISI, FNSETPM: nothing since the 387.
private let noOperation: Handler = { _, op in op + 1 }
/// EMMS: all registers empty, and TOP 0 as after any MMX instruction.
private let emptyMMX: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.enterMMX()
    cpu.pointee.ftw = X87Tags.allEmpty
    return op + 1
}

// MARK: Rows

extension InstructionTable {
    mutating func addX87Control() {
        x87Row(ZYDIS_MNEMONIC_FNINIT, initialize)
        x87Row(ZYDIS_MNEMONIC_FNCLEX, clearExceptions)
        x87Row(ZYDIS_MNEMONIC_FLDCW, loadControl)
        x87Row(ZYDIS_MNEMONIC_FNSTCW, storeControl)
        x87Selecting(ZYDIS_MNEMONIC_FNSTSW) { $0.isMemory(0) ? storeStatus : storeStatusToAX }
        environmentRow(ZYDIS_MNEMONIC_FNSTENV, shortSize: 14, storeEnvironment)
        environmentRow(ZYDIS_MNEMONIC_FLDENV, shortSize: 14, loadEnvironment)
        environmentRow(ZYDIS_MNEMONIC_FNSAVE, shortSize: 94, save)
        environmentRow(ZYDIS_MNEMONIC_FRSTOR, shortSize: 94, restore)
        x87Row(ZYDIS_MNEMONIC_FNOP, waitingNoOperation)
        x87Row(ZYDIS_MNEMONIC_FENI8087_NOP, noOperation)
        x87Row(ZYDIS_MNEMONIC_FDISI8087_NOP, noOperation)
        x87Row(ZYDIS_MNEMONIC_FSETPM287_NOP, noOperation)
        row(ZYDIS_MNEMONIC_FWAIT, wait)
        simdRow(ZYDIS_MNEMONIC_EMMS) { _ in emptyMMX }
        fastRow(ZYDIS_MNEMONIC_FXSAVE, wide: false, fastSave)
        fastRow(ZYDIS_MNEMONIC_FXSAVE64, wide: true, fastSave)
        fastRow(ZYDIS_MNEMONIC_FXRSTOR, wide: false, fastRestore)
        fastRow(ZYDIS_MNEMONIC_FXRSTOR64, wide: true, fastRestore)
    }

    /// An image of two sizes, of which `shortSize` bytes is that of 16-bit operand size.
    private mutating func environmentRow(_ mnemonic: ZydisMnemonic, shortSize: Int, _ handler: @escaping Handler) {
        x87Selecting(mnemonic) { d in
            let is16Bit = d.operandSize(0) == shortSize
            d.op.pointee.flags &= ~OperationFlags.operand16
            if is16Bit { d.op.pointee.flags |= OperationFlags.operand16 }
            return handler
        }
    }

    /// FXSAVE and FXRSTOR, with 64-bit pointers if `wide`. CR0.EM and TS make them #NM.
    private mutating func fastRow(_ mnemonic: ZydisMnemonic, wide: Bool, _ handler: @escaping Handler) {
        x87Selecting(mnemonic) { d in
            d.op.pointee.flags &= ~OperationFlags.operand64
            if wide { d.op.pointee.flags |= OperationFlags.operand64 }
            return handler
        }
    }
}
