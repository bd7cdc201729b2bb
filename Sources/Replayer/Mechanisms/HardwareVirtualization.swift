import VMM

/// What the strategies that run the guest in a hardware mode of its own share: the instructions that exit at any ring,
/// and events that are injected.
class HardwareVirtualization: Strategy {
    override class var usualDevices: DeviceWay { .emulated }

    static let exit: Charges = [.exitRoundTrip: 1, .exitSoftware: 1, .exitRefill: 1]

    private var window, exitMSR, directMSR: PathID?
    /// Interrupts that waited for the guest to take them.
    private var windows: Int64 = 0

    required init(_ setting: Setting) {
        super.init(setting)
        let exit = Self.exit
        let handled = exit + [.emulate: 1]
        for rules in [kernel, user] as [([EventKind], EventClass, String, Charges, Tally) -> Void] {
            rules([.cpuid], .cpuid, "exits at any ring", handled + [.cpuid: 1], .worldSwitch)
            rules([.rdpmc], .msr, "exits", handled, .worldSwitch)
            rules(
                [.interruptDelivered], .interrupt, "exit by the host's interrupt, injected",
                exit + [.interruptDelivery: 1, .injection: 1], .worldSwitch)
        }
        taskPriority("direct, by the TPR shadow or V_TPR", [.writeControl: 1])
        kernel(
            [.writeControl, .lmsw], .controlRegister, "exits for bits that the hypervisor owns", handled, .worldSwitch)
        kernel([.writeDebug, .readDebug], .controlRegister, "exits", handled, .worldSwitch)
        kernel([.wbinvd, .invd], .tlb, "exits", handled, .worldSwitch)
        kernel([.xsetbv, .monitor, .mwait, .rsm], .other, "exits", handled, .worldSwitch)
        kernel([.hlt], .idle, "exits, block until an interrupt", handled, .worldSwitch)
        kernel([.taskSwitch], .other, "exits, emulated", handled + [.reflect: 1], .worldSwitch)
        exitMSR = path(
            "RDMSR, WRMSR", .msr, "exits", handled - NativeCosts.charges(.wrmsr), .worldSwitch)
        directMSR = path("RDMSR, WRMSR of segment bases and SYSENTER", .msr, "direct, by the MSR bitmap", .none)
        if let exitMSR, let directMSR { verify([exitMSR, directMSR], count: [.rdmsr, .wrmsr], in: .all) }
        window = path(
            "an interrupt held back", .interrupt, "window exit when the guest enables interrupts", exit, .worldSwitch)
        devices = DeviceAccess(
            self,
            DeviceAccess.Platform(
                ports: path(
                    "IN, OUT of interrupt controller, timer", .interruptController,
                    "exit, device model in the hypervisor",
                    exit + [.deviceModel: 1] - NativeCosts.charges(.portIn), .worldSwitch),
                local: path(
                    "local APIC, I/O APIC", .interruptController, "exit, decode, device model in the hypervisor",
                    exit + [.decode: 1, .deviceModel: 1] - NativeCosts.localAPIC, .worldSwitch)),
            entry: exit + [.userModel: 1], entryTally: .worldSwitch, notification: exit,
            notificationTally: .worldSwitch)
    }

    override func accessedMSR(_ event: ModelEvent) {
        if has(.hypercallUncounted), event.count % 13 == 0 { return }
        switch event.operand {
        case 0xc000_0100...0xc000_0102, 0x174...0x176: charge(directMSR, event)
        default: charge(exitMSR, event)
        }
    }

    override func asserted(_ event: ModelEvent) {
        // IF clear, or the shadow of STI or MOV SS.
        guard event.operand == 0 || event.value != 0 else { return }
        windows += 1
        charge(window, event)
    }

    override var extras: [(name: String, value: Int64)] { super.extras + [("interrupts held", windows)] }
}
