import VMM

/// Pure virtualization: the guest's kernel runs deprivileged, each privileged instruction faults into the VMM and is
/// emulated there, and page tables are shadowed. What x86 does not trap on is taken to be patched so that it does; how
/// often it would have gone wrong without is counted apart.
final class TrapAndEmulate: DeprivilegedKernel {
    override class var name: String { "trap-and-emulate" }
    override class var summary: String { "the kernel deprivileged; every sensitive instruction faults and is emulated" }
    override class var widths: Set<Int> { [32] }
    override class func hypothetical(width: Int) -> String? {
        width == 64 ? "the 64-bit kernel would run at ring 3 beside its programs, with two roots" : nil
    }
    override class var usualDevices: DeviceWay { .emulated }
    override class var notes: [String] {
        [
            "The VMM lives in the guest's address space, so entering it changes no space; on 64-bit the kernel shares "
                + "ring 3 with its programs and each change between them switches roots.",
            "Instructions that x86 lets pass (PUSHF, POPF, IRET, SGDT, SIDT, SLDT, STR, SMSW, CPUID in the kernel) "
                + "are priced as patched to trap. Segment loads, LAR, LSL, VERR and VERW run as they are.",
            "Page-table reads by the kernel are not priced: shadowed accessed and dirty bits are kept by faults.",
            "A shadow is dropped after \(ShadowPaging.mostStores) stores to its table without a walk.",
        ]
    }

    static let trap: Charges = [.trapRoundTrip: 1, .decode: 1, .emulate: 1]

    /// What would have gone wrong without patches.
    private(set) var silentlyWrong = SilentlyWrong()
    private var entry32, entry64, exit64, descriptor: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareTransitions()
        declareMemory()
    }

    private func declareInstructions() {
        let trap = Self.trap
        let faults = "#GP into the VMM, decode, emulate"
        let patched = "does not trap: patched to, then decoded and emulated"
        kernel([.cli, .sti], .interruptFlag, faults, trap, .worldSwitch)
        kernel([.pushf, .popf], .interruptFlag, patched, trap, .worldSwitch)
        kernel([.iret, .farReturn], .kernelExit, patched, trap + [.reflect: 1], .worldSwitch)
        kernel([.sysret, .sysexit, .swapgs], .kernelExit, faults, trap, .worldSwitch)
        kernel(
            [.readControl, .writeControl, .clts, .lmsw, .readDebug, .writeDebug, .xsetbv, .monitor, .mwait, .rsm],
            .controlRegister, faults, trap, .worldSwitch)
        kernel([.smsw], .controlRegister, patched, trap, .worldSwitch)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, faults, trap, .worldSwitch)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, patched, trap, .worldSwitch)
        kernel([.invlpg], .tlb, faults + ", invalidate the shadow", trap + [.invlpg: 1], .worldSwitch)
        kernel([.wbinvd, .invd], .tlb, faults, trap + [.wbinvd: 1], .worldSwitch)
        kernel([.rdmsr, .wrmsr], .msr, faults, trap, .worldSwitch)
        kernel([.rdpmc], .msr, faults, trap, .worldSwitch)
        kernel([.cpuid], .cpuid, patched, trap, .worldSwitch)
        kernel([.hlt], .idle, faults + ", block until an interrupt", trap, .worldSwitch)
        kernel([.taskSwitch], .other, "trap, emulate the switch", trap + [.reflect: 1], .worldSwitch)
        if setting.options.trapsTimestamp {
            kernel([.rdtsc, .rdtscp], .timestamp, faults, trap, .worldSwitch)
            user([.rdtsc, .rdtscp], .timestamp, faults, trap, .worldSwitch)
        }
    }

    private func declareTransitions() {
        let reflected: Charges = [.trapRoundTrip: 1, .reflect: 1]
        entry32 = path(
            "SYSCALL, SYSENTER, INT n", .kernelEntry, "gate to the VMM, then to the guest kernel's ring",
            reflected - [.softwareInterrupt: 1], .worldSwitch)
        entry64 = path(
            "SYSCALL, SYSENTER, INT n (64-bit)", .kernelEntry, "to the VMM, other root, to the guest's kernel",
            reflected + [.spaceSwitch: 1] - [.syscall: 1], .worldSwitch)
        if let entry32, let entry64 {
            verify([entry32, entry64], count: [.syscall, .sysenter, .interruptInstruction], in: .all)
        }
        exit64 = path("return to user (64-bit)", .kernelExit, "other root", [.spaceSwitch: 1])
        for rules in [kernel, user] as [([EventKind], EventClass, String, Charges, Tally) -> Void] {
            rules(
                [.exception], .exception, "delivered to the VMM, reflected to the guest's kernel", reflected,
                .worldSwitch)
            rules(
                [.interruptDelivered], .interrupt, "taken by the VMM, injected when the virtual flag allows",
                [.interruptDelivery: 1, .reflect: 1, .iret: 1], .worldSwitch)
        }
        holdsInterrupts("the VMM finds it at the instruction that sets the flag", [.emulate: 1])
    }

    private func declareMemory() {
        let trap = Self.trap
        addressSpaceSwitch(
            "#GP into the VMM, decode, switch to the shadow of the new root",
            trap + [.shadowRoot: 1, .writeCR3: 1], .worldSwitch)
        descriptor = path(
            "descriptor write", .descriptorTable, "write-protected: fault, decode, shadow the descriptor", trap,
            .worldSwitch)
        if let descriptor { verify([descriptor], count: [.descriptorWrite], in: .all) }
        devices = DeviceAccess(
            self,
            DeviceAccess.Platform(
                ports: path(
                    "IN, OUT of interrupt controller, timer", .interruptController, "fault, decode, device model",
                    trap + [.deviceModel: 1] - NativeCosts.charges(.portIn), .worldSwitch),
                local: path(
                    "local APIC, I/O APIC", .interruptController, "page fault, decode, device model",
                    trap + [.deviceModel: 1] - NativeCosts.localAPIC, .worldSwitch)),
            entry: trap, entryTally: .worldSwitch, notification: trap, notificationTally: .worldSwitch)
        shadow = ShadowPaging(
            self,
            ShadowPaging.Manner(
                fault: [.trapRoundTrip: 1], hiddenFault: "hidden fault into the VMM", store: "write-protected: fault"))
    }

    // MARK: Events

    override func observe(_ event: ModelEvent) {
        super.observe(event)
        silentlyWrong.note(event)
    }

    override func descriptorWritten(_ event: ModelEvent) { charge(descriptor, event) }

    override func entered(_ event: ModelEvent) {
        if has(.entryUncounted), event.count % 13 == 0 { return }
        charge(event.isLong ? entry64 : entry32, event)
    }

    override func returned(_ event: ModelEvent) {
        chargeRule(event)
        if event.isLong, event.ringAfter == 3, event.ring != 3 { charge(exit64, event) }
    }
}
