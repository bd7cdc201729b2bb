import VMM

/// What a guest kernel on an L4 microkernel pays whether it was ported to it or rewritten in place: its programs are
/// tasks whose system calls and faults are messages to it.
class L4System: DeprivilegedKernel {
    override class var widths: Set<Int> { [32] }

    /// Registers that the message for an exception or a system call carries: instruction pointer, flags, number, error
    /// code and eight general registers.
    static let exceptionRegisters = 12
    static let message: Charges = [.ipcOtherSpace: 1, .messageRegister: exceptionRegisters]

    private var pages: MappedPages?
    private var entry, reply, fault, interrupt, kernelTouch: PathID?
    /// A return to the kernel itself: the subclass's.
    var localReturn: PathID?

    /// What the wedge adds to a message that it takes, and to one that it sends.
    class var wedge: Charges { .none }

    required init(_ setting: Setting) {
        super.init(setting)
        let wedge = Self.wedge
        entry = path(
            "SYSCALL, SYSENTER, INT n", .kernelEntry, "exception message from the user thread to the kernel's",
            Self.message + wedge - [.softwareInterrupt: 1], .ipc(1))
        if let entry { verify([entry], count: [.syscall, .sysenter, .interruptInstruction], in: .all) }
        reply = path(
            "return to user", .kernelExit, "the reply to the user thread", Self.message + wedge - [.iret: 1], .ipc(1))
        fault = path(
            "exception", .exception, "message to the kernel's thread",
            Self.message + wedge + [.exceptionDelivery: 1] - NativeCosts.charges(.exception), .ipc(1))
        if let fault { verify([fault], count: [.exception], in: .all) }
        interrupt = path(
            "interrupt", .interrupt, "message to the guest's interrupt thread",
            [.ipcOtherSpace: 1] + wedge, .ipc(1))
        if let interrupt { verify([interrupt], count: [.interruptDelivered], in: .all) }
        holdsInterrupts("found by the code that sets the flag", [.callReturn: 1])
        kernelTouch = path(
            "first touch", .firstTouch, "page-fault message to the pager, and its reply",
            [.exceptionDelivery: 1, .ipcOtherSpace: 2, .messageRegister: 4],
            Tally(worldSwitches: 2, hiddenFaults: 1, ipcs: 2))
        if let kernelTouch { verify([kernelTouch], count: [.firstTouch], in: .all) }
        pages = MappedPages(
            self,
            fault: path(
                "TLB fill of a page that is not mapped", .translation,
                "page-fault message to the guest's kernel, and its reply",
                [.exceptionDelivery: 1, .ipcOtherSpace: 2, .messageRegister: 4],
                Tally(worldSwitches: 2, hiddenFaults: 1, ipcs: 2)),
            unmap: path("a present entry changes", .pageTable, "L4_Unmap", [.unmap: 1], .hypercall))
    }

    override func tlbFilled(_ event: ModelEvent) { pages?.walked(event) }
    override func tlbReused(_ event: ModelEvent) { pages?.walked(event) }
    override func pageTableEnded(_ event: ModelEvent) { pages?.ended(event) }
    override func firstTouched(_ event: ModelEvent) { charge(kernelTouch, event) }

    override func pageTableWritten(_ event: ModelEvent) { pages?.written(event) }
    override func entered(_ event: ModelEvent) { charge(entry, event) }

    override func returned(_ event: ModelEvent) {
        guard !event.isUser else { return }
        charge(event.ringAfter == 3 ? reply : localReturn, event)
    }

    override func raised(_ event: ModelEvent) {
        if event.operand == UInt64(ExceptionVector.pf), event.isUser { pages?.faulted(event) }
        charge(fault, event)
    }

    override func delivered(_ event: ModelEvent) {
        if has(.interruptUncounted), event.count % 13 == 0 { return }
        charge(interrupt, event)
    }
}
