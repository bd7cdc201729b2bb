import CZydis
import VMM

/// Decodes as the modelled CPU does: extensions that the CPU lacks are off in Zydis, so that the older instruction in
/// their place is seen. One instruction is held at a time.
package final class Decoder {
    private let decoder: ModelDecoder
    /// Has every extension that Zydis knows.
    private let full: ModelDecoder
    /// The instruction decoded last and its operands, owned by this object.
    package let instruction = UnsafeMutablePointer<ZydisDecodedInstruction>.allocate(capacity: 1)
    package let operands = UnsafeMutablePointer<ZydisDecodedOperand>.allocate(capacity: Int(ZYDIS_MAX_OPERAND_COUNT))
    private var formatter = ZydisFormatter()

    package init(_ mode: CodeMode) {
        let (machineMode, width) =
            switch mode {
            case .bits64: (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
            case .bits32: (ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32)
            case .bits16: (ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16)
            }
        decoder = ModelDecoder(machineMode, width, model: testedModel)
        full = ModelDecoder(machineMode, width, model: testedModel, extensions: true)
        ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)
    }

    /// Decodes the instruction at the start of `bytes`; false if there is none.
    package func decode(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let status = decoder.decode(bytes, instruction, operands)
        guard status & 0x8000_0000 == 0 else { return false }
        let raw = instruction.pointee.raw
        // Zydis 4.0 takes SIB base 101 without ModRM.mod for R13D where it is a displacement.
        if raw.modrm.mod == 0 && raw.modrm.rm == 4 && raw.sib.offset != 0 && raw.sib.base == 5 {
            for index in 0..<operandCount where operands[index].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM {
                operands[index].mem.base = ZYDIS_REGISTER_NONE
                operands[index].mem.disp.has_displacement = 1
                operands[index].mem.disp.value = raw.disp.value
            }
        }
        return true
    }

    /// Whether the bytes are no instruction even with every extension that Zydis knows.
    package func rejects(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { full.decode($0, instruction, operands) & 0x8000_0000 != 0 }
    }

    package var operandCount: Int { Int(instruction.pointee.operand_count) }
    package var visibleOperands: Int { Int(instruction.pointee.operand_count_visible) }
    package var mnemonic: ZydisMnemonic { instruction.pointee.mnemonic }
    package func has(_ attribute: Int) -> Bool { instruction.pointee.attributes >> UInt64(attribute) & 1 != 0 }

    /// The instruction held, as assembly in Intel's syntax, as if it stood at `address`.
    package func disassembly(at address: UInt64) -> String {
        var text = [CChar](repeating: 0, count: 128)
        ZydisFormatterFormatInstruction(
            &formatter, instruction, operands, instruction.pointee.operand_count_visible, &text, text.count,
            address, nil)
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Bit numbers of Zydis's instruction attributes.
    package enum Attribute {
        package static let modRM = 0, privileged = 8, acceptsLock = 16, acceptsRep = 17, acceptsRepe = 18, acceptsRepne = 19
        package static let hasLock = 27, hasRep = 28, hasRepe = 29, hasRepne = 30
    }
}

extension ZydisDecodedOperand {
    package var isMemory: Bool { type == ZYDIS_OPERAND_TYPE_MEMORY }
    package var isRegister: Bool { type == ZYDIS_OPERAND_TYPE_REGISTER }
    package var isImmediate: Bool { type == ZYDIS_OPERAND_TYPE_IMMEDIATE }
    /// Memory that is accessed, rather than an address that is only computed or ignored.
    package var isAccessed: Bool { isMemory && mem.type != ZYDIS_MEMOP_TYPE_AGEN && actions != 0 }
    package var reads: Bool { actions & UInt8(ZYDIS_OPERAND_ACTION_MASK_READ.rawValue) != 0 }
    package var writes: Bool { actions & UInt8(ZYDIS_OPERAND_ACTION_MASK_WRITE.rawValue) != 0 }
    package var bytes: Int { Int(size) / 8 }
}

/// A general register, or a part of one, by its number.
package func generalRegister(_ register: ZydisRegister) -> (number: Int, bytes: Int, isHigh: Bool)? {
    let value = Int(register.rawValue)
    func number(_ first: ZydisRegister, _ last: ZydisRegister) -> Int? {
        value >= Int(first.rawValue) && value <= Int(last.rawValue) ? value - Int(first.rawValue) : nil
    }
    if let n = number(ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15) { return (n, 8, false) }
    if let n = number(ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D) { return (n, 4, false) }
    if let n = number(ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W) { return (n, 2, false) }
    if let n = number(ZYDIS_REGISTER_AL, ZYDIS_REGISTER_R15B) {
        // Zydis lists AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B …
        return n < 4 ? (n, 1, false) : n < 8 ? (n - 4, 1, true) : (n - 4, 1, false)
    }
    return nil
}

extension Decoder {
    /// The instruction held is of the x87, MMX or SSE.
    package var usesFloatState: Bool {
        ![ZYDIS_ISA_EXT_BASE, ZYDIS_ISA_EXT_LONGMODE, ZYDIS_ISA_EXT_PAUSE].contains(instruction.pointee.meta.isa_ext)
            || [ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXRSTOR].contains(mnemonic)
    }
}
