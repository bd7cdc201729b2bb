import CEngine
import CZydis

// MOV to and from control and debug registers, CLTS, LMSW, SMSW. The number of the special register is in the
// operation's `immediate`.

extension Decoding {
    /// The handler of MOV with a control register; nil for any other MOV.
    package mutating func controlMove() -> Handler? {
        if registerClass(0) == ZYDIS_REGCLASS_CONTROL {
            op.pointee.immediate = UInt64(number(0))
            endsBlock = true
            return { cpu, op in cpu.moveToControl(op) }
        }
        guard registerClass(1) == ZYDIS_REGCLASS_CONTROL else { return nil }
        op.pointee.immediate = UInt64(number(1))
        return { cpu, op in cpu.moveFromControl(op) }
    }

    /// The handler of MOV with a debug register; nil for any other MOV.
    package mutating func debugMove() -> Handler? {
        if registerClass(0) == ZYDIS_REGCLASS_DEBUG {
            op.pointee.immediate = UInt64(number(0))
            endsBlock = true
            return { cpu, op in cpu.moveToDebug(op) }
        }
        guard registerClass(1) == ZYDIS_REGCLASS_DEBUG else { return nil }
        op.pointee.immediate = UInt64(number(1))
        return { cpu, op in cpu.moveFromDebug(op) }
    }
}

