import CEngine

/// How translated code does a guest instruction: each is one emitting function.
enum Form: UInt8 {
    /// Calls the interpreter's handler: every sensitive instruction, and whatever is not worth code of its own.
    case handler
    case nothing
    /// Sensitive instructions that loops wait with.
    case pause, timestamp
    case arithmetic, test, move, extend, loadAddress, not, negate, increment, decrement
    case shift, shiftByCL, push, pop, leave, exchange, exchangeAdd, compareExchange
    case multiplyTo, multiply, divide, bitTest, bitScan, byteSwap, convert, set, conditionalMove, carry
    case jumpIf, jump, call, jumpIndirect, callIndirect, ret
    case vector, vectorMove, vectorLoadLow, vectorStoreLow, vectorToGeneral, vectorShift

    /// Whether control never runs on to the next instruction.
    var isTransfer: Bool {
        switch self {
        case .jump, .call, .jumpIndirect, .callIndirect, .ret: true
        default: false
        }
    }
}

/// An operand of an instruction that is to be translated.
enum GuestOperand: Equatable {
    case none
    /// A general register, whole or its low part.
    case register(Int)
    /// AH, CH, DH or BH, by the number of the whole register.
    case high(Int)
    case memory
    case immediate
    case vector(Int)

    var isMemory: Bool { self == .memory }
}

/// A memory operand: register numbers are -1 where there is none.
struct GuestAddress {
    var base = -1, index = -1
    var scale: UInt8 = 0
    /// With an RIP-relative address, the whole of it.
    var displacement: UInt64 = 0
    /// FS or GS, whose base is added; -1 for segments that begin at 0.
    var segment = -1
    /// Bits of the effective address: 32 or 64.
    var width = 64
}

/// One instruction of a block on its way to host code.
struct GuestInstruction {
    let op: OperationPointer
    var form = Form.handler
    /// What of the form: the arithmetic number, shift number, condition code or opcode.
    var code: UInt8 = 0
    /// Operand size in bytes, and that of a source that is narrower.
    var size = 0
    var sourceSize = 0
    var destination = GuestOperand.none
    var source = GuestOperand.none
    var address = GuestAddress()
    var immediate: Int64 = 0
    /// Mandatory prefix of a vector instruction, and whether its memory operand must be aligned.
    var prefix: UInt8 = 0
    var isAligned = false
    var isSigned = false
    /// Arithmetic flags in their RFLAGS places.
    var reads: UInt64 = 0
    var writes: UInt64 = 0
    /// Flags that somebody may look at after this instruction before they are written again.
    var liveAfter: UInt64 = 0
    /// The accesses that are probed for together with this one's, and where among their bytes it is.
    var group = ProbeGroup()
    var groupOffset: Int32 = 0
    /// The access is not the first of its group, so that it hits.
    var isProbed = false

    init(op: OperationPointer) { self.op = op }

    /// Whether the flags as they are before it can be seen: if it faults, by the handler that does it, or where it
    /// leads.
    var observesFlags: Bool {
        switch form {
        case .handler, .pause, .timestamp, .divide, .leave, .call, .callIndirect, .jumpIndirect, .ret, .jump, .jumpIf:
            true
        case .push, .pop: !isProbed
        default: hasMemory && !isProbed
        }
    }

    var hasMemory: Bool { destination.isMemory || source.isMemory }
}

/// Which flags are looked at later: translated code keeps only those (the others may be anything).
enum FlagLiveness {
    /// Fills `liveAfter` of `count` instructions. At the end of a block all flags are live.
    static func analyze(
        _ instructions: UnsafeMutablePointer<GuestInstruction>, count: Int, bug: TranslatorBug? = nil
    ) {
        var live = bug == .flagLiveness ? 0 : RFlags.arithmetic
        for index in stride(from: count - 1, through: 0, by: -1) {
            let instruction = instructions + index
            instruction.pointee.liveAfter = live
            live =
                instruction.pointee.observesFlags && !(bug == .flagsAtFault && instruction.pointee.hasMemory)
                ? RFlags.arithmetic : live & ~instruction.pointee.writes | instruction.pointee.reads
        }
    }
}
