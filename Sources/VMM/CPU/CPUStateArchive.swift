import CEngine

extension UnsafeMutablePointer where Pointee == CPUState {
    /// State after RESET# (SDM volume 3, table 10-1). Pointers to the processor's tables, event counts and the virtual
    /// count stay.
    func resetState(_ model: CPUModel) {
        cpu_reset(self)
        let data =
            SegmentAttributes.present | SegmentAttributes.user | SegmentAttributes.writable
            | SegmentAttributes.accessed
        for index in 0..<6 {
            segment(index).pointee = SegmentRegister(base: 0, limit: 0xffff, selector: 0, attributes: data)
        }
        segment(SegmentIndex.cs).pointee.selector = 0xf000
        segment(SegmentIndex.cs).pointee.base = 0xffff_0000
        segment(SegmentIndex.ldtr).pointee = SegmentRegister(base: 0, limit: 0xffff, selector: 0, attributes: 0x82)
        segment(SegmentIndex.tr).pointee = SegmentRegister(base: 0, limit: 0xffff, selector: 0, attributes: 0x8b)
        pointee.gdtr.limit = 0xffff
        pointee.idtr.limit = 0xffff
        pointee.rip = 0xfff0
        setRFlags(RFlags.reserved1)
        setGPR(Register.rdx, UInt64(model.signature))
        pointee.cr0 = CR0.cd | CR0.nw | CR0.et
        cpu_dr(self, 6).pointee = 0xffff_0ff0
        cpu_dr(self, 7).pointee = 0x400
        pointee.fcw = 0x40
        pointee.ftw = X87Tags.allValid
        pointee.mxcsr = MXCSR.initial
        pointee.pat = 0x0007_0406_0007_0406
        pointee.smbase = 0x30000
        pointee.apicBase = 0xfee0_0900
        pointee.miscEnable = 1
        updateMode()
    }

    /// Visits all architectural state. Pointers, the running block and the lazy form of the flags are not state.
    func archive(_ archive: StateArchive) {
        archiveRegisters(archive)
        archiveModelSpecific(archive)
        archiveFloatingPoint(archive)
        archivePending(archive)
        if archive.isRestoring {
            pointee.patched = nil
            recomputeMode()
        }
    }

    private func memory<T>(_ name: String, _ value: inout T, _ archive: StateArchive) {
        withUnsafeMutableBytes(of: &value) { archive.raw(name, $0) }
    }

    private func archiveRegisters(_ archive: StateArchive) {
        memory("gpr", &pointee.gpr, archive)
        archive.field("rip", &pointee.rip)
        archive.field("count", &pointee.count)
        var rflags = self.rflags
        archive.field("rflags", &rflags)
        if archive.isRestoring { setRFlags(rflags) }
        for index in 0..<8 { memory("segment\(index)", &segment(index).pointee, archive) }
        archive.field("cr0", &pointee.cr0)
        archive.field("cr2", &pointee.cr2)
        archive.field("cr3", &pointee.cr3)
        archive.field("cr4", &pointee.cr4)
        archive.field("cr8", &pointee.cr8)
        archive.field("efer", &pointee.efer)
        memory("dr", &pointee.dr, archive)
        archive.field("gdtr.base", &pointee.gdtr.base)
        archive.field("gdtr.limit", &pointee.gdtr.limit)
        archive.field("idtr.base", &pointee.idtr.base)
        archive.field("idtr.limit", &pointee.idtr.limit)
        memory("pdptr", &pointee.pdptr, archive)
        archive.field("cpl", &pointee.cpl)
    }

    private func archiveModelSpecific(_ archive: StateArchive) {
        archive.field("star", &pointee.star)
        archive.field("lstar", &pointee.lstar)
        archive.field("cstar", &pointee.cstar)
        archive.field("syscallMask", &pointee.syscallMask)
        archive.field("kernelGSBase", &pointee.kernelGSBase)
        archive.field("sysenterCS", &pointee.sysenterCS)
        archive.field("sysenterESP", &pointee.sysenterESP)
        archive.field("sysenterEIP", &pointee.sysenterEIP)
        archive.field("tscOffset", &pointee.tscOffset)
        archive.field("tscAux", &pointee.tscAux)
        archive.field("pat", &pointee.pat)
        archive.field("apicBase", &pointee.apicBase)
        archive.field("miscEnable", &pointee.miscEnable)
        archive.field("smbase", &pointee.smbase)
        archive.field("syscfg", &pointee.syscfg)
        archive.field("hwcr", &pointee.hwcr)
        memory("performance", &pointee.performance, archive)
        archive.field("mtrrDefaultType", &pointee.mtrrDefaultType)
        memory("mtrrFixed", &pointee.mtrrFixed, archive)
        memory("mtrrVariable", &pointee.mtrrVariable, archive)
    }

    private func archiveFloatingPoint(_ archive: StateArchive) {
        memory("fpr", &pointee.fpr, archive)
        memory("xmm", &pointee.xmm, archive)
        archive.field("fcw", &pointee.fcw)
        archive.field("fsw", &pointee.fsw)
        archive.field("ftw", &pointee.ftw)
        archive.field("fop", &pointee.fop)
        archive.field("mxcsr", &pointee.mxcsr)
        archive.field("fcs", &pointee.fcs)
        archive.field("fds", &pointee.fds)
        archive.field("fip", &pointee.fip)
        archive.field("fdp", &pointee.fdp)
    }

    private func archivePending(_ archive: StateArchive) {
        archive.field("pending", &pointee.pending)
        archive.field("faultCode", &pointee.faultCode)
        archive.field("faultVector", &pointee.faultVector)
        archive.field("faultHasCode", &pointee.faultHasCode)
        archive.field("faultIsSoftware", &pointee.faultIsSoftware)
        archive.field("faultAddress", &pointee.faultAddress)
        archive.field("pendingDebug", &pointee.pendingDebug)
        archive.field("interruptShadow", &pointee.interruptShadow)
        archive.field("nmiBlocked", &pointee.nmiBlocked)
        archive.field("nmiPending", &pointee.nmiPending)
        archive.field("halted", &pointee.halted)
        archive.field("inSMM", &pointee.inSMM)
        archive.field("interruptLine", &pointee.interruptLine)
        archive.field("smiPending", &pointee.smiPending)
        memory("eventCounts", &pointee.eventCounts, archive)
    }
}
