import CHostCPU
import CZydis

/// Which instructions are not compared with the host, and why. Everything else that the CPU model has is.
package enum Exclusions {
    package struct Reason: Hashable {
        package let text: String
        package static let kernel = Reason(text: "enters the host's kernel, or its value is the host's own")
        package static let segments = Reason(
            text: "far transfers, and loads and checks of segment descriptors: file tests and guests cover them")
        package static let timing = Reason(text: "its value is the host's time, model or topology")
        package static let newer = Reason(
            text:
                "after F3, where the host may run TZCNT, LZCNT or RDSSP; BSF and BSR are compared in 64-bit code, "
                + "where the host gets them without it")
        package static let condition = Reason(
            text: "after F2 or F3, which is reserved there (APM volume 3, 1.2.6), and turns the condition on AMD's "
                + "processors")
        package static let elision = Reason(text: "locked and after F2 or F3, which begins a lock elision on the host")
    }

    private static let mnemonics: [(Reason, [ZydisMnemonic])] = [
        (
            .kernel,
            [
                ZYDIS_MNEMONIC_SYSCALL, ZYDIS_MNEMONIC_SYSENTER, ZYDIS_MNEMONIC_INT,
                ZYDIS_MNEMONIC_SGDT, ZYDIS_MNEMONIC_SIDT, ZYDIS_MNEMONIC_SLDT, ZYDIS_MNEMONIC_STR, ZYDIS_MNEMONIC_SMSW,
            ]
        ),
        (
            .segments,
            [
                ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ,
                ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS, ZYDIS_MNEMONIC_LSS,
                ZYDIS_MNEMONIC_LAR, ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_VERR, ZYDIS_MNEMONIC_VERW,
            ]
        ),
        (
            .timing,
            [
                ZYDIS_MNEMONIC_RDTSC, ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_RDPMC, ZYDIS_MNEMONIC_CPUID,
                ZYDIS_MNEMONIC_MONITOR, ZYDIS_MNEMONIC_MWAIT,
            ]
        ),
    ]

    private static let hostIsAMD = hostcpu_is_amd()

    private static let byMnemonic: [UInt32: Reason] = Dictionary(
        uniqueKeysWithValues: mnemonics.flatMap { reason, list in list.map { ($0.rawValue, reason) } })

    /// Why the instruction that `decoder` holds is not compared; nil if it is.
    package static func reason(_ decoder: Decoder) -> Reason? {
        if let reason = byMnemonic[decoder.mnemonic.rawValue] { return reason }
        let instruction = decoder.instruction.pointee
        if instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR { return .segments }
        if loadsSegment(decoder) { return .segments }
        let prefixes = prefixBytes(instruction)
        let isRep = prefixes.contains(0xf3)
        let isRepne = prefixes.contains(0xf2)
        if instruction.opcode_map == ZYDIS_OPCODE_MAP_0F, isRep, [0xb8, 0xbc, 0xbd, 0x1e].contains(instruction.opcode) {
            return .newer
        }
        let isLoop = [ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE].contains(decoder.mnemonic)
        if isLoop && (isRep || isRepne) && hostIsAMD { return .condition }
        let locks =
            decoder.has(Decoder.Attribute.hasLock)
            || decoder.mnemonic == ZYDIS_MNEMONIC_XCHG && decoder.operands[0].isMemory
        if (isRep || isRepne) && locks {
            return .elision
        }
        return nil
    }

    /// Writes a segment register, as MOV and POP do.
    private static func loadsSegment(_ decoder: Decoder) -> Bool {
        guard decoder.visibleOperands > 0, decoder.operands[0].isRegister, decoder.operands[0].writes else {
            return false
        }
        return ZydisRegisterGetClass(decoder.operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT
    }

    private static func prefixBytes(_ instruction: ZydisDecodedInstruction) -> [UInt8] {
        withUnsafeBytes(of: instruction.raw.prefixes) { raw in
            let stride = MemoryLayout.size(ofValue: instruction.raw.prefixes.0)
            let value = MemoryLayout<ZydisPrefixType>.size
            return (0..<Int(instruction.raw.prefix_count)).map { raw[$0 * stride + value] }
        }
    }
}
