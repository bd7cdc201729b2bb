import CEngine

// Branches and the stack in host code. A branch inside the page is linked: it becomes a jump to its target's code. One
// to another page probes the jump cache, since the modelled TLB must be asked for that page.
extension Translator {
    /// A conditional branch that was taken, whose way out is emitted after the block's other code.
    struct SideExit {
        let site: JumpSite
        let rip: UInt64
        /// Instructions charged that do not run.
        let refund: Int
        let flags: FlagState
    }

    /// Bytes of a stack slot, and of an instruction pointer.
    private var width: Int { is64 ? 8 : 4 }
    private var rsp: HostRegister { GuestRegisters.host[Register.rsp].unsafelyUnwrapped }
    private var rbp: HostRegister { GuestRegisters.host[Register.rbp].unsafelyUnwrapped }

    /// Where a direct branch leads.
    private var target: UInt64 {
        (block.pointee.rip &+ current.op.pointee.displacement) & current.op.pointee.addressMask
    }

    /// RIP of the instruction after the current one.
    private var nextRIP: UInt64 {
        truncate(block.pointee.rip &+ UInt64(current.op.pointee.offset) &+ UInt64(current.op.pointee.length))
    }

    private func truncate(_ rip: UInt64) -> UInt64 { is64 ? rip : rip & 0xffff_ffff }

    // MARK: Direct branches

    func emitJumpIf() {
        loadFlags()
        let site = hot.jump(if: current.code)
        sideExits.append(
            SideExit(site: site, rip: target, refund: count - index - 1, flags: flags))
    }

    /// The ways out of the block in its middle.
    func emitSideExits() {
        for exit in sideExits {
            exit.site.lead(to: hot.place)
            flags = exit.flags
            saveFlags()
            if exit.refund > 0 && !has(.refund) {
                hot.arithmetic(ArithmeticNumber.add, .register(.budget), constant: Int32(exit.refund))
            }
            emitJump(to: exit.rip)
        }
        sideExits.removeAll(keepingCapacity: true)
    }

    func emitDirectJump() {
        saveFlags()
        emitJump(to: target)
    }

    /// Runs on after the last instruction of the block.
    func emitFallThrough() {
        saveFlags()
        let end = BlockCache.head(block) + 1 + Int(block.pointee.instructionCount)
        emitJump(to: truncate(block.pointee.rip &+ UInt64(end.pointee.offset)))
    }

    /// Goes to `rip`, with flags in memory and the count exact.
    private func emitJump(to rip: UInt64) {
        if rip & pageMask == block.pointee.rip & pageMask || has(.linkAcrossPages) {
            let site = hot.jump()
            site.lead(to: cold.place)
            emitStub(addExit(to: rip, site: site))
            return
        }
        let entry = StateOffset.jumpCache + Int32(JumpCache.index(rip) * MemoryLayout<JumpCacheEntry>.stride)
        hot.move(.rax, constant: rip)
        hot.arithmetic(ArithmeticNumber.cmp, .rax, .state(entry + JumpCacheOffset.rip))
        let otherRIP = hot.jump(if: Condition.notEqual)
        hot.arithmetic(
            ArithmeticNumber.cmp, .state(entry + JumpCacheOffset.mode), size: 4,
            constant: Int32(bitPattern: block.pointee.mode))
        if has(.targetMode) { hot.arithmetic(ArithmeticNumber.cmp, .register(.rsp), source: .rsp) }
        let otherMode = hot.jump(if: Condition.notEqual)
        hot.load(.rax, size: 4, .state(entry + JumpCacheOffset.code))
        hot.jump(through: .register(.rax))
        otherRIP.lead(to: cold.place)
        otherMode.lead(to: cold.place)
        emitStub(addExit(to: rip))
    }

    // MARK: Calls and indirect branches

    func emitCall() {
        loseHostFlags(live: RFlags.arithmetic)
        emitPushOfNextRIP()
        emitJump(to: target)
    }

