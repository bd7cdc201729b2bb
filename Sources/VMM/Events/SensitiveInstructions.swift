import CEngine
import CZydis

/// The one place that says which instructions are sensitive, and how each is reported: every instruction that shows or
/// changes privileged state (Robin and Irvine, 2000; the 64-bit additions after the SDM and APM), and those that the
/// hardware may intercept at any ring.
enum SensitiveInstructions {
    /// The kind of event that a decoded instruction is; `.none` if it is innocuous.
    static func kind(_ decoding: Decoding) -> EventKind {
        if let fixed = kinds[decoding.mnemonic] { return fixed }
        switch decoding.mnemonic {
        case ZYDIS_MNEMONIC_MOV: return moveKind(decoding)
        case ZYDIS_MNEMONIC_PUSH: return isSegment(decoding, 0) ? .segmentStore : .none
        case ZYDIS_MNEMONIC_POP: return isSegment(decoding, 0) ? .segmentLoad : .none
        case ZYDIS_MNEMONIC_JMP: return isFar(decoding) ? .farJump : .none
        case ZYDIS_MNEMONIC_CALL: return isFar(decoding) ? .farCall : .none
        case ZYDIS_MNEMONIC_RET: return isFar(decoding) ? .farReturn : .none
        default: return .none
        }
    }

    /// Makes a sensitive instruction's operation report before it does what its row says.
    static func wrap(_ decoding: Decoding) {
        let kind = kind(decoding)
        guard kind != .none else { return }
        let op = decoding.op
        if kind == .portIn || kind == .portOut { describePort(decoding, isInput: kind == .portIn) }
        op.pointee.kind = kind.rawValue
        op.pointee.inner = op.pointee.handler
        op.pointee.handler = { cpu, op in SensitiveInstructions.report(cpu, op) }
    }

    /// Bit of a port instruction's displacement, which it has no other use for: the port is the immediate. The bits
    /// below are the width in bytes.
    private static let portIsImmediate: UInt64 = 1 << 8
    /// And another one: it is INS or OUTS, with or without REP.
    private static let movesString: UInt64 = 1 << 9

    private static func describePort(_ decoding: Decoding, isInput: Bool) {
        let op = decoding.op
        // The port is the other one of the two operands.
        let isString = stringIO.contains(decoding.mnemonic)
        op.pointee.displacement = UInt64(decoding.operands[isInput ? 0 : 1].size) / 8
        if isString {
            op.pointee.displacement |= movesString
        } else if decoding.isImmediate(isInput ? 1 : 0) {
            op.pointee.displacement |= portIsImmediate
        }
    }

    private static let stringIO: Set<ZydisMnemonic> = [
        ZYDIS_MNEMONIC_INSB, ZYDIS_MNEMONIC_INSW, ZYDIS_MNEMONIC_INSD, ZYDIS_MNEMONIC_OUTSB, ZYDIS_MNEMONIC_OUTSW,
        ZYDIS_MNEMONIC_OUTSD,
    ]

