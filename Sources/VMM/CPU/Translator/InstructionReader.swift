import CEngine
import CZydis

/// Reads guest instructions for translation: Zydis's description becomes a `GuestInstruction`. What it does not know
/// stays a call of the interpreter's handler.
struct InstructionReader {
    let decoding: Decoding
    /// RIP of the block.
    let rip: UInt64
    var result: GuestInstruction

    private typealias Flag = RFlags

    /// Describes one decoded instruction of the block at `rip`.
    static func read(_ decoding: Decoding, rip: UInt64) -> GuestInstruction {
        var reader = InstructionReader(
            decoding: decoding, rip: rip, result: GuestInstruction(op: decoding.op))
        let isKnown =
            decoding.op.pointee.kind == EventKind.none.rawValue
            ? reader.readOperands() && reader.readForm() : reader.readWaiting()
        return isKnown ? reader.result : GuestInstruction(op: decoding.op)
    }

    /// The sensitive instructions that have code of their own.
    private mutating func readWaiting() -> Bool {
        switch decoding.mnemonic {
        case ZYDIS_MNEMONIC_PAUSE: return form(.pause)
        case ZYDIS_MNEMONIC_RDTSC: return form(.timestamp, 0)
        case ZYDIS_MNEMONIC_RDTSCP: return form(.timestamp, 1)
        default: return false
        }
    }

    // MARK: Operands

    /// False for operands that no form has.
    private mutating func readOperands() -> Bool {
        result.size = decoding.size
        guard decoding.visibleOperands <= 3 else { return false }
        for index in 0..<decoding.visibleOperands {
            guard let operand = operand(index) else { return false }
            switch index {
            case 0: result.destination = operand
            case 1:
                result.source = operand
                result.sourceSize = Int(decoding.operands[1].size) / 8
            default:
                guard operand == .immediate || operand == .register(Register.rcx) else { return false }
            }
        }
        return true
    }

    private mutating func operand(_ index: Int) -> GuestOperand? {
        let operand = decoding.operands[index]
        switch operand.type {
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            result.immediate = operand.imm.value.s
            return .immediate
        case ZYDIS_OPERAND_TYPE_REGISTER: return register(operand.reg.value)
        case ZYDIS_OPERAND_TYPE_MEMORY: return readAddress() ? .memory : nil
        default: return nil
        }
    }

    private func register(_ register: ZydisRegister) -> GuestOperand? {
        switch ZydisRegisterGetClass(register) {
        case ZYDIS_REGCLASS_GPR8:
            let offset = Int(Decoding.offset(of: register)!)
            return offset & 1 != 0 ? .high(offset / 8) : .register(offset / 8)
        case ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
            return .register(Int(Decoding.offset(of: register)!) / 8)
        case ZYDIS_REGCLASS_XMM: return .vector(Int(register.rawValue - ZYDIS_REGISTER_XMM0.rawValue))
        default: return nil
        }
    }

    /// The memory operand as the decoder wired it into the operation. False for what needs a segment check.
    private mutating func readAddress() -> Bool {
        let op = decoding.op.pointee
        guard op.flags & OperationFlags.checkSegment == 0, op.addressMask != 0xffff else { return false }
        var address = GuestAddress()
        address.displacement = op.displacement
        address.width = op.addressMask == ~0 ? 64 : 32
        if op.base == UInt16(CPU_OFFSET_BLOCK_RIP) {
            address.displacement = (op.displacement &+ rip) & op.addressMask
        } else if op.base != UInt16(CPU_OFFSET_ZERO) {
            address.base = Int(op.base) / 8
        }
        if op.index != UInt16(CPU_OFFSET_ZERO) {
            address.index = Int(op.index) / 8
            address.scale = op.scale
        }
        if op.segment == UInt8(SegmentIndex.fs) || op.segment == UInt8(SegmentIndex.gs) {
            address.segment = Int(op.segment)
        } else if op.segment == UInt8(SegmentIndex.cs), !decoding.is64 {
            return false
        }
        result.address = address
        return true
    }

    // MARK: Forms

    /// The flags that most arithmetic writes.
    private mutating func form(_ form: Form, _ code: UInt8 = 0, writes: UInt64 = 0, reads: UInt64 = 0) -> Bool {
        result.form = form
        result.code = code
        result.writes = writes
        result.reads = reads
        return true
    }

    /// Whether a high-byte register is where a form has code for it: opposite a register or an immediate.
    private var highBytesFit: Bool {
        func isHigh(_ operand: GuestOperand) -> Bool { if case .high = operand { true } else { false } }
        if isHigh(result.destination) { return !result.source.isMemory && !isHigh(result.source) }
        return !isHigh(result.source) || !result.destination.isMemory
    }

    private var hasHighByte: Bool {
        for operand in [result.destination, result.source] { if case .high = operand { return true } }
        return false
    }

