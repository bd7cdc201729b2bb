import CEngine
import CZydis

// x87 arithmetic, comparisons and transcendental functions: rows of (mnemonic, X87Function). A handler checks, in this
// order, for a pending exception, memory faults, and an empty register, then runs the row's function.

/// An x87 instruction while CR0.EM or CR0.TS is set.
private let x87Unavailable: Handler = { cpu, op in cpu.fault(ExceptionVector.nm, at: op) }

extension Decoding {
    /// Records ST(i), pops and the opcode in `Operation.immediate` as `X87Form` has it.
    func setX87Form(pops: Int = 0) {
        let opcode = UInt64(instruction.opcode)
        let modRM =
            UInt64(instruction.raw.modrm.mod) << 6 | UInt64(instruction.raw.modrm.reg) << 3
            | UInt64(instruction.raw.modrm.rm)
        var form = (modRM & 7) | UInt64(pops) << X87Form.popShift
        form |= ((opcode & 7) << 8 | modRM) << X87Form.opcodeShift
        if opcode == 0xdc || opcode == 0xde { form |= X87Form.toIndexed }
        op.pointee.immediate = form
    }
}

extension InstructionTable {
    /// Adds a row of an x87 instruction whose handler depends on the operands.
    mutating func x87Selecting(_ mnemonic: ZydisMnemonic, pops: Int = 0, _ select: @escaping HandlerChoice) {
        row(mnemonic) { d in
            guard d.mode & ModeKey.x87Usable != 0 else { return x87Unavailable }
            d.setX87Form(pops: pops)
            return select(&d)
        }
    }

