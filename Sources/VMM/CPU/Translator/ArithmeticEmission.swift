import CEngine

// Shifts, bits, multiplication, division and exchanges in host code, with the definitions that the interpreter gives to
// results and flags which the manuals leave undefined.
extension Translator {
    // MARK: Shifts

    /// By a constant. The flags that a shift by more than one leaves undefined are those of the last of so many shifts
    /// by one; AF is 0.
    func emitShift() {
        let instruction = current
        let count = UInt8(truncatingIfNeeded: instruction.immediate)
        let isRotation = instruction.code < 4
        let keepsOthers = isRotation && instruction.liveAfter & ~instruction.writes != 0
        if instruction.destination.isMemory {
            prepareProbe()
            probe(size: instruction.size, write: true)
            let place = keepAddress(if: keepsOthers)
            if keepsOthers { loadFlags() }
            shift(place, count)
        } else if case .register(let destination) = instruction.destination {
            if keepsOthers { loadFlags() }
            change(destination, in: .second) { shift(.register($0), count) }
        }
        if isRotation { setPartialFlags() } else { setHostFlags(clearsAF: true) }
    }

    private func shift(_ place: Emitter.Operand, _ count: UInt8) {
        if count > 1 && current.liveAfter & (RFlags.of | RFlags.cf) != 0 {
            hot.shift(current.code, place, size: current.size, by: count - 1)
            hot.shift(current.code, place, size: current.size, by: 1)
        } else {
            hot.shift(current.code, place, size: current.size, by: count)
        }
    }

    /// By CL, for 32 and 64 bits. A count of zero leaves the flags as they are.
    func emitShiftByCL() {
        let instruction = current
        let keepsFlags = instruction.liveAfter != 0
        loseHostFlags(live: instruction.destination.isMemory ? RFlags.arithmetic : instruction.liveAfter)
        if instruction.destination.isMemory {
            probe(size: instruction.size, write: true)
            hot.move(.second, .address)
            shiftByCL(.memory(.second, 0), keepsFlags: keepsFlags)
        } else if case .register(let destination) = instruction.destination {
            change(destination, in: .second) { shiftByCL(.register($0), keepsFlags: keepsFlags) }
        }
        // Even a count of zero clears the upper half of a 32-bit destination, which the host's shift does.
    }

    /// Shifts, and saves the flags in memory unless the count is zero. AX and DX are lost.
    private func shiftByCL(_ place: Emitter.Operand, keepsFlags: Bool) {
        let size = current.size
        guard keepsFlags else {
            hot.shiftByCL(current.code, place, size: size)
            return
        }
        let mask: Int32 = size == 8 ? 63 : 31
        hot.test(.register(.rcx), size: 1, constant: has(.shiftByZero) ? -1 : mask)
        let isZero = hot.jump(if: Condition.equal)
        if current.code == 5 { overflowOfShiftRight(place, mask) }
        switch current.code {
        case 0, 1: rotateByCL(place)
        default:
            hot.shiftByCL(current.code, place, size: size)
            hot.flagsToAX(clearsAF: true)
            overflowOfShift()
        }
        hot.store(.state(StateOffset.hostFlags), size: 2, .rax)
        let done = hot.jump()
        isZero.lead(to: hot.place)
        if size == 4, case .register(let register) = place { hot.move(register, register, size: 4) }
        done.lead(to: hot.place)
    }

    /// DL ← OF of a SHR by CL, not zero, that is about to be done: the sign, if the count is one. AX is lost.
    private func overflowOfShiftRight(_ place: Emitter.Operand, _ mask: Int32) {
        hot.load(.rdx, size: current.size, place)
        hot.shift(5, .register(.rdx), size: current.size, by: UInt8(current.size * 8 - 1))
        hot.move(.rax, .rcx, size: 4)
        hot.arithmetic(ArithmeticNumber.and, .register(.rax), size: 4, constant: mask)
        hot.arithmetic(ArithmeticNumber.cmp, .register(.rax), size: 4, constant: 1)
        hot.set(Condition.equal, .register(.rax))
        hot.arithmetic(ArithmeticNumber.and, .rdx, size: 1, .register(.rax))
    }

