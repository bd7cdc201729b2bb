import CEngine

/// Writes a line for each instruction of a part of the run, with the registers before it. Looking changes nothing in
/// the guest, and the machine does the same as without it.
package final class InstructionTrace {
    private let counts: Range<UInt64>
    private let output: (String) -> Void
    /// The count of the next line; the machine may stop several times at one count.
    private var next: UInt64
    private let disassembler = Disassembler()

    private static let generalNames = [
        "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "8", "9", "10", "11", "12", "13", "14", "15",
    ]

    /// A trace of the instructions that begin at `counts`; `output` takes each line with its end.
    package init(_ counts: Range<UInt64>, output: @escaping (String) -> Void) {
        self.counts = counts
        next = counts.lowerBound
        self.output = output
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
        let instruction = disassembler.next(processor)
        let code = instruction.bytes.map { hex(UInt64($0), 2) }.joined()
        let place = "\(hex(UInt64(cpu.segment(SegmentIndex.cs).pointee.selector), 4)):\(hex(cpu.pointee.rip, 8))"
        return "\(count) \(place) \(code) \(instruction.text) |\(registers(cpu))\n"
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
