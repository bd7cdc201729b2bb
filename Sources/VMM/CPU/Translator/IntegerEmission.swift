import CEngine

// Integer instructions in host code. Each begins with its memory operand, whose probe may send the whole instruction to
// its handler; from then on nothing can go wrong.
extension Translator {
    /// Emits the current instruction.
    func emit(_ instruction: GuestInstruction) {
        switch instruction.form {
        case .nothing: break
        case .handler: emitHandler()
        case .pause: emitPause()
        case .timestamp: emitTimestamp()
        case .arithmetic: emitArithmetic()
        case .test: emitTest()
        case .move: emitMove()
        case .extend: emitExtend()
        case .loadAddress: emitLoadAddress()
        case .not, .negate, .increment, .decrement: emitUnary()
        case .shift: emitShift()
        case .shiftByCL: emitShiftByCL()
        case .exchange: emitExchange()
        case .exchangeAdd: emitExchangeAdd()
        case .compareExchange: emitCompareExchange()
        case .multiplyTo: emitMultiplyTo()
        case .multiply: emitMultiply()
        case .divide: emitDivide()
        case .bitTest: emitBitTest()
        case .bitScan: emitBitScan()
        case .byteSwap: emitByteSwap()
        case .convert: emitConvert()
        case .set: emitSet()
        case .conditionalMove: emitConditionalMove()
        case .carry: emitCarry()
        case .push: emitPush()
        case .pop: emitPop()
        case .leave: emitLeave()
        case .jumpIf: emitJumpIf()
        case .jump: emitDirectJump()
        case .call: emitCall()
        case .jumpIndirect, .callIndirect: emitIndirect()
        case .ret: emitReturn()
        case .vector: emitVector()
        case .vectorMove: emitVectorMove()
        case .vectorLoadLow: emitVectorLoadLow()
        case .vectorStoreLow: emitVectorStoreLow()
        case .vectorToGeneral: emitVectorToGeneral()
        case .vectorShift: emitVectorShift()
        }
    }

    func emitHandler() {
        saveFlags()
        emitHandlerCall(&hot, index)
        flags = FlagState()
    }

    // MARK: Arithmetic

    private func emitArithmetic() {
        let instruction = current
        let number = instruction.code
        let usesCarry = (number == ArithmeticNumber.adc || number == ArithmeticNumber.sbb) && !has(.carryIn)
        let isLogic = number == ArithmeticNumber.or || number == ArithmeticNumber.and || number == ArithmeticNumber.xor
        defer { setHostFlags(clearsAF: isLogic) }
        if instruction.hasMemory {
            emitMemoryArithmetic(number, writes: number != ArithmeticNumber.cmp, usesCarry: usesCarry)
            return
        }
        if isLogic, number == ArithmeticNumber.xor, instruction.destination == instruction.source,
            instruction.size >= 4, case .register(let destination) = instruction.destination,
            let register = GuestRegisters.host[destination]
        {
            hot.arithmetic(number, register, size: 4, .register(register))
            return
        }
        if usesCarry { loadFlags() }
        if case .high(let destination) = instruction.destination {
            emitHighArithmetic(number, destination)
            return
        }
        guard case .register(let destination) = instruction.destination else { return }
        emitRegisterArithmetic(number, destination)
    }

    /// register ← operation(register, register or immediate)
    private func emitRegisterArithmetic(_ number: UInt8, _ destination: Int) {
        let size = current.size
        func apply(_ target: HostRegister) {
            switch current.source {
            case .immediate:
                let constant = Int32(truncatingIfNeeded: current.immediate)
                hot.arithmetic(number, .register(target), size: size, constant: constant)
            case .register(let source): hot.arithmetic(number, target, size: size, operand(source))
            case .high(let source):
                loadHigh(source)
                hot.arithmetic(number, target, size: 1, .register(.rax))
            default: break
            }
        }
        if number == ArithmeticNumber.cmp {
            apply(value(destination, in: .second))
        } else {
            change(destination, in: .second, apply)
        }
    }

    /// AL ← a high-byte register; flags stay.
    private func loadHigh(_ number: Int) {
        hot.load(.rax, size: 4, operand(number))
        if has(.highByte) { return }
        // MOVZX EAX, AH
        hot.byte(0x0f)
        hot.byte(0xb6)
        hot.byte(0xc4)
    }

    /// A high-byte register changed by an operation with a low byte or an immediate; in AH, which no REX prefix allows.
    private func emitHighArithmetic(_ number: UInt8, _ destination: Int) {
        if case .register(let source) = current.source { hot.load(.rdx, size: 4, operand(source)) }
        hot.load(.rax, operand(destination))
        if current.source == .immediate {
            hot.byte(0x80)
            hot.byte(0xc4 | number << 3)
            hot.byte(UInt8(truncatingIfNeeded: current.immediate))
        } else {
            hot.byte(number << 3)
            hot.byte(0xd4)  // operation AH, DL
        }
        if number != ArithmeticNumber.cmp { hot.store(operand(destination), .rax) }
    }

