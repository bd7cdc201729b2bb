import CEngine
import CZydis

@inline(__always) private func pushSource<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    cpu.push(cpu.register(op.pointee.destination, as: T.self), op) ? op + 1 : nil
}

@inline(__always) private func pushImmediate<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    cpu.push(T(truncatingIfNeeded: op.pointee.immediate), op) ? op + 1 : nil
}

@inline(__always) private func pushMemory<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let value = cpu.load(T.self, op) else { return nil }
    return cpu.push(value, op) ? op + 1 : nil
}

@inline(__always) private func popRegister<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let value = cpu.pop(T.self, op) else { return nil }
    cpu.setRegister(op.pointee.destination, value)
    return op + 1
}

/// POP to memory: an address that uses RSP uses its value after the pop; RSP is put back if the store faults.
@inline(__always) private func popMemory<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let rsp = cpu.gpr(Register.rsp)
    guard let value = cpu.pop(T.self, op) else { return nil }
    guard cpu.store(value, op) else {
        cpu.setGPR(Register.rsp, rsp)
        return nil
    }
    return op + 1
}

/// PUSHA: eight stores downwards; what was stored before one that faults stays.
@inline(__always) private func pushAll<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let rsp = cpu.gpr(Register.rsp)
    // The last store is the lowest address; a fault at any leaves RSP as it was.
    for number in 0..<8 {
        let value = number == Register.rsp ? T(truncatingIfNeeded: rsp) : cpu.gpr(number, as: T.self)
        guard cpu.push(value, op) else {
            cpu.setGPR(Register.rsp, rsp)
            return nil
        }
    }
    return op + 1
}

@inline(__always) private func popAll<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = UInt64(MemoryLayout<T>.size)
    for depth in 0..<UInt64(8) {
        guard cpu.peek(T.self, op, depth: depth &* size) != nil else { return nil }
    }
    for number in stride(from: 7, through: 0, by: -1) where number != Register.rsp {
        guard let value = cpu.peek(T.self, op, depth: UInt64(7 - number) &* size) else { return nil }
        cpu.setGPR(number, to: value)
    }
    cpu.adjustStack(by: 8 &* size)
    return op + 1
}

/// ENTER: `immediate` bytes of locals, nesting level in `displacement`.
@inline(__always) private func enter<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let (rsp, rbp) = (cpu.gpr(Register.rsp), cpu.gpr(Register.rbp))
    let mask = cpu.pointee.stackMask
    func fail() -> Next {
        cpu.setGPR(Register.rsp, rsp)
        return nil
    }
    guard cpu.push(T(truncatingIfNeeded: rbp), op) else { return nil }
    let frame = T(truncatingIfNeeded: cpu.gpr(Register.rsp))
    let level = op.pointee.displacement & 31
    if level > 0 {
        var pointer = rbp
        for _ in 1..<level {
            pointer = pointer &- UInt64(MemoryLayout<T>.size)
            guard let linear = stackAddress(cpu, op, pointer & mask, MemoryLayout<T>.size, write: false),
                let value = cpu.read(T.self, linear: linear, op, stack: true), cpu.push(value, op)
            else { return fail() }
        }
        guard cpu.push(frame, op) else { return fail() }
    }
    let top = cpu.gpr(Register.rsp)
    let newTop = (top &- (op.pointee.immediate & 0xffff)) & mask
    // The new top of the stack is checked for writing, as if something were pushed there.
    guard let linear = stackAddress(cpu, op, newTop, MemoryLayout<T>.size, write: true),
        cpu.beginUpdate(T.self, linear: linear, op) != nil
    else { return fail() }
    cpu.setGPR(Register.rbp, to: frame)
    cpu.setGPR(Register.rsp, (top & ~mask) | newTop)
    return op + 1
}

/// The linear address of `size` bytes at an offset in the stack segment; nil with #SS(0) recorded.
private func stackAddress(_ cpu: CPU, _ op: OperationPointer, _ offset: UInt64, _ size: Int, write: Bool) -> UInt64? {
    if op.pointee.flags & OperationFlags.checkStack != 0 {
        guard cpu.checkSegment(SegmentIndex.ss, offset: offset, size: size, write: write, op) else { return nil }
    }
    return (offset &+ cpu.pointee.stackBase) & cpu.pointee.linearMask
}

/// LEAVE: RSP from RBP, then POP RBP.
@inline(__always) private func leave<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let mask = cpu.pointee.stackMask
    let rsp = cpu.gpr(Register.rsp)
    cpu.setGPR(Register.rsp, (rsp & ~mask) | (cpu.gpr(Register.rbp) & mask))
    guard let value = cpu.pop(T.self, op) else {
        cpu.setGPR(Register.rsp, rsp)
        return nil
    }
    cpu.setGPR(Register.rbp, to: value)
    return op + 1
}

extension InstructionTable {
    mutating func addStack() {
        let pushR = SizedHandlers(
            { pushSource($0, $1, UInt16.self) }, { pushSource($0, $1, UInt16.self) },
            { pushSource($0, $1, UInt32.self) }, { pushSource($0, $1, UInt64.self) })
        let pushI = SizedHandlers(
            { pushImmediate($0, $1, UInt16.self) }, { pushImmediate($0, $1, UInt16.self) },
            { pushImmediate($0, $1, UInt32.self) }, { pushImmediate($0, $1, UInt64.self) })
        let pushM = SizedHandlers(
            { pushMemory($0, $1, UInt16.self) }, { pushMemory($0, $1, UInt16.self) },
            { pushMemory($0, $1, UInt32.self) }, { pushMemory($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_PUSH) { decoding in
            if let special = decoding.segmentPush() { return special }
            return (decoding.isMemory(0) ? pushM : decoding.isImmediate(0) ? pushI : pushR)[decoding.size]
        }
        let popR = SizedHandlers(
            { popRegister($0, $1, UInt16.self) }, { popRegister($0, $1, UInt16.self) },
            { popRegister($0, $1, UInt32.self) }, { popRegister($0, $1, UInt64.self) })
        let popM = SizedHandlers(
            { popMemory($0, $1, UInt16.self) }, { popMemory($0, $1, UInt16.self) },
            { popMemory($0, $1, UInt32.self) }, { popMemory($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_POP) { decoding in
            if let special = decoding.segmentPop() { return special }
            return (decoding.isMemory(0) ? popM : popR)[decoding.size]
        }
        row(ZYDIS_MNEMONIC_PUSHA) { pushAll($0, $1, UInt16.self) }
        row(ZYDIS_MNEMONIC_PUSHAD) { pushAll($0, $1, UInt32.self) }
        row(ZYDIS_MNEMONIC_POPA) { popAll($0, $1, UInt16.self) }
        row(ZYDIS_MNEMONIC_POPAD) { popAll($0, $1, UInt32.self) }
        let enterHandlers = SizedHandlers(
            { enter($0, $1, UInt16.self) }, { enter($0, $1, UInt16.self) },
            { enter($0, $1, UInt32.self) }, { enter($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_ENTER) { decoding in
            decoding.op.pointee.immediate = decoding.operands[0].imm.value.u
            decoding.op.pointee.displacement = decoding.operands[1].imm.value.u
            return enterHandlers[decoding.size]
        }
        let leaveHandlers = SizedHandlers(
            { leave($0, $1, UInt16.self) }, { leave($0, $1, UInt16.self) },
            { leave($0, $1, UInt32.self) }, { leave($0, $1, UInt64.self) })
        row(ZYDIS_MNEMONIC_LEAVE) { leaveHandlers[$0.size] }
        addFlagInstructions()
        addPortInstructions()
    }
}
