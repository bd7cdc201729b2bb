import CHostCPU
import CZydis
import DifferentialSupport

/// Makes the cases of one form. An encoding, its place and its segments serve several cases, which differ in registers,
/// flags, floating-point state and memory.
final class CaseGenerator {
    let form: Form
    let test: TestCase
    /// Holds the instruction of the present encoding.
    let decoder: Decoder
    private let encoder: Encoder
    private let hasLDT: Bool
    private var lanes = LaneKind.integer
    private var usesFloat = false, usesMMX = false, usesMXCSR = false

    init(form: Form, decoder: Decoder, hasLDT: Bool) {
        self.form = form
        self.decoder = decoder
        self.hasLDT = hasLDT
        encoder = Encoder(form: form, decoder: decoder, hasLDT: hasLDT)
        test = TestCase(mode: form.mode)
    }

    var is64: Bool { form.mode == .bits64 }

    // MARK: Encoding

    /// Chooses another encoding, place and segments. False if the form gives no encoding.
    func chooseEncoding(_ random: inout Random) -> Bool {
        guard let bytes = encoder.encode(&random) else { return false }
        test.bytes = bytes
        test.hostBytes = nil
        chooseSegments(&random)
        choosePlace(&random)
        fitDisplacement(&random)
        fitBranch(&random)
        addOlderMeaning(&random)
        guard test.bytes.withUnsafeBytes({ decoder.decode($0) }) else { return false }
        let exten = decoder.instruction.pointee.meta.isa_ext
        usesMMX = (0..<decoder.operandCount).contains {
            decoder.operands[$0].isRegister
                && ZydisRegisterGetClass(decoder.operands[$0].reg.value) == ZYDIS_REGCLASS_MMX
        }
        let integer = [ZYDIS_ISA_EXT_BASE, ZYDIS_ISA_EXT_LONGMODE, ZYDIS_ISA_EXT_PAUSE].contains(exten)
        usesFloat = !integer || usesMMX || decoder.mnemonic == ZYDIS_MNEMONIC_FXSAVE
        usesMXCSR = usesFloat && exten != ZYDIS_ISA_EXT_X87
        lanes = laneKind
        if !usesFloat { random.fillFloatState(test.fx, lanes: .integer, needsMXCSR: true) }
        return true
    }

    private var laneKind: LaneKind {
        for index in (0..<decoder.visibleOperands).reversed() {
            switch decoder.operands[index].element_type {
            case ZYDIS_ELEMENT_TYPE_FLOAT32: return .float32
            case ZYDIS_ELEMENT_TYPE_FLOAT64: return .float64
            default: continue
            }
        }
        return .integer
    }

    /// BSF and BSR ignore F3; the host may run TZCNT or LZCNT there, so it gets a prefix that does nothing in 64-bit
    /// code.
    private func addOlderMeaning(_ random: inout Random) {
        let isScan = [ZYDIS_MNEMONIC_BSF, ZYDIS_MNEMONIC_BSR].contains(decoder.mnemonic)
        guard is64, isScan, test.bytes.count < 15, random.chance(40) else { return }
        test.hostBytes = [0x3e] + test.bytes
        test.bytes.insert(0xf3, at: 0)
    }

    private func chooseSegments(_ random: inout Random) {
        let input = test.input
        let flat = UInt16(HOST_DS)
        (input.pointee.fs, input.pointee.gs) = hasLDT ? (UInt16(HOST_LDT_FS), UInt16(HOST_LDT_GS)) : (0, 0)
        (input.pointee.ds, input.pointee.es, input.pointee.ss) = (flat, flat, flat)
        guard !is64, hasLDT else {
            input.pointee.cs = UInt16(is64 ? HOST_CS64 : HOST_CS32)
            return
        }
        let is16 = form.mode == .bits16
        let code32 = UInt16(random.chance(80) ? HOST_CS32 : HOST_LDT_CODE32)
        input.pointee.cs = is16 ? UInt16(HOST_LDT_CODE16) : code32
        let addresses16 = decoder.instruction.pointee.address_width == 16
        func segment(_ random: inout Random) -> UInt16 {
            if !addresses16 && !is16 && random.chance(75) { return flat }
            let kinds = [
                HOST_LDT_DATA16, HOST_LDT_DATA16, HOST_LDT_DATA32, HOST_LDT_DATA32, HOST_LDT_SHORT, HOST_LDT_DOWN,
                HOST_LDT_CONST, HOST_DS,
            ]
            return UInt16(random.chance(60) ? HOST_LDT_DATA16 : random.pick(kinds))
        }
        input.pointee.ds = segment(&random)
        input.pointee.es = segment(&random)
        let stacks = [
            HOST_LDT_DATA16, HOST_LDT_DATA16, HOST_LDT_DATA32, HOST_LDT_DATA32, HOST_LDT_DOWN, HOST_LDT_SHORT,
        ]
        if is16 { input.pointee.ss = random.chance(10) ? flat : UInt16(random.pick(stacks)) }
        if !is16 && random.chance(25) { input.pointee.ss = UInt16(random.pick(stacks)) }
    }