/// CR0 bits that can be written; ET is fixed to one, the rest reads as zero.
private let writableCR0 = machineStatusWord | CR0.ne | CR0.wp | CR0.am | CR0.nw | CR0.cd | CR0.pg
/// The machine status word that LMSW loads.
private let machineStatusWord: UInt64 = CR0.pe | CR0.mp | CR0.em | CR0.ts

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The source of a move to a special register: 32 bits outside 64-bit code.
    private func wideSource(_ op: OperationPointer) -> UInt64 {
        let value = op.pointee.source.load(as: UInt64.self)
        return is64Bit ? value : value & 0xffff_ffff
    }

    private func setWideDestination(_ op: OperationPointer, _ value: UInt64) {
        setRegister(op.pointee.destination, is64Bit ? value : value & 0xffff_ffff)
    }

    // MARK: Control registers

    fileprivate func moveFromControl(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        let value: UInt64
        switch op.pointee.immediate {
        case 0: value = pointee.cr0
        case 2: value = pointee.cr2
        case 3: value = pointee.cr3
        case 4: value = pointee.cr4
        case 8: value = UInt64(processor.readCR8())
        default: return undefined(at: op)
        }
        setWideDestination(op, value)
        return op + 1
    }

    fileprivate func moveToControl(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        let value = wideSource(op)
        let accepted: Bool
        switch op.pointee.immediate {
        case 0: accepted = setCR0(value)
        case 2:
            pointee.cr2 = value
            accepted = true
        case 3: accepted = loadCR3(value)
        case 4: accepted = setCR4(value)
        case 8:
            accepted = value <= 15
            if accepted { processor.writeCR8(UInt8(truncatingIfNeeded: value)) }
        default: return undefined(at: op)
        }
        guard accepted else { return generalProtection(at: op) }
        let next = leave(after: op)
        updateMode()
        return next
    }

    /// Writes CR0 with what follows from it: long mode, page-directory pointers, the TLB. False, and no change, if the
    /// value is one that raises #GP (SDM volume 3, 2.5 and 4.1).
    package func setCR0(_ value: UInt64) -> Bool {
        guard value >> 32 == 0 else { return false }
        let old = pointee.cr0
        let new = (value & writableCR0) | CR0.et
        let changed = old ^ new
        if new & CR0.pg != 0 && new & CR0.pe == 0 { return false }
        if new & CR0.nw != 0 && new & CR0.cd == 0 { return false }
        if changed & CR0.pg != 0 {
            guard new & CR0.pg != 0 ? enablePaging() : disablePaging() else { return false }
        } else if new & CR0.pg != 0 && changed & (CR0.cd | CR0.nw) != 0 && usesPDPTRs {
            guard processor.loadPDPTRs(pointee.cr3) else { return false }
        }
        pointee.cr0 = new
        if changed & CR0.pg != 0 {
            processor.pagingChanged()
        } else if changed & (CR0.pe | CR0.wp) != 0 {
            processor.flushTLB(keepGlobal: false)
        }
        return true
    }

    /// Whether translation, if on, goes through the PAE page-directory-pointer registers.
    private var usesPDPTRs: Bool { pointee.cr4 & CR4.pae != 0 && pointee.efer & EFER.lme == 0 }

    /// The checks of setting CR0.PG, and entering long mode if IA32_EFER.LME asks for it.
    private func enablePaging() -> Bool {
        if pointee.efer & EFER.lme != 0 {
            let tss = pointee.segments.7.attributes
            let isTSS16 = tss & SegmentAttributes.present != 0 && tss & 8 == 0
            guard pointee.cr4 & CR4.pae != 0, !isTSS16, pointee.segments.1.attributes & SegmentAttributes.long == 0
            else { return false }
            pointee.efer |= EFER.lma
            return true
        }
        return pointee.cr4 & CR4.pae == 0 || processor.loadPDPTRs(pointee.cr3)
    }

    /// The checks of clearing CR0.PG, which leaves long mode.
    private func disablePaging() -> Bool {
        if is64Bit { return false }
        pointee.efer &= ~EFER.lma
        return true
    }

    /// Writes CR3 and flushes what is not global. False, and no change, if the value raises #GP.
    package func loadCR3(_ value: UInt64) -> Bool {
        if isLongMode {
            guard value >> processor.model.physicalAddressBits == 0 else { return false }
        } else if pointee.cr0 & CR0.pg != 0 && usesPDPTRs {
            guard processor.loadPDPTRs(value) else { return false }
        }
        pointee.cr3 = value
        processor.flushTLB(keepGlobal: pointee.cr4 & CR4.pge != 0)
        return true
    }

    private func setCR4(_ value: UInt64) -> Bool {
        guard value & ~processor.model.cr4Bits == 0 else { return false }
        let changed = pointee.cr4 ^ value
        if isLongMode && value & CR4.pae == 0 { return false }
        let paging = CR4.pge | CR4.pae | CR4.pse
        if changed & paging != 0 && pointee.cr0 & CR0.pg != 0 && value & CR4.pae != 0 && !isLongMode {
            guard processor.loadPDPTRs(pointee.cr3) else { return false }
        }
        pointee.cr4 = value
        if changed & CR4.pae != 0 {
            processor.pagingChanged()
        } else if changed & paging != 0 {
            processor.flushTLB(keepGlobal: false)
        }
        return true
    }

    // MARK: Machine status word

    fileprivate func clearTaskSwitched(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        let next = leave(after: op)
        pointee.cr0 &= ~CR0.ts
        updateMode()
        return next
    }

    fileprivate func loadMachineStatus(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0 else { return generalProtection(at: op) }
        let operand: UInt16?
        if op.pointee.flags & OperationFlags.memory != 0 {
            operand = load(UInt16.self, op)
        } else {
            operand = register(op.pointee.destination)
        }
        guard let value = operand else { return nil }
        // PE can be set but not cleared.
        let kept = pointee.cr0 & ~(machineStatusWord & ~CR0.pe)
        guard setCR0(kept | (UInt64(value) & machineStatusWord)) else { return generalProtection(at: op) }
        let next = leave(after: op)
        updateMode()
        return next
    }

    fileprivate func storeMachineStatus(_ op: OperationPointer) -> Next {
        let word = UInt16(truncatingIfNeeded: pointee.cr0)
        if op.pointee.flags & OperationFlags.memory != 0 { return store(word, op) ? op + 1 : nil }
        switch operandSize(op) {
        case 2: setRegister(op.pointee.destination, word)
        default: setRegister(op.pointee.destination, pointee.cr0)
        }
        return op + 1
    }

    // MARK: Debug registers

    /// The checks that every MOV of a debug register makes; nil with `op` left if one fails. DR4 and DR5 are DR6 and
    /// DR7 unless CR4.DE is set.
    private func debugNumber(_ op: OperationPointer) -> Int? {
        let number = Int(truncatingIfNeeded: op.pointee.immediate)
        let isAlias = number == 4 || number == 5
        if number > 7 || (isAlias && pointee.cr4 & CR4.de != 0) {
            _ = undefined(at: op)
            return nil
        }
        guard pointee.cpl == 0 else {
            _ = generalProtection(at: op)
            return nil
        }
        if pointee.dr.7 & DebugControl.generalDetect != 0 {
            pointee.pendingDebug |= DebugStatus.accessDetected
            _ = fault(ExceptionVector.db, at: op)
            return nil
        }
        return isAlias ? number + 2 : number
    }

    fileprivate func moveFromDebug(_ op: OperationPointer) -> Next {
        guard let number = debugNumber(op) else { return nil }
        setWideDestination(op, cpu_dr(self, Int32(number)).pointee)
        return op + 1
    }

    fileprivate func moveToDebug(_ op: OperationPointer) -> Next {
        guard let number = debugNumber(op) else { return nil }
        let value = wideSource(op)
        switch number {
        case 6, 7:
            guard value >> 32 == 0 else { return generalProtection(at: op) }
            if number == 6 {
                let status =
                    DebugStatus.breakpoints | DebugStatus.accessDetected | DebugStatus.singleStep
                    | DebugStatus.taskSwitch
                pointee.dr.6 = (value & status) | DebugStatus.fixed
            } else {
                pointee.dr.7 = (value & DebugControl.writable) | DebugControl.fixed
                processor.modeChanged()
            }
        default: cpu_dr(self, Int32(number)).pointee = value
        }
        return leave(after: op)
    }
}

extension InstructionTable {
    mutating func addControlRegisters() {
        row(ZYDIS_MNEMONIC_CLTS, endsBlock: true) { cpu, op in cpu.clearTaskSwitched(op) }
        row(ZYDIS_MNEMONIC_LMSW, endsBlock: true) { cpu, op in cpu.loadMachineStatus(op) }
        row(ZYDIS_MNEMONIC_SMSW) { cpu, op in cpu.storeMachineStatus(op) }
    }
}
