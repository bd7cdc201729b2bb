import CEngine

/// The fixed pieces of host code: the way into translated code and out of it, and what it calls.
///
/// Translated code keeps RSP a multiple of 16, so that a thunk which was called and takes 8 bytes can call C.
struct Thunks {
    /// Enters translated code: a C function of (CPU, host address). Returns 0 when state, RIP and count are exact, else
    /// the number of the exit that was taken, with RIP still to be set to where it leads.
    private(set) var enter = UnsafeRawPointer(bitPattern: 1)!
    /// Leaves with the number of an exit in EAX.
    private(set) var exit = UnsafeRawPointer(bitPattern: 1)!
    /// Executes the operation in arena slot EDX of the block in slot R14D by its handler, then returns, or leaves if
    /// something else than the next operation is due.
    private(set) var handler = UnsafeRawPointer(bitPattern: 1)!
    /// Puts the flags into AX as `hostFlags` has them; keeps every other register.
    private(set) var loadFlags = UnsafeRawPointer(bitPattern: 1)!

    /// Looks up the page of the linear address in RAX for the private data cache, on behalf of the operation and block
    /// whose arena slots are in the lower and upper half of RDX, with `fillWrites` for a write. RAX stays; ZF is set if
    /// the cache cannot have the page.
    private(set) var fill = UnsafeRawPointer(bitPattern: 1)!
    /// Above any arena slot.
    static let fillWrites: UInt64 = 1 << 31
    /// … and this for one of the stack.
    static let fillIsStack: UInt64 = 1 << 30

    private static let calleeSaved: [HostRegister] = [.rbx, .rbp, .r12, .r13, .r14, .r15]
    /// PUSH takes 48 bytes and the return address 8: this much more makes a multiple of 16.
    private static let frame: Int32 = 8

    /// Writes the thunks at `e`. All addresses are in the writable view, but for `enter`'s use by `executable`.
    init(_ e: inout Emitter, bug: TranslatorBug? = nil) {
        enter = Self.enter(&e)
        let restore = Self.restore(&e)
        exit = Self.exit(&e, restore)
        loadFlags = Self.loadFlags(&e)
        handler = Self.handler(&e, restore, bug)
        fill = Self.fill(&e)
    }

    private static func enter(_ e: inout Emitter) -> UnsafeRawPointer {
        let start = UnsafeRawPointer(e.place)
        for register in calleeSaved { e.push(register) }
        e.arithmetic(ArithmeticNumber.sub, .register(.rsp), constant: frame)
        e.loadAddress(.state, .memory(.rdi, Int32(StateOffset.bias)))
        e.move(.rax, .rsi)
        e.loadBudget()
        e.loadGuest()
        e.jump(through: .register(.rax))
        return start
    }

    /// Returns EAX to the caller of `enter`.
    private static func restore(_ e: inout Emitter) -> UnsafeRawPointer {
        let start = UnsafeRawPointer(e.place)
        e.arithmetic(ArithmeticNumber.add, .register(.rsp), constant: frame)
        for register in calleeSaved.reversed() { e.pop(register) }
        e.ret()
        return start
    }

    private static func exit(_ e: inout Emitter, _ restore: UnsafeRawPointer) -> UnsafeRawPointer {
        let start = UnsafeRawPointer(e.place)
        e.storeGuest()
        e.storeCount()
        e.move(.rbx, .rax)
        e.settleFlags()
        e.move(.rax, .rbx)
        e.jump(to: restore)
        return start
    }

