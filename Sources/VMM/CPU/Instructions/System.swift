import CEngine
import CZydis

// CPUID, the time-stamp and performance counters, cache and TLB control, HLT, and the I/O permission check.

extension Processor {
    /// The time-stamp counter as `op` reads it.
    package func tsc(at op: OperationPointer) -> UInt64 {
        let nanoseconds = clock.nanoseconds(at: cpu.count(before: op))
        return nanoseconds &* (VirtualClock.tscHertz / 1_000_000_000) &+ cpu.pointee.tscOffset
    }
}

/// Offset of the I/O map base in a 32- or 64-bit TSS, and the smallest limit of a TSS that has one.
private let ioMapBase: UInt64 = 0x66
private let smallestIOLimit: UInt32 = 0x67

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Whether the program may access `size` I/O ports from `port` on: by IOPL, or by the TSS's permission map (SDM
    /// volume 1, 19.5). Otherwise records #GP(0), or the page fault that reading the map met.
    package func ioPermitted(port: UInt16, size: Int) -> Bool {
        guard isProtected, pointee.cpl > iopl || isVirtual8086 else { return true }
        let tss = pointee.segments.7
        guard tss.attributes & SegmentAttributes.present != 0, tss.attributes & 8 != 0, tss.limit >= smallestIOLimit
        else { return reject(ExceptionVector.gp, 0) }
        guard let base = readSystem(UInt16.self, linear: systemAddress(tss.base, ioMapBase)) else { return false }
        let offset = UInt64(base) + UInt64(port >> 3)
        guard offset + 1 <= UInt64(tss.limit) else { return reject(ExceptionVector.gp, 0) }
        guard let map = readSystem(UInt16.self, linear: systemAddress(tss.base, offset)) else { return false }
        let wanted = (UInt16(1) << UInt16(size)) - 1
        return (map >> (port & 7)) & wanted == 0 || reject(ExceptionVector.gp, 0)
    }

    /// Sets EDX:EAX, clearing the upper halves.
    package func setEDXEAX(_ value: UInt64) {
        setGPR(Register.rax, value & 0xffff_ffff)
        setGPR(Register.rdx, value >> 32)
    }

    fileprivate func identify(_ op: OperationPointer) -> Next {
        let leaf = gpr(Register.rax, as: UInt32.self)
        let answer = processor.model.cpuid(leaf, subleaf: gpr(Register.rcx, as: UInt32.self), self)
        setGPR(Register.rax, UInt64(answer.eax))
        setGPR(Register.rbx, UInt64(answer.ebx))
        setGPR(Register.rcx, UInt64(answer.ecx))
        setGPR(Register.rdx, UInt64(answer.edx))
        return op + 1
    }

    /// CR4.TSD keeps the time-stamp counter from programs.
    private var mayReadTSC: Bool { pointee.cr4 & CR4.tsd == 0 || pointee.cpl == 0 }

    fileprivate func readTimestamp(_ op: OperationPointer) -> Next {
        guard mayReadTSC else { return generalProtection(at: op) }
        setEDXEAX(withProcessor { $0.tsc(at: op) })
        return op + 1
    }

    fileprivate func readTimestampAndProcessor(_ op: OperationPointer) -> Next {
        guard mayReadTSC else { return generalProtection(at: op) }
        setEDXEAX(withProcessor { $0.tsc(at: op) })
        setGPR(Register.rcx, pointee.tscAux & 0xffff_ffff)
        return op + 1
    }

    /// The counters exist and stand still.
    fileprivate func readPerformanceCounter(_ op: OperationPointer) -> Next {
        let index = gpr(Register.rcx, as: UInt32.self)
        guard pointee.cr4 & CR4.pce != 0 || pointee.cpl == 0, index < processor.model.performanceCounters
        else { return generalProtection(at: op) }
        setEDXEAX(processor.model.vendor == .amd ? cpu_performance(self, 4 + Int32(index)).pointee : 0)
        return op + 1
    }

    /// Privileged instructions that do nothing here, because there are no caches to lose.
    fileprivate func privilegedNothing(_ op: OperationPointer) -> Next {
        pointee.cpl == 0 ? op + 1 : generalProtection(at: op)
    }

    fileprivate func invalidatePage(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        let linear = (effectiveAddress(op) &+ register(op.pointee.segmentBase)) & pointee.linearMask
        if isCanonical(linear) { processor.invalidatePage(linear) }
        return leave(after: op)
    }

    fileprivate func halt(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        pointee.halted = true
        return leave(after: op)
    }
}

extension InstructionTable {
    /// Every privileged or otherwise sensitive instruction that does not share its mnemonic with an ordinary one.
    mutating func addSystem() {
        addSegmentRegisters()
        addDescriptorTables()
        addControlRegisters()
        addModelSpecificRegisters()
        addSystemCalls()
        addSoftwareInterrupts()
        row(ZYDIS_MNEMONIC_CPUID) { cpu, op in cpu.identify(op) }
        row(ZYDIS_MNEMONIC_RDTSC) { cpu, op in cpu.readTimestamp(op) }
        row(ZYDIS_MNEMONIC_RDTSCP) { cpu, op in cpu.readTimestampAndProcessor(op) }
        row(ZYDIS_MNEMONIC_RDPMC) { cpu, op in cpu.readPerformanceCounter(op) }
        row(ZYDIS_MNEMONIC_INVD) { cpu, op in cpu.privilegedNothing(op) }
        row(ZYDIS_MNEMONIC_WBINVD) { cpu, op in cpu.privilegedNothing(op) }
        row(ZYDIS_MNEMONIC_INVLPG, endsBlock: true) { cpu, op in cpu.invalidatePage(op) }
        row(ZYDIS_MNEMONIC_HLT, endsBlock: true) { cpu, op in cpu.halt(op) }
        row(ZYDIS_MNEMONIC_RSM, endsBlock: true) { cpu, op in cpu.resumeFromSMM(op) }
    }
}