    private static let kinds: [ZydisMnemonic: EventKind] = [
        ZYDIS_MNEMONIC_CLI: .cli, ZYDIS_MNEMONIC_STI: .sti,
        ZYDIS_MNEMONIC_PUSHF: .pushf, ZYDIS_MNEMONIC_PUSHFD: .pushf, ZYDIS_MNEMONIC_PUSHFQ: .pushf,
        ZYDIS_MNEMONIC_POPF: .popf, ZYDIS_MNEMONIC_POPFD: .popf, ZYDIS_MNEMONIC_POPFQ: .popf,
        ZYDIS_MNEMONIC_IRET: .iret, ZYDIS_MNEMONIC_IRETD: .iret, ZYDIS_MNEMONIC_IRETQ: .iret,
        ZYDIS_MNEMONIC_INT: .interruptInstruction, ZYDIS_MNEMONIC_INT1: .interruptInstruction,
        ZYDIS_MNEMONIC_INT3: .interruptInstruction, ZYDIS_MNEMONIC_INTO: .interruptInstruction,
        ZYDIS_MNEMONIC_SYSCALL: .syscall, ZYDIS_MNEMONIC_SYSRET: .sysret,
        ZYDIS_MNEMONIC_SYSENTER: .sysenter, ZYDIS_MNEMONIC_SYSEXIT: .sysexit, ZYDIS_MNEMONIC_SWAPGS: .swapgs,
        ZYDIS_MNEMONIC_CLTS: .clts, ZYDIS_MNEMONIC_LMSW: .lmsw, ZYDIS_MNEMONIC_SMSW: .smsw,
        ZYDIS_MNEMONIC_LGDT: .lgdt, ZYDIS_MNEMONIC_LIDT: .lidt, ZYDIS_MNEMONIC_LLDT: .lldt, ZYDIS_MNEMONIC_LTR: .ltr,
        ZYDIS_MNEMONIC_SGDT: .sgdt, ZYDIS_MNEMONIC_SIDT: .sidt, ZYDIS_MNEMONIC_SLDT: .sldt, ZYDIS_MNEMONIC_STR: .str,
        ZYDIS_MNEMONIC_LDS: .segmentLoad, ZYDIS_MNEMONIC_LES: .segmentLoad, ZYDIS_MNEMONIC_LFS: .segmentLoad,
        ZYDIS_MNEMONIC_LGS: .segmentLoad, ZYDIS_MNEMONIC_LSS: .segmentLoad,
        ZYDIS_MNEMONIC_LAR: .lar, ZYDIS_MNEMONIC_LSL: .lsl, ZYDIS_MNEMONIC_VERR: .verr, ZYDIS_MNEMONIC_VERW: .verw,
        ZYDIS_MNEMONIC_ARPL: .arpl, ZYDIS_MNEMONIC_INVLPG: .invlpg, ZYDIS_MNEMONIC_INVD: .invd,
        ZYDIS_MNEMONIC_WBINVD: .wbinvd, ZYDIS_MNEMONIC_RDMSR: .rdmsr, ZYDIS_MNEMONIC_WRMSR: .wrmsr,
        ZYDIS_MNEMONIC_RDTSC: .rdtsc, ZYDIS_MNEMONIC_RDTSCP: .rdtscp, ZYDIS_MNEMONIC_RDPMC: .rdpmc,
        ZYDIS_MNEMONIC_CPUID: .cpuid, ZYDIS_MNEMONIC_HLT: .hlt, ZYDIS_MNEMONIC_PAUSE: .pause,
        ZYDIS_MNEMONIC_IN: .portIn, ZYDIS_MNEMONIC_INSB: .portIn, ZYDIS_MNEMONIC_INSW: .portIn,
        ZYDIS_MNEMONIC_INSD: .portIn, ZYDIS_MNEMONIC_OUT: .portOut, ZYDIS_MNEMONIC_OUTSB: .portOut,
        ZYDIS_MNEMONIC_OUTSW: .portOut, ZYDIS_MNEMONIC_OUTSD: .portOut, ZYDIS_MNEMONIC_RSM: .rsm,
        ZYDIS_MNEMONIC_UD0: .undefinedInstruction, ZYDIS_MNEMONIC_UD1: .undefinedInstruction,
        ZYDIS_MNEMONIC_UD2: .undefinedInstruction, ZYDIS_MNEMONIC_MONITOR: .monitor, ZYDIS_MNEMONIC_MWAIT: .mwait,
        ZYDIS_MNEMONIC_XGETBV: .xgetbv, ZYDIS_MNEMONIC_XSETBV: .xsetbv,
    ]

    private static func moveKind(_ decoding: Decoding) -> EventKind {
        if registerClass(decoding, 0) == ZYDIS_REGCLASS_CONTROL { return .writeControl }
        if registerClass(decoding, 1) == ZYDIS_REGCLASS_CONTROL { return .readControl }
        if registerClass(decoding, 0) == ZYDIS_REGCLASS_DEBUG { return .writeDebug }
        if registerClass(decoding, 1) == ZYDIS_REGCLASS_DEBUG { return .readDebug }
        if registerClass(decoding, 0) == ZYDIS_REGCLASS_SEGMENT { return .segmentLoad }
        if registerClass(decoding, 1) == ZYDIS_REGCLASS_SEGMENT { return .segmentStore }
        return .none
    }

    private static func registerClass(_ decoding: Decoding, _ index: Int) -> ZydisRegisterClass {
        decoding.isRegister(index) ? ZydisRegisterGetClass(decoding.operands[index].reg.value) : ZYDIS_REGCLASS_INVALID
    }

    private static func isSegment(_ decoding: Decoding, _ index: Int) -> Bool {
        registerClass(decoding, index) == ZYDIS_REGCLASS_SEGMENT
    }

    private static func isFar(_ decoding: Decoding) -> Bool {
        decoding.instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR
    }

    // MARK: Reporting