    private mutating func readForm() -> Bool {
        let all = Flag.arithmetic
        switch decoding.mnemonic {
        case ZYDIS_MNEMONIC_ADD: return arithmetic(ArithmeticNumber.add)
        case ZYDIS_MNEMONIC_OR: return arithmetic(ArithmeticNumber.or)
        case ZYDIS_MNEMONIC_ADC: return arithmetic(ArithmeticNumber.adc, reads: Flag.cf)
        case ZYDIS_MNEMONIC_SBB: return arithmetic(ArithmeticNumber.sbb, reads: Flag.cf)
        case ZYDIS_MNEMONIC_AND: return arithmetic(ArithmeticNumber.and)
        case ZYDIS_MNEMONIC_SUB: return arithmetic(ArithmeticNumber.sub)
        case ZYDIS_MNEMONIC_XOR: return arithmetic(ArithmeticNumber.xor)
        case ZYDIS_MNEMONIC_CMP: return arithmetic(ArithmeticNumber.cmp)
        case ZYDIS_MNEMONIC_TEST: return highBytesFit && form(.test, writes: all)
        case ZYDIS_MNEMONIC_MOV: return move()
        case ZYDIS_MNEMONIC_MOVNTI:
            result.size = result.sourceSize
            return form(.move)
        case ZYDIS_MNEMONIC_MOVZX, ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD: return extend()
        case ZYDIS_MNEMONIC_LEA: return result.size != 2 && form(.loadAddress)
        case ZYDIS_MNEMONIC_NOT: return !hasHighByte && form(.not)
        case ZYDIS_MNEMONIC_NEG: return !hasHighByte && form(.negate, writes: all)
        case ZYDIS_MNEMONIC_INC: return !hasHighByte && form(.increment, writes: all & ~Flag.cf)
        case ZYDIS_MNEMONIC_DEC: return !hasHighByte && form(.decrement, writes: all & ~Flag.cf)
        case ZYDIS_MNEMONIC_SHL: return shift(4)
        case ZYDIS_MNEMONIC_SHR: return shift(5)
        case ZYDIS_MNEMONIC_SAR: return shift(7)
        case ZYDIS_MNEMONIC_ROL: return shift(0)
        case ZYDIS_MNEMONIC_ROR: return shift(1)
        case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_POP: return stack()
        case ZYDIS_MNEMONIC_LEAVE: return result.size != 2 && form(.leave)
        case ZYDIS_MNEMONIC_XCHG: return exchange()
        case ZYDIS_MNEMONIC_XADD: return !hasHighByte && form(.exchangeAdd, writes: all)
        case ZYDIS_MNEMONIC_CMPXCHG: return !hasHighByte && form(.compareExchange, writes: all)
        case ZYDIS_MNEMONIC_IMUL where decoding.visibleOperands > 1: return result.size != 2 && multiplyTo()
        case ZYDIS_MNEMONIC_MUL, ZYDIS_MNEMONIC_IMUL:
            result.isSigned = decoding.mnemonic == ZYDIS_MNEMONIC_IMUL
            return result.size >= 4 && form(.multiply, writes: all)
        case ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV:
            result.isSigned = decoding.mnemonic == ZYDIS_MNEMONIC_IDIV
            return result.size >= 4 && form(.divide)
        case ZYDIS_MNEMONIC_BT: return bitTest(4)
        case ZYDIS_MNEMONIC_BTS: return bitTest(5)
        case ZYDIS_MNEMONIC_BTR: return bitTest(6)
        case ZYDIS_MNEMONIC_BTC: return bitTest(7)
        case ZYDIS_MNEMONIC_BSF: return result.size != 2 && form(.bitScan, 0xbc, writes: all)
        case ZYDIS_MNEMONIC_BSR: return result.size != 2 && form(.bitScan, 0xbd, writes: all)
        case ZYDIS_MNEMONIC_BSWAP: return result.size != 2 && form(.byteSwap)
        case ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PREFETCHNTA, ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1,
            ZYDIS_MNEMONIC_PREFETCHT2, ZYDIS_MNEMONIC_PREFETCH, ZYDIS_MNEMONIC_PREFETCHW, ZYDIS_MNEMONIC_LFENCE,
            ZYDIS_MNEMONIC_MFENCE, ZYDIS_MNEMONIC_SFENCE:
            result.destination = .none
            return form(.nothing)
        case ZYDIS_MNEMONIC_STC: return form(.carry, 0xf9, writes: Flag.cf)
        case ZYDIS_MNEMONIC_CLC: return form(.carry, 0xf8, writes: Flag.cf)
        case ZYDIS_MNEMONIC_CMC: return form(.carry, 0xf5, writes: Flag.cf, reads: Flag.cf)
        case ZYDIS_MNEMONIC_CBW, ZYDIS_MNEMONIC_CWDE, ZYDIS_MNEMONIC_CDQE, ZYDIS_MNEMONIC_CDQ, ZYDIS_MNEMONIC_CQO:
            return convert()
        default: return readBranch() || readConditional() || readVector()
        }
    }

    private mutating func arithmetic(_ number: UInt8, reads: UInt64 = 0) -> Bool {
        highBytesFit && form(.arithmetic, number, writes: Flag.arithmetic, reads: reads)
    }

    private mutating func move() -> Bool {
        // Moves of segment, control and debug registers are sensitive and never come here.
        highBytesFit && form(.move)
    }

