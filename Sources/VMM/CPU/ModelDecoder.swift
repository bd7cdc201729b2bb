import CZydis

/// Zydis as the processor of a model decodes: without the extensions that the model lacks, and with what its vendor
/// makes of encodings that the other decodes otherwise.
package struct ModelDecoder {
    private var decoder = ZydisDecoder()
    private let isAMD64: Bool
    private let isAMD: Bool

    /// For code of one size. With `extensions` Zydis keeps those that processors without them run as something older.
    package init(_ mode: ZydisMachineMode, _ width: ZydisStackWidth, model: CPUModel, extensions: Bool = false) {
        ZydisDecoderInit(&decoder, mode, width)
        for extensionMode in [
            ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_LZCNT, ZYDIS_DECODER_MODE_TZCNT,
            ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_CLDEMOTE,
        ] {
            ZydisDecoderEnableMode(&decoder, extensionMode, extensions ? 1 : 0)
        }
        // Zydis shortens the displacements of near branches by it; what else is due is in `shortenBranch`.
        ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, model.usesAMDBranches ? 1 : 0)
        isAMD = model.vendor == .amd
        isAMD64 = isAMD && mode == ZYDIS_MACHINE_MODE_LONG_64
    }

    /// Decodes the instruction at the start of `bytes`, of which there may be fewer than it needs. Returns Zydis's
    /// status.
    package func decode(
        _ bytes: UnsafeRawBufferPointer, _ instruction: UnsafeMutablePointer<ZydisDecodedInstruction>,
        _ operands: UnsafeMutablePointer<ZydisDecodedOperand>
    ) -> ZyanStatus {
        var status = decodeAsIntel(bytes, instruction, operands)
        guard isAMD else { return status }
        if status == ZYDIS_STATUS_NO_MORE_DATA_SHIM && endsAtOpcode(bytes) { return ZYDIS_STATUS_DECODING_ERROR_SHIM }
        guard isAMD64, status & 0x8000_0000 == 0 else { return status }
        if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_PAUSE && instruction.pointee.raw.rex.B != 0 {
            status = decodeAsExchange(bytes, instruction, operands)
        }
        shortenBranch(instruction)
        return status
    }

    private func decodeAsIntel(
        _ bytes: UnsafeRawBufferPointer, _ instruction: UnsafeMutablePointer<ZydisDecodedInstruction>,
        _ operands: UnsafeMutablePointer<ZydisDecodedOperand>
    ) -> ZyanStatus {
        withUnsafePointer(to: decoder) {
            ZydisDecoderDecodeFull($0, bytes.baseAddress, ZyanUSize(bytes.count), instruction, operands)
        }
    }

    /// UD0 and UD1 are #UD before a ModRM byte is fetched (AMD), or after it (SDM volume 2, UD).
    private func endsAtOpcode(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let legacy: [UInt8] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]
        let rest = bytes.drop { legacy.contains($0) || isAMD64 && $0 & 0xf0 == 0x40 }
        return rest.count >= 2 && rest[rest.startIndex] == 0x0f && [0xb9, 0xff].contains(rest[rest.startIndex + 1])
    }

    /// F3 90 with REX.B: XCHG R8, rAX (APM volume 3, NOP: opcode 90 is one with rAX alone), where Intel's processors
    /// pause. A DS prefix, which does nothing there, stands in for F3.
    private func decodeAsExchange(
        _ bytes: UnsafeRawBufferPointer, _ instruction: UnsafeMutablePointer<ZydisDecodedInstruction>,
        _ operands: UnsafeMutablePointer<ZydisDecodedOperand>
    ) -> ZyanStatus {
        let copy = bytes.prefix(Int(instruction.pointee.length)).map { $0 == 0xf3 || $0 == 0xf2 ? 0x3e : $0 }
        return copy.withUnsafeBytes { decodeAsIntel($0, instruction, operands) }
    }

    /// The 66 prefix makes the operand size of near branches 16 bits (APM volume 3, 1.2.2 and appendix B), which Zydis
    /// heeds in those with a long displacement only. REX.W overrides it.
    private func shortenBranch(_ instruction: UnsafeMutablePointer<ZydisDecodedInstruction>) {
        let isNear = [ZYDIS_BRANCH_TYPE_SHORT, ZYDIS_BRANCH_TYPE_NEAR].contains(
            instruction.pointee.meta.branch_type)
        let hasOperandSize = instruction.pointee.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE_SHIM != 0
        if isNear && hasOperandSize && instruction.pointee.raw.rex.W == 0 { instruction.pointee.operand_width = 16 }
    }
}
