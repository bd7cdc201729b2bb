import CEngine
import CZydis

// MMX and SSE instructions are rows of (mnemonic, host operation); the few handlers below fetch operands by their
// kind and call the operation that the row left in `Operation.simd`. Moves are written out in SSEMoves.swift.
//
// Floating-point operations run on the host with every exception masked; `simd_run` judges unmasked ones.

/// Register classes and memory, as rows tell operands apart.
enum OperandClass {
    case xmm, mmx, general, memory, immediate, other
}

extension Decoding {
    func operandClass(_ index: Int) -> OperandClass {
        guard index < visibleOperands else { return .other }
        switch operands[index].type {
        case ZYDIS_OPERAND_TYPE_MEMORY: return .memory
        case ZYDIS_OPERAND_TYPE_IMMEDIATE: return .immediate
        case ZYDIS_OPERAND_TYPE_REGISTER:
            switch ZydisRegisterGetClass(operands[index].reg.value) {
            case ZYDIS_REGCLASS_XMM: return .xmm
            case ZYDIS_REGCLASS_MMX: return .mmx
            case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
                return .general
            default: return .other
            }
        default: return .other
        }
    }

    /// Size of an operand in bytes.
    func operandSize(_ index: Int) -> Int { Int(operands[index].size) / 8 }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The XMM register at an offset that the decoder put into an operation.
    @inline(__always) func xmm(at offset: UInt16) -> UnsafeMutablePointer<XMMRegister> {
        (raw + Int(offset)).assumingMemoryBound(to: XMMRegister.self)
    }

    /// Operand 1 as an XMM register inside this state block.
    @inline(__always) func sourceXMM(_ op: OperationPointer) -> XMMRegister {
        op.pointee.source.load(as: XMMRegister.self)
    }

    /// Loads a scalar memory operand, as the low part of a register that is otherwise zero.
    @inline(__always) func loadScalar<T: Word>(_ type: T.Type, _ op: OperationPointer) -> XMMRegister? {
        guard let value = load(T.self, op) else { return nil }
        return XMMRegister(low: UInt64(truncatingIfNeeded: value), high: 0)
    }

    /// Runs the row's integer operation.
    @inline(__always) func runInteger(
        _ op: OperationPointer, _ destination: UnsafeMutableRawPointer, _ source: UnsafeRawPointer
    ) {
        op.pointee.simd.unsafelyUnwrapped(destination, source, UInt32(truncatingIfNeeded: op.pointee.immediate))
    }

    /// Runs the row's floating-point operation under MXCSR; false, with the fault recorded, if an exception is
    /// unmasked. `destination` has 16 bytes, `source` the operand's size.
    @inline(__always) func runFloat(
        _ op: OperationPointer, _ destination: UnsafeMutableRawPointer, _ source: UnsafeRawPointer
    ) -> Bool {
        if _fastPath(
            simd_run(
                self, op.pointee.simd.unsafelyUnwrapped, destination, source,
                UInt32(truncatingIfNeeded: op.pointee.immediate)))
        {
            return true
        }
        let handled = pointee.cr4 & CR4.osxmmexcpt != 0
        _ = fault(handled ? ExceptionVector.xm : ExceptionVector.ud, at: op)
        return false
    }

    /// Enters MMX state, as every MMX instruction but EMMS does: TOP becomes 0 and all tags valid.
    @inline(__always) func enterMMX() {
        pointee.fsw &= ~X87Status.top
        pointee.ftw = X87Tags.allValid
    }

    /// Writes an MMX register, whose x87 sign and exponent bits become ones.
    @inline(__always) func setMMX(_ offset: UInt16, _ value: UInt64) {
        raw.storeBytes(of: value, toByteOffset: Int(offset), as: UInt64.self)
        markMMX(offset)
    }

    /// Finishes an MMX instruction that has written the register at `offset`.
    @inline(__always) func markMMX(_ offset: UInt16) {
        raw.storeBytes(of: 0xffff, toByteOffset: Int(offset) + 8, as: UInt16.self)
        enterMMX()
    }
}