    /// Adds a row of an x87 instruction with one handler and, if it has one, one host operation.
    mutating func x87Row(
        _ mnemonic: ZydisMnemonic, pops: Int = 0, _ handler: @escaping Handler, _ function: X87Function? = nil
    ) {
        x87Selecting(mnemonic, pops: pops) { d in
            d.op.pointee.x87 = function
            return handler
        }
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Runs the row's function.
    @inline(__always) func runX87(
        _ op: OperationPointer, _ destination: UnsafeMutableRawPointer, _ source: UnsafeRawPointer
    ) -> UInt32 {
        op.pointee.x87.unsafelyUnwrapped(x87Environment, destination, source)
    }

    /// The masked response to a missing operand: the destination becomes the default NaN.
    @inline(never) fileprivate func x87Underflow(
        _ op: OperationPointer, destination: Int, conditions: UInt16 = X87Status.c1
    ) -> Next {
        if x87StackFault(op, conditions: conditions) {
            setST(destination, .indefinite)
            popX87(op)
        }
        return op + 1
    }

    /// destination = destination op source, between stack registers.
    @inline(__always) fileprivate func arithmetic(
        _ op: OperationPointer, destination: Int, source: Int, conditions: UInt16 = X87Status.c1
    ) -> Next {
        guard x87Ready(op) else { return nil }
        if _slowPath(isEmpty(destination) || isEmpty(source)) {
            return x87Underflow(op, destination: destination, conditions: conditions)
        }
        let status = runX87(op, st(destination), st(source))
        if commitX87(op, status, conditions: conditions) { popX87(op) }
        return op + 1
    }

    /// ST(0) = ST(0) op memory.
    @inline(__always) fileprivate func arithmeticMemory(_ op: OperationPointer, size: Int) -> Next {
        guard x87Ready(op), let source = sourcePointer(op, size: size) else { return nil }
        if _slowPath(isEmpty(0)) { return x87Underflow(op, destination: 0) }
        _ = commitX87(op, runX87(op, st(0), source))
        return op + 1
    }

    // MARK: Comparisons

    /// Ends a comparison, whose condition codes are set even if an unmasked exception keeps the stack as it is.
    @inline(__always) private func finishComparison(_ op: OperationPointer, _ status: UInt32) -> Next {
        _ = commitX87(op, status, conditions: X87Status.conditions, suppressing: 0)
        if UInt16(truncatingIfNeeded: status) & ~pointee.fcw & X87Status.suppressing == 0 { popX87(op) }
        return op + 1
    }

    @inline(never) private func comparisonUnderflow(_ op: OperationPointer) -> Next {
        let unordered = X87Status.c0 | X87Status.c2 | X87Status.c3
        return finishComparison(op, UInt32(unordered | X87Status.invalid | X87Status.stackFault))
    }

    @inline(__always) fileprivate func compareX87(_ op: OperationPointer, with index: Int) -> Next {
        guard x87Ready(op) else { return nil }
        if _slowPath(isEmpty(0) || isEmpty(index)) { return comparisonUnderflow(op) }
        return finishComparison(op, runX87(op, st(0), st(index)))
    }

    @inline(__always) fileprivate func compareX87Memory(_ op: OperationPointer, size: Int) -> Next {
        guard x87Ready(op), let source = sourcePointer(op, size: size) else { return nil }
        if _slowPath(isEmpty(0)) { return comparisonUnderflow(op) }
        return finishComparison(op, runX87(op, st(0), source))
    }

    /// FCOMI and its relatives: the condition codes of FCOM as ZF, PF and CF; of the status word only C1 can change,
    /// and only on a stack fault.
    @inline(__always) fileprivate func compareToFlags(_ op: OperationPointer) -> Next {
        guard x87Ready(op) else { return nil }
        let index = x87Index(op)
        var status = UInt32(X87Status.c0 | X87Status.c2 | X87Status.c3 | X87Status.invalid | X87Status.stackFault)
        var conditions = X87Status.c1
        if _fastPath(!isEmpty(0) && !isEmpty(index)) {
            status = runX87(op, st(0), st(index))
            conditions = 0
        }
        let codes = UInt16(truncatingIfNeeded: status)
        setArithmeticFlags(
            (codes & X87Status.c3 != 0 ? RFlags.zf : 0) | (codes & X87Status.c2 != 0 ? RFlags.pf : 0)
                | (codes & X87Status.c0 != 0 ? RFlags.cf : 0))
        if commitX87(op, status & ~UInt32(X87Status.conditions), conditions: conditions) { popX87(op) }
        return op + 1
    }

    // MARK: Two results

    /// FXTRACT, FSINCOS, FPTAN: the first result replaces ST(0), the second is pushed.
    @inline(__always) fileprivate func twoResults(_ op: OperationPointer, conditions: UInt16) -> Next {
        guard x87Ready(op) else { return nil }
        if _slowPath(isEmpty(0) || !isEmpty(7)) {
            if x87StackFault(op, overflow: !isEmpty(0), conditions: conditions) {
                setST(0, .indefinite)
                pushX87(.indefinite)
            }
            return op + 1
        }
        var results = (X87Register.zero, X87Register.zero)
        let status = runX87(op, &results, st(0))
        guard commitX87(op, status, conditions: conditions) else { return op + 1 }
        if UInt16(truncatingIfNeeded: status) & conditions & X87Status.c2 != 0 { return op + 1 }
        setST(0, results.0)
        pushX87(results.1)
        return op + 1
    }
}

// MARK: Handlers

private let withIndexed: Handler = { cpu, op in cpu.arithmetic(op, destination: 0, source: cpu.x87Index(op)) }
private let toIndexed: Handler = { cpu, op in cpu.arithmetic(op, destination: cpu.x87Index(op), source: 0) }
private let withMemory16: Handler = { cpu, op in cpu.arithmeticMemory(op, size: 2) }
private let withMemory32: Handler = { cpu, op in cpu.arithmeticMemory(op, size: 4) }
private let withMemory64: Handler = { cpu, op in cpu.arithmeticMemory(op, size: 8) }

private let compareIndexed: Handler = { cpu, op in cpu.compareX87(op, with: cpu.x87Index(op)) }
private let compareMemory16: Handler = { cpu, op in cpu.compareX87Memory(op, size: 2) }
private let compareMemory32: Handler = { cpu, op in cpu.compareX87Memory(op, size: 4) }
private let compareMemory64: Handler = { cpu, op in cpu.compareX87Memory(op, size: 8) }
private let compareWithNext: Handler = { cpu, op in cpu.compareX87(op, with: 1) }
private let compareWithZero: Handler = { cpu, op in cpu.compareX87(op, with: 0) }
private let compareIndexedToFlags: Handler = { cpu, op in cpu.compareToFlags(op) }

/// FSQRT, FRNDINT, F2XM1.
private let unary: Handler = { cpu, op in cpu.arithmetic(op, destination: 0, source: 0) }
/// FSIN and FCOS, which set C2 if the operand is out of range.
private let angle: Handler = { cpu, op in
    cpu.arithmetic(op, destination: 0, source: 0, conditions: X87Status.c1 | X87Status.c2)
}
private let scale: Handler = { cpu, op in cpu.arithmetic(op, destination: 0, source: 1) }
private let remainder: Handler = { cpu, op in
    cpu.arithmetic(op, destination: 0, source: 1, conditions: X87Status.conditions)
}
/// FYL2X, FYL2XP1, FPATAN: the result goes to ST(1) and ST(0) is popped.
private let toNext: Handler = { cpu, op in cpu.arithmetic(op, destination: 1, source: 0) }
private let twoAngles: Handler = { cpu, op in cpu.twoResults(op, conditions: X87Status.c1 | X87Status.c2) }
private let extract: Handler = { cpu, op in cpu.twoResults(op, conditions: X87Status.c1) }

// MARK: Rows

extension InstructionTable {
    /// Adds all x87 instructions.
    mutating func addX87() {
        addX87Arithmetic()
        addX87Comparisons()
        addX87Transcendentals()
        addX87Moves()
        addX87Control()
    }

