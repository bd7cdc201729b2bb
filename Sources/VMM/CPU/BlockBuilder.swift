import CEngine
import CZydis

/// Decodes guest code into blocks: Zydis describes each instruction, the instruction table picks its handler.
struct BlockBuilder {
    /// A block ends after this many instructions, if nothing ends it before.
    static let maximumInstructions = 64
    /// The longest instruction (SDM volume 2, 2.3.11).
    static let maximumLength = 15

    private let model: CPUModel
    private let state: CPU
    /// Decoders by code size: 16, 32, 64. Instructions that only protected mode has are left to their rows.
    private let decoders: [ModelDecoder]
    private var instruction = ZydisDecodedInstruction()
    /// Zydis's operand array, owned by the builder for its life, which is the processor's.
    private let operands: UnsafeMutablePointer<ZydisDecodedOperand>

    /// How a block came to its end.
    enum Result {
        case built(operations: Int)
        /// The first instruction needs bytes from the next page.
        case needsNextPage
    }

    init(model: CPUModel, state: CPU) {
        self.model = model
        self.state = state
        operands = .allocate(capacity: Int(ZYDIS_MAX_OPERAND_COUNT))
        let modes: [(ZydisMachineMode, ZydisStackWidth)] = [
            (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16),
            (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32),
            (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64),
        ]
        decoders = modes.map { ModelDecoder($0, $1, model: model) }
    }

    private func decoderIndex(_ mode: UInt32) -> Int {
        switch mode & ModeKey.sizeMask {
        case ModeKey.code64: 2
        case ModeKey.code32: 1
        default: 0
        }
    }

    /// Fills `block` from `bytes`, which are what is left of the page from its physical address on (or both parts of
    /// one instruction that crosses the page end, with `single`).
    mutating func build(
        _ block: BlockCache.BlockPointer, _ bytes: UnsafeRawBufferPointer, physical: UInt64, rip: UInt64,
        mode: UInt32, single: Bool
    ) -> Result {
        let head = BlockCache.head(block)
        var offset = 0
        var count = 0
        var ended = false
        // Bytes that a rejected encoding was judged by, beyond the operations' own.
        var judged = 0
        while !ended && count < (single ? 1 : BlockBuilder.maximumInstructions) && offset < bytes.count {
            let op = head + 1 + count
            op.initialize(to: operation_blank({ cpu, op in cpu.leave(at: op) }, state.raw))
            op.pointee.offset = UInt16(offset)
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            switch decode(op, rest, mode, &ended) {
            case .complete: break
            case .rejected(let seen): judged = seen - Int(op.pointee.length)
            case .needsMore where count > 0:
                ended = true
                continue
            case .needsMore: return .needsNextPage
            }
            offset += Int(op.pointee.length)
            count += 1
        }
        finish(head, count: count, byteLength: offset, mode: mode)
        block.initialize(
            to: Block(
                physical: physical, secondPage: ~0, mode: mode, byteLength: UInt16(offset + judged),
                instructionCount: UInt8(count), isAlive: true, hashNext: 0, frameNext: 0, secondFrameNext: 0,
                rip: rip, code: 0, incoming: 0, heat: 0))
        return .built(operations: count + 2)
    }

    private enum Decoded {
        case complete, needsMore
        /// No instruction, by so many bytes: a change to any of them may make it one.
        case rejected(seen: Int)
    }

    private mutating func decode(
        _ op: OperationPointer, _ bytes: UnsafeRawBufferPointer, _ mode: UInt32, _ ended: inout Bool
    ) -> Decoded {
        let available = min(bytes.count, BlockBuilder.maximumLength)
        let status = decoders[decoderIndex(mode)].decode(
            UnsafeRawBufferPointer(rebasing: bytes[..<available]), &instruction, operands)
        if status == ZYDIS_STATUS_NO_MORE_DATA_SHIM && available < BlockBuilder.maximumLength { return .needsMore }
        guard status & 0x8000_0000 == 0 else {
            let tooLong = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG_SHIM || status == ZYDIS_STATUS_NO_MORE_DATA_SHIM
            op.pointee.length = 1
            op.pointee.handler =
                tooLong
                ? { cpu, op in cpu.generalProtection(at: op) }
                : { cpu, op in cpu.undefined(at: op) }
            ended = true
            return .rejected(seen: available)
        }
        op.pointee.length = instruction.length
        var decoding = Decoding(
            instruction: instruction, operands: UnsafePointer(operands), mode: mode, op: op, state: state)
        guard model.accepts(instruction), !model.refuses(instruction),
            let select = InstructionTable.shared[instruction.mnemonic]
        else {
            op.pointee.handler = { cpu, op in cpu.undefined(at: op) }
            op.pointee.flags = OperationFlags.undefined
            ended = true
            return .complete
        }
        decoding.wireOperands()
        guard let handler = select(&decoding) else {
            op.pointee.handler = { cpu, op in cpu.undefined(at: op) }
            op.pointee.flags = OperationFlags.undefined
            ended = true
            return .complete
        }
        op.pointee.handler = handler
        SensitiveInstructions.wrap(decoding)
        ended = decoding.endsBlock
        return .complete
    }

    /// Describes the instructions of a block built before, for translation. `bytes` are the block's, all on one page.
    mutating func read(
        _ block: BlockCache.BlockPointer, bytes: UnsafeRawPointer,
        into result: UnsafeMutablePointer<GuestInstruction>
    ) {
        let first = BlockCache.head(block) + 1
        let mode = block.pointee.mode
        for index in 0..<Int(block.pointee.instructionCount) {
            let op = first + index
            let status = decoders[decoderIndex(mode)].decode(
                UnsafeRawBufferPointer(start: bytes + Int(op.pointee.offset), count: Int(op.pointee.length)),
                &instruction, operands)
            guard status & 0x8000_0000 == 0, op.pointee.flags & OperationFlags.undefined == 0 else {
                (result + index).initialize(to: GuestInstruction(op: op))
                continue
            }
            let decoding = Decoding(
                instruction: instruction, operands: UnsafePointer(operands), mode: mode, op: op, state: state)
            (result + index).initialize(to: InstructionReader.read(decoding, rip: block.pointee.rip))
        }
    }

    /// Writes the head and the operation that ends the block, and each operation's distance from the end.
    private func finish(_ head: OperationPointer, count: Int, byteLength: Int, mode: UInt32) {
        head.initialize(to: operation_blank({ cpu, op in cpu.leave(at: op) }, state.raw))
        head.pointee.remaining = UInt8(count)
        head.pointee.immediate = UInt64(byteLength)
        head.pointee.handler =
            mode & ModeKey.unchecked(SegmentIndex.cs) != 0
            ? { cpu, op in cpu.enterBlock(op) } : { cpu, op in cpu.enterBlockWithinLimit(op) }
        for index in 0..<count { head[1 + index].remaining = UInt8(count - index) }
        let end = head + 1 + count
        end.initialize(to: operation_blank({ cpu, op in cpu.leave(at: op) }, state.raw))
        end.pointee.offset = UInt16(byteLength)
        end.pointee.handler = { cpu, op in cpu.fallThrough(op) }
    }
}
