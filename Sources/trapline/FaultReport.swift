import CEngine
import VMM

/// The processor as a guest's author wants to see it when the guest has come to a bad end.
struct FaultReport {
    /// Several lines: the bytes at RIP, the registers, segments and control registers.
    let text: String
    private static let bytesShown = 16

    init(_ processor: Processor) {
        let cpu = processor.cpu
        let bytes = processor.inspect(linear: processor.instructionAddress, count: Self.bytesShown)
        var lines = ["bytes  " + (bytes.isEmpty ? "(not mapped)" : bytes.map { Self.hex(UInt64($0), 2) }.joined(separator: " "))]
        let digits = cpu.isLongMode ? 16 : 8
        let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + (8..<16).map { "r\($0)" }
        let general = names.prefix(cpu.isLongMode ? 16 : 8).enumerated().map { number, name in
            "\(name)\(name.count < 3 ? " " : "") \(Self.hex(cpu.gpr(number), digits))"
        }
        lines.append("rip \(Self.hex(cpu.pointee.rip, digits))  rflags \(Self.hex(cpu.rflags, 8))  cpl \(cpu.pointee.cpl)")
        lines += stride(from: 0, to: general.count, by: 4).map { general[$0..<$0 + 4].joined(separator: "  ") }
        for (index, name) in ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"].enumerated() {
            let segment = cpu.segment(index).pointee
            lines.append(
                "\(name.padding(4)) \(Self.hex(UInt64(segment.selector), 4))  base \(Self.hex(segment.base, digits))"
                    + "  limit \(Self.hex(UInt64(segment.limit), 8))  attributes \(Self.hex(UInt64(segment.attributes), 4))")
        }
        lines.append(
            "cr0 \(Self.hex(cpu.pointee.cr0, 8))  cr2 \(Self.hex(cpu.pointee.cr2, digits))"
                + "  cr3 \(Self.hex(cpu.pointee.cr3, digits))  cr4 \(Self.hex(cpu.pointee.cr4, 8))"
                + "  efer \(Self.hex(cpu.pointee.efer, 4))")
        lines.append(
            "gdtr \(Self.hex(cpu.pointee.gdtr.base, digits)) \(Self.hex(UInt64(cpu.pointee.gdtr.limit), 4))"
                + "  idtr \(Self.hex(cpu.pointee.idtr.base, digits)) \(Self.hex(UInt64(cpu.pointee.idtr.limit), 4))")
        text = lines.map { $0 + "\n" }.joined()
    }

    private static func hex(_ value: UInt64, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }
}

extension String {
    /// The string with spaces behind it up to `width`.
    fileprivate func padding(_ width: Int) -> String { self + String(repeating: " ", count: max(width - count, 0)) }
}