// MARK: Availability (SDM volume 3, 2.5 and 13.1)

/// An SSE instruction while CR0.EM, CR0.TS or CR4.OSFXSR forbids it.
private let sseUnavailable: Handler = { cpu, op in
    if cpu.pointee.cr0 & CR0.em != 0 || cpu.pointee.cr4 & CR4.osfxsr == 0 { return cpu.undefined(at: op) }
    return cpu.fault(ExceptionVector.nm, at: op)
}

/// An MMX instruction while CR0.EM or CR0.TS forbids it.
private let mmxUnavailable: Handler = { cpu, op in
    cpu.pointee.cr0 & CR0.em != 0 ? cpu.undefined(at: op) : cpu.fault(ExceptionVector.nm, at: op)
}

extension InstructionTable {
    /// Adds a row of an SSE instruction; `shared` if a string instruction has the same mnemonic.
    mutating func sseRow(_ mnemonic: ZydisMnemonic, shared: Bool = false, _ select: @escaping HandlerChoice) {
        let available: HandlerChoice = { d in d.mode & ModeKey.sseUsable != 0 ? select(&d) : sseUnavailable }
        guard shared else { return row(mnemonic, available) }
        row(mnemonic, when: { $0.operandClass(0) == .xmm || $0.operandClass(1) == .xmm }, available)
    }

    /// Adds a row of an MMX instruction that has an SSE form too.
    mutating func simdRow(_ mnemonic: ZydisMnemonic, _ select: @escaping HandlerChoice) {
        row(mnemonic) { d in
            if d.operandClass(0) == .xmm || d.operandClass(1) == .xmm {
                return d.mode & ModeKey.sseUsable != 0 ? select(&d) : sseUnavailable
            }
            return d.mode & ModeKey.x87Usable != 0 ? select(&d) : mmxUnavailable
        }
    }
}

// MARK: Handlers by kind of operands

private let integerRegister: Handler = { cpu, op in
    cpu.runInteger(op, cpu.raw + Int(op.pointee.destination), op.pointee.source)
    return op + 1
}

private let integerMemory: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 16, aligned: true) else { return nil }
    cpu.runInteger(op, cpu.raw + Int(op.pointee.destination), source)
    return op + 1
}

private let mmxRegister: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.runInteger(op, cpu.raw + Int(op.pointee.destination), op.pointee.source)
    cpu.markMMX(op.pointee.destination)
    return op + 1
}

private let mmxMemory: Handler = { cpu, op in
    guard cpu.x87Ready(op), let source = cpu.sourcePointer(op, size: 8) else { return nil }
    cpu.runInteger(op, cpu.raw + Int(op.pointee.destination), source)
    cpu.markMMX(op.pointee.destination)
    return op + 1
}

/// PUNPCKLBW and its relatives read only 32 bits.
private let mmxMemory32: Handler = { cpu, op in
    guard cpu.x87Ready(op), let source = cpu.sourcePointer(op, size: 4) else { return nil }
    cpu.runInteger(op, cpu.raw + Int(op.pointee.destination), source)
    cpu.markMMX(op.pointee.destination)
    return op + 1
}

private let floatRegister: Handler = { cpu, op in
    cpu.runFloat(op, cpu.raw + Int(op.pointee.destination), op.pointee.source) ? op + 1 : nil
}

private let floatMemory128: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 16, aligned: true) else { return nil }
    return cpu.runFloat(op, cpu.raw + Int(op.pointee.destination), source) ? op + 1 : nil
}

private let floatMemory64: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 8) else { return nil }
    return cpu.runFloat(op, cpu.raw + Int(op.pointee.destination), source) ? op + 1 : nil
}

private let floatMemory32: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 4) else { return nil }
    return cpu.runFloat(op, cpu.raw + Int(op.pointee.destination), source) ? op + 1 : nil
}

