import CEngine

// PAUSE, RDTSC and RDTSCP in place. Delay loops execute them by the million, so they are counted and reported in the
// code itself, exactly as `SensitiveInstructions.report` does.
extension Translator {
    func emitPause() {
        loseHostFlags(live: RFlags.arithmetic)
        emitReported(nil)
    }

    /// RDTSC, and RDTSCP with code 1. With CR4.TSD, or another rate of time than a count a nanosecond, they are the
    /// handler's.
    func emitTimestamp() {
        guard countsNanoseconds else { return emitHandler() }
        loseHostFlags(live: RFlags.arithmetic)
        hot.test(.state(StateOffset.cr4), size: 4, constant: Int32(CR4.tsd))
        misses.append(hot.jump(if: Condition.notEqual))
        let hasAuxiliary = current.code == 1
        emitReported { e in
            // RAX: the counts before the instruction.
            e.arithmetic(ArithmeticNumber.add, .rax, .state(StateOffset.idleNanoseconds))
            e.arithmetic(ArithmeticNumber.add, .rax, .state(StateOffset.tscOffset))
            e.move(GuestRegisters.host[Register.rax].unsafelyUnwrapped, .rax, size: 4)
            let rdx = GuestRegisters.host[Register.rdx].unsafelyUnwrapped
            e.move(rdx, .rax)
            e.shift(5, .register(rdx), by: 32)
            if hasAuxiliary {
                e.load(GuestRegisters.host[Register.rcx].unsafelyUnwrapped, size: 4, .state(StateOffset.tscAux))
            }
        }
    }

    /// Emits what an instruction computes in RAX from the counts before it, twice: for when no sink is attached, and
    /// with its report for when one is. A report that would fill the sink's buffer is the handler's.
    private func emitReported(_ body: ((inout Emitter) -> Void)?) {
        hot.arithmetic(ArithmeticNumber.cmp, .state(StateOffset.events), constant: 0)
        let reports = hot.jump(if: Condition.notEqual)
        if let body {
            emitPosition(&hot)
            body(&hot)
        }
        hot.arithmetic(
            ArithmeticNumber.add, .state(StateOffset.eventCounter(current.op.pointee.kind)), constant: 1)
        reports.lead(to: cold.place)
        cold.load(.rax, size: 4, .state(StateOffset.eventCount))
        cold.arithmetic(ArithmeticNumber.add, .register(.rax), size: 4, constant: 1)
        cold.arithmetic(ArithmeticNumber.cmp, .rax, size: 4, .state(StateOffset.eventCapacity))
        misses.append(cold.jump(if: Condition.equal))
        emitPosition(&cold)
        cold.move(.first, .rax)
        if let body { body(&cold) } else { cold.move(.rax, constant: 0) }
        emitRecord()
        cold.jump(to: hot.place)
    }

    /// RAX ← counts retired before the current instruction.
    private func emitPosition(_ e: inout Emitter) {
        e.load(.rax, .state(StateOffset.deadline))
        e.arithmetic(ArithmeticNumber.sub, .rax, .register(.budget))
        e.arithmetic(ArithmeticNumber.sub, .register(.rax), constant: Int32(count - index))
    }

    /// Counts the event and puts its record, with the count in RDX and the value in RAX, into the sink's buffer, which
    /// has room.
    private func emitRecord() {
        func field(_ path: PartialKeyPath<EventRecord>) -> Emitter.Operand {
            .memory(.second, Int32(MemoryLayout<EventRecord>.offset(of: path).unsafelyUnwrapped))
        }
        let op = current.op.pointee
        cold.load(.second, size: 4, .state(StateOffset.eventCount))
        cold.loadAddress(.second, .indexed(.second, .second, scale: 2, 0))
        cold.shift(4, .register(.second), by: 3)  // 40 bytes a record
        cold.arithmetic(ArithmeticNumber.add, .second, .state(StateOffset.events))
        cold.store(field(\.count), .first)
        cold.store(field(\.value), .rax)
        cold.move(.rax, constant: block.pointee.rip &+ UInt64(op.offset))
        cold.store(field(\.address), .rax)
        cold.move(.rax, constant: op.immediate)
        cold.store(field(\.operand), .rax)
        // Kind, ring, size, flags and detail fill the last eight bytes.
        cold.extend(.rax, size: 4, .state(StateOffset.cpl), from: 1, signed: false)
        cold.shift(4, .register(.rax), size: 4, by: 8)
        cold.arithmetic(
            ArithmeticNumber.or, .register(.rax), size: 4, constant: Int32(op.kind) | Int32(op.length) << 16)
        cold.store(field(\.kind), .rax)
        cold.arithmetic(ArithmeticNumber.add, .state(StateOffset.eventCount), size: 4, constant: 1)
        cold.arithmetic(ArithmeticNumber.add, .state(StateOffset.eventCounter(op.kind)), constant: 1)
    }
}
