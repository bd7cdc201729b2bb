import CZydis
import VMM

/// How to write an instruction of a form: what is fixed; the rest of the encoding is random.
package struct Template: Hashable {
    /// Operand-size and mandatory or repeat prefixes, in order; an address-size prefix only if it is part of the form.
    package var prefixes: [UInt8]
    package var rexW: Bool
    /// 0 for one-byte opcodes, 1 for 0F, 2 for 0F 38, 3 for 0F 3A.
    package var map: Int
    package var opcode: UInt8
    package var hasModRM: Bool
    /// ModRM.mod is 3.
    package var isRegister: Bool
    /// ModRM fields that select the instruction rather than an operand.
    package var reg: UInt8?
    package var rm: UInt8?
    /// The low three bits of the opcode are a register.
    package var opcodeIsRegister = false
}

/// An instruction form: a mnemonic with the kinds and sizes of its operands, one encoding of them, in one code size.
package final class Form {
    package let mode: CodeMode
    package let name: String
    package let key: UInt64
    package var templates: [Template]
    /// Privileged or undefined: no case runs to its end.
    package let alwaysFaults: Bool
    /// Why it cannot be compared with the host CPU; nil if it can.
    package let exclusion: Exclusions.Reason?

    package init(
        mode: CodeMode, name: String, key: UInt64, first: Template, alwaysFaults: Bool, exclusion: Exclusions.Reason?
    ) {
        (self.mode, self.name, self.key, templates) = (mode, name, key, [first])
        self.alwaysFaults = alwaysFaults
        self.exclusion = exclusion
    }
}

