import CEngine
import CZydis

/// Instructions as text, in the mode that the processor is in.
package struct Disassembler {
    private static let lineSize = 128
    /// Bytes of the longest instruction.
    package static let mostBytes = 15
    private var formatter = ZydisFormatter()

    package init() { ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL) }

    /// The instruction's length and text; an empty text if its bytes cannot be read or mean nothing.
    package mutating func disassembly(_ bytes: [UInt8], _ cpu: CPU, rip: UInt64) -> (length: Int, text: String) {
        let (mode, width) =
            switch cpu.pointee.mode & ModeKey.sizeMask {
            case ModeKey.code64: (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
            case ModeKey.code32: (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)
            default: (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
            }
        var decoder = ZydisDecoder()
        ZydisDecoderInit(&decoder, mode, width)
        var instruction = ZydisDecodedInstruction()
        var operands = [ZydisDecodedOperand](repeating: ZydisDecodedOperand(), count: Int(ZYDIS_MAX_OPERAND_COUNT))
        let status = bytes.withUnsafeBytes {
            ZydisDecoderDecodeFull(&decoder, $0.baseAddress, ZyanUSize($0.count), &instruction, &operands)
        }
        guard !bytes.isEmpty, status & 0x8000_0000 == 0 else { return (bytes.count, "") }
        var text = [CChar](repeating: 0, count: Self.lineSize)
        ZydisFormatterFormatInstruction(
            &formatter, &instruction, operands, instruction.operand_count_visible, &text, ZyanUSize(text.count),
            rip, nil)
        let characters = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return (Int(instruction.length), String(decoding: characters, as: UTF8.self))
    }
}
