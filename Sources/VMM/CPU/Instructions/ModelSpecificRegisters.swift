import CEngine
import CZydis

/// Model-specific registers by address (SDM volume 4; APM volume 2, appendix A).
package enum MSR {
    package static let machineCheckAddress: UInt32 = 0x0, machineCheckType: UInt32 = 0x1
    package static let tsc: UInt32 = 0x10, platformID: UInt32 = 0x17, apicBase: UInt32 = 0x1b
    package static let powerOnConfiguration: UInt32 = 0x2a, frequencyID: UInt32 = 0x2c
    package static let microcodeTrigger: UInt32 = 0x79, microcodeRevision: UInt32 = 0x8b
    package static let fsbFrequency: UInt32 = 0xcd, mtrrCapabilities: UInt32 = 0xfe
    package static let sysenterCS: UInt32 = 0x174, sysenterESP: UInt32 = 0x175, sysenterEIP: UInt32 = 0x176
    package static let machineCheckCapabilities: UInt32 = 0x179, machineCheckStatus: UInt32 = 0x17a
    package static let miscEnable: UInt32 = 0x1a0, debugControl: UInt32 = 0x1d9
    package static let lastBranchFrom: UInt32 = 0x1db, lastExceptionTo: UInt32 = 0x1de
    package static let mtrrVariable: UInt32 = 0x200, mtrrFixed64K: UInt32 = 0x250, mtrrFixed16K: UInt32 = 0x258
    package static let mtrrFixed4K: UInt32 = 0x268, pat: UInt32 = 0x277, mtrrDefaultType: UInt32 = 0x2ff
    package static let efer: UInt32 = 0xc000_0080, star: UInt32 = 0xc000_0081, lstar: UInt32 = 0xc000_0082
    package static let cstar: UInt32 = 0xc000_0083, syscallMask: UInt32 = 0xc000_0084
    package static let fsBase: UInt32 = 0xc000_0100, gsBase: UInt32 = 0xc000_0101, kernelGSBase: UInt32 = 0xc000_0102
    package static let tscAux: UInt32 = 0xc000_0103
    // AMD's own.
    package static let performanceSelect: UInt32 = 0xc001_0000, performanceCounter: UInt32 = 0xc001_0004
    package static let syscfg: UInt32 = 0xc001_0010, hwcr: UInt32 = 0xc001_0015, ioRangeBase: UInt32 = 0xc001_0016
    package static let ioRangeMask: UInt32 = 0xc001_0019, topOfMemory: UInt32 = 0xc001_001a
    package static let topOfMemory2: UInt32 = 0xc001_001d, northbridge: UInt32 = 0xc001_001f
    package static let interruptPending: UInt32 = 0xc001_0055, smbase: UInt32 = 0xc001_0111
    package static let smmAddress: UInt32 = 0xc001_0112, smmMask: UInt32 = 0xc001_0113
}

/// IA32_APIC_BASE bits: the bootstrap processor, and the APIC's global enable.
package enum APICBase {
    package static let bootstrap: UInt64 = 1 << 8, enable: UInt64 = 1 << 11
}

/// MTRR capabilities: eight variable ranges, fixed ranges, write-combining.
private let mtrrCapabilities: UInt64 = 0x508
private let variableMTRRCount: UInt32 = 8

extension UnsafeMutablePointer where Pointee == CPUState {
    fileprivate func readMSR(_ op: OperationPointer) -> Next {
        guard pointee.cpl == 0, let value = modelSpecificRegister(gpr(Register.rcx, as: UInt32.self), at: op) else {
            return generalProtection(at: op)
        }
        setEDXEAX(value)
        return op + 1
    }

    fileprivate func writeMSR(_ op: OperationPointer) -> Next {
        let value = gpr(Register.rdx) << 32 | (gpr(Register.rax) & 0xffff_ffff)
        guard pointee.cpl == 0, setModelSpecificRegister(gpr(Register.rcx, as: UInt32.self), value, at: op) else {
            return generalProtection(at: op)
        }
        let next = leave(after: op)
        updateMode()
        return next
    }

    // MARK: Reading

