import CZydis
import DifferentialSupport

// Inputs that certain instructions need to show more than a fault or an early end.
extension CaseGenerator {
    private var rax: Int { 0 }
    private var rcx: Int { 1 }
    private var rdx: Int { 2 }

    private var isRepeated: Bool {
        decoder.has(Decoder.Attribute.hasRep) || decoder.has(Decoder.Attribute.hasRepe)
            || decoder.has(Decoder.Attribute.hasRepne)
    }

    /// Before memory operands are placed.
    func chooseSpecialRegisters(_ random: inout Random) {
        if isRepeated { chooseCount(&random) }
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_LOOP, ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE, ZYDIS_MNEMONIC_JCXZ,
            ZYDIS_MNEMONIC_JECXZ,
            ZYDIS_MNEMONIC_JRCXZ:
            let high: UInt64 = random.chance(50) ? 0 : 0xffff_ffff_ffff_0000
            test.gpr[rcx] = (high | UInt64(random.below(3))) & (is64 ? ~0 : 0xffff_ffff)
        case ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_ROL, ZYDIS_MNEMONIC_ROR,
            ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
            if random.chance(70) { test.gpr[rcx] = test.gpr[rcx] & ~0xff | UInt64(random.below(72)) }
        case ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV: chooseDividend(&random)
        case ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR, ZYDIS_MNEMONIC_BTC: chooseBitOffset(&random)
        case ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_CALL:
            if decoder.operands[0].isRegister, let register = generalRegister(decoder.operands[0].reg.value) {
                test.gpr[register.number] = chooseCodeAddress(&random) & (is64 ? ~0 : 0xffff_ffff)
            }
        default: break
        }
    }

    /// A count for a repeated instruction; the largest end at a page that is not there.
    private func chooseCount(_ random: inout Random) {
        let width = decoder.instruction.pointee.address_width
        let mask: UInt64 = width == 64 ? ~0 : (1 << UInt64(width)) - 1
        let count: UInt64
        switch random.below(20) {
        case 0: count = 0
        case 1: count = random.next()
        case 2, 3: count = UInt64(random.below(300))
        default: count = UInt64(random.below(24))
        }
        test.gpr[rcx] = (test.gpr[rcx] & ~mask | count & mask) & (is64 ? ~0 : 0xffff_ffff)
    }

    /// A dividend whose quotient mostly fits.
    private func chooseDividend(_ random: inout Random) {
        guard random.chance(75) else { return }
        let isSigned = decoder.mnemonic == ZYDIS_MNEMONIC_IDIV
        if decoder.operands[0].size == 8 {
            let low = UInt64(UInt8(truncatingIfNeeded: test.gpr[rax]))
            let high: UInt64 = isSigned && low & 0x80 != 0 ? 0xff : 0
            let excess = UInt64(random.chance(40) ? random.below(64) : 0)
            test.gpr[rax] = test.gpr[rax] & ~0xffff | low | (high &+ excess) << 8 & 0xff00
            return
        }
        let sign = (test.gpr[rax] >> UInt64(decoder.operands[0].size - 1)) & 1
        test.gpr[rdx] = isSigned && sign != 0 ? (is64 ? ~0 : 0xffff_ffff) : 0
        if random.chance(40) {
            test.gpr[rdx] = (test.gpr[rdx] &+ random.next() >> UInt64(random.below(64))) & (is64 ? ~0 : 0xffff_ffff)
        }
    }

    /// Bit offsets from memory that stay mostly inside the window.
    private func chooseBitOffset(_ random: inout Random) {
        guard decoder.operands[0].isMemory, decoder.operands[1].isRegister, random.chance(95),
            let register = generalRegister(decoder.operands[1].reg.value)
        else { return }
        let span = random.chance(80) ? 512 : 40_000
        let offset = UInt64(bitPattern: Int64(random.below(2 * span) - span))
        let kept: UInt64 = register.bytes == 8 ? 0 : register.bytes == 4 ? ~0xffff_ffff : ~0xffff
        test.gpr[register.number] = (test.gpr[register.number] & kept | offset & ~kept) & (is64 ? ~0 : 0xffff_ffff)
    }

    /// Puts a fitting value where a memory operand is read.
    func fillOperand(_ operand: ZydisDecodedOperand, _ random: inout Random) {
        let address = linearAddress(operand)
        switch operand.element_type {
        case ZYDIS_ELEMENT_TYPE_FLOAT32:
            for lane in 0..<min(operand.bytes / 4, 4) {
                test.patch(address &+ UInt64(lane * 4), UInt64(random.float32()), count: 4)
            }
        case ZYDIS_ELEMENT_TYPE_FLOAT64:
            for lane in 0..<min(operand.bytes / 8, 2) {
                test.patch(address &+ UInt64(lane * 8), random.float64(), count: 8)
            }
        case ZYDIS_ELEMENT_TYPE_FLOAT80:
            let value = random.float80()
            test.patch(address, value.significand, count: 8)
            test.patch(address &+ 8, UInt64(value.signExponent), count: 2)
        case ZYDIS_ELEMENT_TYPE_LONGBCD:
            for index in 0..<UInt64(10) {
                let digits = UInt8(random.below(10) << 4 | random.below(10))
                test.patch(address &+ index, random.chance(95) ? digits : UInt8(truncatingIfNeeded: random.next()))
            }
        default:
            for lane in 0..<min((operand.bytes + 7) / 8, 2) {
                test.patch(address &+ UInt64(lane * 8), random.integer(), count: min(operand.bytes - lane * 8, 8))
            }
        }
    }

    /// After memory operands are placed.
    func chooseSpecialMemory(_ random: inout Random) {
        let category = decoder.instruction.pointee.meta.category
        if [ZYDIS_CATEGORY_CALL, ZYDIS_CATEGORY_RET, ZYDIS_CATEGORY_UNCOND_BR].contains(category) {
            for index in 0..<decoder.operandCount
            where decoder.operands[index].isAccessed && decoder.operands[index].reads {
                test.patch(linearAddress(decoder.operands[index]), chooseCodeAddress(&random), count: 8)
            }
        }
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSD, ZYDIS_MNEMONIC_CMPSQ,
            ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, ZYDIS_MNEMONIC_SCASD, ZYDIS_MNEMONIC_SCASQ:
            if category == ZYDIS_CATEGORY_STRINGOP { makeEqualElements(&random) }  // not the CMPSD of SSE2
        case ZYDIS_MNEMONIC_CMPXCHG: makeEqualAccumulator(&random)
        case ZYDIS_MNEMONIC_CMPXCHG8B, ZYDIS_MNEMONIC_CMPXCHG16B: makeEqualPair(&random)
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64, ZYDIS_MNEMONIC_FRSTOR, ZYDIS_MNEMONIC_FLDENV,
            ZYDIS_MNEMONIC_FLDCW, ZYDIS_MNEMONIC_LDMXCSR:
            writeFloatImage(&random)
        case ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD, ZYDIS_MNEMONIC_POPFQ:
            let tf: UInt64 = random.chance(95) ? ~0x100 : ~0
            let image = random.next() & (random.chance(50) ? 0xffff_ffff_ffff_ffff : 0x244cd5) & tf
            test.patch(memoryAddress, image, count: 8)
        case ZYDIS_MNEMONIC_BOUND: writeBounds(&random)
        default: break
        }
    }

    /// Of the first memory operand that is accessed.
    private var memoryAddress: UInt64 {
        for index in 0..<decoder.operandCount where decoder.operands[index].isMemory {
            return linearAddress(decoder.operands[index])
        }
        return 0
    }

    /// Lets compared strings be equal for a while, or (under REPNE) differ for a while.
    private func makeEqualElements(_ random: inout Random) {
        let memory = (0..<decoder.operandCount).map { decoder.operands[$0] }.filter(\.isMemory)
        let size = memory[0].bytes
        let step = test.input.pointee.rflags & 1 << 10 != 0 ? 0 &- UInt64(size) : UInt64(size)
        let count = random.below(24)
        let wantsEqual = !decoder.has(Decoder.Attribute.hasRepne)
        for element in 0...count where (element < count) == wantsEqual {
            let value = memory.count == 1 ? test.gpr[rax] : random.next()
            for operand in memory {
                test.patch(linearAddress(operand) &+ step &* UInt64(element), value, count: size)
            }
        }
    }

    private func makeEqualAccumulator(_ random: inout Random) {
        guard random.chance(50) else { return }
        let destination = decoder.operands[0]
        if destination.isMemory {
            test.patch(linearAddress(destination), test.gpr[rax], count: destination.bytes)
        } else if let register = generalRegister(destination.reg.value), !register.isHigh, register.number != 4 {
            test.gpr[register.number] = test.gpr[rax]
        }
    }

    private func makeEqualPair(_ random: inout Random) {
        guard random.chance(60) else { return }
        let half = decoder.operands[0].bytes / 2
        test.patch(memoryAddress, test.gpr[rax], count: half)
        test.patch(memoryAddress &+ UInt64(half), test.gpr[rdx], count: half)
    }

    private func writeBounds(_ random: inout Random) {
        let size = decoder.operands[0].bytes
        let low = random.chance(50) ? UInt64(1) << UInt64(size * 8 - 1) : random.integer()
        let high = random.chance(50) ? ~low : random.integer()
        test.patch(memoryAddress, low, count: size)
        test.patch(memoryAddress &+ UInt64(size), high, count: size)
    }

    /// A valid image for the instructions that load floating-point state, sometimes with a reserved bit set.
    private func writeFloatImage(_ random: inout Random) {
        let image = UnsafeMutableRawPointer.allocate(byteCount: FXImage.bytes, alignment: 16)
        defer { image.deallocate() }
        random.fillFloatState(image, lanes: .integer, needsMXCSR: true)
        func copy(_ range: Range<Int>, to offset: Int) {
            for index in range {
                test.patch(
                    memoryAddress &+ UInt64(offset + index - range.lowerBound),
                    image.load(fromByteOffset: index, as: UInt8.self))
            }
        }
        let wide = decoder.instruction.pointee.operand_width != 16
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_LDMXCSR: copy(24..<28, to: 0)
        case ZYDIS_MNEMONIC_FLDCW: copy(0..<2, to: 0)
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64: copy(0..<FXImage.bytes, to: 0)
        default:
            copy(0..<2, to: 0)
            copy(2..<4, to: wide ? 4 : 2)
            test.patch(memoryAddress &+ (wide ? 8 : 4), random.chance(50) ? 0 : random.next(), count: 2)
        }
        guard random.chance(8) else { return }
        if decoder.mnemonic == ZYDIS_MNEMONIC_LDMXCSR { test.patch(memoryAddress &+ 2, 1) }
        if decoder.mnemonic == ZYDIS_MNEMONIC_FXRSTOR { test.patch(memoryAddress &+ 27, 0x80) }
    }
}
