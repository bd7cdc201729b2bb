import CHostCPU
import CZydis
import DifferentialSupport

/// Byte strings that no CPU has as an instruction: opcodes that never were one, and LOCK before what cannot be locked.
final class UndefinedEncodings {
    let name: String
    private let mode: CodeMode
    private let decoder: Decoder
    private let isLock: Bool
    private let forms: [Form]

    /// LOCK before one of `forms`, or, without forms, bytes that decode as nothing.
    init(mode: CodeMode, decoder: Decoder, lockedForms forms: [Form] = []) {
        (self.mode, self.decoder, self.forms) = (mode, decoder, forms)
        isLock = !forms.isEmpty
        name = "\(mode.rawValue) " + (isLock ? "lock where it is not allowed" : "undefined opcode")
    }

    /// A case whose registers all point into the window.
    func makeCase(_ random: inout Random) -> TestCase? {
        guard let bytes = isLock ? lockedBytes(&random) : undefinedBytes(&random) else { return nil }
        let test = TestCase(mode: mode)
        test.bytes = bytes
        CaseText.setDefaults(test)
        for number in 0..<16 where number != 4 {
            test.gpr[number] = Window.low + Window.data + UInt64(random.below(0x1f0)) * 16
        }
        return test
    }

    private func lockedBytes(_ random: inout Random) -> [UInt8]? {
        for _ in 0..<100 {
            let form = random.pick(forms)
            let encoder = Encoder(form: form, decoder: decoder, hasLDT: hostcpu_has_ldt())
            guard var bytes = encoder.encode(&random), bytes.count < 15,
                !decoder.has(Decoder.Attribute.hasLock), !isControlRegister
            else { continue }
            bytes.insert(0xf0, at: 0)
            if !decodes(bytes) { return bytes }
        }
        return nil
    }

    /// LOCK MOV CR0 is another name for CR8 on some CPUs.
    private var isControlRegister: Bool {
        (0..<decoder.visibleOperands).contains {
            decoder.operands[$0].isRegister
                && ZydisRegisterGetClass(decoder.operands[$0].reg.value) == ZYDIS_REGCLASS_CONTROL
        }
    }

    /// Opcodes of the one-byte and 0F maps that Zydis does not know, not even as an extension.
    private func undefinedBytes(_ random: inout Random) -> [UInt8]? {
        for _ in 0..<2000 {
            var bytes: [UInt8] = random.chance(20) ? [0x66] : []
            if mode == .bits64 && random.chance(20) { bytes.append(0x40 | UInt8(random.below(16))) }
            if random.chance(70) { bytes.append(0x0f) }
            let opcode = UInt8(random.below(256))
            let isKernelEntry = bytes.last == 0x0f && [0x05, 0x07, 0x34, 0x35].contains(opcode)
            let isEscape = bytes.last == 0x0f && [0x0f, 0x38, 0x3a].contains(opcode)
            let isExtension = bytes.last != 0x0f && [0xc4, 0xc5, 0x62, 0x8f, 0xd5].contains(opcode)
            if isKernelEntry || isEscape || isExtension { continue }
            bytes.append(opcode)
            for _ in 0..<8 { bytes.append(UInt8(random.below(256))) }
            if AMDMasks.callsHypervisor(bytes) { continue }
            if decoder.rejects(bytes) && !decodes(bytes) { return bytes }
        }
        return nil
    }

    private func decodes(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { decoder.decode($0) } }
}