    /// The value of an MSR, or nil if the model does not have it.
    private func modelSpecificRegister(_ address: UInt32, at op: OperationPointer) -> UInt64? {
        let model = processor.model
        switch address {
        case MSR.tsc: return processor.tsc(at: op)
        case MSR.apicBase: return model.hasAPIC ? pointee.apicBase : nil
        case MSR.mtrrCapabilities: return mtrrCapabilities
        case MSR.sysenterCS: return pointee.sysenterCS
        case MSR.sysenterESP: return pointee.sysenterESP
        case MSR.sysenterEIP: return pointee.sysenterEIP
        case MSR.machineCheckAddress, MSR.machineCheckType, MSR.machineCheckCapabilities, MSR.machineCheckStatus,
            MSR.microcodeRevision, MSR.debugControl, MSR.lastBranchFrom...MSR.lastExceptionTo:
            return 0
        case MSR.pat: return pointee.pat
        case MSR.mtrrDefaultType: return pointee.mtrrDefaultType
        case MSR.mtrrVariable..<MSR.mtrrVariable + 2 * variableMTRRCount:
            return cpu_mtrr_variable(self, Int32(address - MSR.mtrrVariable)).pointee
        case MSR.efer where model.hasEFER: return pointee.efer
        case MSR.tscAux where model.hasRDTSCP: return pointee.tscAux
        default:
            if let fixed = fixedMTRR(address) { return cpu_mtrr_fixed(self, fixed).pointee }
            if model.hasLongMode, let value = longModeRegister(address) { return value }
            return model.vendor == .intel ? intelRegister(address) : amdRegister(address)
        }
    }

    private func longModeRegister(_ address: UInt32) -> UInt64? {
        switch address {
        case MSR.star: pointee.star
        case MSR.lstar: pointee.lstar
        case MSR.cstar: pointee.cstar
        case MSR.syscallMask: pointee.syscallMask
        case MSR.fsBase: pointee.segments.4.base
        case MSR.gsBase: pointee.segments.5.base
        case MSR.kernelGSBase: pointee.kernelGSBase
        default: nil
        }
    }

    private func intelRegister(_ address: UInt32) -> UInt64? {
        switch address {
        case MSR.miscEnable: pointee.miscEnable
        case MSR.platformID, MSR.powerOnConfiguration, MSR.frequencyID, MSR.fsbFrequency: 0
        default: nil
        }
    }

    /// Most of these configure parts of a chipset that this machine does not have: they read as zero and keep nothing.
    private func amdRegister(_ address: UInt32) -> UInt64? {
        switch address {
        case MSR.syscfg: pointee.syscfg
        case MSR.hwcr: pointee.hwcr
        case MSR.smbase: pointee.smbase
        case MSR.performanceSelect..<MSR.performanceCounter + 4:
            cpu_performance(self, Int32(address - MSR.performanceSelect)).pointee
        case MSR.ioRangeBase...MSR.ioRangeMask, MSR.topOfMemory, MSR.topOfMemory2, MSR.northbridge,
            MSR.interruptPending, MSR.smmAddress, MSR.smmMask:
            0
        default: nil
        }
    }

    /// Index of a fixed-range MTRR: one of 64 KB, two of 16 KB, eight of 4 KB pieces.
    private func fixedMTRR(_ address: UInt32) -> Int32? {
        switch address {
        case MSR.mtrrFixed64K: 0
        case MSR.mtrrFixed16K...MSR.mtrrFixed16K + 1: Int32(1 + address - MSR.mtrrFixed16K)
        case MSR.mtrrFixed4K...MSR.mtrrFixed4K + 7: Int32(3 + address - MSR.mtrrFixed4K)
        default: nil
        }
    }

    // MARK: Writing

    /// Writes an MSR; false, and no change, if the model does not have it or not that value.
    private func setModelSpecificRegister(_ address: UInt32, _ value: UInt64, at op: OperationPointer) -> Bool {
        let model = processor.model
        switch address {
        case MSR.tsc: pointee.tscOffset &+= value &- processor.tsc(at: op)
        case MSR.apicBase: return model.hasAPIC && setAPICBase(value)
        case MSR.sysenterCS: pointee.sysenterCS = value & 0xffff_ffff
        case MSR.sysenterESP, MSR.sysenterEIP:
            if model.hasLongModeSysenter && !isCanonical(value) { return false }
            let kept = model.hasLongModeSysenter ? value : value & 0xffff_ffff
            if address == MSR.sysenterESP { pointee.sysenterESP = kept } else { pointee.sysenterEIP = kept }
        case MSR.machineCheckStatus: return value == 0
        case MSR.machineCheckAddress, MSR.machineCheckType, MSR.microcodeRevision: break
        // Last-branch records are not kept; branch stepping (bit 1) does not exist.
        case MSR.debugControl: return value & ~1 == 0
        case MSR.pat:
            guard memoryTypesAreValid(value, allowsUncacheableMinus: true) else { return false }
            pointee.pat = value
        case MSR.mtrrDefaultType:
            guard value & ~0xcff == 0, memoryTypeIsValid(value & 0xff) else { return false }
            pointee.mtrrDefaultType = value
        case MSR.mtrrVariable..<MSR.mtrrVariable + 2 * variableMTRRCount:
            return setVariableMTRR(Int32(address - MSR.mtrrVariable), value)
        case MSR.efer: return model.hasEFER && setEFER(value)
        case MSR.tscAux where model.hasRDTSCP:
            guard value >> 32 == 0 else { return false }
            pointee.tscAux = value
        default:
            if let fixed = fixedMTRR(address) {
                guard memoryTypesAreValid(value, allowsUncacheableMinus: false) else { return false }
                cpu_mtrr_fixed(self, fixed).pointee = value
                return true
            }
            if model.hasLongMode, longModeRegister(address) != nil { return setLongModeRegister(address, value) }
            return model.vendor == .intel ? setIntelRegister(address, value) : setAMDRegister(address, value)
        }
        return true
    }