    private func emitMemoryArithmetic(_ number: UInt8, writes: Bool, usesCarry: Bool) {
        let instruction = current
        let isDestination = instruction.destination.isMemory
        prepareProbe()
        probe(size: instruction.size, write: isDestination && writes)
        let place = keepAddress(if: usesCarry)
        if usesCarry { loadFlags() }
        switch (instruction.destination, instruction.source) {
        case (.memory, .immediate):
            let constant = Int32(truncatingIfNeeded: instruction.immediate)
            hot.arithmetic(number, place, size: instruction.size, constant: constant)
        case (.memory, .register(let source)):
            hot.arithmetic(number, place, size: instruction.size, source: value(source, in: .second))
        case (.register(let destination), _):
            if number == ArithmeticNumber.cmp {
                hot.arithmetic(number, value(destination, in: .second), size: instruction.size, place)
            } else {
                change(destination, in: .second) { hot.arithmetic(number, $0, size: instruction.size, place) }
            }
        default: break
        }
    }

    /// The operand that `probe` found, moved to RDX if AX is needed for flags.
    func keepAddress(if needed: Bool) -> Emitter.Operand {
        guard needed else { return memoryOperand }
        hot.move(.first, .address)
        return .memory(.first, current.groupOffset)
    }

    private func emitTest() {
        let instruction = current
        defer { setHostFlags(clearsAF: true) }
        if instruction.hasMemory {
            prepareProbe()
            probe(size: instruction.size, write: false)
        }
        switch (instruction.destination, instruction.source) {
        case (.high(let destination), .immediate):
            hot.load(.rax, size: 4, operand(destination))
            hot.byte(0xf6)
            hot.byte(0xc4)
            hot.byte(UInt8(truncatingIfNeeded: instruction.immediate))
        case (.high(let destination), .register(let source)):
            hot.load(.rdx, size: 4, operand(source))
            hot.load(.rax, size: 4, operand(destination))
            hot.byte(0x84)
            hot.byte(0xd4)  // TEST AH, DL
        case (.register(let destination), .high(let source)):
            loadHigh(source)
            hot.test(operand(destination), size: 1, .rax)
        case (let destination, .immediate):
            let place = plainOperand(destination)
            hot.test(place, size: instruction.size, constant: Int32(truncatingIfNeeded: instruction.immediate))
        case (let destination, .register(let source)):
            hot.test(plainOperand(destination), size: instruction.size, value(source, in: .second))
        case (.register(let destination), .memory):
            hot.test(memoryOperand, size: instruction.size, value(destination, in: .second))
        default: break
        }
    }

    /// A register or the memory operand after its probe.
    private func plainOperand(_ operand: GuestOperand) -> Emitter.Operand {
        if case .register(let number) = operand { return self.operand(number) }
        return memoryOperand
    }

    // MARK: Moves

    private func emitMove() {
        let instruction = current
        let size = instruction.size
        if instruction.hasMemory {
            prepareProbe()
            probe(size: size, write: instruction.destination.isMemory)
        }
        switch (instruction.destination, instruction.source) {
        case (.register(let destination), .register(let source)):
            if let target = GuestRegisters.host[destination] {
                hot.load(target, size: size, operand(source))
            } else {
                let register = size == 4 ? HostRegister.second : value(source, in: .second)
                if size == 4 { hot.load(register, size: 4, operand(source)) }
                hot.store(.state(StateOffset.gpr(destination)), size: size == 4 ? 8 : size, register)
            }
        case (.register(let destination), .immediate): moveImmediate(to: destination)
        case (.register(let destination), .memory):
            if let target = GuestRegisters.host[destination] {
                hot.load(target, size: size, memoryOperand)
            } else {
                hot.load(.second, size: size, memoryOperand)
                hot.store(.state(StateOffset.gpr(destination)), size: size == 4 ? 8 : size, .second)
            }
        case (.memory, .register(let source)):
            hot.store(memoryOperand, size: size, value(source, in: .second))
        case (.memory, .immediate):
            hot.store(memoryOperand, size: size, constant: Int32(truncatingIfNeeded: instruction.immediate))
        case (.high(let destination), .immediate):
            hot.load(.rax, operand(destination))
            hot.byte(0xb4)
            hot.byte(UInt8(truncatingIfNeeded: instruction.immediate))  // MOV AH, immediate
            hot.store(operand(destination), .rax)
        case (.high(let destination), .register(let source)):
            hot.load(.rdx, size: 4, operand(source))
            hot.load(.rax, operand(destination))
            hot.byte(0x88)
            hot.byte(0xd4)  // MOV AH, DL
            hot.store(operand(destination), .rax)
        case (.register(let destination), .high(let source)):
            loadHigh(source)
            hot.store(operand(destination), size: 1, .rax)
        default: break
        }
    }