/// Chooses among handlers by where operand 1 is and how large it is in memory.
private func bySource(
    _ d: Decoding, register: @escaping Handler, memory32: @escaping Handler,
    memory64: @escaping Handler, memory128: @escaping Handler
) -> Handler {
    guard d.isMemory(1) else { return register }
    switch d.operandSize(1) {
    case 4: return memory32
    case 8: return memory64
    default: return memory128
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// COMISS and its relatives: the operation leaves ZF, PF and CF; the others are cleared.
    @inline(__always) fileprivate func compare(_ op: OperationPointer, _ source: UnsafeRawPointer) -> Next {
        var operand = xmm(at: op.pointee.destination).pointee
        guard runFloat(op, &operand, source) else { return nil }
        setArithmeticFlags(operand.low)
        return op + 1
    }

    /// Conversion into a general register.
    @inline(__always) fileprivate func convertToGeneral(_ op: OperationPointer, _ source: UnsafeRawPointer) -> Next {
        var result = XMMRegister()
        guard runFloat(op, &result, source) else { return nil }
        setRegister(op.pointee.destination, result.low)
        return op + 1
    }

    /// Conversion into an MMX register, after `x87Ready`.
    @inline(__always) fileprivate func convertToMMX(_ op: OperationPointer, _ source: UnsafeRawPointer) -> Next {
        var result = XMMRegister()
        guard runFloat(op, &result, source) else { return nil }
        setMMX(op.pointee.destination, result.low)
        return op + 1
    }
}

private let compareRegister: Handler = { cpu, op in cpu.compare(op, op.pointee.source) }
private let compareMemory64: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 8) else { return nil }
    return cpu.compare(op, source)
}
private let compareMemory32: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 4) else { return nil }
    return cpu.compare(op, source)
}

private let toGeneralRegister: Handler = { cpu, op in cpu.convertToGeneral(op, op.pointee.source) }
private let toGeneralMemory64: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 8) else { return nil }
    return cpu.convertToGeneral(op, source)
}
private let toGeneralMemory32: Handler = { cpu, op in
    guard let source = cpu.sourcePointer(op, size: 4) else { return nil }
    return cpu.convertToGeneral(op, source)
}

private let toMMXRegister: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    return cpu.convertToMMX(op, op.pointee.source)
}
private let toMMXMemory64: Handler = { cpu, op in
    guard cpu.x87Ready(op), let source = cpu.sourcePointer(op, size: 8) else { return nil }
    return cpu.convertToMMX(op, source)
}
private let toMMXMemory128: Handler = { cpu, op in
    guard cpu.x87Ready(op), let source = cpu.sourcePointer(op, size: 16, aligned: true) else { return nil }
    return cpu.convertToMMX(op, source)
}

private let fromMMXRegister: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    guard cpu.runFloat(op, cpu.raw + Int(op.pointee.destination), op.pointee.source) else { return nil }
    cpu.enterMMX()
    return op + 1
}

/// MOVMSKPS, PMOVMSKB: a mask of sign bits into a general register.
private let maskToGeneral: Handler = { cpu, op in
    var result: UInt64 = 0
    cpu.runInteger(op, &result, op.pointee.source)
    cpu.setRegister(op.pointee.destination, result)
    return op + 1
}
private let mmxMaskToGeneral: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    var result: UInt64 = 0
    cpu.runInteger(op, &result, op.pointee.source)
    cpu.enterMMX()
    cpu.setRegister(op.pointee.destination, result)
    return op + 1
}

// MARK: Rows

extension InstructionTable {
    /// Adds MMX and the SSE families up to SSSE3.
    mutating func addSSE() {
        addSSEMoves()
        addSSEMemory()
        addSSEIntegers()
        addSSEFloats()
        addSSEConversions()
    }

    /// A row of an integer or bitwise operation, with its MMX form if it has one.
    private mutating func integer(
        _ mnemonic: ZydisMnemonic, _ sse: @escaping SIMDFunction, _ mmx: SIMDFunction? = nil
    ) {
        simdRow(mnemonic) { d in
            if d.operandClass(0) == .mmx {
                d.op.pointee.simd = mmx
                if !d.isMemory(1) { return mmxRegister }
                return d.operandSize(1) == 4 ? mmxMemory32 : mmxMemory
            }
            d.op.pointee.simd = sse
            return d.isMemory(1) ? integerMemory : integerRegister
        }
    }

