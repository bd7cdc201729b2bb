import CEngine
import VMM

/// The processor as a guest's author wants to see it when the guest has come to a bad end.
struct FaultReport {
    private static let bytesShown = 16
    private static let generalNames =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + (8..<16).map { "r\($0)" }
    private static let segmentNames = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"]

    private let processor: Processor
    private var cpu: CPU { processor.cpu }
    /// Hexadecimal digits of an address.
    private var width: Int { cpu.isLongMode ? 16 : 8 }

    init(_ processor: Processor) { self.processor = processor }

    /// Several lines: the bytes at RIP, the registers, segments and control registers.
    var text: String {
        let lines = [bytes, position] + general + segments + [control, tables]
        return lines.map { $0 + "\n" }.joined()
    }

    private var bytes: String {
        let found = processor.inspect(linear: processor.instructionAddress, count: Self.bytesShown)
        let shown = found.map { hex($0, 2) }.joined(separator: " ")
        return "bytes  " + (found.isEmpty ? "(not mapped)" : shown)
    }

    private var position: String {
        "rip \(hex(cpu.pointee.rip, width))  rflags \(hex(cpu.rflags, 8))  cpl \(cpu.pointee.cpl)"
    }

    private var general: [String] {
        let registers = Self.generalNames.prefix(cpu.isLongMode ? 16 : 8).enumerated().map { number, name in
            "\(padded(name, 3)) \(hex(cpu.gpr(number), width))"
        }
        return stride(from: 0, to: registers.count, by: 4).map {
            registers[$0..<$0 + 4].joined(separator: "  ")
        }
    }

    private var segments: [String] {
        Self.segmentNames.enumerated().map { index, name in
            let segment = cpu.segment(index).pointee
            return "\(padded(name, 4)) \(hex(segment.selector, 4))  base \(hex(segment.base, width))"
                + "  limit \(hex(segment.limit, 8))  attributes \(hex(segment.attributes, 4))"
        }
    }

    private var control: String {
        "cr0 \(hex(cpu.pointee.cr0, 8))  cr2 \(hex(cpu.pointee.cr2, width))  cr3 \(hex(cpu.pointee.cr3, width))"
            + "  cr4 \(hex(cpu.pointee.cr4, 8))  efer \(hex(cpu.pointee.efer, 4))"
    }

    private var tables: String {
        let (gdt, idt) = (cpu.pointee.gdtr, cpu.pointee.idtr)
        return "gdtr \(hex(gdt.base, width)) \(hex(gdt.limit, 4))  idtr \(hex(idt.base, width)) \(hex(idt.limit, 4))"
    }

    private func hex(_ value: some UnsignedInteger, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }

    private func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(width - text.count, 0))
    }
}
