import CEngine
import CZydis

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
}

/// The tag word (SDM volume 1, 8.1.7). `CPUState.ftw` only tells empty registers (3) from others (0); which of these
/// are zero or special is worked out when FSTENV or FSAVE shows it.
package enum X87Tags {
    package static let allValid: UInt16 = 0, allEmpty: UInt16 = 0xffff
    package static let empty: UInt16 = 3
}

extension UnsafeMutablePointer where Pointee == CPUState {
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

extension InstructionTable {
    mutating func addX87() {}
}