    private mutating func float(
        _ mnemonic: ZydisMnemonic, _ function: @escaping SIMDFunction, shared: Bool = false
    ) {
        sseRow(mnemonic, shared: shared) { d in
            d.op.pointee.simd = function
            return bySource(
                d, register: floatRegister, memory32: floatMemory32, memory64: floatMemory64,
                memory128: floatMemory128)
        }
    }

    private mutating func compare(_ mnemonic: ZydisMnemonic, _ function: @escaping SIMDFunction) {
        sseRow(mnemonic) { d in
            d.op.pointee.simd = function
            return bySource(
                d, register: compareRegister, memory32: compareMemory32, memory64: compareMemory64,
                memory128: compareRegister)
        }
    }

    private mutating func toGeneral(
        _ mnemonic: ZydisMnemonic, _ doubleword: @escaping SIMDFunction, _ quadword: @escaping SIMDFunction
    ) {
        sseRow(mnemonic) { d in
            d.op.pointee.simd = d.operandSize(0) == 8 ? quadword : doubleword
            return bySource(
                d, register: toGeneralRegister, memory32: toGeneralMemory32,
                memory64: toGeneralMemory64, memory128: toGeneralRegister)
        }
    }

    private mutating func fromGeneral(
        _ mnemonic: ZydisMnemonic, _ doubleword: @escaping SIMDFunction, _ quadword: @escaping SIMDFunction
    ) {
        sseRow(mnemonic) { d in
            d.op.pointee.simd = d.operandSize(1) == 8 ? quadword : doubleword
            return bySource(
                d, register: floatRegister, memory32: floatMemory32, memory64: floatMemory64,
                memory128: floatRegister)
        }
    }

    private mutating func toMMX(_ mnemonic: ZydisMnemonic, _ function: @escaping SIMDFunction) {
        sseRow(mnemonic) { d in
            d.op.pointee.simd = function
            return bySource(
                d, register: toMMXRegister, memory32: toMMXMemory64, memory64: toMMXMemory64,
                memory128: toMMXMemory128)
        }
    }

    private mutating func mask(
        _ mnemonic: ZydisMnemonic, _ sse: @escaping SIMDFunction, _ mmx: SIMDFunction? = nil
    ) {
        simdRow(mnemonic) { d in
            let isMMX = d.operandClass(1) == .mmx
            d.op.pointee.simd = isMMX ? mmx : sse
            return isMMX ? mmxMaskToGeneral : maskToGeneral
        }
    }

    private mutating func addSSEIntegers() {
        addPackedArithmetic()
        addPackedLogic()
        addPackedRearrangement()
        addSSSE3()
    }

