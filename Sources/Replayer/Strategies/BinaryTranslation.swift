import VMM

/// The guest's kernel is translated before it runs: sensitive instructions become code inline or callouts, and nothing
/// has to fault. User code runs direct (Adams and Agesen, 2006).
final class BinaryTranslation: Strategy {
    override class var name: String { "binary-translation" }
    override class var summary: String { "the kernel translated into a code cache; sensitive instructions inline" }
    override class func hypothetical(width: Int) -> String? {
        width == 64 ? "64-bit code has no segment limits that could protect the VMM on Intel's processors" : nil
    }
    override class var usualDevices: DeviceWay { .emulated }
    override class var notes: [String] {
        [
            "An instruction of the kernel is translated when it is first met, and again after it was changed, however "
                + "often it is entered at another place; a translation is never dropped for want of room.",
            "A store that has faulted on a traced page is retranslated into a callout after some faults.",
            "Indirect branches and returns of the kernel pay a lookup each; direct branches are free once linked.",
        ]
    }

    private var code = CodeCoverage()
    private var shadow: ShadowPaging?
    private var flag: VirtualInterruptFlag?
    private var devices: DeviceAccess?
    private var entry, switchRoot, descriptor, platform, localAPIC, heldDelivery, translate, lookup, delay: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareTransitions()
        declareMemory()
        flag = VirtualInterruptFlag(self)
    }

    private func declareInstructions() {
        let (inline, callout): (Charges, Charges) = ([.inlineEmulation: 1], [.callout: 1])
        let (byInline, byCallout) = ("inline in the code cache", "callout to the VMM")
        kernel([.cli, .sti, .pushf, .popf], .interruptFlag, byInline, inline)
        kernel([.iret, .farReturn], .kernelExit, byCallout, callout + [.iret: 1])
        kernel([.sysret, .sysexit], .kernelExit, byCallout, callout + [.iret: 1])
        kernel([.swapgs], .kernelExit, byCallout, callout)
        taskPriority(byInline + ", as Adams and Agesen (2006) have it", inline)
        kernel(
            [.readControl, .writeControl, .clts, .lmsw, .readDebug, .writeDebug, .xsetbv, .monitor, .mwait, .rsm],
            .controlRegister, byCallout, callout)
        kernel([.smsw], .controlRegister, byInline, inline)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, byCallout, callout)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, byInline, inline)
        kernel([.segmentLoad], .segment, byCallout, callout + [.segmentLoad: 1])
        kernel([.segmentStore], .segment, byInline, inline)
        kernel([.lar, .lsl, .verr, .verw, .arpl, .farJump, .farCall], .segment, byCallout, callout)
        kernel([.invlpg], .tlb, byCallout + ", invalidate the shadow", callout + [.invlpg: 1])
        kernel([.wbinvd, .invd], .tlb, byCallout, callout + [.wbinvd: 1])
        kernel([.rdmsr, .wrmsr, .rdpmc], .msr, byCallout, callout)
        kernel([.rdtsc, .rdtscp], .timestamp, byInline, inline + [.rdtsc: 1])
        kernel([.cpuid], .cpuid, byCallout, callout)
        kernel([.hlt], .idle, byCallout + ", block until an interrupt", callout)
        kernel([.taskSwitch], .other, byCallout, callout + [.reflect: 1])
    }

    private func declareTransitions() {
        let reflected: Charges = [.trapRoundTrip: 1, .reflect: 1]
        entry = path(
            "SYSCALL, SYSENTER, INT n", .kernelEntry, "trap from direct execution into translated code",
            reflected - [.softwareInterrupt: 1], .worldSwitch)
        if let entry { verify([entry], count: [.syscall, .sysenter, .interruptInstruction], in: .all) }
        kernel(
            [.exception], .exception, "delivered to the VMM, reflected to the translated handler", reflected,
            .worldSwitch)
        user(
            [.exception], .exception, "delivered to the VMM, reflected to the translated handler", reflected,
            .worldSwitch)
        let taken: Charges = [.interruptDelivery: 1, .reflect: 1, .iret: 1]
        kernel([.interruptDelivered], .interrupt, "taken by the VMM, reflected", taken, .worldSwitch)
        user([.interruptDelivered], .interrupt, "taken by the VMM, reflected", taken, .worldSwitch)
        heldDelivery = path(
            "an interrupt held back", .interrupt, "found by the code that sets the flag", [.callout: 1])
        translate = path(
            "kernel code newly seen", .code, "translated, an instruction", [.translateInstruction: 1])
        if let translate {
            verify([translate], "instructions translated") { $0.decodedInstructions }
        }
        lookup = path(
            "indirect branches and returns", .code, "looked up in the code cache", [.translationLookup: 1])
    }

    private func declareMemory() {
        let callout: Charges = [.callout: 1]
        switchRoot = path(
            "MOV to CR3", .addressSpace, "callout, switch to the shadow of the new root",
            callout + [.shadowRoot: 1, .writeCR3: 1] - NativeCosts.writeCR3)
        if let switchRoot { verify([switchRoot], "MOV to CR3") { $0.addressSpaceSwitches } }
        descriptor = path(
            "descriptor write", .descriptorTable, "traced: callout, shadow the descriptor", callout + [.emulate: 1])
        if let descriptor { verify([descriptor], count: [.descriptorWrite], in: .all) }
        platform = path(
            "IN, OUT of interrupt controller, timer", .interruptController, "callout, device model",
            callout + [.deviceModel: 1] - NativeCosts.charges(.portIn))
        localAPIC = path(
            "local APIC, I/O APIC", .interruptController, "callout, device model",
            callout + [.deviceModel: 1] - NativeCosts.localAPIC)
        devices = DeviceAccess(
            self, usual: Self.usualDevices, entry: callout, entryTally: .none, notification: callout,
            notificationTally: .worldSwitch)
        delay = path(
            "the delay port", .device, "no device answers: inline in the code cache",
            [.inlineEmulation: 1] - NativeCosts.charges(.portIn))
        verifyAccesses([platform, localAPIC, delay], devices)
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
                    "a page becomes or stops being a page table", .pageTable, "traced or released",
                    [.shadowProtect: 1]),
                write: path(
                    "page-table write", .pageTable, "traced: fault, decode, emulate, apply to the shadow",
                    [.trapRoundTrip: 1, .decode: 1, .emulate: 1, .shadowUpdate: 1], .worldSwitch),
                knownWrite: path(
                    "page-table write by a store known for it", .pageTable, "callout, apply to the shadow",
                    callout + [.shadowUpdate: 1]),
                entryDropped: path("shadow entry dropped", .pageTable, "with its table", [.shadowDrop: 1])))
    }

    // MARK: Events

    override func tlbFilled(_ event: ModelEvent) { shadow?.walked(event) }
    override func tlbReused(_ event: ModelEvent) { shadow?.walked(event) }
    override func pageTableWritten(_ event: ModelEvent) { shadow?.written(event) }
    override func pageTableEnded(_ event: ModelEvent) { shadow?.ended(event) }
    override func descriptorWritten(_ event: ModelEvent) { charge(descriptor, event) }

    override func decoded(_ event: ModelEvent) {
        guard !event.isUser else { return }
        let new = code.add(event.operand, bytes: event.value & 0xffff, instructions: UInt64(event.detail))
        let isTwice = has(.translationCountedTwice) && event.count % 13 == 0
        if new > 0 { charge(translate, event, times: new * (isTwice ? 2 : 1)) }
    }

    override func codeChanged(_ event: ModelEvent) { code.remove(event.operand, bytes: event.value) }

    override func branched(_ count: Int64, in part: Ledger.Part) {
        if let lookup { ledger.charge(lookup, site: 0, part: part, times: count) }
    }

    override func entered(_ event: ModelEvent) {
        flag?.entered()
        charge(entry, event)
    }

    override func returned(_ event: ModelEvent) {
        openFlag(event)
        chargeRule(event)
    }

    override func switched(_ event: ModelEvent) { charge(switchRoot, event) }

    override func flagsChanged(_ event: ModelEvent) {
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
        switch event.deviceRole {
        case .platform: charge(platform, event)
        case .localAPIC: charge(localAPIC, event)
        case .delay: charge(delay, event)
        case .device: devices?.access(event, isDoorbell: false)
        case .doorbell: devices?.access(event, isDoorbell: true)
        }
    }

    override var extras: [(name: String, value: Int64)] {
        [
            ("shadow entries made", shadow?.entriesMade ?? 0), ("shadow entries dropped", shadow?.entriesDropped ?? 0),
            ("interrupts held", flag?.held ?? 0),
        ]
    }
}
