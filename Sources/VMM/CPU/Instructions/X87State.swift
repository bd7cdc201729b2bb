import CEngine
import CZydis

// The x87 register stack, its exceptions, and when they are reported (SDM volume 1, chapter 8).
//
// FIP, FCS, FDP, FDS and FOP have one definition on every host: they are those of the last instruction that raised an
// unmasked exception, which is when an exception handler reads them, and zero before the first.

/// x87 status word bits (SDM volume 1, 8.1.3).
package enum X87Status {
    package static let invalid: UInt16 = 1 << 0, denormal: UInt16 = 1 << 1, zeroDivide: UInt16 = 1 << 2
    package static let overflow: UInt16 = 1 << 3, underflow: UInt16 = 1 << 4, precision: UInt16 = 1 << 5
    package static let stackFault: UInt16 = 1 << 6
    /// ES: an exception is pending that the control word does not mask; B always equals it.
    package static let summary: UInt16 = 1 << 7, busy: UInt16 = 1 << 15
    package static let c0: UInt16 = 1 << 8, c1: UInt16 = 1 << 9, c2: UInt16 = 1 << 10, c3: UInt16 = 1 << 14
    package static let conditions: UInt16 = c0 | c1 | c2 | c3
    package static let top: UInt16 = 7 << 11
    package static let exceptions: UInt16 = 0x3f
    /// Unmasked, these suppress any result; overflow and underflow only one that goes to memory.
    static let suppressing: UInt16 = invalid | denormal | zeroDivide
    static let suppressingStores: UInt16 = suppressing | overflow | underflow
}

/// x87 control word bits (SDM volume 1, 8.1.5).
package enum X87Control {
    /// After FNINIT: everything masked, 64-bit precision, round to nearest.
    package static let initial: UInt16 = 0x37f
    static let masks: UInt16 = 0x3f
    /// Bits that can be written; bit 6 always reads as one.
    static let writable: UInt16 = 0x1f3f, fixed: UInt16 = 0x40
}

/// The tag word (SDM volume 1, 8.1.7). `CPUState.ftw` only tells empty registers (3) from others (0); which of these
/// are zero or special is worked out when FSTENV or FSAVE shows it.
package enum X87Tags {
    package static let allValid: UInt16 = 0, allEmpty: UInt16 = 0xffff
    static let valid: UInt16 = 0, zero: UInt16 = 1, special: UInt16 = 2, empty: UInt16 = 3
}

/// What an x87 row leaves in `Operation.immediate`; no x87 instruction has an immediate of its own.
enum X87Form {
    /// i of the operand ST(i).
    static let index: UInt64 = 7
    /// ST(i) is the destination.
    static let toIndexed: UInt64 = 1 << 3
    /// How many registers are popped: 0 to 2, from this bit.
    static let popShift: UInt64 = 4
    /// FOP: the opcode's low 3 bits and the ModRM byte, from this bit.
    static let opcodeShift: UInt64 = 16
}

extension X87Register {
    /// The default NaN, result of masked invalid operations.
    static let indefinite = X87Register(significand: 0xc000_0000_0000_0000, signExponent: 0xffff, pad: (0, 0, 0))
    /// An all-zero register.
    static let zero = X87Register(significand: 0, signExponent: 0, pad: (0, 0, 0))

    init(significand: UInt64, signExponent: UInt16) {
        self.init(significand: significand, signExponent: signExponent, pad: (0, 0, 0))
    }

