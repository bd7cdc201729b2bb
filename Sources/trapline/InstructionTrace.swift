import CEngine
import CZydis
import VMM

/// One line for each executed instruction: position, address, the instruction, and the registers that it changed.
enum InstructionTrace {
    private static let registers = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ]
    private static let longestInstruction = 15

    /// Runs `machine` for `count` counts, one at a time.
    static func run(_ machine: Machine, count: UInt64) {
        let end = machine.clock.count + count
        while machine.clock.count < end {
            let cpu = machine.processor.cpu
            let before = (0..<16).map { cpu.gpr($0) }
            let flags = cpu.rflags
            var line = "\(machine.clock.count) \(hex(UInt64(cpu.segment(SegmentIndex.cs).pointee.selector))):"
            line += "\(hex(cpu.pointee.rip)) \(instruction(machine.processor))"
            let stop = machine.run(until: machine.clock.count + 1)
            for (number, old) in before.enumerated() where cpu.gpr(number) != old {
                line += " \(registers[number])=\(hex(cpu.gpr(number)))"
            }
            if cpu.rflags != flags { line += " rflags=\(hex(cpu.rflags))" }
            StandardError.write(line + "\n")
            if case .ended = stop { return }
        }
    }

    /// The instruction at RIP, disassembled as it would be decoded now.
    private static func instruction(_ processor: Processor) -> String {
        let bytes = processor.inspect(linear: processor.instructionAddress, count: longestInstruction)
        let mode: ZydisMachineMode =
            switch processor.cpu.pointee.mode & ModeKey.sizeMask {
            case ModeKey.code64: ZYDIS_MACHINE_MODE_LONG_64
            case ModeKey.code32: ZYDIS_MACHINE_MODE_LEGACY_32
            default: ZYDIS_MACHINE_MODE_LEGACY_16
            }
        var decoded = ZydisDisassembledInstruction()
        guard ZydisDisassembleIntel(mode, processor.cpu.pointee.rip, bytes, ZyanUSize(bytes.count), &decoded) & 0x8000_0000 == 0
        else { return "(" + bytes.map { hex(UInt64($0)) }.joined(separator: " ") + ")" }
        return withUnsafeBytes(of: &decoded.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private static func hex(_ value: UInt64) -> String { String(value, radix: 16) }
}