    /// Runs a sensitive operation and reports it: the operand and what it read or wrote. One that faults did not
    /// happen, and its exception is reported instead; of string I/O, the elements before a fault did.
    fileprivate static func report(_ cpu: CPU, _ op: OperationPointer) -> Next {
        let inner = op.pointee.inner.unsafelyUnwrapped
        let kind = op.pointee.kind
        let position = cpu.count(before: op)
        cpu.pointee.position = position
        cpu.pointee.rip = cpu.rip(of: op)
        if isPort(kind), op.pointee.displacement & movesString != 0 { return reportStringIO(cpu, op, position) }
        guard cpu.pointee.events != nil else {
            let next = inner(cpu, op)
            if happened(cpu) { cpu_event_count(cpu, Int32(kind)).pointee &+= 1 }
            return next
        }
        let ring = cpu.pointee.cpl
        let address = cpu.nextLinearAddress
        let operand = operandBefore(cpu, op)
        let next = inner(cpu, op)
        if happened(cpu) {
            cpu_event_count(cpu, Int32(kind)).pointee &+= 1
            let width = isPort(kind) ? UInt32(op.pointee.displacement & 0xff) : 0
            cpu.append(
                EventRecord(
                    count: position, address: address, operand: operand, value: valueAfter(cpu, op), kind: kind,
                    ring: ring, size: op.pointee.length, flags: 0, detail: width))
            switch EventKind(rawValue: kind) {
            case .lgdt, .lidt, .lldt, .ltr: cpu.processor.watchDescriptorTables()
            default: break
            }
        }
        return next
    }

    @inline(__always) private static func isPort(_ kind: UInt8) -> Bool {
        kind == EventKind.portIn.rawValue || kind == EventKind.portOut.rawValue
    }

    /// INS and OUTS: one event for all the elements that were moved, with the bytes behind it.
    @inline(never) private static func reportStringIO(_ cpu: CPU, _ op: OperationPointer, _ position: UInt64) -> Next {
        let processor = cpu.processor
        let repeats = op.pointee.flags & (OperationFlags.rep | OperationFlags.repne) != 0
        let left = cpu.gpr(Register.rcx) & op.pointee.addressMask
        let wasLeft = processor.beginTransfer(
            EventRecord(
                count: position, address: cpu.nextLinearAddress, operand: cpu.gpr(Register.rdx) & 0xffff, value: 0,
                kind: op.pointee.kind, ring: cpu.pointee.cpl, size: op.pointee.length, flags: EventFlags.hasPayload,
                detail: UInt32(op.pointee.displacement & 0xff)))
        let next = op.pointee.inner.unsafelyUnwrapped(cpu, op)
        let leaves = cpu.gpr(Register.rcx) & op.pointee.addressMask
        // Of one that faults, the elements before the fault happened.
        let isOver = happened(cpu)
        guard isOver || leaves != left || wasLeft else {
            processor.transfer = nil
            return next
        }
        if !wasLeft { cpu_event_count(cpu, Int32(op.pointee.kind)).pointee &+= 1 }
        if isOver, repeats, leaves != 0 {
            processor.leaveTransfer()
        } else if left == 0 || !repeats || processor.transfer?.event.value != 0 {
            processor.endTransfer()
        } else {
            // All of it was reported in parts.
            processor.transfer = nil
        }
        return next
    }

    /// Whether the operation that just ran did what it does, rather than fault. Software interrupts are taken as faults
    /// are.
    private static func happened(_ cpu: CPU) -> Bool {
        cpu.pointee.pending & PendingFlags.fault == 0 || cpu.pointee.faultIsSoftware != SoftwareInterrupt.none
    }

    /// What the instruction is about: the MSR, port, leaf, or the value that it is given.
    private static func operandBefore(_ cpu: CPU, _ op: OperationPointer) -> UInt64 {
        switch EventKind(rawValue: op.pointee.kind) {
        case .rdmsr, .wrmsr, .rdpmc, .cpuid: cpu.gpr(op.pointee.kind == EventKind.cpuid.rawValue ? 0 : 1) & 0xffff_ffff
        case .portIn, .portOut:
            op.pointee.displacement & portIsImmediate != 0
                ? op.pointee.immediate & 0xff : cpu.gpr(Register.rdx) & 0xffff
        case .invlpg: cpu.effectiveAddress(op)
        default: op.pointee.immediate
        }
    }

    /// What it gave or set.
    private static func valueAfter(_ cpu: CPU, _ op: OperationPointer) -> UInt64 {
        switch EventKind(rawValue: op.pointee.kind) {
        case .rdmsr, .wrmsr, .rdtsc, .rdtscp, .rdpmc: cpu.gpr(Register.rdx) << 32 | cpu.gpr(Register.rax) & 0xffff_ffff
        case .pushf, .popf, .cli, .sti, .iret: cpu.rflags
        case .cpuid: cpu.gpr(Register.rax)
        case .portIn, .portOut: cpu.gpr(Register.rax) & ((1 << ((op.pointee.displacement & 0xff) * 8)) - 1)
        case .readControl, .readDebug, .segmentStore: cpu.register(op.pointee.destination)
        case .writeControl, .writeDebug, .segmentLoad: op.pointee.source.load(as: UInt64.self)
        default: 0
        }
    }
}
