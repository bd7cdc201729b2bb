import CEngine
import CZydis

/// What CPUID returns for one leaf.
package struct CPUIDAnswer: Equatable {
    package var eax, ebx, ecx, edx: UInt32

    package init(eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0, edx: UInt32 = 0) {
        (self.eax, self.ebx, self.ecx, self.edx) = (eax, ebx, ecx, edx)
    }
}

/// Who made the processor, which decides details that the two manuals tell differently.
package enum CPUVendor {
    case intel, amd
}

/// A CPU model: what it identifies itself as, what it has, and where it follows one vendor rather than the other.
package struct CPUModel {
    /// The name given to `--cpu`.
    package let name: String
    package let vendor: CPUVendor
    /// Type, family, model and stepping, as CPUID leaf 1 returns them in EAX.
    package let signature: UInt32
    /// Whether there is a local APIC.
    package let hasAPIC: Bool
    package let hasLongMode: Bool
    package let hasRDTSCP: Bool
    /// IA32_EFER bits that can be set; none if there is no such register.
    package let eferBits: UInt64
    /// CR4 bits that can be set.
    package let cr4Bits: UInt64
    /// Width of physical addresses in bits.
    package let physicalAddressBits: UInt64
    /// How many counters RDPMC accepts.
    package let performanceCounters: UInt32

    // Where vendors differ.

    /// A load of a null selector leaves the hidden base and limit as they were (AMD), or clears them (Intel).
    package var nullSelectorKeepsBase: Bool { vendor == .amd }
    /// Far pointers with REX.W have a 64-bit offset (Intel).
    package var hasFarPointer64: Bool { vendor == .intel }
    /// SYSCALL and SYSRET exist outside 64-bit code (AMD).
    package var hasLegacySyscall: Bool { vendor == .amd && hasLongMode }
    /// SYSRET to a non-canonical address faults at CPL 0 (Intel) rather than at the target (AMD).
    package var sysretChecksRIP: Bool { vendor == .intel }
    /// SYSRET loads only the selector of SS (AMD).
    package var sysretKeepsSSAttributes: Bool { vendor == .amd }
    /// SYSENTER and SYSEXIT exist in long mode (Intel).
    package var hasLongModeSysenter: Bool { vendor == .intel && hasLongMode }
    /// The 66 prefix changes the size of near branches in 64-bit code (AMD).
    package var usesAMDBranches: Bool { vendor == .amd }
    /// MOVSXD with the 66 prefix reads 32 bits (AMD) rather than 16 (SDM volume 2, MOVSXD).
    var movsxdReads32: Bool { vendor == .amd }
    /// The alignment check covers 16-byte operands that need not be aligned (APM volume 4, MOVUPS, MOVDQU, LDDQU); the
    /// SDM (volume 3, 6.15, #AC) leaves that to the implementation, and Intel's processors do without.
    var checksAlignment128: Bool { vendor == .amd }

    package var hasEFER: Bool { eferBits != 0 }

    private let leaves: CPUIDLeaves
    /// Zydis's instruction sets that the model has, by raw value.
    private let instructionSets: [Bool]

    /// Whether the model has an instruction; what it lacks is #UD.
    package func accepts(_ instruction: ZydisDecodedInstruction) -> Bool {
        instructionSets[Int(instruction.meta.isa_set.rawValue)]
    }

    /// Whether the model raises #UD for a form of an instruction that it has: PREFETCH and PREFETCHW with a register
    /// (APM volume 3), which are NOP to Intel's processors.
    package func refuses(_ instruction: ZydisDecodedInstruction) -> Bool {
        vendor == .amd && instruction.opcode_map == ZYDIS_OPCODE_MAP_0F && instruction.opcode == 0x0d
            && instruction.raw.modrm.mod == 3
    }

    /// The answer of CPUID on `cpu`. Leaves out of range answer as the vendor's processors do.
    package func cpuid(_ leaf: UInt32, subleaf: UInt32, _ cpu: CPU) -> CPUIDAnswer {
        var answer = leaves.answer(leaf, subleaf: subleaf)
        let apicIsOn = cpu.pointee.apicBase & APICBase.enable != 0
        if leaf == CPUIDLeaves.features || leaf == CPUIDLeaves.extendedFeatures && vendor == .amd, !apicIsOn {
            answer.edx &= ~CPUIDFeature.apic
        }
        // Intel's processors show SYSCALL only where it can be executed.
        if leaf == CPUIDLeaves.extendedFeatures && vendor == .intel && !cpu.is64Bit {
            answer.edx &= ~CPUIDFeature.syscall
        }
        return answer
    }

    private init(
        name: String, vendor: CPUVendor, signature: UInt32, apic: Bool, longMode: Bool, rdtscp: Bool,
        eferBits: UInt64, cr4Bits: UInt64, physicalAddressBits: UInt64, performanceCounters: UInt32,
        leaves: CPUIDLeaves, instructionSets: [ZydisISASet]
    ) {
        self.name = name
        self.vendor = vendor
        self.signature = signature
        hasAPIC = apic
        hasLongMode = longMode
        hasRDTSCP = rdtscp
        self.eferBits = eferBits
        self.cr4Bits = cr4Bits
        self.physicalAddressBits = physicalAddressBits
        self.performanceCounters = performanceCounters
        self.leaves = leaves
        var accepted = [Bool](repeating: false, count: Int(ZYDIS_ISA_SET_MAX_VALUE.rawValue) + 1)
        for set in instructionSets { accepted[Int(set.rawValue)] = true }
        self.instructionSets = accepted
    }
}

