import CEngine

// Vector instructions in host code: the guest's XMM registers stay in the state block, aligned, and pass through the
// host's XMM0. None of them touches flags, but the probe of a memory operand does.
extension Translator {
    private static let movups: UInt8 = 0x10, movupsStore: UInt8 = 0x11, movaps: UInt8 = 0x28, movapsStore: UInt8 = 0x29

    private func loadVector(_ number: Int) {
        hot.instruction(map0F: true, Self.movaps, size: 4, reg: 0, .state(StateOffset.xmm(number)))
    }

    private func storeVector(_ number: Int) {
        hot.instruction(map0F: true, Self.movapsStore, size: 4, reg: 0, .state(StateOffset.xmm(number)))
    }

    /// The 16 bytes of the memory operand at hand in RAX; one that is not aligned as it must be is the handler's,
    /// before anything is looked up for it.
    private func probeVector(write: Bool) {
        prepareProbe()
        if current.group.exists { return probeGroup() }
        effectiveAddress()
        if current.isAligned && !has(.alignment) {
            hot.test(.register(.address), size: 1, constant: 15)
            misses.append(hot.jump(if: Condition.notEqual))
        }
        probeLinear(size: 16, write: write, stack: usesStackSegment)
    }

    func emitVector() {
        let instruction = current
        guard case .vector(let destination) = instruction.destination else { return }
        if instruction.source.isMemory { probeVector(write: false) }
        loadVector(destination)
        var source = memoryOperand
        if case .vector(let number) = instruction.source { source = .state(StateOffset.xmm(number)) }
        hot.instruction(prefix: instruction.prefix, map0F: true, instruction.code, size: 4, reg: 0, source)
        if InstructionReader.hasImmediate(opcode: instruction.code) {
            hot.byte(UInt8(truncatingIfNeeded: instruction.immediate))
        }
        storeVector(destination)
    }

    func emitVectorShift() {
        let instruction = current
        guard case .vector(let destination) = instruction.destination else { return }
        loadVector(destination)
        // The register is the instruction's second operand, XMM0.
        hot.instruction(
            prefix: 0x66, map0F: true, instruction.code, size: 4, reg: UInt8(instruction.sourceSize), .register(.rax))
        hot.byte(UInt8(truncatingIfNeeded: instruction.immediate))
        storeVector(destination)
    }

    func emitVectorMove() {
        let instruction = current
        switch (instruction.destination, instruction.source) {
        case (.vector(let destination), .vector(let source)):
            loadVector(source)
            storeVector(destination)
        case (.vector(let destination), _):
            probeVector(write: false)
            hot.instruction(map0F: true, Self.movups, size: 4, reg: 0, memoryOperand)
            storeVector(destination)
        case (_, .vector(let source)):
            probeVector(write: true)
            loadVector(source)
            hot.instruction(map0F: true, Self.movupsStore, size: 4, reg: 0, memoryOperand)
        default: break
        }
    }

    /// The low 4 or 8 bytes of an XMM register from elsewhere; the rest becomes zero.
    func emitVectorLoadLow() {
        let instruction = current
        let size = instruction.size
        guard case .vector(let destination) = instruction.destination else { return }
        switch instruction.source {
        case .memory:
            prepareProbe()
            probe(size: size, write: false)
            hot.load(.second, size: size, memoryOperand)
        case .register(let number): hot.load(.second, size: size, operand(number))
        case .vector(let number): hot.load(.second, size: size, .state(StateOffset.xmm(number)))
        default: break
        }
        hot.store(.state(StateOffset.xmm(destination)), .second)
        hot.store(.state(StateOffset.xmm(destination) + 8), size: 8, constant: 0)
    }

    func emitVectorStoreLow() {
        let instruction = current
        let size = instruction.size
        guard case .vector(let source) = instruction.source else { return }
        if case .register(let destination) = instruction.destination {
            hot.load(.second, size: size, .state(StateOffset.xmm(source)))
            write(destination, size: size, .second)
            return
        }
        prepareProbe()
        probe(size: size, write: true)
        hot.load(.second, size: size, .state(StateOffset.xmm(source)))
        hot.store(memoryOperand, size: size, .second)
    }

    /// PMOVMSKB and its like: a mask of sign bits, zero-extended.
    func emitVectorToGeneral() {
        let instruction = current
        guard case .register(let destination) = instruction.destination, case .vector(let source) = instruction.source
        else { return }
        loadVector(source)
        hot.instruction(
            prefix: instruction.prefix, map0F: true, instruction.code, size: 4, reg: HostRegister.second.number,
            .register(.rax))
        write(destination, size: 4, .second)
    }
}
