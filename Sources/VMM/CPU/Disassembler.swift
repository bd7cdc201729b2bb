import CEngine
import CZydis

/// Instructions of the guest as text, in Intel's syntax. Looking changes nothing in the guest.
package struct Disassembler {
    /// An instruction as it lies in guest memory.
    package struct Line {
        /// The address that CS:RIP shows.
        package var rip: UInt64
        /// Empty if the address is not mapped.
        package var bytes: [UInt8]
        /// Empty if the bytes mean nothing.
        package var text: String
    }

    private static let lineSize = 128
    private static let mostBytes = 15
    private var formatter = ZydisFormatter()

    package init() { ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL) }

    /// The instruction that `processor` is about to execute.
    package func next(_ processor: Processor) -> Line {
        let bytes = processor.inspect(linear: processor.instructionAddress, count: Self.mostBytes)
        return line(bytes, rip: processor.cpu.pointee.rip, bits: Self.codeSize(processor.cpu))
    }

    /// 16, 32 or 64, as the code segment says.
    package static func codeSize(_ cpu: CPU) -> Int {
        switch cpu.pointee.mode & ModeKey.sizeMask {
        case ModeKey.code64: 64
        case ModeKey.code32: 32
        default: 16
        }
    }

    /// The instruction that `bytes` begin with, as code of `bits` (16, 32 or 64) at `rip`.
    package func line(_ bytes: [UInt8], rip: UInt64, bits: Int) -> Line {
        let (mode, width) =
            switch bits {
            case 64: (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
            case 32: (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)
            default: (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
            }
        var decoder = ZydisDecoder()
        ZydisDecoderInit(&decoder, mode, width)
        var instruction = ZydisDecodedInstruction()
        var operands = [ZydisDecodedOperand](repeating: ZydisDecodedOperand(), count: Int(ZYDIS_MAX_OPERAND_COUNT))
        let status = bytes.withUnsafeBytes {
            ZydisDecoderDecodeFull(&decoder, $0.baseAddress, ZyanUSize($0.count), &instruction, &operands)
        }
        guard !bytes.isEmpty, status & 0x8000_0000 == 0 else { return Line(rip: rip, bytes: bytes, text: "") }
        var text = [CChar](repeating: 0, count: Self.lineSize)
        withUnsafePointer(to: formatter) { formatter in
            _ = ZydisFormatterFormatInstruction(
                formatter, &instruction, operands, instruction.operand_count_visible, &text, ZyanUSize(text.count), rip,
                nil)
        }
        let characters = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return Line(
            rip: rip, bytes: Array(bytes.prefix(Int(instruction.length))),
            text: String(decoding: characters, as: UTF8.self))
    }
}