    private mutating func addPackedArithmetic() {
        integer(ZYDIS_MNEMONIC_PADDB, sse_paddb, mmx_paddb)
        integer(ZYDIS_MNEMONIC_PADDW, sse_paddw, mmx_paddw)
        integer(ZYDIS_MNEMONIC_PADDD, sse_paddd, mmx_paddd)
        integer(ZYDIS_MNEMONIC_PADDQ, sse_paddq, mmx_paddq)
        integer(ZYDIS_MNEMONIC_PADDSB, sse_paddsb, mmx_paddsb)
        integer(ZYDIS_MNEMONIC_PADDSW, sse_paddsw, mmx_paddsw)
        integer(ZYDIS_MNEMONIC_PADDUSB, sse_paddusb, mmx_paddusb)
        integer(ZYDIS_MNEMONIC_PADDUSW, sse_paddusw, mmx_paddusw)
        integer(ZYDIS_MNEMONIC_PSUBB, sse_psubb, mmx_psubb)
        integer(ZYDIS_MNEMONIC_PSUBW, sse_psubw, mmx_psubw)
        integer(ZYDIS_MNEMONIC_PSUBD, sse_psubd, mmx_psubd)
        integer(ZYDIS_MNEMONIC_PSUBQ, sse_psubq, mmx_psubq)
        integer(ZYDIS_MNEMONIC_PSUBSB, sse_psubsb, mmx_psubsb)
        integer(ZYDIS_MNEMONIC_PSUBSW, sse_psubsw, mmx_psubsw)
        integer(ZYDIS_MNEMONIC_PSUBUSB, sse_psubusb, mmx_psubusb)
        integer(ZYDIS_MNEMONIC_PSUBUSW, sse_psubusw, mmx_psubusw)
        integer(ZYDIS_MNEMONIC_PAVGB, sse_pavgb, mmx_pavgb)
        integer(ZYDIS_MNEMONIC_PAVGW, sse_pavgw, mmx_pavgw)
        integer(ZYDIS_MNEMONIC_PMAXSW, sse_pmaxsw, mmx_pmaxsw)
        integer(ZYDIS_MNEMONIC_PMAXUB, sse_pmaxub, mmx_pmaxub)
        integer(ZYDIS_MNEMONIC_PMINSW, sse_pminsw, mmx_pminsw)
        integer(ZYDIS_MNEMONIC_PMINUB, sse_pminub, mmx_pminub)
        integer(ZYDIS_MNEMONIC_PMADDWD, sse_pmaddwd, mmx_pmaddwd)
        integer(ZYDIS_MNEMONIC_PMULHUW, sse_pmulhuw, mmx_pmulhuw)
        integer(ZYDIS_MNEMONIC_PMULHW, sse_pmulhw, mmx_pmulhw)
        integer(ZYDIS_MNEMONIC_PMULLW, sse_pmullw, mmx_pmullw)
        integer(ZYDIS_MNEMONIC_PMULUDQ, sse_pmuludq, mmx_pmuludq)
        integer(ZYDIS_MNEMONIC_PSADBW, sse_psadbw, mmx_psadbw)
    }

    private mutating func addPackedLogic() {
        integer(ZYDIS_MNEMONIC_PAND, sse_pand, mmx_pand)
        integer(ZYDIS_MNEMONIC_PANDN, sse_pandn, mmx_pandn)
        integer(ZYDIS_MNEMONIC_POR, sse_por, mmx_por)
        integer(ZYDIS_MNEMONIC_PXOR, sse_pxor, mmx_pxor)
        integer(ZYDIS_MNEMONIC_ANDPS, sse_pand)
        integer(ZYDIS_MNEMONIC_ANDPD, sse_pand)
        integer(ZYDIS_MNEMONIC_ANDNPS, sse_pandn)
        integer(ZYDIS_MNEMONIC_ANDNPD, sse_pandn)
        integer(ZYDIS_MNEMONIC_ORPS, sse_por)
        integer(ZYDIS_MNEMONIC_ORPD, sse_por)
        integer(ZYDIS_MNEMONIC_XORPS, sse_pxor)
        integer(ZYDIS_MNEMONIC_XORPD, sse_pxor)
        integer(ZYDIS_MNEMONIC_PCMPEQB, sse_pcmpeqb, mmx_pcmpeqb)
        integer(ZYDIS_MNEMONIC_PCMPEQW, sse_pcmpeqw, mmx_pcmpeqw)
        integer(ZYDIS_MNEMONIC_PCMPEQD, sse_pcmpeqd, mmx_pcmpeqd)
        integer(ZYDIS_MNEMONIC_PCMPGTB, sse_pcmpgtb, mmx_pcmpgtb)
        integer(ZYDIS_MNEMONIC_PCMPGTW, sse_pcmpgtw, mmx_pcmpgtw)
        integer(ZYDIS_MNEMONIC_PCMPGTD, sse_pcmpgtd, mmx_pcmpgtd)
        integer(ZYDIS_MNEMONIC_PSLLW, sse_psllw, mmx_psllw)
        integer(ZYDIS_MNEMONIC_PSLLD, sse_pslld, mmx_pslld)
        integer(ZYDIS_MNEMONIC_PSLLQ, sse_psllq, mmx_psllq)
        integer(ZYDIS_MNEMONIC_PSRAW, sse_psraw, mmx_psraw)
        integer(ZYDIS_MNEMONIC_PSRAD, sse_psrad, mmx_psrad)
        integer(ZYDIS_MNEMONIC_PSRLW, sse_psrlw, mmx_psrlw)
        integer(ZYDIS_MNEMONIC_PSRLD, sse_psrld, mmx_psrld)
        integer(ZYDIS_MNEMONIC_PSRLQ, sse_psrlq, mmx_psrlq)
        integer(ZYDIS_MNEMONIC_PSLLDQ, sse_pslldq)
        integer(ZYDIS_MNEMONIC_PSRLDQ, sse_psrldq)
    }

