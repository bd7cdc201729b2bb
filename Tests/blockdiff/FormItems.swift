import CZydis
import DifferentialSupport
import VMM

// Instructions of any form, with operands that mostly lead somewhere.
extension ProgramGenerator {
    private static let weights: [(FormPool.Class, Int)] = [
        (.integer, 22), (.producers, 22), (.consumers, 12), (.shift, 8), (.multiply, 3), (.string, 4), (.stack, 6),
        (.vector, 16), (.x87, 5), (.system, 2),
    ]

    private func chooseClass() -> FormPool.Class {
        var choice = random.below(100)
        for (kind, weight) in Self.weights {
            if choice < weight { return kind }
            choice -= weight
        }
        return .integer
    }

    func addFormItem() {
        for _ in 0..<20 {
            let kind = chooseClass()
            guard kind != .system || !forHost, let entry = pool.pick(kind, host: forHost, &random) else { continue }
            if tryForm(entry) { return }
        }
    }

    /// Adds an instruction of the form with what prepares it; false if this one is not wanted.
    private func tryForm(_ entry: FormPool.Entry) -> Bool {
        let decoder = pool.decoder
        let encoder = Encoder(form: entry.form, decoder: decoder, hasLDT: true)
        guard var bytes = encoder.encode(&random) else { return false }
        let changesStack = changesStackPointer(decoder)
        if changesStack && (forHost || !setting.isLong && !setting.isUser || random.chance(85)) { return false }
        if forHost && !isSafeOnHost(decoder) { return false }
        let mnemonic = decoder.mnemonic
        let instruction = decoder.instruction.pointee
        let leavesUndefined = undefinedFlags(instruction)
        prepareRegisters(decoder)
        // Preparing adds items, not decoding anything, so the decoder still holds the instruction.
        var references: [Reference] = []
        var fitted = Set<Int>()
        for index in 0..<decoder.operandCount where decoder.operands[index].isAccessed {
            fit(decoder.operands[index], instruction, &bytes, &references, &fitted)
        }
        add(bytes, .form(entry.number), references)
        for index in 0..<decoder.operandCount where decoder.operands[index].isRegister && decoder.operands[index].writes
        {
            if let register = generalRegister(decoder.operands[index].reg.value) { known[register.number] = nil }
        }
        if changesStack || mnemonic == ZYDIS_MNEMONIC_ENTER { resetStack() }
        if forHost && leavesUndefined { add([0x39, 0xc0 | UInt8(random.below(64))], .setUp) }  // CMP
        return true
    }

    /// Flags other than AF that the manuals leave undefined, or may.
    private func undefinedFlags(_ instruction: ZydisDecodedInstruction) -> Bool {
        let category = instruction.meta.category
        if category == ZYDIS_CATEGORY_SHIFT || category == ZYDIS_CATEGORY_ROTATE { return true }
        guard let flags = instruction.cpu_flags else { return false }
        return UInt64(flags.pointee.undefined) & RFlags.arithmetic & ~RFlags.af != 0
    }

    /// Writes RSP as an ordinary register.
    private func changesStackPointer(_ decoder: Decoder) -> Bool {
        (0..<decoder.visibleOperands).contains { index in
            let operand = decoder.operands[index]
            guard operand.isRegister, operand.writes, let register = generalRegister(operand.reg.value) else {
                return false
            }
            return register.number == 4 && !register.isHigh
        }
    }

    /// Programs for the host may use no segment that the host has otherwise.
    private func isSafeOnHost(_ decoder: Decoder) -> Bool {
        if decoder.mnemonic == ZYDIS_MNEMONIC_ENTER || decoder.mnemonic == ZYDIS_MNEMONIC_LEAVE { return false }
        return (0..<decoder.operandCount).allSatisfy { index in
            let operand = decoder.operands[index]
            guard operand.isMemory else { return true }
            // Nothing is mapped for 16-bit addresses, and the stack is not aligned.
            let isShort = decoder.instruction.pointee.address_width == 16
            let isLargeOnStack = operand.size > 64 && generalRegister(operand.mem.base)?.number == 4
            if isShort || isLargeOnStack { return false }
            return [ZYDIS_REGISTER_DS, ZYDIS_REGISTER_ES, ZYDIS_REGISTER_SS, ZYDIS_REGISTER_NONE]
                .contains(operand.mem.segment) || is64 && operand.mem.segment == ZYDIS_REGISTER_CS
        }
    }

    // MARK: Registers that instructions need

