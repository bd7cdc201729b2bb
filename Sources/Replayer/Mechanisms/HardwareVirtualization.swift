import VMM

/// What the strategies that run the guest in a hardware mode of its own share: the instructions that exit at any ring,
/// and events that are injected.
class HardwareVirtualization: Strategy {
    override class var usualDevices: DeviceWay { .emulated }

    static let exit: Charges = [.exitRoundTrip: 1, .exitSoftware: 1, .exitRefill: 1]

    private var devices: DeviceAccess?
    private(set) var platform, localAPIC, window, userModel, exitMSR, directMSR: PathID?
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
        platform = path(
            "IN, OUT of interrupt controller, timer", .interruptController, "exit, device model in the hypervisor",
            exit + [.deviceModel: 1] - NativeCosts.charges(.portIn), .worldSwitch)
        localAPIC = path(
            "local APIC, I/O APIC", .interruptController, "exit, decode, device model in the hypervisor",
            exit + [.decode: 1, .deviceModel: 1] - NativeCosts.localAPIC, .worldSwitch)
        devices = DeviceAccess(
            self, usual: Self.usualDevices, entry: exit + [.userModel: 1], entryTally: .worldSwitch,
            notification: exit, notificationTally: .worldSwitch)
        verifyAccesses([platform, localAPIC], devices)
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

    override func accessed(_ event: ModelEvent) {
        switch event.deviceRole {
        case .platform: charge(platform, event)
        case .localAPIC: charge(localAPIC, event)
        case .delay, .device: devices?.access(event, isDoorbell: false)
        case .doorbell: devices?.access(event, isDoorbell: true)
        }
    }

    override var extras: [(name: String, value: Int64)] { [("interrupts held", windows)] }
}

/// The two-dimensional walks of nested paging (Bhargava et al., 2008): each reference of the guest's walk, and the
/// address that it ends with, is translated by a walk of the host's tables.
struct NestedWalks {
    /// Levels of the host's tables.
    static let hostLevels: Int64 = 4

    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private let walk, reference, violation: PathID

    init(_ strategy: Strategy, violation name: String, exit: Charges) {
        self.strategy = strategy
        walk = strategy.path("TLB fill", .translation, "two-dimensional walk", .none)
        reference = strategy.path(
            "further references of it", .translation, "n × m + m beyond the guest's own n", [.walkReference: 1])
        violation = strategy.path(
            "first touch", .firstTouch, "\(name), a page of the host's is entered", exit + [.nestedFill: 1],
            Tally(worldSwitches: 1, hiddenFaults: 1))
        strategy.verify([walk], count: [.tlbFill], in: .all)
        strategy.verify([violation], count: [.firstTouch], in: .all)
        let check = reference
        strategy.verify([check], "references of nested walks") { $0.nestedReferences(hostLevels: Self.hostLevels) }
    }

    func filled(_ event: ModelEvent) {
        if strategy.has(.walkNotCounted), event.count % 13 == 0 { return }
        strategy.charge(walk, event, times: strategy.has(.walkCountedTwice) && event.count % 13 == 0 ? 2 : 1)
        let levels = Int64(event.detail >> 8 & 0xff)
        strategy.charge(reference, event, times: levels * Self.hostLevels + Self.hostLevels)
    }

    func touched(_ event: ModelEvent) {
        if strategy.has(.firstTouchUncounted), event.count % 13 == 0 { return }
        strategy.charge(violation, event)
    }
}