    /// FADD and FADDP, say, by what the other operand is.
    private mutating func arithmetic(
        _ mnemonic: ZydisMnemonic, _ popping: ZydisMnemonic, _ register: @escaping X87Function,
        _ single: @escaping X87Function, _ double: @escaping X87Function
    ) {
        x87Selecting(mnemonic) { d in
            guard d.isMemory(0) else {
                d.op.pointee.x87 = register
                return d.op.pointee.immediate & X87Form.toIndexed != 0 ? toIndexed : withIndexed
            }
            let isSingle = d.operandSize(0) == 4
            d.op.pointee.x87 = isSingle ? single : double
            return isSingle ? withMemory32 : withMemory64
        }
        x87Row(popping, pops: 1, toIndexed, register)
    }

    private mutating func arithmeticInteger(
        _ mnemonic: ZydisMnemonic, _ word: @escaping X87Function, _ doubleword: @escaping X87Function
    ) {
        x87Selecting(mnemonic) { d in
            let isWord = d.operandSize(0) == 2
            d.op.pointee.x87 = isWord ? word : doubleword
            return isWord ? withMemory16 : withMemory32
        }
    }

    private mutating func addX87Arithmetic() {
        arithmetic(ZYDIS_MNEMONIC_FADD, ZYDIS_MNEMONIC_FADDP, x87_fadd, x87_fadd_single, x87_fadd_double)
        arithmetic(ZYDIS_MNEMONIC_FMUL, ZYDIS_MNEMONIC_FMULP, x87_fmul, x87_fmul_single, x87_fmul_double)
        arithmetic(ZYDIS_MNEMONIC_FSUB, ZYDIS_MNEMONIC_FSUBP, x87_fsub, x87_fsub_single, x87_fsub_double)
        arithmetic(ZYDIS_MNEMONIC_FSUBR, ZYDIS_MNEMONIC_FSUBRP, x87_fsubr, x87_fsubr_single, x87_fsubr_double)
        arithmetic(ZYDIS_MNEMONIC_FDIV, ZYDIS_MNEMONIC_FDIVP, x87_fdiv, x87_fdiv_single, x87_fdiv_double)
        arithmetic(ZYDIS_MNEMONIC_FDIVR, ZYDIS_MNEMONIC_FDIVRP, x87_fdivr, x87_fdivr_single, x87_fdivr_double)
        arithmeticInteger(ZYDIS_MNEMONIC_FIADD, x87_fiadd_word, x87_fiadd_doubleword)
        arithmeticInteger(ZYDIS_MNEMONIC_FIMUL, x87_fimul_word, x87_fimul_doubleword)
        arithmeticInteger(ZYDIS_MNEMONIC_FISUB, x87_fisub_word, x87_fisub_doubleword)
        arithmeticInteger(ZYDIS_MNEMONIC_FISUBR, x87_fisubr_word, x87_fisubr_doubleword)
        arithmeticInteger(ZYDIS_MNEMONIC_FIDIV, x87_fidiv_word, x87_fidiv_doubleword)
        arithmeticInteger(ZYDIS_MNEMONIC_FIDIVR, x87_fidivr_word, x87_fidivr_doubleword)
        x87Row(ZYDIS_MNEMONIC_FSQRT, unary, x87_fsqrt)
        x87Row(ZYDIS_MNEMONIC_FRNDINT, unary, x87_frndint)
        x87Row(ZYDIS_MNEMONIC_FSCALE, scale, x87_fscale)
        x87Row(ZYDIS_MNEMONIC_FPREM, remainder, x87_fprem)
        x87Row(ZYDIS_MNEMONIC_FPREM1, remainder, x87_fprem1)
        x87Row(ZYDIS_MNEMONIC_FXTRACT, extract, x87_fxtract)
    }