    /// AL ← OF of the shift just done by CL, whose other flags are in AH.
    private func overflowOfShift() {
        switch current.code {
        case 4:  // SHL: CF xor the sign of the result
            hot.byte(0x88)
            hot.byte(0xe0)  // MOV AL, AH
            hot.shift(5, .register(.rax), size: 1, by: 7)
            hot.byte(0x30)
            hot.byte(0xe0)  // XOR AL, AH
            hot.arithmetic(ArithmeticNumber.and, .register(.rax), size: 1, constant: 1)
        case 5: hot.move(.rax, .rdx, size: 1)
        default: hot.arithmetic(ArithmeticNumber.xor, .rax, size: 1, .register(.rax))  // SAR
        }
    }

    /// ROL or ROR by CL, not zero: SF, ZF, AF and PF stay, so they come from memory; CF and OF follow from the result.
    private func rotateByCL(_ place: Emitter.Operand) {
        let size = current.size
        hot.shiftByCL(current.code, place, size: size)
        hot.load(.rdx, size: size, place)
        hot.call(thunks.loadFlags)
        // CF and OF out, and in again: CF is the bit that came round, OF tells whether the top bit differs from its
        // other neighbour in the rotation.
        hot.arithmetic(ArithmeticNumber.and, .register(.rax), size: 4, constant: 0xfe00)
        let top = UInt8(size * 8 - 1)
        let (carry, other) = current.code == 0 ? (0, top) : (top, top - 1)
        hot.bitTest(.rdx, carry, size: size)
        hot.set(Condition.below, .register(.rax))
        hot.byte(0x08)
        hot.byte(0xc4)  // OR AH, AL
        hot.bitTest(.rdx, other, size: size)
        hot.set(Condition.below, .register(.rdx))
        hot.arithmetic(ArithmeticNumber.xor, .rax, size: 1, .register(.rdx))
    }

    // MARK: Multiplication and division

    /// IMUL with a destination. CF and OF are the host's; SF, ZF and PF are those of the result, AF is 0.
    func emitMultiplyTo() {
        let instruction = current
        guard case .register(let destination) = instruction.destination else { return }
        var source = memoryOperand
        if instruction.source.isMemory {
            prepareProbe()
            probe(size: instruction.size, write: false)
        } else if case .register(let number) = instruction.source {
            source = operand(number)
        }
        let size = instruction.size
        if instruction.prefix == 1 {
            let target = GuestRegisters.host[destination] ?? .second
            hot.instruction(0x69, size: size, reg: target.number, source)
            hot.long(Int32(truncatingIfNeeded: instruction.immediate))
            if GuestRegisters.host[destination] == nil { hot.store(.state(StateOffset.gpr(destination)), .second) }
        } else {
            change(destination, in: .second) {
                hot.instruction(map0F: true, 0xaf, size: size, reg: $0.number, source)
            }
        }
        saveProductFlags(GuestRegisters.host[destination] ?? .second, size)
    }

    /// Puts the flags of a product into memory: the host's OF, the others by the value of its low half.
    private func saveProductFlags(_ low: HostRegister, _ size: Int) {
        flags = FlagState()
        guard current.liveAfter != 0 else { return }
        hot.set(Condition.overflow, .register(.rdx))
        hot.test(.register(low), size: size, low)
        hot.byte(0x9f)  // LAHF
        hot.byte(0x80)
        hot.byte(0xe4)
        hot.byte(0xee)  // AND AH, not (AF and CF)
        hot.byte(0x08)
        hot.byte(0xd4)  // OR AH, DL
        hot.move(.rax, .rdx, size: 1)
        hot.store(.state(StateOffset.hostFlags), size: 2, .rax)
    }

    /// MUL and IMUL of the accumulator.
    func emitMultiply() {
        let instruction = current
        let size = instruction.size
        let source = loadFactor()
        let rax = GuestRegisters.host[Register.rax].unsafelyUnwrapped
        let rdx = GuestRegisters.host[Register.rdx].unsafelyUnwrapped
        hot.move(.rax, rax, size: size)
        hot.instruction(0xf7, size: size, reg: instruction.isSigned ? 5 : 4, source)
        hot.move(rax, .rax, size: size)
        hot.move(rdx, .rdx, size: size)
        saveProductFlags(rax, size)
    }