    private mutating func addPackedRearrangement() {
        integer(ZYDIS_MNEMONIC_PACKSSWB, sse_packsswb, mmx_packsswb)
        integer(ZYDIS_MNEMONIC_PACKSSDW, sse_packssdw, mmx_packssdw)
        integer(ZYDIS_MNEMONIC_PACKUSWB, sse_packuswb, mmx_packuswb)
        integer(ZYDIS_MNEMONIC_PUNPCKLBW, sse_punpcklbw, mmx_punpcklbw)
        integer(ZYDIS_MNEMONIC_PUNPCKLWD, sse_punpcklwd, mmx_punpcklwd)
        integer(ZYDIS_MNEMONIC_PUNPCKLDQ, sse_punpckldq, mmx_punpckldq)
        integer(ZYDIS_MNEMONIC_PUNPCKHBW, sse_punpckhbw, mmx_punpckhbw)
        integer(ZYDIS_MNEMONIC_PUNPCKHWD, sse_punpckhwd, mmx_punpckhwd)
        integer(ZYDIS_MNEMONIC_PUNPCKHDQ, sse_punpckhdq, mmx_punpckhdq)
        integer(ZYDIS_MNEMONIC_PUNPCKLQDQ, sse_punpcklqdq)
        integer(ZYDIS_MNEMONIC_PUNPCKHQDQ, sse_punpckhqdq)
        integer(ZYDIS_MNEMONIC_UNPCKLPS, sse_punpckldq)
        integer(ZYDIS_MNEMONIC_UNPCKHPS, sse_punpckhdq)
        integer(ZYDIS_MNEMONIC_UNPCKLPD, sse_punpcklqdq)
        integer(ZYDIS_MNEMONIC_UNPCKHPD, sse_punpckhqdq)
        integer(ZYDIS_MNEMONIC_PSHUFD, sse_pshufd)
        integer(ZYDIS_MNEMONIC_PSHUFLW, sse_pshuflw)
        integer(ZYDIS_MNEMONIC_PSHUFHW, sse_pshufhw)
        integer(ZYDIS_MNEMONIC_PSHUFW, mmx_pshufw, mmx_pshufw)
        integer(ZYDIS_MNEMONIC_SHUFPS, sse_shufps)
        integer(ZYDIS_MNEMONIC_SHUFPD, sse_shufpd)
        mask(ZYDIS_MNEMONIC_PMOVMSKB, sse_pmovmskb, mmx_pmovmskb)
        mask(ZYDIS_MNEMONIC_MOVMSKPS, sse_movmskps)
        mask(ZYDIS_MNEMONIC_MOVMSKPD, sse_movmskpd)
    }

