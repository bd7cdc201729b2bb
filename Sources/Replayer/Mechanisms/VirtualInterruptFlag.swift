import VMM

/// The flag that a deprivileged kernel believes to be RFLAGS.IF. The real one stays set; an interrupt that comes while
/// the virtual one is clear is held until it is set.
package struct VirtualInterruptFlag {
    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private var isEnabled: Bool
    /// Whether the flag follows from an instruction that sets it, rather than from a gate.
    private var isKnown = false
    private var isPending = false
    package private(set) var held: Int64 = 0

    init(_ strategy: Strategy) {
        self.strategy = strategy
        isEnabled = false
    }

    /// An interrupt is asserted.
    mutating func asserted(_ event: ModelEvent) {
        isPending = true
        if event.operand == 0 { held += 1 }
        if isKnown {
            strategy.audit(
                isEnabled == (event.operand != 0), "the virtual interrupt flag is not the guest's", event)
        }
    }

    /// CLI, STI, POPF, IRET or SYSRET.
    /// - Returns: whether an interrupt that was held can now be delivered.
    mutating func changed(_ event: ModelEvent) -> Bool {
        switch event.kind {
        case .cli: isEnabled = false
        case .sti: isEnabled = true
        case .popf, .iret: isEnabled = event.value & RFlags.if != 0
        case .sysret:
            // Its flags come from a register that no event tells of.
            isEnabled = event.interruptsEnabled
            isKnown = false
            return isPending && isEnabled
        default: return false
        }
        if strategy.has(.flagNotSet), event.kind == .sti, event.count % 11 == 0 { isEnabled = false }
        isKnown = true
        strategy.audit(
            isEnabled == event.interruptsEnabled,
            "after \(event.kind.mnemonic) the virtual interrupt flag is not the guest's", event)
        return isPending && isEnabled && !event.wereEnabled
    }

    /// A gate was taken, which may clear the flag.
    mutating func entered() { isKnown = false }

    /// An interrupt is delivered.
    mutating func delivered(_ event: ModelEvent) {
        let isMaskable = event.operand != 2
        if isMaskable {
            let isAllowed = strategy.has(.deliveredWhileMasked) ? !event.interruptsEnabled : event.interruptsEnabled
            strategy.audit(isAllowed, "an interrupt was delivered while the guest had them masked", event)
            strategy.audit(
                isPending || strategy.auditedChanges < 2, "an interrupt was delivered that was not asserted", event)
        }
        isPending = false
        isKnown = false
    }
}
