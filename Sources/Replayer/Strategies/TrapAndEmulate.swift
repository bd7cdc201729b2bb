import VMM

/// Pure virtualization: the guest's kernel runs deprivileged, each privileged instruction faults into the VMM and is
/// emulated there, and page tables are shadowed. What x86 does not trap on is taken to be patched so that it does; how
/// often it would have gone wrong without is counted apart.
final class TrapAndEmulate: Strategy {
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

    private var shadow: ShadowPaging?
    private var flag: VirtualInterruptFlag?
    private var devices: DeviceAccess?
    private var wrong = SilentlyWrong()
    private var entry32, entry64, exit64, switchRoot, descriptor, platform, localAPIC, heldDelivery: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareTransitions()
        declareMemory()
        flag = VirtualInterruptFlag(self)
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
        heldDelivery = path(
            "an interrupt held back", .interrupt, "the VMM finds it at the instruction that sets the flag",
            [.emulate: 1])
    }

    private func declareMemory() {
        let trap = Self.trap
        switchRoot = path(
            "MOV to CR3", .addressSpace, "#GP into the VMM, decode, switch to the shadow of the new root",
            trap + [.shadowRoot: 1, .writeCR3: 1] - NativeCosts.writeCR3, .worldSwitch)
        if let switchRoot { verify([switchRoot], "MOV to CR3") { $0.addressSpaceSwitches } }
        descriptor = path(
            "descriptor write", .descriptorTable, "write-protected: fault, decode, shadow the descriptor", trap,
            .worldSwitch)
        if let descriptor { verify([descriptor], count: [.descriptorWrite], in: .all) }
        platform = path(
            "IN, OUT of interrupt controller, timer", .interruptController, "fault, decode, device model",
            trap + [.deviceModel: 1] - NativeCosts.charges(.portIn), .worldSwitch)
        localAPIC = path(
            "local APIC, I/O APIC", .interruptController, "page fault, decode, device model",
            trap + [.deviceModel: 1] - NativeCosts.localAPIC, .worldSwitch)
        devices = DeviceAccess(
            self, usual: Self.usualDevices, entry: trap, entryTally: .worldSwitch, notification: trap,
            notificationTally: .worldSwitch)
        verifyAccesses([platform, localAPIC], devices)
        shadow = ShadowPaging(
            self,
            ShadowPaging.Paths(
                hiddenFault: path(
                    "TLB fill without a shadow entry", .translation,
                    "hidden fault into the VMM, walk of the guest's "
                        + "tables in software", [.trapRoundTrip: 1], .hiddenFault),
                dirtyFault: path(
                    "first write to a page", .translation, "hidden fault to set the dirty bit",
                    [.trapRoundTrip: 1, .shadowFill: 1], .hiddenFault),
                entryMade: path("shadow entry made", .translation, "entered into the shadow", [.shadowFill: 1]),
                protect: path(
                    "a page becomes or stops being a page table", .pageTable, "protected or released",
                    [.shadowProtect: 1]),
                write: path(
                    "page-table write", .pageTable, "write-protected: fault, decode, emulate, apply to the shadow",
                    trap + [.shadowUpdate: 1], .worldSwitch),
                knownWrite: nil,
                entryDropped: path("shadow entry dropped", .pageTable, "with its table", [.shadowDrop: 1])))
    }

    // MARK: Events

    override func tlbFilled(_ event: ModelEvent) { shadow?.walked(event) }
    override func tlbReused(_ event: ModelEvent) { shadow?.walked(event) }
    override func pageTableWritten(_ event: ModelEvent) { shadow?.written(event) }
    override func pageTableEnded(_ event: ModelEvent) { shadow?.ended(event) }
    override func descriptorWritten(_ event: ModelEvent) { charge(descriptor, event) }

    override func entered(_ event: ModelEvent) {
        flag?.entered()
        if has(.entryUncounted), event.count % 13 == 0 { return }
        charge(event.isLong ? entry64 : entry32, event)
    }

    override func returned(_ event: ModelEvent) {
        wrong.note(event)
        openFlag(event)
        chargeRule(event)
        if event.isLong, event.ringAfter == 3, event.ring != 3 { charge(exit64, event) }
    }

    override func switched(_ event: ModelEvent) {
        if has(.rootSwitchSkipped), event.count % 13 == 0 { return }
        charge(switchRoot, event)
    }

    override func flagsChanged(_ event: ModelEvent) {
        wrong.note(event)
        openFlag(event)
        chargeRule(event)
    }

    private func openFlag(_ event: ModelEvent) {
        guard !event.isUser else { return }
        if flag?.changed(event) == true { charge(heldDelivery, event) }
    }

    override func asserted(_ event: ModelEvent) { flag?.asserted(event) }

    override func delivered(_ event: ModelEvent) {
        flag?.delivered(event)
        chargeRule(event)
    }

    override func raised(_ event: ModelEvent) {
        flag?.entered()
        chargeRule(event)
    }

    override func accessed(_ event: ModelEvent) {
        if has(.deviceAccessUncounted), event.count % 13 == 0 { return }
        switch event.deviceRole {
        case .platform: charge(platform, event)
        case .localAPIC: charge(localAPIC, event)
        case .delay, .device: devices?.access(event, isDoorbell: false)
        case .doorbell: devices?.access(event, isDoorbell: true)
        }
    }

    override func observe(_ event: ModelEvent) { wrong.noteOther(event) }

    /// What would have gone wrong without patches.
    var silentlyWrong: SilentlyWrong { wrong }

    override var extras: [(name: String, value: Int64)] {
        [
            ("shadow entries made", shadow?.entriesMade ?? 0), ("shadow entries dropped", shadow?.entriesDropped ?? 0),
            ("interrupts held", flag?.held ?? 0),
        ]
    }
}
