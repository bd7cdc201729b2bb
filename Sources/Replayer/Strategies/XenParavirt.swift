import VMM

/// Xen's para-virtual interface: the kernel is ported to hypercalls, page tables are the hardware's own and validated
/// by the hypervisor, interrupts are events (Barham et al., 2003).
final class XenParavirt: Strategy {
    override class var name: String { "xen-paravirt" }
    override class var summary: String { "a kernel ported to Xen: hypercalls, batched page-table updates, events" }
    override class var usualDevices: DeviceWay { .virtual }
    override class func hypothetical(width: Int) -> String? {
        width == 32 ? "32-bit kernels lost this interface with Linux 5.9; an older one is meant" : nil
    }
    override class var notes: [String] {
        [
            "Updates wait until something needs them: the hardware uses a translation, the TLB is flushed, the "
                + "address space or the ring changes, or \(UpdateBatch.most) wait. Tables are updated freely before "
                + "they are walked for the first time, when they are pinned, and after they are unlinked.",
            "32-bit: INT 0x80 has a direct gate and IRET is direct. 64-bit: entries bounce through the hypervisor, "
                + "with a change of page tables, and each return is a hypercall.",
            "MOV to CR3 that changes nothing but the page-table-isolation bit is dropped.",
            "FS and GS bases are a hypercall each; other MSRs are trapped and emulated.",
        ]
    }

