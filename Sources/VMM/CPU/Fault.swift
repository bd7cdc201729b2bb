import CEngine

/// Exception vectors (SDM volume 3, 6.3).
package enum ExceptionVector {
    package static let de: UInt8 = 0, db: UInt8 = 1, nmi: UInt8 = 2, bp: UInt8 = 3, of: UInt8 = 4, br: UInt8 = 5
    package static let ud: UInt8 = 6, nm: UInt8 = 7, df: UInt8 = 8, ts: UInt8 = 10, np: UInt8 = 11, ss: UInt8 = 12
    package static let gp: UInt8 = 13, pf: UInt8 = 14, mf: UInt8 = 16, ac: UInt8 = 17, mc: UInt8 = 18, xm: UInt8 = 19
}

/// Page-fault error code bits (SDM volume 3, 4.7).
package enum PageFaultCode {
    package static let present: UInt32 = 1, write: UInt32 = 2, user: UInt32 = 4, reserved: UInt32 = 8,
        fetch: UInt32 = 16
}

/// Where a software interrupt came from; the privilege checks and saved addresses differ (`CPUState.faultIsSoftware`).
package enum SoftwareInterrupt {
    package static let none: UInt8 = 0, intN: UInt8 = 1, int3: UInt8 = 2, into: UInt8 = 3, int1: UInt8 = 4
}

// Guest faults are values: a handler records one and returns to the run loop, which delivers it. A handler must
// not have changed anything the guest can see by then.
extension UnsafeMutablePointer where Pointee == CPUState {
    /// Records a fault that has no error code. Use `fault(_:at:)` from handlers.
    package func setFault(_ vector: UInt8) {
        pointee.pending |= PendingFlags.fault
        pointee.faultVector = vector
        pointee.faultHasCode = false
        pointee.faultCode = 0
        pointee.faultIsSoftware = SoftwareInterrupt.none
    }

    /// Records a fault with an error code.
    package func setFault(_ vector: UInt8, code: UInt32) {
        setFault(vector)
        pointee.faultHasCode = true
        pointee.faultCode = code
    }

    /// Records a page fault; `address` is what CR2 will show.
    package func setPageFault(_ address: UInt64, code: UInt32) {
        setFault(ExceptionVector.pf, code: code)
        pointee.faultAddress = address
    }

    /// Faults `op` with an exception that has no error code.
    @inline(never) package func fault(_ vector: UInt8, at op: OperationPointer) -> Next {
        setFault(vector)
        return leave(at: op)
    }

    /// Faults `op` with an exception that has an error code.
    @inline(never) package func fault(_ vector: UInt8, code: UInt32, at op: OperationPointer) -> Next {
        setFault(vector, code: code)
        return leave(at: op)
    }

    /// #UD at `op`.
    package func undefined(at op: OperationPointer) -> Next { fault(ExceptionVector.ud, at: op) }

    /// #GP(code) at `op`.
    package func generalProtection(_ code: UInt32 = 0, at op: OperationPointer) -> Next {
        fault(ExceptionVector.gp, code: code, at: op)
    }
}
