import VMM

/// PVM: a 64-bit guest kernel at ring 3, switched to directly by a small switcher in the hypervisor, its page tables
/// shadowed (Huang et al., SOSP 2023).
final class PVM: DeprivilegedKernel {
    override class var name: String { "pvm" }
    override class var summary: String { "the kernel at ring 3 beside its programs, a switcher, shared shadow tables" }
    override class var widths: Set<Int> { [64] }
    override class func isApplicable(width: Int) -> Bool { width == 64 }
    override class var usualDevices: DeviceWay { .emulated }
    override class var notes: [String] {
        [
            "Page tables are shadowed with every store to them trapped; PVM's parallel and pre-faulting shadows are "
                + "left out.",
            "A system call, its return and a user exception are one direct switch each; page faults enter the "
                + "hypervisor first, which looks into the shadow.",
        ]
    }

    private var entry, leave, local, userFault, kernelFault, pageFault, touch: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareTransitions()
        declareMemory()
    }

    private func declareInstructions() {
        let shared: Charges = [.memoryAccess: 2]
        let call: Charges = [.pvmSwitch: 1, .hypercallWork: 1]
        kernel([.cli, .sti, .pushf, .popf], .interruptFlag, "flag in shared memory", shared)
        kernel([.swapgs], .kernelExit, "nothing: the switch does it", .none)
        kernel([.readControl, .smsw, .readDebug], .controlRegister, "inline read", [.memoryAccess: 1])
        kernel([.writeControl, .writeDebug, .clts, .lmsw, .xsetbv], .controlRegister, "hypercall", call, .hypercall)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, "hypercall", call, .hypercall)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, "patched", [.callReturn: 1])
        kernel([.lar, .lsl, .verr, .verw, .farJump], .segment, "patched", [.callReturn: 1])
        kernel([.segmentLoad, .segmentStore], .segment, "patched", [.callReturn: 1])
        kernel([.invlpg], .tlb, "hypercall", call + [.invlpg: 1], .hypercall)
        kernel([.wbinvd, .invd], .tlb, "hypercall", call + [.wbinvd: 1], .hypercall)
        kernel([.rdmsr, .wrmsr, .rdpmc], .msr, "hypercall", call, .hypercall)
        kernel([.cpuid], .cpuid, "patched: hypercall", call + [.cpuid: 1], .hypercall)
        kernel([.hlt], .idle, "hypercall", call, .hypercall)
        kernel(
            [.taskSwitch, .monitor, .mwait], .other, "emulated", [.pvmSwitch: 1, .decode: 1, .emulate: 1], .worldSwitch)
    }

    private func declareTransitions() {
        entry = path(
            "SYSCALL, INT n", .kernelEntry, "direct switch", [.directSwitch: 1] - [.syscall: 1], .worldSwitch)
        if let entry { verify([entry], count: [.syscall, .sysenter, .interruptInstruction], in: .all) }
        leave = path(
            "return to user", .kernelExit, "direct switch at the magic return address",
            [.directSwitch: 1] - [.sysret: 1], .worldSwitch)
        local = path("IRET to the kernel", .kernelExit, "local", [.memoryAccess: 6] - [.iret: 1])
        userFault = path(
            "exception in user mode", .exception, "direct switch",
            [.exceptionDelivery: 1, .directSwitch: 1] - NativeCosts.charges(.exception), .worldSwitch)
        kernelFault = path(
            "exception in the kernel", .exception, "to the hypervisor, reflected", [.pvmSwitch: 1, .reflect: 1],
            .worldSwitch)
        pageFault = path(
            "page fault", .exception, "to the hypervisor, walk of the guest's tables, reflected",
            [.pvmSwitch: 1, .shadowFill: 1, .reflect: 1], .worldSwitch)
        if let userFault, let kernelFault, let pageFault {
            verify([userFault, kernelFault, pageFault], count: [.exception], in: .all)
        }
        let taken: Charges = [.interruptDelivery: 1, .pvmSwitch: 1, .reflect: 1]
        kernel([.interruptDelivered], .interrupt, "taken by the hypervisor, switch to the guest", taken, .worldSwitch)
        user([.interruptDelivered], .interrupt, "taken by the hypervisor, switch to the guest", taken, .worldSwitch)
        holdsInterrupts("hypercall when the flag is set with one pending", [.pvmSwitch: 1], .hypercall)
    }

    private func declareMemory() {
        let exit: Charges = [.pvmSwitch: 1]
        addressSpaceSwitch(
            "hypercall, shadow root switch", exit + [.hypercallWork: 1, .shadowRoot: 1, .writeCR3: 1], .hypercall)
        touch = path(
            "first touch", .firstTouch, "switch, a page of the host's is entered", exit + [.nestedFill: 1],
            Tally(worldSwitches: 1, hiddenFaults: 1))
        if let touch { verify([touch], count: [.firstTouch], in: .all) }
        devices = DeviceAccess(
            self,
            DeviceAccess.Platform(
                ports: path(
                    "IN, OUT of interrupt controller, timer", .interruptController, "switch, device model",
                    exit + [.decode: 1, .deviceModel: 1] - NativeCosts.charges(.portIn), .worldSwitch),
                local: path(
                    "local APIC, I/O APIC", .interruptController, "switch, decode, device model",
                    exit + [.decode: 1, .deviceModel: 1] - NativeCosts.localAPIC, .worldSwitch)),
            entry: exit + [.decode: 1, .userModel: 1], entryTally: .worldSwitch, notification: exit,
            notificationTally: .hypercall)
        shadow = ShadowPaging(self, ShadowPaging.Manner(fault: exit, hiddenFault: "switch", store: "switch"))
    }

    // MARK: Events

    override func firstTouched(_ event: ModelEvent) { charge(touch, event) }
    override func entered(_ event: ModelEvent) { charge(entry, event) }

    override func returned(_ event: ModelEvent) {
        guard !event.isUser else { return }
        charge(event.ringAfter == 3 ? leave : local, event)
    }

    override func raised(_ event: ModelEvent) {
        if event.operand == UInt64(ExceptionVector.pf) {
            charge(pageFault, event)
        } else {
            charge(event.isUser ? userFault : kernelFault, event)
        }
    }
}