    private func moveImmediate(to destination: Int) {
        let size = current.size
        let value = UInt64(bitPattern: current.immediate)
        if size < 4 {
            hot.store(operand(destination), size: size, constant: Int32(truncatingIfNeeded: current.immediate))
        } else if let target = GuestRegisters.host[destination] {
            hot.move(target, constant: size == 4 ? value & 0xffff_ffff : value)
        } else {
            hot.move(.second, constant: size == 4 ? value & 0xffff_ffff : value)
            hot.store(.state(StateOffset.gpr(destination)), .second)
        }
    }

    private func emitExtend() {
        let instruction = current
        guard case .register(let destination) = instruction.destination else { return }
        var source = memoryOperand
        switch instruction.source {
        case .memory:
            prepareProbe()
            probe(size: instruction.sourceSize, write: false)
        case .register(let number): source = operand(number)
        case .high(let number):
            loadHigh(number)
            source = .register(.rax)
        default: break
        }
        let size = instruction.size
        func extend(_ target: HostRegister) {
            hot.extend(target, size: size, source, from: instruction.sourceSize, signed: instruction.isSigned)
        }
        if let target = GuestRegisters.host[destination] {
            extend(target)
        } else {
            extend(.second)
            hot.store(.state(StateOffset.gpr(destination)), size: size == 4 ? 8 : size, .second)
        }
    }

    private func emitLoadAddress() {
        guard case .register(let destination) = current.destination else { return }
        let size = min(current.size, current.address.width / 8)
        if let target = GuestRegisters.host[destination] {
            loadAddress(target, current.address, size: size)
        } else {
            loadAddress(.second, current.address, size: size)
            hot.store(.state(StateOffset.gpr(destination)), .second)
        }
    }

    // MARK: One operand

    private func emitUnary() {
        let instruction = current
        let (opcode, number): (UInt8, UInt8) =
            switch instruction.form {
            case .not: (0xf6, 2)
            case .negate: (0xf6, 3)
            case .increment: (0xfe, 0)
            default: (0xfe, 1)
            }
        let isPartial = instruction.form == .increment || instruction.form == .decrement
        let needsFlags = isPartial && instruction.liveAfter & ~instruction.writes != 0 && !has(.carryKept)
        let full = instruction.size == 1 ? opcode : opcode + 1
        if instruction.destination.isMemory {
            prepareProbe()
            probe(size: instruction.size, write: true)
            let place = keepAddress(if: needsFlags)
            if needsFlags { loadFlags() }
            hot.instruction(full, size: instruction.size, reg: number, place)
        } else if case .register(let destination) = instruction.destination {
            if needsFlags { loadFlags() }
            change(destination, in: .second) {
                hot.instruction(full, size: instruction.size, reg: number, .register($0))
            }
        }
        if instruction.form != .not { setHostFlags() }
    }

    private func emitByteSwap() {
        guard case .register(let destination) = current.destination else { return }
        change(destination, in: .second) { register in
            let rex: UInt8 = (current.size == 8 ? 8 : 0) | register.number >> 3
            if rex != 0 { hot.byte(0x40 | rex) }
            hot.byte(0x0f)
            hot.byte(0xc8 | register.number & 7)
        }
    }

    /// CBW, CWDE, CDQE; CDQ and CQO.
    private func emitConvert() {
        let rax = GuestRegisters.host[Register.rax].unsafelyUnwrapped
        let size = current.size
        if current.code == 0 {
            hot.extend(rax, size: size, .register(rax), from: size / 2, signed: true)
        } else {
            hot.move(.rax, rax, size: size)
            if size == 8 { hot.byte(0x48) }
            hot.byte(0x99)
            hot.move(GuestRegisters.host[Register.rdx].unsafelyUnwrapped, .rdx, size: size)
        }
    }

    private func emitSet() {
        if case .register(let destination) = current.destination {
            loadFlags()
            hot.set(current.code, operand(destination))
            return
        }
        loadFlags()
        hot.set(current.code, .register(.second))
        prepareProbe()
        probe(size: 1, write: true)
        hot.store(memoryOperand, size: 1, .second)
    }

    private func emitConditionalMove() {
        let instruction = current
        guard case .register(let destination) = instruction.destination else { return }
        let opcode = 0x40 | instruction.code
        if instruction.source.isMemory {
            prepareProbe()
            probe(size: instruction.size, write: false)
            hot.load(.second, size: instruction.size, memoryOperand)
        }
        loadFlags()
        let source: Emitter.Operand
        if case .register(let number) = instruction.source {
            source = operand(number)
        } else {
            source = .register(.second)
        }
        change(destination, in: .first) {
            hot.instruction(map0F: true, opcode, size: instruction.size, reg: $0.number, source)
        }
    }

    private func emitCarry() {
        if current.reads != 0 { loadFlags() } else { prepareForPartialFlags() }
        hot.byte(current.code)
        setPartialFlags()
    }
}
