import CEngine
import CZydis

/// Writes a line for each instruction of a part of the run, with the registers before it. Looking changes nothing in
/// the guest, and the machine does the same as without it.
package final class InstructionTrace {
    private let counts: Range<UInt64>
    private let output: (String) -> Void
    /// The count of the next line; the machine may stop several times at one count.
    private var next: UInt64
    private var formatter = ZydisFormatter()

    private static let lineSize = 128
    private static let mostBytes = 15
    private static let generalNames = [
        "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "8", "9", "10", "11", "12", "13", "14", "15",
    ]

    /// A trace of the instructions that begin at `counts`; `output` takes each line with its end.
    package init(_ counts: Range<UInt64>, output: @escaping (String) -> Void) {
        self.counts = counts
        next = counts.lowerBound
        self.output = output
        ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)
    }

    /// Writes the line of the instruction that `processor` is about to execute, if its count is in the range.
    /// - Returns: the count at which the trace wants to look again.
    func step(_ processor: Processor) -> UInt64 {
        let count = processor.clock.count
        if count >= next, counts.contains(count) {
            output(line(processor, count))
            next = count + 1
        }
        return next < counts.upperBound ? next : .max
    }

    private func line(_ processor: Processor, _ count: UInt64) -> String {
        let cpu = processor.cpu
        let bytes = processor.inspect(linear: processor.instructionAddress, count: Self.mostBytes)
        let (length, text) = disassembly(bytes, cpu)
        let code = bytes.prefix(length).map { hex(UInt64($0), 2) }.joined()
        let place = "\(hex(UInt64(cpu.segment(SegmentIndex.cs).pointee.selector), 4)):\(hex(cpu.pointee.rip, 8))"
        return "\(count) \(place) \(code) \(text) |\(registers(cpu))\n"
    }

    /// The instruction's length and text; an empty text if its bytes cannot be read or mean nothing.
    private func disassembly(_ bytes: [UInt8], _ cpu: CPU) -> (length: Int, text: String) {
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
            cpu.pointee.rip, nil)
        let characters = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return (Int(instruction.length), String(decoding: characters, as: UTF8.self))
    }

    private func registers(_ cpu: CPU) -> String {
        let isLong = cpu.isLongMode
        let general = Self.generalNames.prefix(isLong ? 16 : 8).enumerated().map { number, name in
            " \(name)=\(hex(cpu.gpr(number), isLong ? 16 : 8))"
        }
        let segments = ["es", "cs", "ss", "ds", "fs", "gs"].enumerated().map { number, name in
            " \(name)=\(hex(UInt64(cpu.segment(number).pointee.selector), 4))"
        }
        return general.joined() + " fl=" + hex(cpu.rflags, 8) + segments.joined()
    }

    private func hex(_ value: UInt64, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }
}