    private mutating func addSSSE3() {
        integer(ZYDIS_MNEMONIC_PHADDW, sse_phaddw, mmx_phaddw)
        integer(ZYDIS_MNEMONIC_PHADDD, sse_phaddd, mmx_phaddd)
        integer(ZYDIS_MNEMONIC_PHADDSW, sse_phaddsw, mmx_phaddsw)
        integer(ZYDIS_MNEMONIC_PHSUBW, sse_phsubw, mmx_phsubw)
        integer(ZYDIS_MNEMONIC_PHSUBD, sse_phsubd, mmx_phsubd)
        integer(ZYDIS_MNEMONIC_PHSUBSW, sse_phsubsw, mmx_phsubsw)
        integer(ZYDIS_MNEMONIC_PABSB, sse_pabsb, mmx_pabsb)
        integer(ZYDIS_MNEMONIC_PABSW, sse_pabsw, mmx_pabsw)
        integer(ZYDIS_MNEMONIC_PABSD, sse_pabsd, mmx_pabsd)
        integer(ZYDIS_MNEMONIC_PMADDUBSW, sse_pmaddubsw, mmx_pmaddubsw)
        integer(ZYDIS_MNEMONIC_PMULHRSW, sse_pmulhrsw, mmx_pmulhrsw)
        integer(ZYDIS_MNEMONIC_PSIGNB, sse_psignb, mmx_psignb)
        integer(ZYDIS_MNEMONIC_PSIGNW, sse_psignw, mmx_psignw)
        integer(ZYDIS_MNEMONIC_PSIGND, sse_psignd, mmx_psignd)
        integer(ZYDIS_MNEMONIC_PSHUFB, sse_pshufb, mmx_pshufb)
        integer(ZYDIS_MNEMONIC_PALIGNR, sse_palignr, mmx_palignr)
    }

    private mutating func addSSEFloats() {
        float(ZYDIS_MNEMONIC_ADDPS, sse_addps)
        float(ZYDIS_MNEMONIC_ADDPD, sse_addpd)
        float(ZYDIS_MNEMONIC_ADDSS, sse_addss)
        float(ZYDIS_MNEMONIC_ADDSD, sse_addsd)
        float(ZYDIS_MNEMONIC_SUBPS, sse_subps)
        float(ZYDIS_MNEMONIC_SUBPD, sse_subpd)
        float(ZYDIS_MNEMONIC_SUBSS, sse_subss)
        float(ZYDIS_MNEMONIC_SUBSD, sse_subsd)
        float(ZYDIS_MNEMONIC_MULPS, sse_mulps)
        float(ZYDIS_MNEMONIC_MULPD, sse_mulpd)
        float(ZYDIS_MNEMONIC_MULSS, sse_mulss)
        float(ZYDIS_MNEMONIC_MULSD, sse_mulsd)
        float(ZYDIS_MNEMONIC_DIVPS, sse_divps)
        float(ZYDIS_MNEMONIC_DIVPD, sse_divpd)
        float(ZYDIS_MNEMONIC_DIVSS, sse_divss)
        float(ZYDIS_MNEMONIC_DIVSD, sse_divsd)
        float(ZYDIS_MNEMONIC_MINPS, sse_minps)
        float(ZYDIS_MNEMONIC_MINPD, sse_minpd)
        float(ZYDIS_MNEMONIC_MINSS, sse_minss)
        float(ZYDIS_MNEMONIC_MINSD, sse_minsd)
        float(ZYDIS_MNEMONIC_MAXPS, sse_maxps)
        float(ZYDIS_MNEMONIC_MAXPD, sse_maxpd)
        float(ZYDIS_MNEMONIC_MAXSS, sse_maxss)
        float(ZYDIS_MNEMONIC_MAXSD, sse_maxsd)
        float(ZYDIS_MNEMONIC_SQRTPS, sse_sqrtps)
        float(ZYDIS_MNEMONIC_SQRTPD, sse_sqrtpd)
        float(ZYDIS_MNEMONIC_SQRTSS, sse_sqrtss)
        float(ZYDIS_MNEMONIC_SQRTSD, sse_sqrtsd)
        float(ZYDIS_MNEMONIC_ADDSUBPS, sse_addsubps)
        float(ZYDIS_MNEMONIC_ADDSUBPD, sse_addsubpd)
        float(ZYDIS_MNEMONIC_HADDPS, sse_haddps)
        float(ZYDIS_MNEMONIC_HADDPD, sse_haddpd)
        float(ZYDIS_MNEMONIC_HSUBPS, sse_hsubps)
        float(ZYDIS_MNEMONIC_HSUBPD, sse_hsubpd)
        float(ZYDIS_MNEMONIC_CMPPS, sse_cmpps)
        float(ZYDIS_MNEMONIC_CMPPD, sse_cmppd)
        float(ZYDIS_MNEMONIC_CMPSS, sse_cmpss)
        float(ZYDIS_MNEMONIC_CMPSD, sse_cmpsd, shared: true)
        compare(ZYDIS_MNEMONIC_COMISS, sse_comiss)
        compare(ZYDIS_MNEMONIC_UCOMISS, sse_ucomiss)
        compare(ZYDIS_MNEMONIC_COMISD, sse_comisd)
        compare(ZYDIS_MNEMONIC_UCOMISD, sse_ucomisd)
        float(ZYDIS_MNEMONIC_RCPPS, sse_rcpps)
        float(ZYDIS_MNEMONIC_RCPSS, sse_rcpss)
        float(ZYDIS_MNEMONIC_RSQRTPS, sse_rsqrtps)
        float(ZYDIS_MNEMONIC_RSQRTSS, sse_rsqrtss)
    }

