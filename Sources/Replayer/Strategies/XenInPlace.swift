import VMM

/// The in-place VMM on Xen: the pre-virtualized binary, its sensitive instructions rewritten into calls of a wedge that
/// speaks Xen's interface (LeVasseur et al., 2005).
final class XenInPlace: XenSystem {
    override class var name: String { "xen-inplace" }
    override class var summary: String { "the pre-virtualized binary, rewritten in place to a wedge on Xen" }
    override class var widths: Set<Int> { [32] }
    override class func hypothetical(width: Int) -> String? {
        width == 64 ? "the 64-bit wedge was never finished" : nil
    }
    override class var usualDevices: DeviceWay { .inPlace }
    override class var wedge: Charges { [.wedgeCall: 1] }
    override class var throughWedge: String { ", through the wedge" }
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
    private var hardwareMSR: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        _ = padding
        declareInstructions()
        declareMemory()
        holdsInterrupts("the wedge delivers it at the next enable", [.wedgeCall: 1])
        localReturn = path(
            "IRET, far RET (32-bit)", .kernelExit, "jump into the wedge's restartable return path, IRET",
            [.wedgeCall: 1])
    }

    private func declareInstructions() {
        let inline: Charges = [.wedgeInline: 1]
        let call: Charges = [.wedgeCall: 1]
        let hypercall = Self.call + Self.wedge
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

    private func declareMemory() {
        let hypercall = Self.call + Self.wedge
        addressSpaceSwitch(
            "call, the batch is sent, hypercall", hypercall + [.multicallEntry: 1, .writeCR3: 1], .hypercall)
        let event: Charges = [.hypercall: 1, .eventChannel: 1]
        let lineChange = path("a line or a timer changes", .interruptController, "hypercall", event, .hypercall)
        devices = DeviceAccess(
            self, .inWedge(self, lineChange: lineChange), entry: [.trapRoundTrip: 1, .decode: 1],
            entryTally: .worldSwitch, notification: event,
            notificationTally: .hypercall)
    }

    // MARK: Events

    override func observe(_ event: ModelEvent) {
        super.observe(event)
        padding.charge(event)
    }

    override func accessedMSR(_ event: ModelEvent) { charge(hardwareMSR, event) }
}