    /// The two tag bits that FSTENV shows for this value in a register that is not empty.
    var tag: UInt16 {
        switch signExponent & 0x7fff {
        case 0: significand == 0 ? X87Tags.zero : X87Tags.special
        case 0x7fff: X87Tags.special
        default: significand >> 63 != 0 ? X87Tags.valid : X87Tags.special
        }
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: The register stack

    /// TOP, the physical number of ST(0).
    @inline(__always) var x87Top: Int { Int(truncatingIfNeeded: (pointee.fsw >> 11) & 7) }

    @inline(__always) private func physical(_ index: Int) -> Int { (x87Top &+ index) & 7 }

    /// ST(index), 0 to 7, inside this state block.
    @inline(__always) func st(_ index: Int) -> UnsafeMutablePointer<X87Register> {
        (raw + (Int(CPU_OFFSET_FPR) &+ physical(index) &* 16)).assumingMemoryBound(to: X87Register.self)
    }

    @inline(__always) func isEmpty(_ index: Int) -> Bool {
        (pointee.ftw >> UInt16(truncatingIfNeeded: physical(index) &* 2)) & X87Tags.empty == X87Tags.empty
    }

    @inline(__always) func setEmpty(_ index: Int, _ empty: Bool) {
        let shift = UInt16(truncatingIfNeeded: physical(index) &* 2)
        let mask = X87Tags.empty &<< shift
        pointee.ftw = empty ? pointee.ftw | mask : pointee.ftw & ~mask
    }

    /// Writes ST(index), which is not empty then.
    @inline(__always) func setST(_ index: Int, _ value: X87Register) {
        st(index).pointee = value
        setEmpty(index, false)
    }

    /// Adds to TOP.
    @inline(__always) func rotateStack(by count: Int) {
        let top = UInt16(truncatingIfNeeded: (x87Top &+ count) & 7)
        pointee.fsw = (pointee.fsw & ~X87Status.top) | (top << 11)
    }

    @inline(__always) func popX87() {
        setEmpty(0, true)
        rotateStack(by: 1)
    }

    /// Pops as often as the row says.
    @inline(__always) func popX87(_ op: OperationPointer) {
        let count = (op.pointee.immediate >> X87Form.popShift) & 3
        if count == 0 { return }
        popX87()
        if count == 2 { popX87() }
    }

    @inline(__always) func pushX87(_ value: X87Register) {
        rotateStack(by: -1)
        setST(0, value)
    }

    /// i of the operand ST(i).
    @inline(__always) func x87Index(_ op: OperationPointer) -> Int {
        Int(truncatingIfNeeded: op.pointee.immediate & X87Form.index)
    }

    // MARK: Exceptions

    /// The control and status word as X87Functions take them.
    @inline(__always) var x87Environment: UInt32 { UInt32(pointee.fcw) | UInt32(pointee.fsw) << 16 }

    /// Merges what an operation returned into the status word, whose bits `conditions` it replaces. False if one of
    /// the exceptions `suppressing` is unmasked: then there is no result (of `conditions` only C1 and C2 are cleared)
    /// and nothing is popped or pushed.
    @inline(__always) func commitX87(
        _ op: OperationPointer, _ status: UInt32, conditions: UInt16 = X87Status.c1,
        suppressing: UInt16 = X87Status.suppressing
    ) -> Bool {
        let raised = UInt16(truncatingIfNeeded: status)
        let unmasked = raised & ~pointee.fcw & X87Status.exceptions
        if _slowPath(unmasked != 0) {
            raiseX87(op)
            if unmasked & suppressing != 0 {
                let cleared = conditions & (X87Status.c1 | X87Status.c2)
                pointee.fsw = (pointee.fsw & ~cleared) | (raised & ~(X87Status.conditions & ~X87Status.c1))
                return false
            }
        }
        pointee.fsw = (pointee.fsw & ~conditions) | raised
        return true
    }

    /// An unmasked exception: it is pending from now on, and where it happened is recorded.
    @inline(never) private func raiseX87(_ op: OperationPointer) {
        pointee.fsw |= X87Status.summary | X87Status.busy
        pointee.fop = UInt16(truncatingIfNeeded: op.pointee.immediate >> X87Form.opcodeShift) & 0x7ff
        pointee.fip = rip(of: op)
        pointee.fcs = pointee.segments.1.selector
        let hasMemory = op.pointee.flags & OperationFlags.memory != 0
        pointee.fdp = hasMemory ? effectiveAddress(op) : 0
        pointee.fds = hasMemory ? segment(Int(op.pointee.segment)).pointee.selector : 0
    }

    /// Raises a stack underflow (C1 clear) or overflow (C1 set). True if it is masked, so that the default result is
    /// due. `conditions` are those of the instruction.
    @inline(never) func x87StackFault(
        _ op: OperationPointer, overflow: Bool = false, conditions: UInt16 = X87Status.c1
    ) -> Bool {
        let flags = X87Status.invalid | X87Status.stackFault | (overflow ? X87Status.c1 : 0)
        return commitX87(op, UInt32(flags), conditions: conditions & (X87Status.c1 | X87Status.c2))
    }

    /// Whether `op`'s memory operand passes the alignment check (SDM volume 3, 6.15, #AC); false with #AC recorded.
    /// Only operands that move as bytes need this.
    func isAligned(_ op: OperationPointer, size: Int, to alignment: UInt64, write: Bool) -> Bool {
        guard pointee.cpl == 3, pointee.cr0 & CR0.am != 0, pointee.flags & RFlags.ac != 0 else { return true }
        guard let linear = linearAddress(op, size: size, write: write) else { return false }
        if linear & (alignment - 1) == 0 { return true }
        _ = fault(ExceptionVector.ac, code: 0, at: op)
        return false
    }

    /// Sets ES and B from the flags and masks, after either was loaded or cleared.
    func updateX87Summary() {
        let pending = pointee.fsw & ~pointee.fcw & X87Status.exceptions != 0
        pointee.fsw &= ~(X87Status.summary | X87Status.busy)
        if pending { pointee.fsw |= X87Status.summary | X87Status.busy }
    }

    /// FNINIT.
    package func initializeX87() {
        pointee.fcw = X87Control.initial
        pointee.fsw = 0
        pointee.ftw = X87Tags.allEmpty
        pointee.fop = 0
        pointee.fip = 0
        pointee.fdp = 0
        pointee.fcs = 0
        pointee.fds = 0
    }

    /// Whether a waiting x87 or an MMX instruction may execute: no unmasked exception is pending. Otherwise #MF is
    /// recorded, or, with CR0.NE clear, FERR# is asserted, for IRQ 13, and the instruction goes on.
    @inline(__always) func x87Ready(_ op: OperationPointer) -> Bool {
        _fastPath(pointee.fsw & X87Status.summary == 0) || x87Pending(op)
    }

    @inline(never) private func x87Pending(_ op: OperationPointer) -> Bool {
        if pointee.cr0 & CR0.ne != 0 {
            _ = fault(ExceptionVector.mf, at: op)
            return false
        }
        processor.assertFERR()
        return true
    }
}
