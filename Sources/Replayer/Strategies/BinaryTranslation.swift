import VMM

/// The guest's kernel is translated before it runs: sensitive instructions become code inline or callouts, and nothing
/// has to fault. User code runs direct (Adams and Agesen, 2006).
final class BinaryTranslation: DeprivilegedKernel {
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
    private var entry, descriptor, translate, lookup: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        declareInstructions()
        declareTransitions()
        declareMemory()
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
        holdsInterrupts("found by the code that sets the flag", [.callout: 1])
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
        addressSpaceSwitch(
            "callout, switch to the shadow of the new root", callout + [.shadowRoot: 1, .writeCR3: 1])
        descriptor = path(
            "descriptor write", .descriptorTable, "traced: callout, shadow the descriptor", callout + [.emulate: 1])
        if let descriptor { verify([descriptor], count: [.descriptorWrite], in: .all) }
        devices = DeviceAccess(
            self,
            DeviceAccess.Platform(
                ports: path(
                    "IN, OUT of interrupt controller, timer", .interruptController, "callout, device model",
                    callout + [.deviceModel: 1] - NativeCosts.charges(.portIn)),
                local: path(
                    "local APIC, I/O APIC", .interruptController, "callout, device model",
                    callout + [.deviceModel: 1] - NativeCosts.localAPIC),
                delay: path(
                    "the delay port", .device, "no device answers: inline in the code cache",
                    [.inlineEmulation: 1] - NativeCosts.charges(.portIn))),
            entry: callout, entryTally: .none, notification: callout, notificationTally: .worldSwitch)
        shadow = ShadowPaging(
            self,
            ShadowPaging.Manner(
                fault: [.trapRoundTrip: 1], hiddenFault: "hidden fault into the VMM", store: "traced: fault",
                guarding: "traced or released", knownStore: callout))
    }

    // MARK: Events

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

    override func entered(_ event: ModelEvent) { charge(entry, event) }
}
