import VMM

/// The in-place VMM on L4: the pre-virtualized binary, its sensitive instructions rewritten into calls of a wedge that
/// speaks L4 (LeVasseur et al., 2005).
final class L4InPlace: L4System {
    override class var name: String { "l4-inplace" }
    override class var summary: String { "the pre-virtualized binary, rewritten in place to a wedge on L4" }
    override class func hypothetical(width: Int) -> String? {
        width == 64 ? "the 64-bit wedge was never finished" : nil
    }
    override class var usualDevices: DeviceWay { .inPlace }
    override class var wedge: Charges { [.wedgeCall: 1] }
    override class var notes: [String] {
        [
            "CLI, STI, PUSHF and POPF become code on the virtual flag; all else a call or jump into the wedge.",
            "Interrupts are injected by a thread of the wedge, which exchanges the guest thread's registers when it "
                + "runs.",
            "The padding that a rewritten site keeps is priced. What the tool lacked in 2005 faults and is emulated by "
                + "the monitor, two messages each, unless --extended is given.",
            "Stores to page tables are plain; a present entry that changes is unmapped.",
        ]
    }

    private lazy var padding = WedgePadding(self)
    private var exchange: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        _ = padding
        let inline: Charges = [.wedgeInline: 1]
        let call: Charges = [.wedgeCall: 1]
        kernel([.cli, .pushf], .interruptFlag, "inline, the virtual flag", inline)
        kernel([.sti, .popf], .interruptFlag, "inline, the virtual flag; tests for pending vectors", inline)
        kernel([.readControl, .smsw, .readDebug], .controlRegister, "in place, the virtual register", inline)
        kernel([.clts, .lmsw], .controlRegister, "call", call)
        kernel(
            [.writeControl, .writeDebug], .controlRegister, "call, message where the hardware changes",
            call + [.exchangeRegisters: 1], .hypercall)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, "call, virtual copy", call)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, "virtual copy", inline)
        kernel([.lar, .lsl, .arpl, .farJump], .segment, "in place", call)
        kernel([.segmentLoad, .segmentStore], .segment, "in place", inline)
        kernel([.invlpg], .tlb, "call, L4_Unmap of the page", call + [.unmap: 1], .hypercall)
        kernel([.wbinvd, .invd], .tlb, "call, message", call + [.ipcOtherSpace: 2, .wbinvd: 1], .ipc(2))
        kernel([.rdmsr, .wrmsr], .msr, "call, message", call + [.ipcOtherSpace: 2], .ipc(2))
        kernel([.cpuid], .cpuid, "call", call + [.cpuid: 1])
        kernel([.hlt], .idle, "call, waits for a message", call + [.ipcOtherSpace: 1], .ipc(1))
        let isExtended = setting.options.coversExtended
        let faults: Charges = Self.message + Self.message + [.exceptionDelivery: 1, .decode: 1, .emulate: 1]
        kernel(
            [.swapgs, .rdpmc], .other, isExtended ? "call" : "faults, emulated by the monitor: two messages",
            isExtended ? call : faults, isExtended ? .none : .ipc(2))
        kernel([.taskSwitch], .other, "not used", .none)
        localReturn = path(
            "IRET, far RET to the kernel", .kernelExit, "jump into the wedge's return path",
            call - [.iret: 1])
        addressSpaceSwitch("call; the space changes with the next message", call)
        exchange = path(
            "interrupt while the guest runs", .interrupt, "the wedge's thread exchanges its registers",
            [.exchangeRegisters: 1], .hypercall)
        let message: Charges = [.ipcOtherSpace: 2]
        let lineChange = path(
            "a line or a timer changes", .interruptController, "message to the interrupt source", message, .ipc(2))
        devices = DeviceAccess(
            self, .inWedge(self, lineChange: lineChange), entry: message, entryTally: .ipc(2),
            notification: message, notificationTally: .ipc(2))
    }

    override func observe(_ event: ModelEvent) {
        super.observe(event)
        padding.charge(event)
    }

    override func delivered(_ event: ModelEvent) {
        super.delivered(event)
        charge(exchange, event)
    }
}
