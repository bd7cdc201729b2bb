import VMM

/// Xen's para-virtual interface: the kernel is ported to hypercalls, page tables are the hardware's own and validated
/// by the hypervisor, interrupts are events (Barham et al., 2003).
final class XenParavirt: XenSystem {
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

    private var dropped, emulatedMSR, baseMSR: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareMemory()
        declarePlatform()
        holdsInterrupts(
            "hypercall when the mask is cleared with an event pending", [.hypercall: 1], .hypercall)
    }

    private func declareInstructions() {
        let call = Self.call
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

    private func declareMemory() {
        let call = Self.call
        let dropped = path(
            "MOV to CR3 for page-table isolation", .addressSpace, "dropped", .none - NativeCosts.writeCR3)
        self.dropped = dropped
        addressSpaceSwitch(
            "hypercall: base pointers, stack switch, segment bases", call + [.multicallEntry: 3, .writeCR3: 1],
            .hypercall, besides: [dropped])
    }

    private func declarePlatform() {
        let event: Charges = [.hypercall: 1, .eventChannel: 1]
        let (port, local) = (NativeCosts.charges(.portIn), NativeCosts.localAPIC)
        devices = DeviceAccess(
            self,
            DeviceAccess.Platform(
                acts: path(
                    "OUT to an interrupt controller or timer", .interruptController, "event-channel operation",
                    event - port, .hypercall),
                others: path(
                    "IN of an interrupt controller or timer", .interruptController, "read from the shared page",
                    [.memoryAccess: 2] - port),
                localActs: path(
                    "local APIC: EOI, ICR, timer", .interruptController, "event-channel operation", event - local,
                    .hypercall),
                localOthers: path(
                    "local APIC, other registers", .interruptController, "shared page", [.memoryAccess: 2] - local)),
            entry: [.trapRoundTrip: 1, .decode: 1], entryTally: .worldSwitch, notification: event,
            notificationTally: .hypercall)
    }

    // MARK: Events

    override func switched(_ event: ModelEvent) {
        // Bit 12 tells the two roots of page-table isolation apart; the low bits are the PCID, bit 63 keeps the TLB.
        let differs = (event.value ^ context.cr3) & ~(1 << 63 | 0x1fff)
        guard differs == 0, event.value & 0x1000 != context.cr3 & 0x1000 else { return super.switched(event) }
        batch?.flush(event)
        charge(dropped, event)
    }

    override func accessedMSR(_ event: ModelEvent) {
        charge((0xc000_0100...0xc000_0102).contains(event.operand) ? baseMSR : emulatedMSR, event)
    }
}