    private func prepareRegisters(_ decoder: Decoder) {
        let repeats = [Decoder.Attribute.hasRep, Decoder.Attribute.hasRepe, Decoder.Attribute.hasRepne]
            .contains(where: decoder.has)
        if repeats && (forHost || random.chance(90)) {
            addMove(1, UInt64(random.below(random.chance(85) ? 20 : 300)))
        }
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV: if forHost || random.chance(80) { prepareDivision(decoder) }
        case ZYDIS_MNEMONIC_LEAVE: addMove(5, Linear.stackStart - UInt64(random.below(64) * 8))
        case ZYDIS_MNEMONIC_XLAT: if forHost || random.chance(80) { addMove(0, UInt64(random.below(64))) }
        case ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR, ZYDIS_MNEMONIC_BTC:
            // With memory, the register reaches far.
            guard decoder.operands[0].isMemory, decoder.operands[1].isRegister, forHost || random.chance(85),
                let register = generalRegister(decoder.operands[1].reg.value), register.number != 4
            else { break }
            addMove(register.number, UInt64(random.below(256)))
        default:
            let shiftsByCL =
                decoder.visibleOperands > 1
                && decoder.operands[decoder.visibleOperands - 1].isRegister
                && decoder.operands[decoder.visibleOperands - 1].reg.value == ZYDIS_REGISTER_CL
                && [ZYDIS_CATEGORY_SHIFT, ZYDIS_CATEGORY_ROTATE].contains(decoder.instruction.pointee.meta.category)
            if shiftsByCL && random.chance(50) { addMove(1, random.chance(30) ? 0 : UInt64(random.below(72))) }
        }
    }

    /// A small dividend and mostly a divisor that is not 0.
    private func prepareDivision(_ decoder: Decoder) {
        addMove(2, 0)
        addMove(0, UInt64(random.below(64)))
        guard decoder.operands[0].isRegister, let register = generalRegister(decoder.operands[0].reg.value) else {
            return
        }
        if register.number > 2 && register.number != 4 || register.number == 1 {
            addMove(register.number, random.integer() | 0x0101)
        }
    }

    // MARK: Memory operands

    /// Makes the operand's address a good one: by a register that is set before, one that is known, or a displacement.
    private func fit(
        _ operand: ZydisDecodedOperand, _ instruction: ZydisDecodedInstruction, _ bytes: inout [UInt8],
        _ references: inout [Reference], _ fitted: inout Set<Int>
    ) {
        let memory = operand.mem
        let size = max(operand.bytes, 1)
        let isExplicit = operand.encoding != ZYDIS_OPERAND_ENCODING_NONE
        let base = generalRegister(memory.base)
        let index = generalRegister(memory.index)
        let displacement = instruction.raw.disp
        if memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP {
            let target = chooseTarget(size, reaches: .low) &- segmentBase(memory.segment)
            references.append(
                Reference(form: .ripRelative, position: Int(displacement.offset), target: .linear(target)))
            return
        }
        if base == nil && index == nil {
            guard displacement.size >= 32 else { return }
            let target = chooseTarget(size, reaches: .low) &- segmentBase(memory.segment)
            store(target, at: Int(displacement.offset), count: Int(displacement.size) / 8, &bytes)
            return
        }
        if base?.number == 4 {
            if isExplicit && displacement.size == 32 {
                store(
                    UInt64(bitPattern: Int64(random.below(512) - 256)), at: Int(displacement.offset), count: 4, &bytes)
            }
            if isExplicit, let index, index.number != 4 { addMove(index.number, UInt64(random.below(16))) }
            return
        }
        guard forHost || random.chance(92), (base?.bytes ?? index!.bytes) > 2 else { return }
        let wide = (base?.bytes ?? index!.bytes) == 8
        let wanted = chooseTarget(size, reaches: wide ? .anything : .low32) &- segmentBase(memory.segment)
        fitRegisters(base?.number, index?.number, memory, displacement, wanted, wide, &bytes, &fitted)
    }

    private func fitRegisters(
        _ base: Int?, _ index: Int?, _ memory: ZydisDecodedOperandMem, _ displacement: ZydisDecodedInstructionRawDisp_,
        _ wanted: UInt64, _ wide: Bool, _ bytes: inout [UInt8], _ fitted: inout Set<Int>
    ) {
        let scale = UInt64(max(memory.scale, 1))
        let added = UInt64(bitPattern: memory.disp.value)
        func isFree(_ register: Int) -> Bool { fitted.insert(register).inserted }
        guard let base else {
            if isFree(index!) { addMove(index!, ((wanted &- added) & (wide ? ~0 : 0xffff_ffff)) / scale) }
            return
        }
        if base == index {
            if isFree(base) { addMove(base, ((wanted &- added) & (wide ? ~0 : 0xffff_ffff)) / (1 + scale)) }
            return
        }
        var offset: UInt64 = 0
        if let index {
            let value = known[index].flatMap { $0 < 64 ? $0 : nil } ?? UInt64(random.below(32))
            if known[index] != value, isFree(index) { addMove(index, value) }
            offset = value &* scale
        }
        if let pointer = known[base], isPlainPointer(pointer), random.chance(65) {
            // The register is good as it is; the displacement goes along with it.
            var near = UInt64(bitPattern: Int64(random.below(96) - 48))
            if forHost { near &= ~15 }
            near = near &- offset
            if displacement.size == 8, Int64(bitPattern: near) >= -128, Int64(bitPattern: near) < 128 {
                store(near, at: Int(displacement.offset), count: 1, &bytes)
            } else if displacement.size == 32 {
                store(near, at: Int(displacement.offset), count: 4, &bytes)
            }
            return
        }
        if isFree(base) { addMove(base, (wanted &- added &- offset) & (wide ? ~0 : 0xffff_ffff)) }
    }

    private func store(_ value: UInt64, at position: Int, count: Int, _ bytes: inout [UInt8]) {
        for index in 0..<count { bytes[position + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
    }

    private func segmentBase(_ segment: ZydisRegister) -> UInt64 {
        switch segment {
        case ZYDIS_REGISTER_FS: Linear.fsBase
        case ZYDIS_REGISTER_GS: Linear.gsBase
        default: 0
        }
    }

    private func isPlainPointer(_ value: UInt64) -> Bool {
        let data = Linear.low + Linear.data
        return value >= data + 64 && value < data + 0x1e00 && (!forHost || value % 16 == 0)
    }

    // MARK: Addresses

    enum Reach { case low, low32, anything }

    /// A linear address for an operand of `size` bytes: mostly plain data, sometimes what is special about a page.
    func chooseTarget(_ size: Int, reaches reach: Reach) -> UInt64 {
        var address = chooseAddress(size, reach)
        if size >= 16 && (forHost || random.chance(85)) { address &= ~15 }
        return address
    }

    private func chooseAddress(_ size: Int, _ reach: Reach) -> UInt64 {
        let data = Linear.low + Linear.data
        let plain = data + UInt64(random.below(0x1d00))
        let crossing = UInt64(random.below(max(size - 1, 1)) + 1)
        if reach == .anything && random.chance(8) { return Linear.high + Linear.data + UInt64(random.below(0x1d00)) }
        if reach != .low && random.chance(5) { return Linear.second + Linear.data + UInt64(random.below(0x1d00)) }
        switch random.below(forHost ? 70 : 100) {
        case 0..<50: return plain
        case 50..<60: return data + pageSize - crossing
        case 60..<64: return Linear.low + Linear.stack + UInt64(random.below(0x600))
        case 64..<70: return data + DataPage.made * pageSize + UInt64(random.below(0xf00))
        case 70..<73: return random.pick(Linear.conflicts) + Linear.data + UInt64(random.below(0x1ff0))
        case 73..<76: return data + DataPage.readOnly * pageSize + UInt64(random.below(0xff0))
        case 76..<78: return data + DataPage.readOnly * pageSize - crossing
        case 78..<80: return data + DataPage.supervisor * pageSize + UInt64(random.below(0xff0))
        case 80..<82: return data + DataPage.noExecute * pageSize + UInt64(random.below(0xff0))
        case 82..<84: return data + DataPage.absent * pageSize + UInt64(random.below(0xff0))
        case 84..<86: return data + DataPage.absent * pageSize - crossing
        case 86..<90: return data + DataPage.device * pageSize + UInt64(random.below(0xff0))
        case 90..<93: return Linear.large + UInt64(random.below(0x8000))
        case 93..<95: return Linear.low + Linear.code + UInt64(random.below(0x600))
        case 95: return Linear.low + Linear.alias + UInt64(random.below(0x600))
        case 96: return reach == .anything ? random.pick([1 << 47, ~0 << 47 &- 1, 0x8000_0000_0000_0000]) : plain
        case 97: return reach == .low ? plain : 0xffff_fffe
        case 98: return setting.isUser && reach == .anything ? setting.kernelBase + 0x8000 : plain
        default: return random.integer()
        }
    }
}
