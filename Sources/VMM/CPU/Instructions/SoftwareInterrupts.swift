import CEngine
import CZydis

// INT n, INT3, INT1, INTO, BOUND, UD0 to UD2.

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Leaves `op` for `deliverFault`, which checks the gate and charges the count; `faultAddress` is where to return.
    fileprivate func softwareInterrupt(_ vector: UInt8, _ kind: UInt8, _ op: OperationPointer) -> Next {
        setFault(vector)
        pointee.faultIsSoftware = kind
        pointee.faultAddress = truncateRIP(rip(after: op))
        return leave(at: op)
    }

    /// BOUND: #BR unless the signed index lies between the two bounds in memory. The upper bound is read only if the
    /// lower one holds.
    fileprivate func checkBounds<T: Word>(_ op: OperationPointer, _: T.Type) -> Next {
        let size = MemoryLayout<T>.size
        let offset = effectiveAddress(op)
        let index: T = register(op.pointee.destination)
        func bound(_ number: Int) -> T? {
            let offset = offset &+ UInt64(number * size)
            if op.pointee.flags & OperationFlags.checkSegment != 0 {
                guard checkSegment(Int(op.pointee.segment), offset: offset, size: size, write: false, op) else {
                    return nil
                }
            }
            return read(T.self, linear: (offset &+ register(op.pointee.segmentBase)) & pointee.linearMask, op)
        }
        guard let lower = bound(0) else { return nil }
        guard index.signed >= lower.signed else { return fault(ExceptionVector.br, at: op) }
        guard let upper = bound(1) else { return nil }
        return index.signed <= upper.signed ? op + 1 : fault(ExceptionVector.br, at: op)
    }
}

extension InstructionTable {
    mutating func addSoftwareInterrupts() {
        row(ZYDIS_MNEMONIC_INT, endsBlock: true) { cpu, op in
            cpu.softwareInterrupt(UInt8(truncatingIfNeeded: op.pointee.immediate), SoftwareInterrupt.intN, op)
        }
        row(ZYDIS_MNEMONIC_INT3, endsBlock: true) { cpu, op in
            cpu.softwareInterrupt(ExceptionVector.bp, SoftwareInterrupt.int3, op)
        }
        row(ZYDIS_MNEMONIC_INT1, endsBlock: true) { cpu, op in
            cpu.softwareInterrupt(ExceptionVector.db, SoftwareInterrupt.int1, op)
        }
        row(ZYDIS_MNEMONIC_INTO, endsBlock: true) { cpu, op in
            cpu.of ? cpu.softwareInterrupt(ExceptionVector.of, SoftwareInterrupt.into, op) : cpu.leave(after: op)
        }
        row(ZYDIS_MNEMONIC_BOUND) { decoding in
            if decoding.size == 2 { return { cpu, op in cpu.checkBounds(op, UInt16.self) } }
            return { cpu, op in cpu.checkBounds(op, UInt32.self) }
        }
        for mnemonic in [ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1, ZYDIS_MNEMONIC_UD2] {
            row(mnemonic, endsBlock: true) { cpu, op in cpu.undefined(at: op) }
        }
    }
}