    /// Pushes the address of the next instruction. RAX and RDX are lost.
    private func emitPushOfNextRIP() {
        probePush()
        if let short = Int32(exactly: Int64(bitPattern: nextRIP)) {
            hot.store(memoryOperand, size: width, constant: short)
        } else if width == 4 {
            hot.store(memoryOperand, size: 4, constant: Int32(truncatingIfNeeded: nextRIP))
        } else {
            hot.move(.first, constant: nextRIP)
            hot.store(memoryOperand, .first)
        }
        if marksBlock { emitCallMark(isCalled: true) }
        hot.loadAddress(rsp, size: width, .memory(rsp, Int32(-width)))
    }

    /// Whether the block's calls are marked (`CallMarks`).
    private var marksBlock: Bool { marksCalls && block.pointee.mode & ModeKey.user == 0 }

    /// Takes the mark of the return address that was probed for away, unless RET will fault. R14 is lost.
    private func emitReturnMark() {
        if is64 {
            hot.load(.second, size: width, memoryOperand)
            misses.append(jumpIfNotCanonical(&hot, .second))
        }
        if !has(.callMark) { emitCallMark(isCalled: false) }
    }

    /// Marks the stack slot that was probed for as a return address of the kernel, or no longer. RDX is lost.
    private func emitCallMark(isCalled: Bool) {
        hot.loadAddress(.first, memoryOperand)
        hot.arithmetic(ArithmeticNumber.sub, .first, .state(StateOffset.callMarksRAM))
        // A stack in ROM has no marks.
        hot.arithmetic(ArithmeticNumber.cmp, .first, .state(StateOffset.callMarksSize))
        let outside = hot.jump(if: Condition.aboveOrEqual)
        hot.shift(5, .register(.first), by: 2)
        hot.arithmetic(ArithmeticNumber.add, .first, .state(StateOffset.callMarks))
        hot.store(.memory(.first, 0), size: 1, constant: isCalled ? 1 : 0)
        outside.lead(to: hot.place)
    }

    /// RAX ← host address of the stack slot below RSP.
    private func probePush() {
        if current.group.exists { return probeGroup() }
        hot.loadAddress(.address, size: width, .memory(rsp, Int32(-width)))
        probeLinear(size: width, write: true, stack: true)
    }

    /// RAX ← host address of the stack slot at RSP.
    private func probeTop() {
        if current.group.exists { return probeGroup() }
        hot.move(.address, rsp, size: width)
        probeLinear(size: width, write: false, stack: true)
    }

    /// JMP and CALL to a register's or a memory operand's value.
    func emitIndirect() {
        loseHostFlags(live: RFlags.arithmetic)
        if current.destination.isMemory {
            probe(size: width, write: false)
            hot.load(.rax, size: width, memoryOperand)
        } else if case .register(let number) = current.destination {
            hot.load(.rax, size: width, operand(number))
        }
        let missing = probeJumpCache()
        if current.form == .callIndirect {
            misses += missing
            emitPushOfNextRIP()
        } else {
            emitExit(missing)
        }
        countIndirectBranch(&hot)
        hot.jump(through: .register(.second))
    }

    /// Counts an indirect branch of the kernel for a model.
    private func countIndirectBranch(_ e: inout Emitter) {
        guard countsBranches, block.pointee.mode & ModeKey.user == 0 else { return }
        e.arithmetic(ArithmeticNumber.add, .state(StateOffset.kernelIndirectBranches), constant: 1)
    }

    /// The jump that is taken if a register has no canonical address. RDX is lost.
    private func jumpIfNotCanonical(_ e: inout Emitter, _ register: HostRegister) -> JumpSite {
        e.move(.first, register)
        e.shift(4, .register(.first), by: 16)
        e.shift(7, .register(.first), by: 16)
        e.arithmetic(ArithmeticNumber.cmp, .first, .register(register))
        return e.jump(if: Condition.notEqual)
    }

    /// Leaves for the RIP in RAX, having dropped `bytes` from the stack; one that is not canonical is the handler's.
    private func emitExit(_ sites: [JumpSite], dropping bytes: Int32 = 0) {
        for site in sites { site.lead(to: cold.place) }
        if is64 {
            misses.append(jumpIfNotCanonical(&cold, .rax))
        }
        cold.store(.state(StateOffset.rip), .rax)
        if bytes != 0 { cold.loadAddress(rsp, size: width, .memory(rsp, bytes)) }
        countIndirectBranch(&cold)
        emitStub(Self.exitToRIP)
    }