    private mutating func extend() -> Bool {
        result.isSigned = decoding.mnemonic != ZYDIS_MNEMONIC_MOVZX
        if result.sourceSize == result.size { return form(.move) }
        if case .high = result.source, result.isSigned { return false }
        return result.sourceSize < result.size && form(.extend)
    }

    private mutating func shift(_ number: UInt8) -> Bool {
        guard !hasHighByte else { return false }
        let isRotation = number < 4
        let writes = isRotation ? Flag.cf | Flag.of : Flag.arithmetic
        if result.source == .immediate {
            result.immediate &= result.size == 8 ? 63 : 31
            if result.immediate == 0 {
                return result.destination.isMemory || result.size == 4 ? false : form(.nothing)
            }
            return form(.shift, number, writes: writes)
        }
        // A count of zero leaves the flags: they count as read. Narrow operands shift by more than their width.
        guard result.source == .register(Register.rcx), result.size >= 4 else { return false }
        return form(.shiftByCL, number, writes: writes, reads: Flag.arithmetic)
    }

    /// PUSH and POP at the stack's own width.
    private mutating func stack() -> Bool {
        let width = decoding.is64 ? 8 : 4
        guard result.size == width, decoding.op.pointee.flags & OperationFlags.checkStack == 0 else { return false }
        if decoding.mnemonic == ZYDIS_MNEMONIC_PUSH { return form(.push) }
        return !result.destination.isMemory && form(.pop)
    }

    private mutating func exchange() -> Bool {
        if hasHighByte { return false }
        // The register is the source, whichever way it is written.
        if result.source.isMemory { swap(&result.destination, &result.source) }
        if !result.destination.isMemory && result.size < 4 { return false }
        return form(.exchange)
    }

    private mutating func multiplyTo() -> Bool {
        // `prefix` tells the form with an immediate.
        result.prefix = decoding.visibleOperands == 3 ? 1 : 0
        return form(.multiplyTo, writes: Flag.arithmetic)
    }

    private mutating func bitTest(_ number: UInt8) -> Bool {
        guard result.size != 2, !result.destination.isMemory || result.source == .immediate else { return false }
        if result.source == .immediate { result.immediate &= Int64(result.size * 8 - 1) }
        return form(.bitTest, number, writes: Flag.cf)
    }

    private mutating func convert() -> Bool {
        switch decoding.mnemonic {
        case ZYDIS_MNEMONIC_CBW: result.size = 2
        case ZYDIS_MNEMONIC_CWDE, ZYDIS_MNEMONIC_CDQ: result.size = 4
        default: result.size = 8
        }
        let isDouble = decoding.mnemonic == ZYDIS_MNEMONIC_CDQ || decoding.mnemonic == ZYDIS_MNEMONIC_CQO
        return form(.convert, isDouble ? 1 : 0)
    }

    private mutating func readConditional() -> Bool {
        if let code = ConditionCode.numbers[decoding.mnemonic] {
            switch code.kind {
            case .set: return !hasHighByte && form(.set, code.number, reads: Flag.arithmetic)
            case .move: return result.size != 2 && form(.conditionalMove, code.number, reads: Flag.arithmetic)
            case .jump: return false
            }
        }
        return false
    }

    private mutating func readBranch() -> Bool {
        let op = decoding.op.pointee
        let width = decoding.is64 ? 8 : 4
        if let code = ConditionCode.numbers[decoding.mnemonic], code.kind == .jump {
            return isNear(op) && form(.jumpIf, code.number, reads: Flag.arithmetic)
        }
        switch decoding.mnemonic {
        case ZYDIS_MNEMONIC_JMP:
            guard decoding.instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR else { return false }
            if result.destination == .immediate { return isNear(op) && form(.jump) }
            return result.size == width && form(.jumpIndirect)
        case ZYDIS_MNEMONIC_CALL:
            guard decoding.instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR,
                op.flags & OperationFlags.checkStack == 0
            else { return false }
            if result.destination == .immediate { return result.size == width && isNear(op) && form(.call) }
            return result.size == width && form(.callIndirect)
        case ZYDIS_MNEMONIC_RET:
            guard decoding.instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR,
                op.flags & OperationFlags.checkStack == 0
            else { return false }
            result.immediate = Int64(op.immediate & 0xffff)
            return result.size == width && form(.ret)
        default: return false
        }
    }

    /// Whether a direct branch goes where its full-width displacement says, and can.
    private func isNear(_ op: Operation) -> Bool {
        decoding.is64
            ? op.addressMask == ~0 && isCanonical(rip &+ op.displacement) : op.addressMask == 0xffff_ffff
    }
}

extension ConditionCode {
    enum Kind { case set, move, jump }

    /// Conditional instructions by mnemonic.
    static let numbers: [ZydisMnemonic: (kind: Kind, number: UInt8)] = {
        var numbers: [ZydisMnemonic: (kind: Kind, number: UInt8)] = [:]
        for (kind, mnemonics) in [(Kind.set, setcc), (.move, cmov), (.jump, jcc)] {
            for (number, mnemonic) in mnemonics.enumerated() { numbers[mnemonic] = (kind, UInt8(number)) }
        }
        return numbers
    }()
}
