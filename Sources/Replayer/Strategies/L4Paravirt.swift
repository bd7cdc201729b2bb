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
        localReturn = path("IRET, far RET to the kernel", .kernelExit, "local", [.callReturn: 1] - [.iret: 1])
        addressSpaceSwitch("the space changes with the next message", inline)
        let message: Charges = [.ipcOtherSpace: 2]
        let (port, apic) = (NativeCosts.charges(.portIn), NativeCosts.localAPIC)
        devices = DeviceAccess(
            self,
            DeviceAccess.Platform(
                acts: path(
                    "OUT to an interrupt controller or timer", .interruptController,
                    "message to the interrupt source", message - port, .ipc(2)),
                others: path(
                    "IN of an interrupt controller or timer", .interruptController, "read in memory", inline - port),
                localActs: path(
                    "local APIC: EOI, ICR, timer", .interruptController, "message to the interrupt source",
                    message - apic, .ipc(2)),
                localOthers: path(
                    "local APIC, other registers", .interruptController, "read in memory", inline - apic)),
            entry: message, entryTally: .ipc(2), notification: message, notificationTally: .ipc(2))
    }
}
