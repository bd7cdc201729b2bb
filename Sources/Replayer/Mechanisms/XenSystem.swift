import VMM

/// What a guest kernel on Xen pays whether it was ported to it or rewritten in place: entries bounce through the
/// hypervisor, page tables are pinned, and stores to them are sent in batches.
class XenSystem: DeprivilegedKernel {
    static let call: Charges = [.hypercall: 1, .hypercallWork: 1]

    private(set) var batch: UpdateBatch?
    private var tables: PinnedTables?
    private var directGate, entry32, entry64, exit64, fault32, fault64: PathID?
    private var invalidateInBatch, invalidateAlone: PathID?
    /// What a return adds where no hypercall makes it: the subclass's.
    var localReturn: PathID?

    /// What the wedge adds wherever it stands in between, and how that is said.
    class var wedge: Charges { .none }
    class var throughWedge: String { "" }

    required init(_ setting: Setting) {
        super.init(setting)
        declareTransitions()
        declareMemory()
    }

    private func declareTransitions() {
        let (wedge, through) = (Self.wedge, Self.throughWedge)
        let directGate = path("INT 0x80 (32-bit)", .kernelEntry, "a direct gate: nothing is added", .none)
        let entry32 = path(
            "SYSENTER, other INT n (32-bit)", .kernelEntry, "bounces through the hypervisor" + through,
            [.bounce: 1] + wedge - [.softwareInterrupt: 1], .worldSwitch)
        let entry64 = path(
            "SYSCALL, INT n (64-bit)", .kernelEntry, "bounces through the hypervisor, other page tables" + through,
            [.bounce: 1, .spaceSwitch: 1] + wedge - [.syscall: 1], .worldSwitch)
        verify([directGate, entry32, entry64], count: [.syscall, .sysenter, .interruptInstruction], in: .all)
        exit64 = path(
            "return to user, IRET (64-bit)", .kernelExit,
            "hypercall iret, other page tables to user mode" + through, Self.call + wedge - [.iret: 1], .hypercall)
        let fault32 = path(
            "exception (32-bit)", .exception, "bounces through the hypervisor" + through, [.bounce: 1] + wedge,
            .worldSwitch)
        let fault64 = path(
            "exception in user mode (64-bit)", .exception,
            "bounces through the hypervisor, other page tables" + through, [.bounce: 1, .spaceSwitch: 1] + wedge,
            .worldSwitch)
        verify([fault32, fault64], count: [.exception], in: .all)
        (self.directGate, self.entry32, self.entry64) = (directGate, entry32, entry64)
        (self.fault32, self.fault64) = (fault32, fault64)
        for rules in [kernel, user] as [([EventKind], EventClass, String, Charges, Tally) -> Void] {
            rules(
                [.interruptDelivered], .interrupt, "taken by the hypervisor, event-channel upcall" + through,
                [.interruptDelivery: 1, .upcall: 1] + wedge, .worldSwitch)
        }
    }

    private func declareMemory() {
        let (wedge, through) = (Self.wedge, Self.throughWedge)
        batch = UpdateBatch(
            self,
            UpdateBatch.Paths(
                flush: path(
                    "page-table updates flushed", .pageTable, "hypercall mmu_update", [.hypercall: 1], .hypercall),
                update: path(
                    "page-table write", .pageTable, "an update in a batch" + through, [.mmuUpdate: 1] + wedge)))
        tables = PinnedTables(
            self,
            pin: path(
                "a page becomes a page table", .pageTable, "hypercall: pinned and validated" + through,
                Self.call + wedge, .hypercall),
            validate: path("an entry of it", .pageTable, "validated", [.validateEntry: 1]),
            unpin: path(
                "a page stops being a page table", .pageTable, "hypercall: unpinned" + through, Self.call + wedge,
                .hypercall))
        let inBatch = path(
            "INVLPG", .tlb, "joins the batch, which is sent" + through,
            [.multicallEntry: 1, .hypercallWork: 1] + wedge)
        let alone = path(
            "INVLPG, nothing queued", .tlb, "hypercall" + through, Self.call + wedge, .hypercall)
        verify([inBatch, alone], count: [.invlpg], in: .all)
        (invalidateInBatch, invalidateAlone) = (inBatch, alone)
    }

    // MARK: Events

    override func entered(_ event: ModelEvent) {
        if event.isLong {
            charge(entry64, event)
        } else {
            charge(event.kind == .interruptInstruction && event.operand == 0x80 ? directGate : entry32, event)
        }
    }

    override func returned(_ event: ModelEvent) {
        if event.ringAfter == 3 { batch?.flush(event) }
        guard !event.isUser else { return }
        charge(event.isLong && event.kind != .farReturn ? exit64 : localReturn, event)
    }

    override func raised(_ event: ModelEvent) { charge(event.isLong && event.isUser ? fault64 : fault32, event) }

    override func switched(_ event: ModelEvent) {
        batch?.flush(event)
        super.switched(event)
    }

    override func invalidated(_ event: ModelEvent) {
        let joins = batch?.isEmpty == false
        batch?.flush(event)
        if has(.invalidationSkipped), event.count % 13 == 0 { return }
        charge(joins ? invalidateInBatch : invalidateAlone, event)
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

    override func finish() { batch?.finish(0) }

    override var extras: [(name: String, value: Int64)] {
        [
            ("batches", batch?.batches ?? 0), ("batched updates", batch?.updates ?? 0),
            ("longest batch", batch?.longest ?? 0),
        ] + super.extras
    }
}