    private mutating func addX87Comparisons() {
        for (mnemonic, pops) in [(ZYDIS_MNEMONIC_FCOM, 0), (ZYDIS_MNEMONIC_FCOMP, 1)] {
            x87Selecting(mnemonic, pops: pops) { d in
                guard d.isMemory(0) else {
                    d.op.pointee.x87 = x87_fcom
                    return compareIndexed
                }
                if d.operandSize(0) == 8 {
                    d.op.pointee.x87 = x87_fcom_double
                    return compareMemory64
                }
                d.op.pointee.x87 = x87_fcom_single
                return compareMemory32
            }
        }
        for (mnemonic, pops) in [(ZYDIS_MNEMONIC_FICOM, 0), (ZYDIS_MNEMONIC_FICOMP, 1)] {
            x87Selecting(mnemonic, pops: pops) { d in
                if d.operandSize(0) == 2 {
                    d.op.pointee.x87 = x87_ficom_word
                    return compareMemory16
                }
                d.op.pointee.x87 = x87_ficom_doubleword
                return compareMemory32
            }
        }
        x87Row(ZYDIS_MNEMONIC_FUCOM, compareIndexed, x87_fucom)
        x87Row(ZYDIS_MNEMONIC_FUCOMP, pops: 1, compareIndexed, x87_fucom)
        x87Row(ZYDIS_MNEMONIC_FCOMPP, pops: 2, compareWithNext, x87_fcom)
        x87Row(ZYDIS_MNEMONIC_FUCOMPP, pops: 2, compareWithNext, x87_fucom)
        x87Row(ZYDIS_MNEMONIC_FTST, compareWithZero, x87_ftst)
        x87Row(ZYDIS_MNEMONIC_FCOMI, compareIndexedToFlags, x87_fcom)
        x87Row(ZYDIS_MNEMONIC_FCOMIP, pops: 1, compareIndexedToFlags, x87_fcom)
        x87Row(ZYDIS_MNEMONIC_FUCOMI, compareIndexedToFlags, x87_fucom)
        x87Row(ZYDIS_MNEMONIC_FUCOMIP, pops: 1, compareIndexedToFlags, x87_fucom)
    }

    private mutating func addX87Transcendentals() {
        x87Row(ZYDIS_MNEMONIC_F2XM1, unary, x87_f2xm1)
        x87Row(ZYDIS_MNEMONIC_FSIN, angle, x87_fsin)
        x87Row(ZYDIS_MNEMONIC_FCOS, angle, x87_fcos)
        x87Row(ZYDIS_MNEMONIC_FSINCOS, twoAngles, x87_fsincos)
        x87Row(ZYDIS_MNEMONIC_FPTAN, twoAngles, x87_fptan)
        x87Row(ZYDIS_MNEMONIC_FPATAN, pops: 1, toNext, x87_fpatan)
        x87Row(ZYDIS_MNEMONIC_FYL2X, pops: 1, toNext, x87_fyl2x)
        x87Row(ZYDIS_MNEMONIC_FYL2XP1, pops: 1, toNext, x87_fyl2xp1)
    }
}