    private static func handler(
        _ e: inout Emitter, _ restore: UnsafeRawPointer, _ bug: TranslatorBug?
    ) -> UnsafeRawPointer {
        let start = UnsafeRawPointer(e.place)
        e.arithmetic(ArithmeticNumber.sub, .register(.rsp), constant: 8)
        e.storeGuest(except: bug == .spill ? Register.rdi : nil)
        e.storeCount()
        e.settleFlags()
        e.load(.rbx, .state(StateOffset.blockArena))
        e.shift(4, .register(.rdx), by: 6)
        e.arithmetic(ArithmeticNumber.add, .register(.rdx), source: .rbx)
        e.shift(4, .register(.r14), by: 6)
        e.arithmetic(ArithmeticNumber.add, .register(.r14), source: .rbx)
        e.load(.rax, .memory(.r14, Int32(MemoryLayout<Block>.offset(of: \.rip)!)))
        e.store(.state(StateOffset.blockRIP), .rax)
        e.move(.r13, .rdx)
        e.loadAddress(.rdi, .memory(.state, Int32(-StateOffset.bias)))
        e.move(.rsi, .rdx)
        e.call(through: .memory(.rsi, Int32(MemoryLayout<Operation>.offset(of: \.handler)!)))
        e.loadAddress(.rdx, .memory(.r13, Int32(MemoryLayout<Operation>.stride)))
        e.arithmetic(ArithmeticNumber.cmp, .register(.rax), source: .rdx)
        let left = e.jump(if: Condition.notEqual)
        e.arithmetic(ArithmeticNumber.cmp, .state(StateOffset.patched), constant: 0)
        if bug == .handlerLeave { e.arithmetic(ArithmeticNumber.cmp, .register(.rsp), source: .rsp) }
        let diverted = e.jump(if: Condition.notEqual)
        e.arithmetic(
            ArithmeticNumber.cmp, .memory(.r14, Int32(MemoryLayout<Block>.offset(of: \.isAlive)!)), size: 1, constant: 0
        )
        if bug == .ownCode { e.arithmetic(ArithmeticNumber.cmp, .register(.rsp), constant: 0) }
        let killed = e.jump(if: Condition.equal)
        e.loadBudget()
        e.loadGuest()
        e.arithmetic(ArithmeticNumber.add, .register(.rsp), constant: 8)
        e.ret()
        // What was to come next in the block now leads out of it.
        diverted.lead(to: e.place)
        killed.lead(to: e.place)
        e.loadAddress(.rdi, .memory(.state, Int32(-StateOffset.bias)))
        e.move(.rsi, .rax)
        e.call(through: .memory(.rsi, Int32(MemoryLayout<Operation>.offset(of: \.handler)!)))
        left.lead(to: e.place)
        e.arithmetic(ArithmeticNumber.xor, .register(.rax), size: 4, source: .rax)
        e.arithmetic(ArithmeticNumber.add, .register(.rsp), constant: 16)
        e.jump(to: restore)
        return start
    }

    private static func fill(_ e: inout Emitter) -> UnsafeRawPointer {
        let start = UnsafeRawPointer(e.place)
        e.push(.rax)  // aligns the stack
        for (number, register) in GuestRegisters.callerSaved { e.store(.state(StateOffset.gpr(number)), register) }
        e.move(.rsi, .rax)
        e.load(.rcx, .state(StateOffset.deadline))
        e.arithmetic(ArithmeticNumber.sub, .rcx, .register(.budget))
        e.store(.state(StateOffset.count), .rcx)
        e.loadAddress(.rdi, .memory(.state, Int32(-StateOffset.bias)))
        e.move(.rax, constant: UInt64(UInt(bitPattern: unsafeBitCast(fillFunction, to: UnsafeRawPointer.self))))
        e.call(through: .register(.rax))
        // A walk that changes code moves the deadline.
        e.loadBudget()
        e.test(.register(.rax), size: 1, .rax)
        for (number, register) in GuestRegisters.callerSaved { e.load(register, .state(StateOffset.gpr(number))) }
        e.pop(.rax)
        e.ret()
        return start
    }

    private typealias Fill = @convention(c) (CPU, UInt64, UInt64) -> Bool
    private static let fillFunction: Fill = { cpu, linear, slots in
        let arena = cpu.pointee.blockArena
        let stride = MemoryLayout<Operation>.stride
        let op = (arena + Int(slots & (fillIsStack - 1)) * stride).assumingMemoryBound(to: Operation.self)
        let block = (arena + Int(slots >> 32) * stride).assumingMemoryBound(to: Block.self)
        cpu.pointee.blockRIP = block.pointee.rip
        // The walk may write to a page table that holds this very code.
        var kind: AccessKind = slots & fillWrites != 0 ? [.write] : []
        if slots & fillIsStack != 0 { kind.insert(.stack) }
        return cpu.withProcessor { $0.fillDataCache(linear, kind, op) }
            && block.pointee.isAlive
    }

    /// The inverse of `flagTable`'s contents, computed as the getters in Flags.swift do.
    private static func loadFlags(_ e: inout Emitter) -> UnsafeRawPointer {
        let start = UnsafeRawPointer(e.place)
        let word = Emitter.Operand.state(StateOffset.hostFlags)
        e.extend(.rax, size: 4, word, from: 2, signed: false)
        e.test(.register(.rax), size: 4, .rax)
        let compute = e.jump(if: Condition.equal)
        e.ret()
        compute.lead(to: e.place)
        for register in [HostRegister.rcx, .rdx, .r14] { e.push(register) }
        e.load(.rdx, .state(StateOffset.flagResult))
        e.load(.r14, .state(StateOffset.flagCarries))
        e.move(.rax, .r14)
        e.shift(5, .register(.rax), by: 63)  // CF
        e.move(.rcx, .r14, size: 4)
        e.arithmetic(ArithmeticNumber.and, .register(.rcx), size: 4, constant: 8)
        e.loadAddress(.rax, size: 4, .indexed(.rax, .rcx, scale: 1, 0))  // AF
        e.test(.register(.rdx), .rdx)
        e.mergeCondition(Condition.equal, shift: 6)  // ZF
        e.move(.rcx, .rdx)
        e.shift(5, .register(.rcx), by: 47)
        e.arithmetic(ArithmeticNumber.xor, .register(.rcx), source: .r14)
        e.shift(5, .register(.rcx), size: 4, by: 16)
        e.arithmetic(ArithmeticNumber.and, .register(.rcx), size: 4, constant: 1)
        e.shift(4, .register(.rcx), size: 4, by: 7)
        e.arithmetic(ArithmeticNumber.or, .register(.rax), size: 4, source: .rcx)  // SF
        e.move(.rcx, .r14, size: 4)
        e.shift(5, .register(.rcx), size: 4, by: 8)
        e.arithmetic(ArithmeticNumber.xor, .register(.rcx), size: 4, source: .rdx)
        e.test(.register(.rcx), size: 1, .rcx)
        e.mergeCondition(Condition.parity, shift: 2)  // PF
        e.arithmetic(ArithmeticNumber.or, .register(.rax), size: 4, constant: 2)
        e.shift(4, .register(.rax), size: 4, by: 8)
        e.loadAddress(.rcx, .indexed(.r14, .r14, scale: 0, 0))
        e.arithmetic(ArithmeticNumber.xor, .register(.rcx), source: .r14)
        e.shift(5, .register(.rcx), by: 63)
        e.arithmetic(ArithmeticNumber.or, .register(.rax), size: 4, source: .rcx)  // OF
        for register in [HostRegister.r14, .rdx, .rcx] { e.pop(register) }
        e.ret()
        return start
    }

