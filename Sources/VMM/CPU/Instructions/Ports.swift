import CEngine
import CZydis

extension Processor {
    /// Reads a port on behalf of `op`.
    func readPort(_ port: UInt16, size: Int, _ op: OperationPointer) -> UInt32 {
        clock.count = cpu.count(before: op)
        checkPortBreakpoints(port, size, op)
        return ports.read(port, size: size)
    }

    /// Writes a port on behalf of `op`.
    func writePort(_ port: UInt16, _ value: UInt32, size: Int, _ op: OperationPointer) {
        clock.count = cpu.count(before: op)
        checkPortBreakpoints(port, size, op)
        ports.write(port, value, size: size)
    }
}

/// A port access may change what is pending, so the block ends after it.
@inline(__always) private func input<T: Word>(_ cpu: CPU, _ op: OperationPointer, _ port: UInt16, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    guard cpu.ioPermitted(port: port, size: size) else { return cpu.leave(at: op) }
    cpu.setGPR(Register.rax, to: T(truncatingIfNeeded: cpu.processor.readPort(port, size: size, op)))
    return cpu.leave(after: op)
}

@inline(__always) private func output<T: Word>(_ cpu: CPU, _ op: OperationPointer, _ port: UInt16, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    guard cpu.ioPermitted(port: port, size: size) else { return cpu.leave(at: op) }
    cpu.processor.writePort(port, UInt32(truncatingIfNeeded: cpu.gpr(Register.rax, as: T.self)), size: size, op)
    return cpu.leave(after: op)
}

@inline(__always) private func immediatePort(_ op: OperationPointer) -> UInt16 {
    UInt16(truncatingIfNeeded: op.pointee.immediate & 0xff)
}

extension InstructionTable {
    mutating func addPortInstructions() {
        let inDX = SizedHandlers(
            { input($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt8.self) },
            { input($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt16.self) },
            { input($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt32.self) },
            { input($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt32.self) })
        let inImmediate = SizedHandlers(
            { input($0, $1, immediatePort($1), UInt8.self) }, { input($0, $1, immediatePort($1), UInt16.self) },
            { input($0, $1, immediatePort($1), UInt32.self) }, { input($0, $1, immediatePort($1), UInt32.self) })
        row(ZYDIS_MNEMONIC_IN) { decoding in
            decoding.endsBlock = true
            return (decoding.isImmediate(1) ? inImmediate : inDX)[Int(decoding.operands[0].size) / 8]
        }
        let outDX = SizedHandlers(
            { output($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt8.self) },
            { output($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt16.self) },
            { output($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt32.self) },
            { output($0, $1, $0.gpr(Register.rdx, as: UInt16.self), UInt32.self) })
        let outImmediate = SizedHandlers(
            { output($0, $1, immediatePort($1), UInt8.self) }, { output($0, $1, immediatePort($1), UInt16.self) },
            { output($0, $1, immediatePort($1), UInt32.self) }, { output($0, $1, immediatePort($1), UInt32.self) })
        row(ZYDIS_MNEMONIC_OUT) { decoding in
            decoding.endsBlock = true
            return (decoding.isImmediate(0) ? outImmediate : outDX)[Int(decoding.operands[1].size) / 8]
        }
    }
}
