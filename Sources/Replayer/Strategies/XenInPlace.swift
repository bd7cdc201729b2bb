import VMM

/// The in-place VMM on Xen: the pre-virtualized binary, its sensitive instructions rewritten into calls of a wedge that
/// speaks Xen's interface (LeVasseur et al., 2005).
final class XenInPlace: Strategy {
    override class var name: String { "xen-inplace" }
    override class var summary: String { "the pre-virtualized binary, rewritten in place to a wedge on Xen" }
    override class var widths: Set<Int> { [32] }
    override class func hypothetical(width: Int) -> String? {
        width == 64 ? "the 64-bit wedge was never finished" : nil
    }
    override class var usualDevices: DeviceWay { .inPlace }
    override class var notes: [String] {
        [
            "CLI, STI, PUSHF and POPF become code on the virtual flag; all else a call or jump into the wedge, which "
                + "makes hypercalls where the hardware must change.",
            "The padding that a rewritten site keeps is priced; an inline site keeps none.",
            "Stores to page tables are annotated and queued, with the same flush points as xen-paravirt.",
            "What the tool lacked in 2005 traps into Xen and is emulated there, unless --extended is given.",
        ]
    }

    private lazy var padding = WedgePadding(self)
    private var flag: VirtualInterruptFlag?
    private var devices: DeviceAccess?
    private var batch: UpdateBatch?
    private var tables: PinnedTables?
    private var entry32, entry64, directGate, wedgeReturn, exit64, switchSpace, deliverAtEnable: PathID?
    private var invalidate, hardwareMSR, controllerCall, lineChange, localAPIC, fault32, fault64: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        _ = padding
        declareInstructions()
        declareTransitions()
        declareMemory()
        flag = VirtualInterruptFlag(self)
    }

    private func declareInstructions() {
        let inline: Charges = [.wedgeInline: 1]
        let call: Charges = [.wedgeCall: 1]
        let hypercall: Charges = [.wedgeCall: 1, .hypercall: 1, .hypercallWork: 1]
        kernel([.cli, .pushf], .interruptFlag, "inline, the virtual flag", inline)
        kernel([.sti, .popf], .interruptFlag, "inline, the virtual flag; tests for pending vectors", inline)
        kernel(
            [.readControl, .smsw, .readDebug], .controlRegister, "in place, the virtual register", inline)
        kernel(
            [.writeControl, .lmsw, .clts, .writeDebug], .controlRegister, "call, hypercall", hypercall, .hypercall)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, "call, virtual copy, hypercall", hypercall, .hypercall)
        kernel([.descriptorWrite], .descriptorTable, "annotated: call, hypercall", hypercall, .hypercall)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, "virtual copy", inline)
        kernel([.lar, .lsl, .arpl, .farJump], .segment, "in place", call)
        kernel([.segmentLoad, .segmentStore], .segment, "in place", inline)
        kernel([.wbinvd, .invd], .tlb, "call, hypercall", hypercall + [.wbinvd: 1], .hypercall)
        kernel([.cpuid], .cpuid, "call", call + [.cpuid: 1])
        kernel([.hlt], .idle, "call, hypercall", hypercall, .hypercall)
        let trapped: Charges = [.trapRoundTrip: 1, .decode: 1, .emulate: 1]
        kernel([.taskSwitch, .xsetbv, .monitor, .mwait], .other, "trapped and emulated by Xen", trapped, .worldSwitch)
        let isExtended = setting.options.coversExtended
        kernel(
            [.swapgs], .kernelExit, isExtended ? "in place: nothing, Xen swaps GS" : "trapped and emulated by Xen",
            isExtended ? .none : trapped, isExtended ? .none : .worldSwitch)
        kernel(
            [.rdpmc], .msr, isExtended ? "call" : "trapped and emulated by Xen", isExtended ? call : trapped,
            isExtended ? .none : .worldSwitch)
        hardwareMSR = path(
            "RDMSR, WRMSR", .msr, "call, hypercall", hypercall - NativeCosts.charges(.wrmsr), .hypercall)
        if let hardwareMSR { verify([hardwareMSR], count: [.rdmsr, .wrmsr], in: .all) }
    }

    private func declareTransitions() {
        directGate = path("INT 0x80 (32-bit)", .kernelEntry, "a direct gate: nothing is added", .none)
        entry32 = path(
            "SYSENTER, other INT n (32-bit)", .kernelEntry, "bounces through the hypervisor into the wedge",
            [.bounce: 1, .wedgeCall: 1] - [.softwareInterrupt: 1], .worldSwitch)
        entry64 = path(
            "SYSCALL, INT n (64-bit)", .kernelEntry, "bounces through the hypervisor, other page tables",
            [.bounce: 1, .spaceSwitch: 1, .wedgeCall: 1] - [.syscall: 1], .worldSwitch)
        if let directGate, let entry32, let entry64 {
            verify([directGate, entry32, entry64], count: [.syscall, .sysenter, .interruptInstruction], in: .all)
        }
        wedgeReturn = path(
            "IRET, far RET (32-bit)", .kernelExit, "jump into the wedge's restartable return path, IRET",
            [.wedgeCall: 1])
        exit64 = path(
            "return to user, IRET (64-bit)", .kernelExit, "the wedge's return path, hypercall iret",
            [.wedgeCall: 1, .hypercall: 1, .hypercallWork: 1] - [.iret: 1], .hypercall)
        fault32 = path(
            "exception (32-bit)", .exception, "bounces into the wedge, then the guest's handler",
            [.bounce: 1, .wedgeCall: 1], .worldSwitch)
        fault64 = path(
            "exception in user mode (64-bit)", .exception, "the same, other page tables",
            [.bounce: 1, .wedgeCall: 1, .spaceSwitch: 1], .worldSwitch)
        if let fault32, let fault64 { verify([fault32, fault64], count: [.exception], in: .all) }
        let taken: Charges = [.interruptDelivery: 1, .upcall: 1, .wedgeCall: 1]
        kernel([.interruptDelivered], .interrupt, "upcall into the wedge, delivered", taken, .worldSwitch)
        user([.interruptDelivered], .interrupt, "upcall into the wedge, delivered", taken, .worldSwitch)
        deliverAtEnable = path(
            "an interrupt held back", .interrupt, "the wedge delivers it at the next enable", [.wedgeCall: 1])
    }

    private func declareMemory() {
        let hypercall: Charges = [.wedgeCall: 1, .hypercall: 1, .hypercallWork: 1]
        switchSpace = path(
            "MOV to CR3", .addressSpace, "call, the batch is sent, hypercall",
            hypercall + [.multicallEntry: 1, .writeCR3: 1] - NativeCosts.writeCR3, .hypercall)
        if let switchSpace { verify([switchSpace], "MOV to CR3") { $0.addressSpaceSwitches } }
        invalidate = path(
            "INVLPG", .tlb, "queued, the batch is sent", [.wedgeCall: 1, .multicallEntry: 1, .hypercallWork: 1])
        if let invalidate { verify([invalidate], count: [.invlpg], in: .all) }
        batch = UpdateBatch(
            self,
            UpdateBatch.Paths(
                flush: path(
                    "page-table updates flushed", .pageTable, "multicall with mmu_update", [.hypercall: 1], .hypercall),
                update: path(
                    "page-table write", .pageTable, "annotated: queued by the wedge",
                    [.wedgeCall: 1, .mmuUpdate: 1])))
        let pin = path("a page becomes a page table", .pageTable, "linked: pinned and validated", hypercall, .hypercall)
        let validate = path("an entry of it", .pageTable, "validated", [.validateEntry: 1])
        let unpin = path("a page stops being a page table", .pageTable, "unlinked: unpinned", hypercall, .hypercall)
        tables = PinnedTables(self, pin: pin, validate: validate, unpin: unpin)
        controllerCall = path(
            "IN, OUT of interrupt controller, timer", .interruptController, "device model in the wedge",
            [.wedgeCall: 1, .wedgeDevice: 1] - NativeCosts.charges(.portIn))
        lineChange = path(
            "a line or a timer changes", .interruptController, "hypercall", [.hypercall: 1, .eventChannel: 1],
            .hypercall)
        localAPIC = path(
            "local APIC, I/O APIC", .interruptController, "annotated: device model in the wedge",
            [.wedgeCall: 1, .wedgeDevice: 1] - NativeCosts.localAPIC)
        devices = DeviceAccess(
            self, usual: Self.usualDevices, entry: [.trapRoundTrip: 1, .decode: 1], entryTally: .worldSwitch,
            notification: [.hypercall: 1, .eventChannel: 1], notificationTally: .hypercall)
    }

    // MARK: Events

    override func observe(_ event: ModelEvent) { padding.charge(event) }

    override func flagsChanged(_ event: ModelEvent) {
        openFlag(event)
        chargeRule(event)
    }

    private func openFlag(_ event: ModelEvent) {
        guard !event.isUser else { return }
        if flag?.changed(event) == true { charge(deliverAtEnable, event) }
    }

    override func entered(_ event: ModelEvent) {
        flag?.entered()
        if event.isLong {
            charge(entry64, event)
        } else {
            charge(event.kind == .interruptInstruction && event.operand == 0x80 ? directGate : entry32, event)
        }
    }

    override func returned(_ event: ModelEvent) {
        openFlag(event)
        if event.ringAfter == 3 { batch?.flush(event) }
        if event.isUser { return }
        charge(event.isLong && event.kind != .farReturn ? exit64 : wedgeReturn, event)
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
        charge(switchSpace, event)
    }

    override func invalidated(_ event: ModelEvent) {
        batch?.flush(event)
        charge(invalidate, event)
    }

    override func accessedMSR(_ event: ModelEvent) { charge(hardwareMSR, event) }
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
        case .platform(let acts):
            charge(controllerCall, event)
            if acts { charge(lineChange, event) }
        case .localAPIC(let acts):
            charge(localAPIC, event)
            if acts { charge(lineChange, event) }
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