    /// The explicit operand of MUL or DIV, out of the way of RAX and RDX.
    private func loadFactor() -> Emitter.Operand {
        if current.destination.isMemory {
            prepareProbe()
            probe(size: current.size, write: false)
            hot.load(.second, size: current.size, memoryOperand)
            return .register(.second)
        }
        guard case .register(let number) = current.destination else { return .register(.second) }
        return .register(value(number, in: .second))
    }

    /// DIV and IDIV: flags stay as they are. What may raise #DE is the handler's.
    func emitDivide() {
        let instruction = current
        let size = instruction.size
        loseHostFlags(live: RFlags.arithmetic)
        var divisor = loadFactor()
        if case .register(let register) = divisor, register != .second {
            hot.move(.second, register, size: size)
            divisor = .register(.second)
        }
        let rax = GuestRegisters.host[Register.rax].unsafelyUnwrapped
        let rdx = GuestRegisters.host[Register.rdx].unsafelyUnwrapped
        if instruction.isSigned {
            // Only a dividend that is the accumulator's sign extension, and neither 0 nor -1 as the divisor.
            hot.move(.rax, rax, size: size)
            if size == 8 { hot.byte(0x48) }
            hot.byte(0x99)
            hot.arithmetic(ArithmeticNumber.cmp, .rdx, size: size, .register(rdx))
            misses.append(hot.jump(if: Condition.notEqual))
            hot.loadAddress(.rdx, size: size, .memory(.second, 1))
            hot.arithmetic(ArithmeticNumber.cmp, .register(.rdx), size: size, constant: 1)
            misses.append(hot.jump(if: Condition.belowOrEqual))
            hot.move(.rdx, rdx, size: size)
        } else {
            hot.arithmetic(ArithmeticNumber.cmp, rdx, size: size, divisor)
            misses.append(hot.jump(if: Condition.aboveOrEqual))
            hot.move(.rax, rax, size: size)
            hot.move(.rdx, rdx, size: size)
        }
        hot.instruction(0xf7, size: size, reg: instruction.isSigned ? 7 : 6, divisor)
        hot.move(rax, .rax, size: size)
        hot.move(rdx, .rdx, size: size)
    }

    // MARK: Bits

    /// BT, BTS, BTR and BTC change CF alone; the host's other flags are undefined after them.
    func emitBitTest() {
        let instruction = current
        let keepsOthers = instruction.liveAfter & ~RFlags.cf != 0
        if instruction.destination.isMemory {
            prepareProbe()
            probe(size: instruction.size, write: instruction.code != 4)
            bitTest(keepAddress(if: keepsOthers))
        } else if case .register(let destination) = instruction.destination {
            if keepsOthers { saveFlags() }
            flags.inHost = false
            if instruction.code == 4 {
                bitTest(.register(value(destination, in: .second)))
            } else {
                change(destination, in: .second) { bitTest(.register($0)) }
            }
        }
        guard keepsOthers else { return setPartialFlags() }
        flags = FlagState()
    }

    /// The instruction, and its CF put among the flags in memory if those are live. AX is lost then.
    private func bitTest(_ place: Emitter.Operand) {
        let instruction = current
        if instruction.source == .immediate {
            hot.instruction(map0F: true, 0xba, size: instruction.size, reg: instruction.code, place)
            hot.byte(UInt8(truncatingIfNeeded: instruction.immediate))
        } else if case .register(let source) = instruction.source {
            let opcode = 0x83 | instruction.code << 3
            hot.instruction(
                map0F: true, opcode, size: instruction.size, reg: value(source, in: .first).number, place)
        }
        guard instruction.liveAfter & ~RFlags.cf != 0 else { return }
        hot.set(Condition.below, .register(.rdx))
        hot.call(thunks.loadFlags)
        hot.byte(0x80)
        hot.byte(0xe4)
        hot.byte(0xfe)  // AND AH, not CF
        hot.byte(0x08)
        hot.byte(0xd4)  // OR AH, DL
        hot.store(.state(StateOffset.hostFlags), size: 2, .rax)
    }