    /// Mostly in the middle of the code page, sometimes up to its end or across it.
    private func choosePlace(_ random: inout Random) {
        let length = test.bytes.count
        switch random.below(40) {
        case 0: test.codeOffset = Window.pageSize - length
        case 1: test.codeOffset = Window.pageSize - (1 + random.below(length))
        default: test.codeOffset = 0x100 + random.below(0x600)
        }
        test.input.pointee.rip = Window.code + UInt64(test.codeOffset) + codeBase(&random)
    }

    /// What RIP is relative to: the window, or its base if that is the code segment's.
    private func codeBase(_ random: inout Random) -> UInt64 {
        if is64 { return random.chance(50) ? Window.high : Window.low }
        return Segment.named(test.input.pointee.cs)!.base == 0 ? Window.low : 0
    }

    /// Points an operand that has neither base nor index, or is relative to RIP, into the window.
    private func fitDisplacement(_ random: inout Random) {
        let raw = decoder.instruction.pointee.raw
        for index in 0..<decoder.visibleOperands where decoder.operands[index].isMemory {
            let memory = decoder.operands[index].mem
            let isRelative = memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP
            guard isRelative || memory.base == ZYDIS_REGISTER_NONE && memory.index == ZYDIS_REGISTER_NONE else {
                continue
            }
            let target = chooseTarget(decoder.operands[index], &random)
            var value = target &- segment(memory.segment).base
            if isRelative { value = value &- test.input.pointee.rip &- UInt64(test.bytes.count) }
            for byte in 0..<Int(raw.disp.size) / 8 {
                test.bytes[Int(raw.disp.offset) + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8))
            }
        }
    }

    /// Chooses the target of a relative branch: INT3 bytes of the code page, never the instruction itself.
    private func fitBranch(_ random: inout Random) {
        let field = decoder.instruction.pointee.raw.imm.0
        guard field.size != 0, field.is_relative != 0 else { return }
        let start = test.input.pointee.rip
        let next = start &+ UInt64(test.bytes.count)
        var target = start
        if field.size == 8 {
            while target >= start && target < next {
                target = next &+ UInt64(bitPattern: Int64(Int8(truncatingIfNeeded: random.next())))
            }
        } else {
            target = chooseCodeAddress(&random)
        }
        let value = target &- next
        for byte in 0..<Int(field.size) / 8 {
            test.bytes[Int(field.offset) + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8))
        }
    }

    /// A value for RIP: mostly INT3 bytes, sometimes a place that cannot be executed.
    func chooseCodeAddress(_ random: inout Random) -> UInt64 {
        let base = codeBase(&random)
        switch random.below(24) {
        case 0: return base &+ Window.data &+ UInt64(random.below(0x3000))
        case 1: return base &+ 0x7000 &+ UInt64(random.below(0x1000))
        case 2: return is64 ? random.pick([1 << 47, ~0 << 47, 0x8000_0000_0000_0000, (1 << 47) - 1]) : 0x10000
        case 3: return random.integer() & (is64 ? 0xffff_f000_0000_0fff : 0xffff)
        default: return base &+ Window.code &+ 0x10 &+ UInt64(random.below(0xe0))
        }
    }

    // MARK: Inputs

    /// Chooses all inputs of the next case.
    func chooseInputs(_ random: inout Random) {
        test.removePatches()
        for index in 0..<16 {
            var value = random.integer()
            if random.chance(15) {
                value = (is64 && random.chance(50) ? Window.high : Window.low) &+ 0x4000 &+ UInt64(random.below(0x6000))
            }
            test.gpr[index] = is64 || index >= 8 ? value : value & 0xffff_ffff
        }
        chooseFlags(&random)
        if usesFloat { random.fillFloatState(test.fx, lanes: lanes, mmx: usesMMX, needsMXCSR: usesMXCSR) }
        chooseStack(&random)
        chooseSpecialRegisters(&random)
        for index in 0..<decoder.operandCount where decoder.operands[index].isMemory {
            pointAt(decoder.operands[index], &random)
        }
        for index in 0..<decoder.operandCount where decoder.operands[index].isAccessed && decoder.operands[index].reads
        {
            fillOperand(decoder.operands[index], &random)
        }
        chooseSpecialMemory(&random)
        Masks.addIgnoredMemory(self)
    }

    private func chooseFlags(_ random: inout Random) {
        var flags: UInt64 = 0x202 | random.next() & 0x8d5
        if random.chance(25) { flags |= 1 << 10 }  // DF
        if random.chance(3) { flags |= 1 << 18 }  // AC
        if random.chance(20) { flags |= 1 << 21 }  // ID
        if random.chance(2) { flags |= 1 << 14 }  // NT
        test.input.pointee.rflags = flags
    }

    private func chooseStack(_ random: inout Random) {
        for register in [4, 5] where register == 4 || random.chance(50) {
            let linear = chooseStackTarget(&random)
            setAddress(register, linear &- segment(ZYDIS_REGISTER_SS).base, bytes: stackBytes, &random)
        }
    }

    /// Linear address of the top of the stack.
    var stackAddress: UInt64 {
        ((test.gpr[4] & mask(stackBytes)) &+ segment(ZYDIS_REGISTER_SS).base) & form.mode.linearMask
    }

    /// Width of stack addresses, in bytes.
    var stackBytes: Int { is64 ? 8 : segment(ZYDIS_REGISTER_SS).isBig ? 4 : 2 }

    /// Writes an address of 2, 4 or 8 bytes; what is above it is ignored by the instruction, and random.
    private func setAddress(_ register: Int, _ value: UInt64, bytes: Int, _ random: inout Random) {
        let mask: UInt64 = bytes == 8 ? ~0 : (1 << UInt64(bytes * 8)) - 1
        let above = random.chance(50) ? 0 : random.next()
        test.gpr[register] = (value & mask) | (above & ~mask & (is64 ? ~0 : 0xffff_ffff))
    }

    // MARK: Memory operands

    func segment(_ register: ZydisRegister) -> Segment {
        let input = test.input.pointee
        switch register {
        case ZYDIS_REGISTER_FS: return Segment.named(input.fs) ?? Segment(base: 0)
        case ZYDIS_REGISTER_GS: return Segment.named(input.gs) ?? Segment(base: 0)
        case _ where is64: return Segment(base: 0)
        case ZYDIS_REGISTER_ES: return Segment.named(input.es)!
        case ZYDIS_REGISTER_CS: return Segment.named(input.cs)!
        case ZYDIS_REGISTER_SS: return Segment.named(input.ss)!
        default: return Segment.named(input.ds)!
        }
    }

    /// Chooses the base (or else the index) register of a memory operand so that it lies at an interesting address.
    private func pointAt(_ operand: ZydisDecodedOperand, _ random: inout Random) {
        let memory = operand.mem
        let base = generalRegister(memory.base)
        let index = generalRegister(memory.index)
        guard base != nil || index != nil else { return }
        let displacement = UInt64(bitPattern: memory.disp.value)
        let wanted = chooseTarget(operand, &random) &- segment(memory.segment).base &- displacement
        let scale = UInt64(max(memory.scale, 1))
        if let base, let index, base.number == index.number {
            setAddress(base.number, wanted / (1 + scale), bytes: base.bytes, &random)
        } else if let base {
            let offset = index.map { value(of: $0) &* scale } ?? 0
            setAddress(base.number, wanted &- offset, bytes: base.bytes, &random)
        } else if let index {
            setAddress(index.number, (wanted & mask(index.bytes)) / scale, bytes: index.bytes, &random)
        }
    }

    private func mask(_ bytes: Int) -> UInt64 { bytes == 8 ? ~0 : (1 << UInt64(bytes * 8)) - 1 }

    private func value(of register: (number: Int, bytes: Int, isHigh: Bool)) -> UInt64 {
        (test.gpr[register.number] >> (register.isHigh ? 8 : 0)) & mask(register.bytes)
    }

    /// The linear address of a memory operand with the present registers.
    func linearAddress(_ operand: ZydisDecodedOperand) -> UInt64 {
        let memory = operand.mem
        var address = UInt64(bitPattern: memory.disp.value)
        if memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP {
            address = address &+ test.input.pointee.rip &+ UInt64(test.bytes.count)
        } else if let base = generalRegister(memory.base) {
            address = address &+ value(of: base)
        }
        if let index = generalRegister(memory.index) {
            address = address &+ value(of: index) &* UInt64(max(memory.scale, 1))
        }
        let isImplicit = operand.encoding == ZYDIS_OPERAND_ENCODING_NONE
        let width = isImplicit && isStack(memory) ? stackBytes : Int(decoder.instruction.pointee.address_width) / 8
        return ((address & mask(width)) &+ segment(memory.segment).base) & form.mode.linearMask
    }

    private func isStack(_ memory: ZydisDecodedOperandMem) -> Bool {
        [ZYDIS_REGISTER_RSP, ZYDIS_REGISTER_ESP, ZYDIS_REGISTER_SP].contains(memory.base)
    }

    // MARK: Targets

    private func chooseTarget(_ operand: ZydisDecodedOperand, _ random: inout Random) -> UInt64 {
        if isStack(operand.mem) && operand.encoding == ZYDIS_OPERAND_ENCODING_NONE { return chooseStackTarget(&random) }
        let isLocked = decoder.has(Decoder.Attribute.hasLock) || decoder.mnemonic == ZYDIS_MNEMONIC_XCHG
        let size = max(operand.bytes, 1)
        var target = chooseDataTarget(size: size, limit: segment(operand.mem.segment), &random)
        // A locked access that crosses a cache line stops the whole host. Which parts of a masked store are accessed
        // is the
        // CPU's affair, so that it must not cross a page. Operands of 16 bytes are mostly aligned.
        let isMasked = [ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU].contains(decoder.mnemonic)
        if isLocked || isMasked || size >= 16 && random.chance(75) { target &= ~UInt64(min(size, 16) - 1) }
        return target
    }

    /// Both operands of a string instruction lie in the same window: fast string operations of processors do not see
    /// that two linear addresses are one physical one.
    private func window(_ random: inout Random) -> UInt64 {
        if decoder.instruction.pointee.meta.category == ZYDIS_CATEGORY_STRINGOP {
            return is64 && test.gpr[0] & 1 != 0 ? Window.high : Window.low
        }
        return is64 && random.chance(50) ? Window.high : Window.low
    }

    private func chooseDataTarget(size: Int, limit: Segment, _ random: inout Random) -> UInt64 {
        let base = window(&random)
        let data = base &+ Window.data
        func near(_ address: UInt64, _ random: inout Random) -> UInt64 {
            address &- UInt64(random.below(size + 1)) &+ UInt64(random.chance(20) ? random.below(4) : 0)
        }
        if limit.limit < 0x10000 && random.chance(10) { return near(base &+ limit.limit &+ 1, &random) }
        switch random.below(100) {
        case 0..<55: return data &+ UInt64(random.below(0x1f0)) &* 16
        case 55..<74: return data &+ UInt64(random.below(0x1fc0))
        case 74..<80: return near(data &+ 0x1000, &random)
        case 80..<84: return near(data &+ 0x2000, &random)
        case 84..<88: return data &+ 0x2000 &+ UInt64(random.below(0xfc0))
        case 88..<91: return near(data, &random)
        case 91..<94: return near(data &+ 0x3000, &random)
        case 94: return base &+ 0x7000 &+ UInt64(random.below(0xfc0))
        case 95: return base &+ Window.code &+ UInt64(random.below(0xfc0))
        case 96, 97: return base &+ Window.stack &+ UInt64(random.below(0x1fc0))
        default: return chooseOddTarget(size: size, &random)
        }
    }

    /// Addresses that exist in no window: not canonical, the kernel's, or at the limit of a segment.
    private func chooseOddTarget(size: Int, _ random: inout Random) -> UInt64 {
        let back = UInt64(random.below(size + 1))
        guard is64 else { return Window.low &+ 0x10000 &- back }
        return random.pick([1 << 47, (1 << 47) &- back, ~0 << 47, 0x8000_0000_0000_0000, 0xffff_8000_0000_0000 &- back])
    }

    private func chooseStackTarget(_ random: inout Random) -> UInt64 {
        let base = window(&random)
        let stack = base &+ Window.stack
        let segment = segment(ZYDIS_REGISTER_SS)
        if !is64 && segment.limit < 0xffff && random.chance(60) {
            return base &+ segment.limit &+ 17 &- UInt64(random.below(32))
        }
        switch random.below(100) {
        case 0..<70: return stack &+ UInt64(random.below(0x3e0)) &* 8 &+ 0x40
        case 70..<80: return stack &+ 0x40 &+ UInt64(random.below(0x1f00))
        case 80..<88: return stack &+ 0x1000 &+ UInt64(random.below(33)) &- 16
        case 88..<92: return stack &+ UInt64(random.below(40)) &- 4
        case 92..<96: return stack &+ 0x2000 &- UInt64(random.below(40)) &+ 4
        case 96: return base &+ Window.data &+ 0x2000 &+ UInt64(random.below(64))
        case 97: return base
        default:
            return is64 ? random.pick([(1 << 47) &+ 4, 1 << 47, ~0 << 47, 0x8000_0000_0000_0000]) : base &+ 0x10000
        }
    }
}