    /// Fills the table by which `settleFlags` turns host flags into the interpreter's form: LAHF's byte, with OF as
    /// bit 8.
    static func fillFlagTable(_ cpu: CPU) {
        let (result, carries) = (cpu.pointee.flagResult, cpu.pointee.flagCarries)
        let table = (cpu.raw + Int(CPU_REGION_FLAGS)).bindMemory(to: UInt64.self, capacity: 1024)
        for index in 0..<512 {
            let overflow: UInt64 = index & 0x100 != 0 ? RFlags.of : 0
            cpu.setArithmeticFlags(UInt64(index & 0xd5) | overflow)
            table[index * 2] = cpu.pointee.flagResult
            table[index * 2 + 1] = cpu.pointee.flagCarries
        }
        (cpu.pointee.flagResult, cpu.pointee.flagCarries) = (result, carries)
    }
}

extension Emitter {
    fileprivate mutating func push(_ register: HostRegister) {
        if register.number >= 8 { byte(0x41) }
        byte(0x50 | register.number & 7)
    }

    fileprivate mutating func pop(_ register: HostRegister) {
        if register.number >= 8 { byte(0x41) }
        byte(0x58 | register.number & 7)
    }

    fileprivate mutating func storeGuest(except forgotten: Int? = nil) {
        for number in GuestRegisters.mapped where number != forgotten {
            store(.state(StateOffset.gpr(number)), GuestRegisters.host[number].unsafelyUnwrapped)
        }
    }

    fileprivate mutating func loadGuest() {
        for number in GuestRegisters.mapped {
            load(GuestRegisters.host[number].unsafelyUnwrapped, .state(StateOffset.gpr(number)))
        }
    }

    /// count ← deadline - budget; R13 is scratch.
    fileprivate mutating func storeCount() {
        load(.r13, .state(StateOffset.deadline))
        arithmetic(ArithmeticNumber.sub, .register(.r13), source: .budget)
        store(.state(StateOffset.count), .r13)
    }

    /// budget ← deadline - count
    fileprivate mutating func loadBudget() {
        load(.budget, .state(StateOffset.deadline))
        arithmetic(ArithmeticNumber.sub, .budget, .state(StateOffset.count))
    }

    /// Gives the flags the interpreter's form, if they are in `hostFlags`; RAX and RCX are scratch.
    fileprivate mutating func settleFlags() {
        extend(.rax, size: 4, .state(StateOffset.hostFlags), from: 2, signed: false)
        test(.register(.rax), size: 4, .rax)
        let done = jump(if: Condition.equal)
        shift(0, .register(.rax), size: 2, by: 8)
        shift(4, .register(.rax), size: 4, by: 4)
        load(.rcx, .indexed(.state, .rax, scale: 0, StateOffset.flagTable))
        store(.state(StateOffset.flagResult), .rcx)
        load(.rcx, .indexed(.state, .rax, scale: 0, StateOffset.flagTable + 8))
        store(.state(StateOffset.flagCarries), .rcx)
        store(.state(StateOffset.hostFlags), size: 2, constant: 0)
        done.lead(to: place)
    }

    /// EAX |= condition << shift; ECX is scratch.
    fileprivate mutating func mergeCondition(_ condition: UInt8, shift count: UInt8) {
        set(condition, .register(.rcx))
        extend(.rcx, size: 4, .register(.rcx), from: 1, signed: false)
        shift(4, .register(.rcx), size: 4, by: count)
        arithmetic(ArithmeticNumber.or, .register(.rax), size: 4, source: .rcx)
    }
}
