import CZydis
import VMM

/// Writes random encodings of a form.
package struct Encoder {
    package let form: Form
    package let decoder: Decoder
    /// Whether FS and GS have bases that both sides know.
    package let hasLDT: Bool

    package init(form: Form, decoder: Decoder, hasLDT: Bool) {
        self.form = form
        self.decoder = decoder
        self.hasLDT = hasLDT
    }

    /// An encoding of the form, which `decoder` holds afterwards. Fields that must fit the memory window are left to be
    /// patched. Nil if many attempts gave none.
    package func encode(_ random: inout Random) -> [UInt8]? {
        for attempt in 0..<200 {
            let template = attempt < 100 && random.chance(70) ? form.templates[0] : random.pick(form.templates)
            var bytes = write(template, &random)
            guard bytes.withUnsafeBytes({ decoder.decode($0) }), matches else { continue }
            bytes.removeSubrange(Int(decoder.instruction.pointee.length)...)
            chooseImmediates(&bytes, &random)
            guard bytes.withUnsafeBytes({ decoder.decode($0) }), matches else { continue }
            return bytes
        }
        return nil
    }

    private var matches: Bool {
        testedModel.accepts(decoder.instruction.pointee) && FormGenerator.key(decoder) == form.key
            && Exclusions.reason(decoder) == form.exclusion
    }

    private func write(_ template: Template, _ random: inout Random) -> [UInt8] {
        var bytes = template.prefixes
        let hasMemory = template.hasModRM && !template.isRegister
        func addPrefix(_ byte: UInt8, _ bytes: inout [UInt8], _ random: inout Random) {
            bytes.insert(byte, at: random.below(bytes.count + 1))
        }
        if hasMemory && random.chance(12) { addPrefix(0x67, &bytes, &random) }
        if hasMemory && random.chance(12) || !template.hasModRM && random.chance(10) {
            let overrides: [UInt8] = hasLDT ? [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65] : [0x26, 0x2e, 0x36, 0x3e]
            addPrefix(random.pick(overrides), &bytes, &random)
        }
        if hasMemory && random.chance(12) { addPrefix(0xf0, &bytes, &random) }
        if form.mode == .bits64 && (template.rexW || random.chance(40)) {
            bytes.append(0x40 | (template.rexW ? 8 : 0) | UInt8(random.below(8)))
        }
        bytes += [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][template.map] as [UInt8]
        bytes.append(template.opcodeIsRegister ? template.opcode & 0xf8 | UInt8(random.below(8)) : template.opcode)
        if template.hasModRM {
            let mod = template.isRegister ? 3 : UInt8(random.below(3))
            let reg = template.reg ?? UInt8(random.below(8))
            let rm = template.rm ?? UInt8(random.below(8))
            bytes.append(mod << 6 | reg << 3 | rm)
        }
        while bytes.count < 15 { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
        return bytes
    }

    /// Puts edge values into immediates; those of branches are chosen with their target.
    private func chooseImmediates(_ bytes: inout [UInt8], _ random: inout Random) {
        let raw = decoder.instruction.pointee.raw
        if decoder.mnemonic == ZYDIS_MNEMONIC_ENTER {
            store(UInt64(random.chance(85) ? random.below(256) : random.below(65536)), raw.imm.0, &bytes)
            store(UInt64(random.chance(85) ? random.below(4) : random.below(256)), raw.imm.1, &bytes)
            return
        }
        if raw.imm.0.size != 0 && raw.imm.0.is_relative == 0 {
            let isShiftCount = raw.imm.0.size == 8 && random.chance(30)
            store(isShiftCount ? UInt64(random.below(72)) : random.integer(), raw.imm.0, &bytes)
        }
    }

    private func store(_ value: UInt64, _ field: ZydisDecodedInstructionRawImm_, _ bytes: inout [UInt8]) {
        for index in 0..<Int(field.size) / 8 {
            bytes[Int(field.offset) + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8))
        }
    }
}
