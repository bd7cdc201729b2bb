import CZydis
import VMM

/// Reads a call stack of a guest's kernel off its stack, where CALLs have marked their return addresses.
struct StackScanner {
    private static let mostFrames = 64
    private static let shortestCall = 2
    private static let longestCall = 8
    private static let pageSize: UInt64 = 4096
    private let symbols: SymbolTable
    private let code: Range<UInt64>
    private let wordSize: UInt64
    private let marks: CallMarks

    init(_ kernel: GuestKernel, _ symbols: SymbolTable, _ marks: CallMarks) {
        self.symbols = symbols
        self.marks = marks
        code = kernel.image
        wordSize = UInt64(kernel.kallsyms.wordSize)
    }

    /// Where the callers of what runs with the stack from `stack` on go on, innermost first.
    func callers(stack: UInt64, _ pages: GuestPages) -> [UInt64] {
        // Kernel stacks are as large, and as aligned.
        let size: UInt64 = wordSize == 8 ? 16384 : 8192
        let end = (stack | (size - 1)) &+ 1
        var callers: [UInt64] = []
        var linear = stack & ~(wordSize - 1)
        while linear != end, callers.count < Self.mostFrames {
            let pageEnd = (linear | (Self.pageSize - 1)) &+ 1
            guard let page = pages.translate(linear & ~(Self.pageSize - 1)) else { return callers }
            while linear != pageEnd {
                let physical = page + (linear & (Self.pageSize - 1))
                if marks.isMarked(physical), let address = word(physical, pages), isBehindCall(address, pages) {
                    callers.append(address)
                }
                linear &+= wordSize
            }
        }
        return callers
    }

    /// Whether an address is in the kernel's image or in a module.
    func isCode(_ address: UInt64) -> Bool { code.contains(address) || symbols.lookup(address) != nil }

    private func word(_ physical: UInt64, _ pages: GuestPages) -> UInt64? {
        wordSize == 8
            ? pages.physical(physical, as: UInt64.self)
            : pages.physical(physical, as: UInt32.self).map { UInt64($0) }
    }

    /// Whether a CALL of the kernel or of a module ends at `address`: a mark may be left of a thread that is gone.
    private func isBehindCall(_ address: UInt64, _ pages: GuestPages) -> Bool {
        guard isCode(address &- 1) else { return false }
        let bytes = pages.bytes(address &- UInt64(Self.longestCall), count: Self.longestCall)
        guard bytes.count == Self.longestCall else { return false }
        if bytes[3] == 0xE8 { return true }
        // FF /2 with any operand.
        return (Self.shortestCall..<Self.longestCall).contains { length in
            let opcode = Self.longestCall - length
            return bytes[opcode] == 0xFF && bytes[opcode + 1] >> 3 & 7 == 2 && isInstruction(Array(bytes[opcode...]))
        }
    }

    /// Whether `bytes` are one whole instruction.
    private func isInstruction(_ bytes: [UInt8]) -> Bool {
        var decoder = ZydisDecoder()
        ZydisDecoderInit(
            &decoder, wordSize == 8 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
            wordSize == 8 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32)
        var instruction = ZydisDecodedInstruction()
        let status = bytes.withUnsafeBytes {
            ZydisDecoderDecodeInstruction(&decoder, nil, $0.baseAddress, ZyanUSize($0.count), &instruction)
        }
        return status & 0x8000_0000 == 0 && Int(instruction.length) == bytes.count
    }
}
