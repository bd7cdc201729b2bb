import CHostCPU
import CZydis
import DifferentialSupport

/// What the manuals leave undefined after an instruction, and therefore is not compared.
struct Masks {
    /// RFLAGS bits that are compared.
    var flags: UInt64 = ~0
    /// FSW bits that are compared.
    var fsw: UInt16 = 0xffff
    /// Bits of each general register that are compared.
    var registers = SIMD16<UInt64>(repeating: ~0)
    /// Bits of a page fault's address that are compared.
    var faultAddress: UInt64 = ~0
    /// Vector and x87 values are compared only to so many bits of relative precision.
    var tolerance: Tolerance = .exact
    /// How many x87 values the instruction makes, from ST(0) on.
    var results = 1
    /// Several faults are due, and no manual says which comes first: any of #SS, #GP, #PF and #AC will do.
    var anyAccessFault = false
    /// Whether an access is made, and so whether it faults, depends on the CPU.
    var mayFault = false
    /// x87 state is not compared.
    var ignoresX87 = false
    /// What AMD's processors and hypervisors do where the manuals leave it open; nothing on other hosts.
    var amd = AMDMasks()

    /// The instructions whose results the architecture defines to a precision.
    static let approximate =
        "rcpps rcpss rsqrtps rsqrtss (1.5 x 2^-12 each), "
        + "f2xm1 fyl2x fyl2xp1 fptan fpatan fsin fcos fsincos (2^-48)"

    enum Tolerance { case exact, approximation32, transcendental }

    private enum Flag {
        static let cf: UInt64 = 1, af: UInt64 = 1 << 4, of: UInt64 = 1 << 11, ac: UInt64 = 1 << 18
        static let arithmetic: UInt64 = 0x8d5
    }

    /// Everything is compared.
    init() {}