    func emitReturn() {
        loseHostFlags(live: RFlags.arithmetic)
        probeTop()
        if marksBlock { emitReturnMark() }
        hot.load(.rax, size: width, memoryOperand)
        let bytes = Int32(width) + (has(.returnBytes) ? 0 : Int32(current.immediate))
        emitExit(probeJumpCache(), dropping: bytes)
        hot.loadAddress(rsp, size: width, .memory(rsp, bytes))
        countIndirectBranch(&hot)
        hot.jump(through: .register(.second))
    }

    /// R14 ← the code of the block at the RIP in RAX. RDX is lost.
    /// - Returns: the jumps that are taken if it is not at hand.
    private func probeJumpCache() -> [JumpSite] {
        let table = StateOffset.jumpCache
        hot.move(.first, .rax, size: 4)
        hot.shift(5, .register(.first), size: 4, by: JumpCache.shift)
        hot.move(.second, .rax, size: 4)
        hot.arithmetic(ArithmeticNumber.and, .register(.second), size: 4, constant: Int32(JumpCache.mask))
        hot.arithmetic(ArithmeticNumber.xor, .first, size: 4, .register(.second))
        hot.arithmetic(ArithmeticNumber.and, .register(.first), size: 4, constant: Int32(JumpCache.entries - 1))
        hot.shift(4, .register(.first), size: 4, by: 4)
        hot.arithmetic(ArithmeticNumber.cmp, .rax, .indexed(.state, .first, scale: 0, table + JumpCacheOffset.rip))
        let otherRIP = hot.jump(if: Condition.notEqual)
        hot.arithmetic(
            ArithmeticNumber.cmp, .indexed(.state, .first, scale: 0, table + JumpCacheOffset.mode), size: 4,
            constant: Int32(bitPattern: block.pointee.mode))
        if has(.targetMode) { hot.arithmetic(ArithmeticNumber.cmp, .register(.rsp), source: .rsp) }
        let otherMode = hot.jump(if: Condition.notEqual)
        hot.load(.second, size: 4, .indexed(.state, .first, scale: 0, table + JumpCacheOffset.code))
        return [otherRIP, otherMode]
    }

    // MARK: The stack

    func emitPush() {
        prepareProbe()
        if current.destination.isMemory {
            probe(size: width, write: false)
            hot.load(.second, size: width, memoryOperand)
        }
        if has(.pushOrder) { hot.loadAddress(rsp, size: width, .memory(rsp, Int32(-width))) }
        if has(.pushOrder) { hot.move(.address, rsp, size: width) }
        if has(.pushOrder) { probeLinear(size: width, write: true, stack: true) } else { probePush() }
        switch current.destination {
        case .immediate:
            hot.store(memoryOperand, size: width, constant: Int32(truncatingIfNeeded: current.immediate))
        case .register(let number): hot.store(memoryOperand, size: width, value(number, in: .second))
        default: hot.store(memoryOperand, size: width, .second)
        }
        if !has(.pushOrder) { hot.loadAddress(rsp, size: width, .memory(rsp, Int32(-width))) }
    }

    func emitPop() {
        guard case .register(let destination) = current.destination else { return }
        prepareProbe()
        probeTop()
        hot.load(.second, size: width, memoryOperand)
        hot.loadAddress(rsp, size: width, .memory(rsp, Int32(width)))
        write(destination, size: width, .second)
    }

    func emitLeave() {
        loseHostFlags(live: RFlags.arithmetic)
        hot.move(.address, rbp, size: width)
        probeLinear(size: width, write: false, stack: true)
        hot.loadAddress(rsp, size: width, .memory(rbp, Int32(width)))
        hot.load(rbp, size: width, memoryOperand)
    }
}

private enum JumpCacheOffset {
    static let rip = Int32(MemoryLayout<JumpCacheEntry>.offset(of: \.rip).unsafelyUnwrapped)
    static let code = Int32(MemoryLayout<JumpCacheEntry>.offset(of: \.code).unsafelyUnwrapped)
    static let mode = Int32(MemoryLayout<JumpCacheEntry>.offset(of: \.mode).unsafelyUnwrapped)
}