extension CPUModel {
    /// The names that `named` knows, the default first.
    package static let names = ["x86-64", "x86-64-intel", "pentium4"]

    /// The model of a name, with or without a local APIC; nil if there is none of that name.
    package static func named(_ name: String, apic: Bool = true) -> CPUModel? {
        switch name {
        case "x86-64": amd64(apic: apic)
        case "x86-64-intel": intel64(apic: apic)
        case "pentium4": pentium4(apic: apic)
        default: nil
        }
    }

    private static let baseCR4 =
        CR4.tsd | CR4.de | CR4.pse | CR4.pae | CR4.mce | CR4.pge | CR4.pce | CR4.osfxsr
        | CR4.osxmmexcpt

    /// A 64-bit processor with AMD's identity, as QEMU's default one. AMD's need no page-table isolation.
    package static func amd64(apic: Bool = true) -> CPUModel {
        let signature: UInt32 = 0x0006_0fb1  // family 15, model 107, stepping 1
        return CPUModel(
            name: "x86-64", vendor: .amd, signature: signature, apic: apic, longMode: true, rdtscp: true,
            eferBits: EFER.sce | EFER.lme | EFER.nxe, cr4Bits: baseCR4, physicalAddressBits: 40,
            performanceCounters: 4, leaves: .amd64(signature: signature, apic: apic),
            instructionSets: instructionSets32 + instructionSets64 + [ZYDIS_ISA_SET_AMD, ZYDIS_ISA_SET_RDTSCP])
    }

    /// The same with Intel's identity and behaviour.
    package static func intel64(apic: Bool = true) -> CPUModel {
        let signature: UInt32 = 0x0000_06fb  // family 6, model 15, stepping 11
        return CPUModel(
            name: "x86-64-intel", vendor: .intel, signature: signature, apic: apic, longMode: true, rdtscp: true,
            eferBits: EFER.sce | EFER.lme | EFER.nxe, cr4Bits: baseCR4, physicalAddressBits: 40,
            performanceCounters: 2, leaves: .intel64(signature: signature, apic: apic),
            instructionSets: instructionSets32 + instructionSets64 + [ZYDIS_ISA_SET_RDTSCP])
    }

    /// The Northwood Pentium 4: 32 bits, SSE2, no NX.
    package static func pentium4(apic: Bool = true) -> CPUModel {
        let signature: UInt32 = 0x0000_0f29  // family 15, model 2, stepping 9
        return CPUModel(
            name: "pentium4", vendor: .intel, signature: signature, apic: apic, longMode: false, rdtscp: false,
            eferBits: 0, cr4Bits: baseCR4, physicalAddressBits: 36, performanceCounters: 18,
            leaves: .pentium4(signature: signature, apic: apic), instructionSets: instructionSets32)
    }

    /// What every model has: up to SSE2.
    private static let instructionSets32 = [
        ZYDIS_ISA_SET_I86, ZYDIS_ISA_SET_I186, ZYDIS_ISA_SET_I286REAL, ZYDIS_ISA_SET_I286PROTECTED, ZYDIS_ISA_SET_I386,
        ZYDIS_ISA_SET_I486, ZYDIS_ISA_SET_I486REAL, ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_ISA_SET_PENTIUMMMX,
        ZYDIS_ISA_SET_PPRO, ZYDIS_ISA_SET_X87, ZYDIS_ISA_SET_CMOV, ZYDIS_ISA_SET_FCMOV, ZYDIS_ISA_SET_FAT_NOP,
        ZYDIS_ISA_SET_PREFETCH_NOP, ZYDIS_ISA_SET_PAUSE, ZYDIS_ISA_SET_RDPMC, ZYDIS_ISA_SET_LAHF, ZYDIS_ISA_SET_FXSAVE,
        ZYDIS_ISA_SET_SSE, ZYDIS_ISA_SET_SSEMXCSR, ZYDIS_ISA_SET_SSE_PREFETCH, ZYDIS_ISA_SET_SSE2,
        ZYDIS_ISA_SET_SSE2MMX, ZYDIS_ISA_SET_CLFSH,
    ]
    /// What the 64-bit models have beyond that.
    private static let instructionSets64 = [
        ZYDIS_ISA_SET_LONGMODE, ZYDIS_ISA_SET_FXSAVE64, ZYDIS_ISA_SET_CMPXCHG16B, ZYDIS_ISA_SET_SSE3,
        ZYDIS_ISA_SET_SSE3X87,
    ]
}