    /// For a case that ended on the host with `vector`.
    init(_ decoder: Decoder, _ test: TestCase, vector: UInt32) {
        let instruction = decoder.instruction.pointee
        if let cpuFlags = instruction.cpu_flags { flags = ~(UInt64(cpuFlags.pointee.undefined) & Flag.arithmetic) }
        if let undefined = Masks.shiftFlags(decoder, test) { flags = ~undefined }
        if let fpuFlags = instruction.fpu_flags {
            let undefined = fpuFlags.pointee.undefined
            fsw = ~(UInt16(undefined & 7) << 8 | UInt16(undefined >> 3 & 1) << 14)
        }
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_BSWAP where decoder.operands[0].size == 16: maskDestination(decoder, 0xffff)
        case ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
            if Masks.shiftsTooFar(decoder, test) { maskDestination(decoder, 0xffff) }
        case ZYDIS_MNEMONIC_RCPPS, ZYDIS_MNEMONIC_RCPSS, ZYDIS_MNEMONIC_RSQRTPS, ZYDIS_MNEMONIC_RSQRTSS:
            tolerance = .approximation32
        case ZYDIS_MNEMONIC_F2XM1, ZYDIS_MNEMONIC_FYL2X, ZYDIS_MNEMONIC_FYL2XP1, ZYDIS_MNEMONIC_FPTAN,
            ZYDIS_MNEMONIC_FPATAN, ZYDIS_MNEMONIC_FSIN, ZYDIS_MNEMONIC_FCOS, ZYDIS_MNEMONIC_FSINCOS:
            tolerance = .transcendental
            if decoder.mnemonic == ZYDIS_MNEMONIC_FSINCOS { results = 2 }
        default: break
        }
        maskRepeated(decoder, test, vector)
        maskFaults(decoder, test, vector)
        amd = AMDMasks(decoder, test, vector: vector)
    }

    private mutating func maskDestination(_ decoder: Decoder, _ bits: UInt64) {
        guard decoder.operands[0].isRegister, let register = generalRegister(decoder.operands[0].reg.value) else {
            return
        }
        registers[register.number] &= ~bits
    }

    /// Repeated string instructions. A fault under REPE or REPNE may show the flags of the last comparison or those
    /// before
    /// the instruction (Intel). In 64-bit code with 32-bit addresses, registers that no iteration changes may or may
    /// not
    /// be zero-extended.
    private mutating func maskRepeated(_ decoder: Decoder, _ test: TestCase, _ vector: UInt32) {
        let isRepeated = [Decoder.Attribute.hasRep, Decoder.Attribute.hasRepe, Decoder.Attribute.hasRepne]
            .contains(where: decoder.has)
        guard isRepeated else { return }
        if vector != 3 { flags &= ~Flag.arithmetic }
        let isShort = test.mode == .bits64 && decoder.instruction.pointee.address_width == 32
        if isShort && (vector != 3 || test.gpr[1] & 0xffff_ffff == 0) {
            for number in [1, 6, 7] { registers[number] = 0xffff_ffff }
        }
    }

    /// What a faulting instruction may leave, and which fault comes first.
    private mutating func maskFaults(_ decoder: Decoder, _ test: TestCase, _ vector: UInt32) {
        let mnemonic = decoder.mnemonic
        if mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU {
            faultAddress = ~0xfff
            mayFault = Masks.selectsNothing(decoder, test)
        }
        if mnemonic == ZYDIS_MNEMONIC_PUSH && Masks.isSegment(decoder.operands[0]) { mayFault = true }
        guard vector != 3 else { return }
        // Of an operand of several parts, any on the missing page may be the first that is accessed.
        let isLarge = (0..<decoder.visibleOperands).contains {
            decoder.operands[$0].isMemory && decoder.operands[$0].size > 64
        }
        if isLarge { faultAddress = ~0xfff }
        let hasTwo = (0..<decoder.operandCount).filter { decoder.operands[$0].isMemory }.count > 1
        anyAccessFault =
            test.input.pointee.rflags & Flag.ac != 0 || mnemonic == ZYDIS_MNEMONIC_CALL || isLarge
            || (hasTwo || mnemonic == ZYDIS_MNEMONIC_ENTER) && AMDMasks.hostIsAMD
        // POPA may have loaded some of the registers.
        if mnemonic == ZYDIS_MNEMONIC_POPA || mnemonic == ZYDIS_MNEMONIC_POPAD {
            for number in [0, 1, 2, 3, 5, 6, 7] { registers[number] = 0 }
        }
        // The switch to MMX state may come before or after the access.
        ignoresX87 = (0..<decoder.visibleOperands).contains {
            decoder.operands[$0].isRegister
                && ZydisRegisterGetClass(decoder.operands[$0].reg.value) == ZYDIS_REGCLASS_MMX
        }
    }

    /// A masked store whose mask selects no byte.
    private static func selectsNothing(_ decoder: Decoder, _ test: TestCase) -> Bool {
        let register = decoder.operands[1].reg.value.rawValue
        let signs: UInt64 = 0x8080_8080_8080_8080
        func load(_ offset: Int) -> UInt64 { test.fx.load(fromByteOffset: offset, as: UInt64.self) }
        if decoder.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU {
            let offset = FXImage.xmm(Int(register - ZYDIS_REGISTER_XMM0.rawValue))
            return (load(offset) | load(offset + 8)) & signs == 0
        }
        let top = Int(test.fx.load(fromByteOffset: FXImage.fsw, as: UInt16.self) >> 11 & 7)
        let stackIndex = (Int(register - ZYDIS_REGISTER_MM0.rawValue) - top) & 7
        return load(FXImage.st(stackIndex)) & signs == 0
    }

    /// The count of a shift or rotation, masked as the CPU does; nil for other instructions.
    private static func shiftCount(_ decoder: Decoder, _ test: TestCase) -> UInt64? {
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_ROL, ZYDIS_MNEMONIC_ROR,
            ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
            let operand = decoder.operands[decoder.visibleOperands - 1]
            let count = operand.isImmediate ? operand.imm.value.u : test.gpr[1]
            return count & (decoder.operands[0].size == 64 ? 63 : 31)
        default: return nil
        }
    }

    private static func isDoubleShift(_ decoder: Decoder) -> Bool {
        decoder.mnemonic == ZYDIS_MNEMONIC_SHLD || decoder.mnemonic == ZYDIS_MNEMONIC_SHRD
    }

    /// SHLD or SHRD by more than the operand's size: everything is undefined.
    private static func shiftsTooFar(_ decoder: Decoder, _ test: TestCase) -> Bool {
        isDoubleShift(decoder) && shiftCount(decoder, test)! > UInt64(decoder.operands[0].size)
    }

    /// Undefined flags of shifts and rotations (SDM volume 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD).
    private static func shiftFlags(_ decoder: Decoder, _ test: TestCase) -> UInt64? {
        guard let count = shiftCount(decoder, test) else { return nil }
        if count == 0 { return 0 }
        if shiftsTooFar(decoder, test) { return Flag.arithmetic }
        var undefined = count == 1 ? 0 : Flag.of
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR:
            undefined |= Flag.af
            if count >= UInt64(decoder.operands[0].size) { undefined |= Flag.cf }
        case ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD: undefined |= Flag.af
        default: break
        }
        return undefined
    }

    /// Notes the parts of memory that the instruction leaves undefined: instruction and operand pointers of the x87,
    /// the
    /// upper part of a pushed segment register, results of double shifts that go too far; where it faults, what it may
    /// have stored before: a return address, the first part of an operand of several.
    static func addIgnoredMemory(_ generator: CaseGenerator) {
        let decoder = generator.decoder
        let test = generator.test
        var address: UInt64 = 0
        for index in (0..<decoder.operandCount).reversed() where decoder.operands[index].isMemory {
            address = generator.linearAddress(decoder.operands[index])
            if decoder.operands[index].writes && decoder.operands[index].bytes > 8 {
                test.ignoredMemory.append(
                    .init(address: address, count: decoder.operands[index].bytes, afterFault: true))
            }
        }
        func ignore(_ range: ClosedRange<UInt64>, afterFault: Bool = false) {
            test.ignoredMemory.append(
                .init(address: address &+ range.lowerBound, count: range.count, afterFault: afterFault))
        }
        let wide = decoder.instruction.pointee.operand_width != 16
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64:
            ignore(6...23)
            ignore(28...31)
        case ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FNSAVE: wide ? ignore(12...27) : ignore(6...13)
        case ZYDIS_MNEMONIC_PUSH where isSegment(decoder.operands[0]):
            let size = UInt64(decoder.operands[0].size == 16 ? decoder.instruction.pointee.operand_width / 8 : 4)
            if size > 2 {
                address = address &- size
                ignore(2...size - 1)
            }
        case ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
            if shiftsTooFar(decoder, test), decoder.operands[0].isMemory { ignore(0...1) }
        case ZYDIS_MNEMONIC_CALL:
            address = generator.stackAddress &- 8
            ignore(0...7, afterFault: true)
        default: break
        }
    }

    private static func isSegment(_ operand: ZydisDecodedOperand) -> Bool {
        operand.isRegister && ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_SEGMENT
    }
}