/// Finds all forms of a code size by decoding every combination of prefixes, opcode and ModRM.
package struct FormGenerator {
    package let mode: CodeMode
    private let decoder: Decoder
    private var forms: [UInt64: Form] = [:]
    package private(set) var ordered: [Form] = []
    /// Names of the excluded instructions by reason.
    package private(set) var excluded: [Exclusions.Reason: Set<String>] = [:]

    /// - Parameter excluded: whether forms that cannot be compared with the host CPU are wanted too.
    package static func forms(_ mode: CodeMode, excluded: Bool = false) -> FormGenerator {
        var generator = FormGenerator(mode: mode, excluded: excluded)
        generator.enumerate()
        return generator
    }

    private let keepsExcluded: Bool

    private init(mode: CodeMode, excluded: Bool) {
        self.mode = mode
        keepsExcluded = excluded
        decoder = Decoder(mode)
    }

    private mutating func enumerate() {
        for map in 0...3 {
            for opcode in 0...255 where FormGenerator.isOpcode(UInt8(opcode), map: map, mode) {
                for repeats in [[], [0xf2], [0xf3]] as [[UInt8]] {
                    for operandSize in [[], [0x66]] as [[UInt8]] {
                        for rexW in mode == .bits64 ? [false, true] : [false] {
                            probe(
                                Template(
                                    prefixes: operandSize + repeats, rexW: rexW, map: map, opcode: UInt8(opcode),
                                    hasModRM: true, isRegister: false))
                        }
                    }
                }
            }
        }
    }

    /// Prefixes and escapes are no opcodes, nor are those of VEX, EVEX and XOP.
    private static func isOpcode(_ opcode: UInt8, map: Int, _ mode: CodeMode) -> Bool {
        guard map == 0 else { return map != 1 || (opcode != 0x38 && opcode != 0x3a && opcode != 0x0f) }
        if mode == .bits64, opcode & 0xf0 == 0x40 { return false }
        return ![0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3].contains(opcode)
    }

    /// Adds the forms of one opcode with its prefixes.
    private mutating func probe(_ template: Template) {
        var template = template
        guard decode(template, modRM: 0x41) || decode(template, modRM: 0xc1) || hasAny(template) else { return }
        if !decoder.has(Decoder.Attribute.modRM) {
            template.hasModRM = false
            add(template)
            // The address size matters to these alone; with ModRM it is a random choice of the encoding.
            template.prefixes.insert(0x67, at: 0)
            if decode(template, modRM: nil) { add(template) }
            return
        }
        for reg in 0..<UInt8(8) {
            template.isRegister = false
            (template.reg, template.rm) = (reg, nil)
            if decode(template, modRM: 0x41 | reg << 3) { addFixingFields(template) }
            template.isRegister = true
            for rm in 0..<UInt8(8) {
                (template.reg, template.rm) = (reg, rm)
                if decode(template, modRM: 0xc0 | reg << 3 | rm) { addFixingFields(template) }
            }
        }
    }

    private func hasAny(_ template: Template) -> Bool {
        (0...255).contains { decode(template, modRM: UInt8($0)) }
    }

    /// Decodes an instance of the template, followed by zeros.
    private func decode(_ template: Template, modRM: UInt8?) -> Bool {
        var bytes = [UInt8]()
        bytes.reserveCapacity(24)
        bytes += template.prefixes
        if template.rexW { bytes.append(0x48) }
        bytes += [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][template.map] as [UInt8]
        bytes.append(template.opcode)
        if let modRM { bytes.append(modRM) }
        while bytes.count < 15 { bytes.append(0) }
        return bytes.withUnsafeBytes { decoder.decode($0) } && testedModel.accepts(decoder.instruction.pointee)
    }

    /// Leaves the ModRM fields that encode an operand to chance.
    private mutating func addFixingFields(_ template: Template) {
        var template = template
        for index in 0..<decoder.operandCount {
            if decoder.operands[index].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG { template.reg = nil }
            if decoder.operands[index].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM { template.rm = nil }
        }
        add(template)
    }

    private mutating func add(_ template: Template) {
        let exclusion = Exclusions.reason(decoder)
        if let exclusion, !keepsExcluded {
            excluded[exclusion, default: []].insert(String(cString: ZydisMnemonicGetString(decoder.mnemonic)))
            return
        }
        var template = template
        template.opcodeIsRegister = FormGenerator.opcodeIsRegister(decoder)
        if template.opcodeIsRegister { template.opcode &= 0xf8 }
        let key = FormGenerator.key(decoder)
        if let form = forms[key] {
            guard form.exclusion == exclusion else { return }
            if !form.templates.contains(template) { form.templates.append(template) }
            return
        }
        let form = Form(
            mode: mode, name: FormGenerator.name(decoder, mode), key: key, first: template,
            alwaysFaults: FormGenerator.alwaysFaults(decoder), exclusion: exclusion)
        forms[key] = form
        ordered.append(form)
    }

    private static func alwaysFaults(_ decoder: Decoder) -> Bool {
        let category = decoder.instruction.pointee.meta.category
        return decoder.has(Decoder.Attribute.privileged)
            || [ZYDIS_CATEGORY_IO, ZYDIS_CATEGORY_IOSTRINGOP].contains(category)
            || [
                ZYDIS_MNEMONIC_CLI, ZYDIS_MNEMONIC_STI, ZYDIS_MNEMONIC_LGDT, ZYDIS_MNEMONIC_RSM, ZYDIS_MNEMONIC_INT1,
                ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1, ZYDIS_MNEMONIC_UD2,
            ].contains(decoder.mnemonic)
            || testedModel.refuses(decoder.instruction.pointee)
    }

    /// Identifies the form of the instruction that the decoder holds.
    package static func key(_ decoder: Decoder) -> UInt64 {
        let instruction = decoder.instruction.pointee
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func mix(_ value: UInt32) { hash = (hash ^ UInt64(value)) &* 0x100_0000_01b3 &+ (hash >> 29) }
        mix(instruction.mnemonic.rawValue)
        mix(UInt32(instruction.opcode_map.rawValue) << 8 | UInt32(maskedOpcode(decoder)))
        mix(UInt32(truncatingIfNeeded: instruction.attributes >> UInt64(Decoder.Attribute.hasRep)) & 7)
        for index in 0..<decoder.visibleOperands {
            let operand = decoder.operands[index]
            mix(UInt32(operand.type.rawValue) << 16 | UInt32(operand.size))
            guard operand.isRegister else { continue }
            mix(ZydisRegisterGetClass(operand.reg.value).rawValue)
            if operand.encoding == ZYDIS_OPERAND_ENCODING_NONE { mix(operand.reg.value.rawValue) }
        }
        if sizeIsHidden(decoder) { mix(UInt32(instruction.operand_width)) }
        if countsByAddressWidth(decoder) { mix(UInt32(instruction.address_width)) }
        if let reg = opcodeExtension(decoder) { mix(UInt32(reg)) }
        return hash
    }

    /// The operands that are written do not show the operand size, and there is one.
    private static func sizeIsHidden(_ decoder: Decoder) -> Bool {
        let isFloat = [ZYDIS_ISA_EXT_X87, ZYDIS_ISA_EXT_MMX].contains(decoder.instruction.pointee.meta.isa_ext)
        return !isFloat
            && (0..<decoder.visibleOperands).allSatisfy {
                decoder.operands[$0].isImmediate || decoder.operands[$0].isMemory && decoder.operands[$0].size == 0
            }
    }

    /// ModRM.reg, if it encodes no operand.
    private static func opcodeExtension(_ decoder: Decoder) -> UInt8? {
        guard decoder.has(Decoder.Attribute.modRM) else { return nil }
        let hasOperand = (0..<decoder.operandCount).contains {
            decoder.operands[$0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG
        }
        return hasOperand ? nil : decoder.instruction.pointee.raw.modrm.reg
    }

    /// The address size decides what the instruction counts or addresses without an operand in ModRM.
    private static func countsByAddressWidth(_ decoder: Decoder) -> Bool {
        let stack: [ZydisRegister] = [
            ZYDIS_REGISTER_RSP, ZYDIS_REGISTER_ESP, ZYDIS_REGISTER_SP, ZYDIS_REGISTER_RBP, ZYDIS_REGISTER_EBP,
            ZYDIS_REGISTER_BP,
        ]
        let counts = [ZYDIS_MNEMONIC_LOOP, ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE].contains(decoder.mnemonic)
        return counts
            || (0..<decoder.operandCount).contains {
                let operand = decoder.operands[$0]
                return operand.isMemory && operand.encoding == ZYDIS_OPERAND_ENCODING_NONE
                    && !stack.contains(operand.mem.base)
            }
    }

    private static func opcodeIsRegister(_ decoder: Decoder) -> Bool {
        (0..<decoder.operandCount).contains { decoder.operands[$0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE }
    }

    private static func maskedOpcode(_ decoder: Decoder) -> UInt8 {
        opcodeIsRegister(decoder) ? decoder.instruction.pointee.opcode & 0xf8 : decoder.instruction.pointee.opcode
    }

    /// Such as `64 add r32, m32 [03]`.
    package static func name(_ decoder: Decoder, _ mode: CodeMode) -> String {
        let instruction = decoder.instruction.pointee
        var text = "\(mode.rawValue) "
        if decoder.has(Decoder.Attribute.hasRep) { text += "rep " }
        if decoder.has(Decoder.Attribute.hasRepe) { text += "repe " }
        if decoder.has(Decoder.Attribute.hasRepne) { text += "repne " }
        text += String(cString: ZydisMnemonicGetString(instruction.mnemonic))
        let operands = (0..<decoder.visibleOperands).map { name(decoder.operands[$0]) }
        if !operands.isEmpty { text += " " + operands.joined(separator: ", ") }
        if sizeIsHidden(decoder) { text += " o\(instruction.operand_width)" }
        if countsByAddressWidth(decoder) { text += " a\(instruction.address_width)" }
        let escape = ["", "0F ", "0F38 ", "0F3A "][min(Int(instruction.opcode_map.rawValue), 3)]
        let opcode = String(instruction.opcode, radix: 16, uppercase: true)
        let reg = opcodeExtension(decoder).map { " /\($0)" } ?? ""
        return text + " [\(escape)\(opcode.count < 2 ? "0" : "")\(opcode)\(reg)]"
    }

    private static func name(_ operand: ZydisDecodedOperand) -> String {
        switch operand.type {
        case ZYDIS_OPERAND_TYPE_MEMORY: return "m\(operand.size)"
        case ZYDIS_OPERAND_TYPE_IMMEDIATE: return (operand.imm.is_relative != 0 ? "rel" : "imm") + "\(operand.size)"
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if operand.encoding == ZYDIS_OPERAND_ENCODING_NONE {
                return String(cString: ZydisRegisterGetString(operand.reg.value))
            }
            switch ZydisRegisterGetClass(operand.reg.value) {
            case ZYDIS_REGCLASS_X87: return "st"
            case ZYDIS_REGCLASS_MMX: return "mm"
            case ZYDIS_REGCLASS_XMM: return "xmm"
            case ZYDIS_REGCLASS_SEGMENT: return "sreg"
            case ZYDIS_REGCLASS_CONTROL: return "cr"
            case ZYDIS_REGCLASS_DEBUG: return "dr"
            default: return "r\(operand.size)"
            }
        default: return "ptr"
        }
    }
}
