import CHostCPU
import CZydis
import DifferentialSupport

/// What is not compared on AMD hosts alone. The engine keeps one order of faults, which is that of Intel's processors,
/// where both manuals call the order of faults of one instruction implementation-dependent (SDM volume 3, 6.9; APM
/// volume 2, 8.5).
struct AMDMasks {
    static let hostIsAMD = hostcpu_is_amd()
    private static let hostIsVirtual = hostcpu_is_virtual()
    private static let accessVectors: Set<UInt32> = [12, 13, 14, 17]

    /// The instruction makes the access that faulted on the host only if nothing else ends it first: the checks of
    /// BOUND, or an unmasked exception of an x87 store, which AMD's processors probe before.
    private var accessComesLast = false
    /// Base of FS or GS in 64-bit code, if the host raised #GP or #SS: AMD's processors want the offset to be canonical
    /// too, while the manuals ask that of the address only (APM volume 1, 2.2.2).
    private var offsetBase: UInt64?
    /// #DB of INT1 under a hypervisor that intercepts it may show the instruction itself instead of the next one.
    private(set) var ripMayStay = false
    /// SYSEXIT is #UD in long mode and #GP at CPL 3 (APM volume 3), and hypervisors emulate it in place of the #UD.
    private var mayProtect = false

    init() {}

    /// For a case that ended on the host with `vector`.
    init(_ decoder: Decoder, _ test: TestCase, vector: UInt32) {
        guard AMDMasks.hostIsAMD else { return }
        let isX87 =
            decoder.instruction.pointee.meta.isa_ext == ZYDIS_ISA_EXT_X87 || decoder.mnemonic == ZYDIS_MNEMONIC_FISTTP
        let isX87Store =
            isX87 && decoder.visibleOperands > 0 && decoder.operands[0].isMemory && decoder.operands[0].writes
        accessComesLast =
            (isX87Store || decoder.mnemonic == ZYDIS_MNEMONIC_BOUND) && AMDMasks.accessVectors.contains(vector)
        if test.mode == .bits64 && (vector == 13 || vector == 12) { offsetBase = AMDMasks.base(decoder, test) }
        ripMayStay = decoder.mnemonic == ZYDIS_MNEMONIC_INT1 && AMDMasks.hostIsVirtual
        mayProtect = decoder.mnemonic == ZYDIS_MNEMONIC_SYSEXIT && AMDMasks.hostIsVirtual
    }

    /// VMCALL and VMMCALL, also with prefixes that make them undefined: hypervisors take their #UD for a call.
    static func callsHypervisor(_ bytes: [UInt8]) -> Bool {
        guard hostIsAMD && hostIsVirtual, let escape = bytes.firstIndex(of: 0x0f), bytes.count > escape + 2 else {
            return false
        }
        return bytes[escape + 1] == 0x01 && [0xc1, 0xd9].contains(bytes[escape + 2])
    }

    /// Of FS or GS, if a memory operand is in one.
    private static func base(_ decoder: Decoder, _ test: TestCase) -> UInt64? {
        for index in 0..<decoder.operandCount where decoder.operands[index].isMemory {
            switch decoder.operands[index].mem.segment {
            case ZYDIS_REGISTER_FS: return Segment.named(test.input.pointee.fs)?.base
            case ZYDIS_REGISTER_GS: return Segment.named(test.input.pointee.gs)?.base
            default: continue
            }
        }
        return nil
    }

    /// Whether the host's end of the case and the engine's, `b`, may differ. `b`'s FSW was `fsw` after the instruction.
    func allow(_ a: HostState, _ b: HostState, fsw: UInt16) -> Bool {
        if mayProtect { return a.vector == 13 && b.vector == 6 }
        if accessComesLast && (b.vector == 5 || fsw & 0x80 != 0) { return true }
        guard let offsetBase, b.vector == 14 else { return false }
        return AMDMasks.isCanonical(b.cr2) && !AMDMasks.isCanonical(b.cr2 &- offsetBase)
    }

    private static func isCanonical(_ address: UInt64) -> Bool {
        let top = Int64(bitPattern: address) >> 47
        return top == 0 || top == -1
    }
}
