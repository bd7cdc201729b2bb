import CEngine
import CZydis
import VMM

/// Reads a call stack of a guest's kernel off its stack.
///
/// Kernels are built without frame pointers, so the stack is searched for return addresses: words that lead into the
/// kernel behind a CALL instruction. One behind a direct call of the function that runs is a caller for sure. Behind
/// any other call it may be one, through a pointer or a jump at a function's end, or be left over from an earlier call.
struct StackScanner {
    /// One caller.
    struct Frame: Equatable {
        /// Where it goes on.
        var address: UInt64
        /// The call there is of the frame's callee.
        var isCertain: Bool
    }

    private static let mostFrames = 32
    /// Words that are looked at for one frame.
    private static let reach = 192
    private static let shortestCall = 2
    private static let longestCall = 8
    private let symbols: SymbolTable
    private let code: Range<UInt64>
    private let wordSize: Int

    init(_ kernel: GuestKernel, _ symbols: SymbolTable) {
        self.symbols = symbols
        code = kernel.image
        wordSize = kernel.kallsyms.wordSize
    }

    /// The callers of what runs at `address` with the stack from `stack` on, innermost first.
    func frames(at address: UInt64, stack: UInt64, _ pages: GuestPages) -> [Frame] {
        // Kernel stacks are as large and as aligned.
        let size: UInt64 = wordSize == 8 ? 16384 : 8192
        let bytes = pages.bytes(stack, count: Int(size - (stack & (size - 1))))
        let words = stride(from: 0, to: bytes.count / wordSize * wordSize, by: wordSize).map { place in
            bytes[place..<place + wordSize].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        var frames: [Frame] = []
        var callee = function(address)
        var place = 0
        while frames.count < Self.mostFrames, place < words.count {
            var possible: Int?
            var certain: Int?
            for index in place..<min(place + Self.reach, words.count) {
                guard code.contains(words[index]), let target = call(before: words[index], pages) else { continue }
                if case .known(let address) = target, let callee, function(address) == callee {
                    certain = index
                    break
                }
                if possible == nil { possible = index }
            }
            guard let found = certain ?? possible else { break }
            frames.append(Frame(address: words[found], isCertain: certain != nil))
            callee = function(words[found] &- 1)
            place = found + 1
        }
        // What may be left over at the outer end says nothing.
        while frames.last?.isCertain == false { frames.removeLast() }
        return frames
    }

    /// The name of the function that an address belongs to; its cold part is the same function.
    private func function(_ address: UInt64) -> String? {
        guard let name = symbols.lookup(address)?.symbol.name else { return nil }
        return name.hasSuffix(".cold") ? String(name.dropLast(5)) : name
    }

    private enum Target {
        case known(UInt64)
        case unknown
    }

    /// What the CALL that ends at `address` calls; nil if none does.
    private func call(before address: UInt64, _ pages: GuestPages) -> Target? {
        let bytes = pages.bytes(address &- UInt64(Self.longestCall), count: Self.longestCall)
        guard bytes.count == Self.longestCall else { return nil }
        if bytes[3] == 0xE8 {
            let distance = (4..<8).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32(bytes[$1]) }
            let target = address &+ UInt64(bitPattern: Int64(Int32(bitPattern: distance)))
            return .known(wordSize == 8 ? target : target & 0xFFFF_FFFF)
        }
        // FF /2 with any operand.
        for length in Self.shortestCall..<Self.longestCall {
            let opcode = Self.longestCall - length
            guard bytes[opcode] == 0xFF, bytes[opcode + 1] >> 3 & 7 == 2 else { continue }
            if isInstruction(Array(bytes[opcode...])) { return .unknown }
        }
        return nil
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