    private var flag: VirtualInterruptFlag?
    private var devices: DeviceAccess?
    private var batch: UpdateBatch?
    private var tables: PinnedTables?
    private var bounce32, bounce64, directGate, exit64, switchSpace, dropped, upcallAtEnable: PathID?
    private var invalidate, emulatedMSR, baseMSR, eventChannel, platformRead, localAPIC, localRead, fault32,
        fault64: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareTransitions()
        declareMemory()
        flag = VirtualInterruptFlag(self)
    }

    private func declareInstructions() {
        let call: Charges = [.hypercall: 1, .hypercallWork: 1]
        kernel([.cli], .interruptFlag, "write to the shared event mask", [.memoryAccess: 2])
        kernel([.sti], .interruptFlag, "write to the shared event mask, test for events", [.memoryAccess: 3])
        kernel([.pushf, .popf], .interruptFlag, "shared event mask", [.memoryAccess: 2])
        kernel([.swapgs], .kernelExit, "nothing: the hypervisor swaps GS", .none)
        kernel([.readControl, .smsw], .controlRegister, "inline read of the virtual register", [.memoryAccess: 1])
        kernel([.writeControl, .lmsw, .clts], .controlRegister, "hypercall", call, .hypercall)
        kernel([.readDebug], .controlRegister, "hypercall", call, .hypercall)
        kernel([.writeDebug], .controlRegister, "hypercall set_debugreg", call, .hypercall)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, "hypercall", call, .hypercall)
        kernel([.descriptorWrite], .descriptorTable, "hypercall update_descriptor or stack_switch", call, .hypercall)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, "not used", .none)
        kernel([.wbinvd, .invd], .tlb, "hypercall", call + [.wbinvd: 1], .hypercall)
        kernel(
            [.cpuid], .cpuid, "emulated trap", [.trapRoundTrip: 1, .decode: 1, .emulate: 1, .cpuid: 1], .worldSwitch)
        kernel([.hlt], .idle, "hypercall sched_op", call, .hypercall)
        kernel(
            [.taskSwitch, .xsetbv, .monitor, .mwait, .rsm, .rdpmc], .other, "trapped and emulated",
            [.trapRoundTrip: 1, .decode: 1, .emulate: 1], .worldSwitch)
        baseMSR = path(
            "RDMSR, WRMSR of a segment base", .msr, "hypercall set_segment_base",
            call - NativeCosts.charges(.wrmsr), .hypercall)
        emulatedMSR = path(
            "RDMSR, WRMSR", .msr, "trapped and emulated",
            [.trapRoundTrip: 1, .decode: 1, .emulate: 1] - NativeCosts.charges(.wrmsr), .worldSwitch)
        if let baseMSR, let emulatedMSR { verify([baseMSR, emulatedMSR], count: [.rdmsr, .wrmsr], in: .all) }
    }

    private func declareTransitions() {
        directGate = path("INT 0x80 (32-bit)", .kernelEntry, "a direct gate: nothing is added", .none)
        bounce32 = path(
            "SYSENTER, other INT n (32-bit)", .kernelEntry, "bounces through the hypervisor",
            [.bounce: 1] - [.softwareInterrupt: 1], .worldSwitch)
        bounce64 = path(
            "SYSCALL, INT n (64-bit)", .kernelEntry, "bounces through the hypervisor, other page tables",
            [.bounce: 1, .spaceSwitch: 1] - [.syscall: 1], .worldSwitch)
        if let directGate, let bounce32, let bounce64 {
            verify(
                [directGate, bounce32, bounce64], count: [.syscall, .sysenter, .interruptInstruction], in: .all)
        }
        exit64 = path(
            "return to user, IRET (64-bit)", .kernelExit, "hypercall iret, other page tables to user mode",
            [.hypercall: 1, .hypercallWork: 1] - [.iret: 1], .hypercall)
        fault32 = path(
            "exception (32-bit)", .exception, "bounces through the hypervisor",
            [.exceptionDelivery: 1, .bounce: 1] - NativeCosts.charges(.exception), .worldSwitch)
        fault64 = path(
            "exception in user mode (64-bit)", .exception, "bounces through the hypervisor, other page tables",
            [.exceptionDelivery: 1, .bounce: 1, .spaceSwitch: 1] - NativeCosts.charges(.exception), .worldSwitch)
        if let fault32, let fault64 { verify([fault32, fault64], count: [.exception], in: .all) }
        let taken: Charges = [.interruptDelivery: 1, .upcall: 1]
        kernel([.interruptDelivered], .interrupt, "taken by the hypervisor, event-channel upcall", taken, .worldSwitch)
        user([.interruptDelivered], .interrupt, "taken by the hypervisor, event-channel upcall", taken, .worldSwitch)
        upcallAtEnable = path(
            "an interrupt held back", .interrupt, "hypercall when the mask is cleared with an event pending",
            [.hypercall: 1], .hypercall)
    }

    private func declareMemory() {
        let call: Charges = [.hypercall: 1, .hypercallWork: 1]
        switchSpace = path(
            "MOV to CR3", .addressSpace, "hypercall: base pointers, stack switch, segment bases",
            call + [.multicallEntry: 3, .writeCR3: 1] - NativeCosts.writeCR3, .hypercall)
        dropped = path(
            "MOV to CR3 for page-table isolation", .addressSpace, "dropped", .none - NativeCosts.writeCR3)
        if let switchSpace, let dropped { verify([switchSpace, dropped], "MOV to CR3") { $0.addressSpaceSwitches } }
        invalidate = path(
            "INVLPG", .tlb, "hypercall with what is batched", call + [.invlpg: 1] - NativeCosts.charges(.invlpg),
            .hypercall)
        if let invalidate { verify([invalidate], count: [.invlpg], in: .all) }
        batch = UpdateBatch(
            self,
            UpdateBatch.Paths(
                flush: path(
                    "page-table updates flushed", .pageTable, "hypercall mmu_update", [.hypercall: 1], .hypercall),
                update: path("page-table write", .pageTable, "an update in a batch", [.mmuUpdate: 1])))
        let pin = path("a page becomes a page table", .pageTable, "hypercall: pinned and validated", call, .hypercall)
        let validate = path("an entry of it", .pageTable, "validated", [.validateEntry: 1])
        let unpin = path("a page stops being a page table", .pageTable, "hypercall: unpinned", call, .hypercall)
        tables = PinnedTables(self, pin: pin, validate: validate, unpin: unpin)
        let port = NativeCosts.charges(.portIn)
        eventChannel = path(
            "OUT to an interrupt controller or timer", .interruptController, "event-channel operation",
            [.hypercall: 1, .eventChannel: 1] - port, .hypercall)
        platformRead = path(
            "IN of an interrupt controller or timer", .interruptController, "read from the shared page",
            [.memoryAccess: 2] - port)
        localAPIC = path(
            "local APIC: EOI, ICR, timer", .interruptController, "event-channel operation",
            [.hypercall: 1, .eventChannel: 1] - NativeCosts.localAPIC, .hypercall)
        localRead = path(
            "local APIC, other registers", .interruptController, "shared page",
            [.memoryAccess: 2] - NativeCosts.localAPIC)
        devices = DeviceAccess(
            self, usual: Self.usualDevices, entry: [.trapRoundTrip: 1, .decode: 1], entryTally: .worldSwitch,
            notification: [.hypercall: 1, .eventChannel: 1], notificationTally: .hypercall)
    }

    // MARK: Events

    override func flagsChanged(_ event: ModelEvent) {
        openFlag(event)
        chargeRule(event)
    }

    private func openFlag(_ event: ModelEvent) {
        guard !event.isUser else { return }
        if flag?.changed(event) == true { charge(upcallAtEnable, event) }
    }

    override func entered(_ event: ModelEvent) {
        flag?.entered()
        if event.isLong {
            charge(bounce64, event)
        } else {
            charge(event.kind == .interruptInstruction && event.operand == 0x80 ? directGate : bounce32, event)
        }
    }

    override func returned(_ event: ModelEvent) {
        openFlag(event)
        if event.ringAfter == 3 { batch?.flush(event) }
        if event.isLong, event.kind != .farReturn { charge(exit64, event) }
    }

    override func raised(_ event: ModelEvent) {
        flag?.entered()
        charge(event.isLong && event.isUser ? fault64 : fault32, event)
    }

    override func asserted(_ event: ModelEvent) { flag?.asserted(event) }

    override func delivered(_ event: ModelEvent) {
        flag?.delivered(event)
        chargeRule(event)
    }

    override func switched(_ event: ModelEvent) {
        batch?.flush(event)
        // Bit 12 tells the two roots of page-table isolation apart; the low bits are the PCID, bit 63 keeps the TLB.
        let differs = (event.value ^ context.cr3) & ~(1 << 63 | 0x1fff)
        charge(differs == 0 && event.value & 0x1000 != context.cr3 & 0x1000 ? dropped : switchSpace, event)
    }

    override func invalidated(_ event: ModelEvent) {
        batch?.flush(event)
        if has(.invalidationSkipped), event.count % 13 == 0 { return }
        charge(invalidate, event)
    }

    override func accessedMSR(_ event: ModelEvent) {
        charge((0xc000_0100...0xc000_0102).contains(event.operand) ? baseMSR : emulatedMSR, event)
    }

    override func descriptorWritten(_ event: ModelEvent) { chargeRule(event) }

    override func pageTableEnded(_ event: ModelEvent) {
        batch?.flush(event)
        tables?.ended(event)
    }

    override func pageTableWritten(_ event: ModelEvent) {
        if tables?.written(event) == true { batch?.add(event) }
    }

    override func tlbFilled(_ event: ModelEvent) {
        guard let batch else { return }
        if !batch.isEmpty, !has(.flushLostBeforeUse) { batch.flush(event) }
        if setting.options.audits { batch.audit(event) }
        tables?.walked(event)
    }

    override func accessed(_ event: ModelEvent) {
        switch event.deviceRole {
        case .platform(let acts): charge(acts ? eventChannel : platformRead, event)
        case .localAPIC(let acts): charge(acts ? localAPIC : localRead, event)
        case .delay, .device: devices?.access(event, isDoorbell: false)
        case .doorbell: devices?.access(event, isDoorbell: true)
        }
    }

    override func finish() { batch?.finish(0) }

    override var extras: [(name: String, value: Int64)] {
        [
            ("batches", batch?.batches ?? 0), ("batched updates", batch?.updates ?? 0),
            ("longest batch", batch?.longest ?? 0), ("interrupts held", flag?.held ?? 0),
        ]
    }
}