    private func setAPICBase(_ value: UInt64) -> Bool {
        let base = ((1 << processor.model.physicalAddressBits) - 1) & pageMask
        guard value & ~(base | APICBase.bootstrap | APICBase.enable) == 0 else { return false }
        pointee.apicBase = value
        processor.apicBaseChanged(value)
        return true
    }

    private func memoryTypeIsValid(_ type: UInt64) -> Bool {
        type == 0 || type == 1 || (4...6).contains(type)
    }

    /// Eight memory types, one a byte. UC- (7) exists in the PAT only.
    private func memoryTypesAreValid(_ value: UInt64, allowsUncacheableMinus: Bool) -> Bool {
        (0..<8).allSatisfy { index in
            let type = (value >> UInt64(index * 8)) & 0xff
            return memoryTypeIsValid(type) || (allowsUncacheableMinus && type == 7)
        }
    }

    /// Even ones are bases with a type, odd ones masks with a valid bit.
    private func setVariableMTRR(_ index: Int32, _ value: UInt64) -> Bool {
        let isMask = index & 1 != 0
        let address = ((1 << processor.model.physicalAddressBits) - 1) & pageMask
        guard value & ~(address | (isMask ? 0x800 : 0xff)) == 0, isMask || memoryTypeIsValid(value & 0xff) else {
            return false
        }
        cpu_mtrr_variable(self, index).pointee = value
        return true
    }

    /// LMA follows CR0.PG and cannot be written; LME cannot change while paging is on.
    private func setEFER(_ value: UInt64) -> Bool {
        let old = pointee.efer
        let new = (value & ~EFER.lma) | (old & EFER.lma)
        guard new & ~(processor.model.eferBits | EFER.lma) == 0 else { return false }
        if (old ^ new) & EFER.lme != 0 && pointee.cr0 & CR0.pg != 0 { return false }
        pointee.efer = new
        if (old ^ new) & EFER.nxe != 0 { processor.flushTLB(keepGlobal: false) }
        return true
    }

    private func setLongModeRegister(_ address: UInt32, _ value: UInt64) -> Bool {
        switch address {
        case MSR.star:
            pointee.star = value
            return true
        case MSR.syscallMask:
            pointee.syscallMask = value & 0xffff_ffff
            return true
        default: break
        }
        guard isCanonical(value) else { return false }
        switch address {
        case MSR.lstar: pointee.lstar = value
        case MSR.cstar: pointee.cstar = value
        case MSR.fsBase: pointee.segments.4.base = value
        case MSR.gsBase: pointee.segments.5.base = value
        default: pointee.kernelGSBase = value
        }
        return true
    }

    private func setIntelRegister(_ address: UInt32, _ value: UInt64) -> Bool {
        switch address {
        case MSR.miscEnable: pointee.miscEnable = value
        case MSR.microcodeTrigger, MSR.powerOnConfiguration: break
        default: return false
        }
        return true
    }

    private func setAMDRegister(_ address: UInt32, _ value: UInt64) -> Bool {
        switch address {
        case MSR.syscfg: pointee.syscfg = value
        case MSR.hwcr: pointee.hwcr = value
        case MSR.smbase: pointee.smbase = value & 0xffff_ffff
        // The counters keep what is written to them and count nothing. They are 48 bits wide.
        case MSR.performanceSelect..<MSR.performanceCounter:
            cpu_performance(self, Int32(address - MSR.performanceSelect)).pointee = value & 0xffff_ffff
        case MSR.performanceCounter..<MSR.performanceCounter + 4:
            cpu_performance(self, Int32(address - MSR.performanceSelect)).pointee = value & 0xffff_ffff_ffff
        default: return amdRegister(address) != nil
        }
        return true
    }
}

extension InstructionTable {
    mutating func addModelSpecificRegisters() {
        row(ZYDIS_MNEMONIC_RDMSR) { cpu, op in cpu.readMSR(op) }
        row(ZYDIS_MNEMONIC_WRMSR, endsBlock: true) { cpu, op in cpu.writeMSR(op) }
    }
}
