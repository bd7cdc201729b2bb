import CZydis
import DifferentialSupport
import VMM

/// All forms of a code size that programs may contain, to choose from by kind.
final class FormPool {
    enum Class: Int, CaseIterable {
        case integer, producers, consumers, shift, multiply, string, stack, vector, x87, system, branch
    }

    struct Entry {
        let form: Form
        let number: Int
        /// The same on any host, and without faults if its operands are good.
        let runsOnHost: Bool
    }

    let mode: CodeMode
    let decoder: Decoder
    private(set) var forms: [Form] = []
    /// By class and then by mnemonic, so that a mnemonic of many forms is not chosen more often.
    private var groups: [[[Entry]]] = []
    private var hostGroups: [[[Entry]]] = []

    init(_ mode: CodeMode) {
        self.mode = mode
        decoder = Decoder(mode)
        forms = FormGenerator.forms(mode, excluded: true).ordered
        var byMnemonic: [Class: [String: [Entry]]] = [:]
        var random = Random(seed: 1)
        for (number, form) in forms.enumerated() {
            let encoder = Encoder(form: form, decoder: decoder, hasLDT: true)
            guard encoder.encode(&random) != nil else { continue }
            let entry = Entry(form: form, number: number, runsOnHost: runsOnHost(form))
            let mnemonic = String(cString: ZydisMnemonicGetString(decoder.mnemonic))
            byMnemonic[classify(form), default: [:]][mnemonic, default: []].append(entry)
        }
        groups = Class.allCases.map { kind in
            (byMnemonic[kind] ?? [:]).sorted { $0.key < $1.key }.map(\.value)
        }
        hostGroups = groups.map { $0.map { $0.filter(\.runsOnHost) }.filter { !$0.isEmpty } }
    }

    func pick(_ kind: Class, host: Bool, _ random: inout Random) -> Entry? {
        let group = host ? hostGroups[kind.rawValue] : groups[kind.rawValue]
        return group.isEmpty ? nil : random.pick(random.pick(group))
    }

    // MARK: Classes of the form that the decoder holds

    private func classify(_ form: Form) -> Class {
        let instruction = decoder.instruction.pointee
        let category = instruction.meta.category
        if form.alwaysFaults || form.exclusion == .kernel || form.exclusion == .timing { return .system }
        switch category {
        case ZYDIS_CATEGORY_COND_BR, ZYDIS_CATEGORY_UNCOND_BR, ZYDIS_CATEGORY_CALL, ZYDIS_CATEGORY_RET,
            ZYDIS_CATEGORY_INTERRUPT, ZYDIS_CATEGORY_SYSCALL, ZYDIS_CATEGORY_SYSRET:
            return .branch
        case ZYDIS_CATEGORY_STRINGOP: return .string
        case ZYDIS_CATEGORY_PUSH, ZYDIS_CATEGORY_POP: return form.exclusion == nil ? .stack : .system
        case ZYDIS_CATEGORY_CMOV, ZYDIS_CATEGORY_SETCC, ZYDIS_CATEGORY_FLAGOP, ZYDIS_CATEGORY_DECIMAL:
            return .consumers
        case ZYDIS_CATEGORY_SHIFT, ZYDIS_CATEGORY_ROTATE, ZYDIS_CATEGORY_BITBYTE: return .shift
        case ZYDIS_CATEGORY_SYSTEM, ZYDIS_CATEGORY_SEGOP: return .system
        default: break
        }
        switch instruction.meta.isa_ext {
        case ZYDIS_ISA_EXT_X87, ZYDIS_ISA_EXT_MMX: return .x87
        case ZYDIS_ISA_EXT_BASE, ZYDIS_ISA_EXT_LONGMODE: break
        default: return .vector
        }
        if form.exclusion != nil { return .system }
        switch decoder.mnemonic {
        case ZYDIS_MNEMONIC_MUL, ZYDIS_MNEMONIC_IMUL, ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV: return .multiply
        case ZYDIS_MNEMONIC_ADC, ZYDIS_MNEMONIC_SBB: return .consumers
        case ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB, ZYDIS_MNEMONIC_CMP, ZYDIS_MNEMONIC_TEST, ZYDIS_MNEMONIC_AND,
            ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_XOR, ZYDIS_MNEMONIC_INC, ZYDIS_MNEMONIC_DEC, ZYDIS_MNEMONIC_NEG:
            return .producers
        default: return .integer
        }
    }

    private static let neverOnHost: Set<UInt32> = Set(
        [
            // What they store or leave is not defined to the last bit, or is the host's own.
            ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64, ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FNSAVE,
            ZYDIS_MNEMONIC_FNSTSW, ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64, ZYDIS_MNEMONIC_FLDENV,
            ZYDIS_MNEMONIC_FRSTOR, ZYDIS_MNEMONIC_RCPPS, ZYDIS_MNEMONIC_RCPSS, ZYDIS_MNEMONIC_RSQRTPS,
            ZYDIS_MNEMONIC_RSQRTSS, ZYDIS_MNEMONIC_F2XM1, ZYDIS_MNEMONIC_FYL2X, ZYDIS_MNEMONIC_FYL2XP1,
            ZYDIS_MNEMONIC_FPTAN, ZYDIS_MNEMONIC_FPATAN, ZYDIS_MNEMONIC_FSIN, ZYDIS_MNEMONIC_FCOS,
            ZYDIS_MNEMONIC_FSINCOS, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD, ZYDIS_MNEMONIC_FBSTP,
            // They read a flag that much else leaves undefined.
            ZYDIS_MNEMONIC_PUSHF, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_PUSHFQ, ZYDIS_MNEMONIC_LAHF,
            ZYDIS_MNEMONIC_AAA, ZYDIS_MNEMONIC_AAS, ZYDIS_MNEMONIC_DAA, ZYDIS_MNEMONIC_DAS,
            // They change flags that only a kernel may, or that make faults.
            ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD, ZYDIS_MNEMONIC_POPFQ,
            ZYDIS_MNEMONIC_BSWAP, ZYDIS_MNEMONIC_LDMXCSR, ZYDIS_MNEMONIC_FLDCW, ZYDIS_MNEMONIC_BOUND,
            ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_MASKMOVQ,
        ].map(\.rawValue))

    private func runsOnHost(_ form: Form) -> Bool {
        guard form.exclusion == nil, !form.alwaysFaults, !Self.neverOnHost.contains(decoder.mnemonic.rawValue) else {
            return false
        }
        // Selectors are the host's own.
        return !(0..<decoder.visibleOperands).contains {
            decoder.operands[$0].isRegister
                && ZydisRegisterGetClass(decoder.operands[$0].reg.value) == ZYDIS_REGCLASS_SEGMENT
        }
    }
}
