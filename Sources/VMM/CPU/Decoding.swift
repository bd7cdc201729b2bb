import CEngine
import CZydis

/// One instruction on its way from Zydis's description to an `Operation`.
///
/// `wireOperands` fills the operation's operand fields by position, so that a row of the instruction table mostly
/// just picks the handler for the operand size and for where memory stands.
package struct Decoding {
    package let instruction: ZydisDecodedInstruction
    /// The operands, owned by the decoder for the length of one decode; `instruction.operand_count` of them.
    package let operands: UnsafePointer<ZydisDecodedOperand>
    /// `ModeKey` of the code.
    package let mode: UInt32
    /// The operation being filled; inside the block being built.
    package let op: OperationPointer
    /// Set by a row whose instruction may go elsewhere than to the next one, or change the mode: no further
    /// instruction is decoded into the block.
    package var endsBlock = false

    package var mnemonic: ZydisMnemonic { instruction.mnemonic }
    package var is64: Bool { mode & ModeKey.sizeMask == ModeKey.code64 }
    package var isProtected: Bool { mode & ModeKey.protected != 0 }

    /// Operand size in bytes: 1, 2, 4 or 8.
    package var size: Int { Int(instruction.operand_width) / 8 }

    /// How many operands are written in assembly source.
    package var visibleOperands: Int { Int(instruction.operand_count_visible) }

    package func has(_ attribute: UInt64) -> Bool { instruction.attributes & attribute != 0 }

    package func isMemory(_ index: Int) -> Bool {
        index < visibleOperands && operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY
    }
    package func isRegister(_ index: Int) -> Bool {
        index < visibleOperands && operands[index].type == ZYDIS_OPERAND_TYPE_REGISTER
    }
    package func isImmediate(_ index: Int) -> Bool {
        index < visibleOperands && operands[index].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
    }

    /// Byte offset into CPUState of a register operand (general, MMX as the x87 register it aliases, XMM, x87 by
    /// physical number 0); nil for any other class.
    package static func offset(of register: ZydisRegister) -> UInt16? {
        let value = Int(register.rawValue)
        func number(_ first: ZydisRegister, _ last: ZydisRegister) -> Int? {
            value >= Int(first.rawValue) && value <= Int(last.rawValue) ? value - Int(first.rawValue) : nil
        }
        if let n = number(ZYDIS_REGISTER_AL, ZYDIS_REGISTER_R15B) {
            // Zydis lists AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B …
            return UInt16(n < 4 ? n * 8 : n < 8 ? (n - 4) * 8 + 1 : (n - 4) * 8)
        }
        if let n = number(ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W) { return UInt16(n * 8) }
        if let n = number(ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D) { return UInt16(n * 8) }
        if let n = number(ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15) { return UInt16(n * 8) }
        if let n = number(ZYDIS_REGISTER_MM0, ZYDIS_REGISTER_MM7) { return UInt16(Int(CPU_OFFSET_FPR) + n * 16) }
        if let n = number(ZYDIS_REGISTER_XMM0, ZYDIS_REGISTER_XMM15) { return UInt16(Int(CPU_OFFSET_XMM) + n * 16) }
        return nil
    }

    /// The number of a register operand inside its class: segment (ES CS SS DS FS GS), control, debug, x87 stack index.
    package func number(_ index: Int) -> Int {
        let register = operands[index].reg.value
        switch ZydisRegisterGetClass(register) {
        case ZYDIS_REGCLASS_SEGMENT: return Int(register.rawValue) - Int(ZYDIS_REGISTER_ES.rawValue)
        case ZYDIS_REGCLASS_CONTROL: return Int(register.rawValue) - Int(ZYDIS_REGISTER_CR0.rawValue)
        case ZYDIS_REGCLASS_DEBUG: return Int(register.rawValue) - Int(ZYDIS_REGISTER_DR0.rawValue)
        case ZYDIS_REGCLASS_X87: return Int(register.rawValue) - Int(ZYDIS_REGISTER_ST0.rawValue)
        default: return Int(Decoding.offset(of: register) ?? 0) / 8
        }
    }

    /// Fills the operand fields: operand 0's register is `destination`, operand 1's is `source`, an immediate is
    /// `immediate` (and `source` if it is operand 1), the memory operand is base, index, scale, displacement, segment.
    package func wireOperands() {
        let o = op
        o.pointee.base = UInt16(CPU_OFFSET_ZERO)
        o.pointee.index = UInt16(CPU_OFFSET_ZERO)
        o.pointee.segmentBase = UInt16(CPU_OFFSET_ZERO)
        o.pointee.addressMask = addressMask
        o.pointee.segment = UInt8(SegmentIndex.ds)
        o.pointee.source = immediatePointer
        for index in 0..<min(visibleOperands, 3) {
            let operand = operands[index]
            switch operand.type {
            case ZYDIS_OPERAND_TYPE_REGISTER:
                guard let offset = Decoding.offset(of: operand.reg.value) else { continue }
                if index == 0 { o.pointee.destination = offset }
                if index == 1 { o.pointee.source = registerPointer(offset) }
            case ZYDIS_OPERAND_TYPE_IMMEDIATE:
                if visibleOperands < 3 || index == 2 || !isImmediate(2) { o.pointee.immediate = operand.imm.value.u }
            case ZYDIS_OPERAND_TYPE_MEMORY:
                wireMemory(operand.mem)
                if index == 0 { o.pointee.flags |= OperationFlags.memory }
            default: break
            }
        }
        if mode & ModeKey.unchecked(SegmentIndex.ss) == 0 { o.pointee.flags |= OperationFlags.checkStack }
        if size == 2 { o.pointee.flags |= OperationFlags.operand16 }
        if size == 8 { o.pointee.flags |= OperationFlags.operand64 }
        if has(ZYDIS_ATTRIB_HAS_REP_SHIM) || has(ZYDIS_ATTRIB_HAS_REPE_SHIM) { o.pointee.flags |= OperationFlags.rep }
        if has(ZYDIS_ATTRIB_HAS_REPNE_SHIM) { o.pointee.flags |= OperationFlags.repne }
    }

    /// Ones for the bits of an effective address.
    package var addressMask: UInt64 {
        switch instruction.address_width {
        case 16: 0xffff
        case 32: 0xffff_ffff
        default: ~0
        }
    }

    /// The operation's own `immediate`, as a source operand. The operation owns it.
    package var immediatePointer: UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(op) + 16
    }

    /// Operand `index`, a register, as a source operand.
    package func register(_ index: Int) -> UnsafeMutableRawPointer {
        registerPointer(Decoding.offset(of: operands[index].reg.value) ?? UInt16(CPU_OFFSET_ZERO))
    }

    /// A register of the state block this operation will run on.
    private func registerPointer(_ offset: UInt16) -> UnsafeMutableRawPointer { state.raw + Int(offset) }

    /// The state block whose registers `source` may point to; it outlives every block of code.
    package let state: CPU

    private func wireMemory(_ memory: ZydisDecodedOperandMem) {
        let o = op
        let raw = instruction.raw
        // With 32-bit addresses and REX.B, Zydis 4.0 takes the SIB form without a base for one with R13D.
        let isAbsolute = raw.modrm.mod == 0 && raw.modrm.rm == 4 && raw.sib.offset != 0 && raw.sib.base == 5
        var displacement = UInt64(bitPattern: isAbsolute ? raw.disp.value : memory.disp.value)
        if memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP {
            o.pointee.base = UInt16(CPU_OFFSET_BLOCK_RIP)
            displacement &+= UInt64(o.pointee.offset) &+ UInt64(instruction.length)
        } else if !isAbsolute, memory.base != ZYDIS_REGISTER_NONE, let base = Decoding.offset(of: memory.base) {
            o.pointee.base = base
        }
        if memory.index != ZYDIS_REGISTER_NONE, let index = Decoding.offset(of: memory.index) {
            o.pointee.index = index
            o.pointee.scale = UInt8(memory.scale.trailingZeroBitCount)
        }
        o.pointee.displacement = displacement
        useSegment(Int(memory.segment.rawValue) - Int(ZYDIS_REGISTER_ES.rawValue))
    }

    /// Uses the segment of a memory operand that assembly source does not write, as XLAT's.
    package func useHiddenSegment() {
        for index in 0..<Int(instruction.operand_count) where operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY {
            useSegment(Int(operands[index].mem.segment.rawValue) - Int(ZYDIS_REGISTER_ES.rawValue))
        }
    }

    /// Makes `segment` the memory operand's segment.
    package func useSegment(_ segment: Int) {
        op.pointee.segment = UInt8(segment)
        if is64 && segment < SegmentIndex.fs {
            op.pointee.segmentBase = UInt16(CPU_OFFSET_ZERO)
        } else {
            op.pointee.segmentBase = UInt16(Int(CPU_OFFSET_SEGMENTS) + segment * MemoryLayout<SegmentRegister>.size)
        }
        if mode & ModeKey.unchecked(segment) == 0 { op.pointee.flags |= OperationFlags.checkSegment }
    }
}
