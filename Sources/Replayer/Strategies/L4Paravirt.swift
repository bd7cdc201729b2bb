import VMM

/// L4Ka::Linux: the kernel is ported to be a server on the microkernel, its programs are tasks beside it.
final class L4Paravirt: L4System {
    override class var name: String { "l4-paravirt" }
    override class var summary: String { "a kernel ported to L4: programs are tasks, entries and faults are messages" }
    override class func hypothetical(width: Int) -> String? {
        width == 64 ? "the ported kernel existed for 32-bit" : nil
    }
    override class var usualDevices: DeviceWay { .virtual }
    override class var notes: [String] {
        [
            "An exception message carries \(exceptionRegisters) registers; a page fault's reply maps the page.",
            "Descriptor tables are virtual; what a thread must be told of them is left out.",
            "Reading back accessed and dirty bits by L4_Unmap is left out: the kernel's loads are not seen.",
            "No small address spaces.",
        ]
    }

    private var devices: DeviceAccess?
    private var local, switchSpace, source, platformRead, localAPIC, localRead: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        let inline: Charges = [.memoryAccess: 2]
        kernel([.cli, .sti, .pushf, .popf], .interruptFlag, "inline, the flag in memory", inline)
        kernel([.swapgs], .kernelExit, "nothing: the reply does it", .none)
        kernel([.readControl, .smsw, .readDebug, .clts, .lmsw], .controlRegister, "inline", inline)
        kernel(
            [.writeControl, .writeDebug], .controlRegister, "message where the hardware changes",
            [.exchangeRegisters: 1], .hypercall)
        kernel([.lgdt, .lidt, .lldt, .ltr], .descriptorTable, "virtual copy", inline)
        kernel([.sgdt, .sidt, .sldt, .str], .descriptorTable, "virtual copy", inline)
        kernel([.invlpg], .tlb, "L4_Unmap of the page", [.unmap: 1], .hypercall)
        kernel([.wbinvd, .invd], .tlb, "message to a privileged thread", [.ipcOtherSpace: 2, .wbinvd: 1], .ipc(2))
        kernel([.rdmsr, .wrmsr, .rdpmc], .msr, "message to a privileged thread", [.ipcOtherSpace: 2], .ipc(2))
        kernel([.cpuid], .cpuid, "call", [.callReturn: 1, .cpuid: 1])
        kernel([.hlt], .idle, "waits for a message", [.ipcOtherSpace: 1], .ipc(1))
        kernel([.taskSwitch], .other, "not used", .none)
        local = path("IRET, far RET to the kernel", .kernelExit, "local", [.callReturn: 1] - [.iret: 1])
        switchSpace = path(
            "MOV to CR3", .addressSpace, "the space changes with the next message",
            [.memoryAccess: 2] - NativeCosts.writeCR3)
        if let switchSpace { verify([switchSpace], "MOV to CR3") { $0.addressSpaceSwitches } }
        let port = NativeCosts.charges(.portIn)
        source = path(
            "OUT to an interrupt controller or timer", .interruptController, "message to the interrupt source",
            [.ipcOtherSpace: 2] - port, .ipc(2))
        platformRead = path(
            "IN of an interrupt controller or timer", .interruptController, "read in memory", inline - port)
        localAPIC = path(
            "local APIC: EOI, ICR, timer", .interruptController, "message to the interrupt source",
            [.ipcOtherSpace: 2] - NativeCosts.localAPIC, .ipc(2))
        localRead = path(
            "local APIC, other registers", .interruptController, "read in memory", inline - NativeCosts.localAPIC)
        devices = DeviceAccess(
            self, usual: Self.usualDevices, entry: [.ipcOtherSpace: 2], entryTally: .ipc(2),
            notification: [.ipcOtherSpace: 2], notificationTally: .ipc(2))
    }

    override func flagsChanged(_ event: ModelEvent) {
        openFlag(event)
        chargeRule(event)
    }

    override func returned(_ event: ModelEvent) {
        openFlag(event)
        if event.isUser { return }
        charge(event.ringAfter == 3 ? reply : local, event)
    }

    override func switched(_ event: ModelEvent) { charge(switchSpace, event) }

    override func accessed(_ event: ModelEvent) {
        switch event.deviceRole {
        case .platform(let acts): charge(acts ? source : platformRead, event)
        case .localAPIC(let acts): charge(acts ? localAPIC : localRead, event)
        case .delay, .device: devices?.access(event, isDoorbell: false)
        case .doorbell: devices?.access(event, isDoorbell: true)
        }
    }
}