    /// BSF and BSR: flags are those of the source compared with zero; of zero the destination stays, whole.
    func emitBitScan() {
        let instruction = current
        let size = instruction.size
        guard case .register(let destination) = instruction.destination else { return }
        if instruction.source.isMemory {
            prepareProbe()
            probe(size: size, write: false)
            hot.load(.second, size: size, memoryOperand)
        } else if case .register(let number) = instruction.source {
            hot.load(.second, size: size, operand(number))
        }
        hot.test(.register(.second), size: size, .second)
        setHostFlags(clearsAF: true)
        if instruction.liveAfter != 0 {
            saveFlags()
            hot.test(.register(.second), size: size, .second)
        }
        let isZero = hot.jump(if: Condition.equal)
        let target = GuestRegisters.host[destination] ?? .first
        hot.instruction(map0F: true, instruction.code, size: size, reg: target.number, .register(.second))
        if GuestRegisters.host[destination] == nil { hot.store(.state(StateOffset.gpr(destination)), .first) }
        isZero.lead(to: hot.place)
        flags = FlagState()
    }

    // MARK: Exchanges

    /// XCHG. With one processor nothing else can come between its two halves.
    func emitExchange() {
        let instruction = current
        let size = instruction.size
        guard case .register(let source) = instruction.source else { return }
        if case .register(let destination) = instruction.destination {
            let register = value(source, in: .second)
            hot.move(.rax, register, size: size)
            hot.load(.first, size: size, operand(destination))
            write(source, size: size, .first)
            write(destination, size: size, .rax)
            return
        }
        prepareProbe()
        probe(size: size, write: true)
        hot.load(.second, size: size, memoryOperand)
        hot.store(memoryOperand, size: size, value(source, in: .first))
        write(source, size: size, .second)
    }

    func emitExchangeAdd() {
        let instruction = current
        let size = instruction.size
        guard case .register(let source) = instruction.source else { return }
        if case .register(let destination) = instruction.destination {
            // source ← old destination, destination ← sum; in this order, so that the sum stays if they are one.
            hot.load(.rax, operand(destination))
            hot.move(.first, value(source, in: .second))
            write(source, size: size, .rax.zeroExtended(&hot, size))
            hot.arithmetic(ArithmeticNumber.add, .rax, size: size, .register(.first))
            write(destination, size: size, .rax)
        } else {
            prepareProbe()
            probe(size: size, write: true)
            change(source, in: .second) {
                hot.instruction(map0F: true, size == 1 ? 0xc0 : 0xc1, size: size, reg: $0.number, memoryOperand)
            }
        }
        setHostFlags()
    }

    /// CMPXCHG: the accumulator is written only if the comparison fails.
    func emitCompareExchange() {
        let instruction = current
        let size = instruction.size
        guard case .register(let source) = instruction.source else { return }
        let rax = GuestRegisters.host[Register.rax].unsafelyUnwrapped
        let opcode: UInt8 = size == 1 ? 0xb0 : 0xb1
        if instruction.destination.isMemory {
            prepareProbe()
            probe(size: size, write: true)
            hot.move(.first, .address)
            hot.move(.rax, rax)
            hot.instruction(
                map0F: true, opcode, size: size, reg: value(source, in: .second).number, .memory(.first, 0))
        } else if case .register(let destination) = instruction.destination {
            hot.load(.first, operand(destination))
            hot.move(.rax, rax)
            hot.instruction(
                map0F: true, opcode, size: size, reg: value(source, in: .second).number, .register(.first))
            let failed = hot.jump(if: Condition.notEqual)
            write(destination, size: size, .first)
            failed.lead(to: hot.place)
        }
        let succeeded = hot.jump(if: Condition.equal)
        hot.move(rax, .rax, size: size)
        succeeded.lead(to: hot.place)
        setHostFlags()
    }
}

extension HostRegister {
    /// The register itself, with its upper half cleared if it is going to be written as a 32-bit value.
    fileprivate func zeroExtended(_ e: inout Emitter, _ size: Int) -> HostRegister {
        if size == 4 { e.move(self, self, size: 4) }
        return self
    }
}

extension Emitter {
    fileprivate mutating func bitTest(_ register: HostRegister, _ bit: UInt8, size: Int) {
        instruction(map0F: true, 0xba, size: size, reg: 4, .register(register))
        byte(bit)
    }
}