    private mutating func addSSEConversions() {
        float(ZYDIS_MNEMONIC_CVTDQ2PS, sse_cvtdq2ps)
        float(ZYDIS_MNEMONIC_CVTPS2DQ, sse_cvtps2dq)
        float(ZYDIS_MNEMONIC_CVTTPS2DQ, sse_cvttps2dq)
        float(ZYDIS_MNEMONIC_CVTDQ2PD, sse_cvtdq2pd)
        float(ZYDIS_MNEMONIC_CVTPS2PD, sse_cvtps2pd)
        float(ZYDIS_MNEMONIC_CVTPD2PS, sse_cvtpd2ps)
        float(ZYDIS_MNEMONIC_CVTPD2DQ, sse_cvtpd2dq)
        float(ZYDIS_MNEMONIC_CVTTPD2DQ, sse_cvttpd2dq)
        float(ZYDIS_MNEMONIC_CVTSS2SD, sse_cvtss2sd)
        float(ZYDIS_MNEMONIC_CVTSD2SS, sse_cvtsd2ss)
        toGeneral(ZYDIS_MNEMONIC_CVTSS2SI, sse_cvtss2si32, sse_cvtss2si64)
        toGeneral(ZYDIS_MNEMONIC_CVTTSS2SI, sse_cvttss2si32, sse_cvttss2si64)
        toGeneral(ZYDIS_MNEMONIC_CVTSD2SI, sse_cvtsd2si32, sse_cvtsd2si64)
        toGeneral(ZYDIS_MNEMONIC_CVTTSD2SI, sse_cvttsd2si32, sse_cvttsd2si64)
        fromGeneral(ZYDIS_MNEMONIC_CVTSI2SS, sse_cvtsi2ss32, sse_cvtsi2ss64)
        fromGeneral(ZYDIS_MNEMONIC_CVTSI2SD, sse_cvtsi2sd32, sse_cvtsi2sd64)
        toMMX(ZYDIS_MNEMONIC_CVTPS2PI, mmx_cvtps2pi)
        toMMX(ZYDIS_MNEMONIC_CVTTPS2PI, mmx_cvttps2pi)
        toMMX(ZYDIS_MNEMONIC_CVTPD2PI, mmx_cvtpd2pi)
        toMMX(ZYDIS_MNEMONIC_CVTTPD2PI, mmx_cvttpd2pi)
        // From memory, these have nothing to do with the MMX state.
        sseRow(ZYDIS_MNEMONIC_CVTPI2PS) { d in
            d.op.pointee.simd = sse_cvtpi2ps
            return d.isMemory(1) ? floatMemory64 : fromMMXRegister
        }
        sseRow(ZYDIS_MNEMONIC_CVTPI2PD) { d in
            d.op.pointee.simd = sse_cvtdq2pd
            return d.isMemory(1) ? floatMemory64 : fromMMXRegister
        }
    }
}
