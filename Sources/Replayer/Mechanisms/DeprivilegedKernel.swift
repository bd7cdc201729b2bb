import VMM

/// What the strategies share that run the guest's kernel without the privilege it believes to have: a virtual interrupt
/// flag, which follows every event that sets or clears the guest's.
class DeprivilegedKernel: Strategy {
    private var flag: VirtualInterruptFlag?
    private var held: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        flag = VirtualInterruptFlag(self)
    }

    /// Declares what happens when the flag is set while an interrupt waits.
    final func holdsInterrupts(_ mechanism: String, _ charges: Charges, _ tally: Tally = .none) {
        held = path("an interrupt held back", .interrupt, mechanism, charges, tally)
    }

    override func observe(_ event: ModelEvent) {
        switch event.kind {
        case .cli, .sti, .popf, .iret, .sysret:
            // The flag is the kernel's; in user mode these are the program's own.
            if !event.isUser, flag?.changed(event) == true { charge(held, event) }
        case .syscall, .sysenter, .interruptInstruction, .exception: flag?.entered()
        case .interruptAsserted: flag?.asserted(event)
        case .interruptDelivered: flag?.delivered(event)
        default: break
        }
    }

    override var extras: [(name: String, value: Int64)] { super.extras + [("interrupts held", flag?.held ?? 0)] }
}
