import VMM

/// The first generation of Intel's extension: sensitive instructions exit only where the hypervisor wants them to, but
/// page tables are still shadowed, in software, by exits.
final class VTxShadow: HardwareVirtualization {
    override class var name: String { "vtx-shadow" }
    override class var summary: String { "VT-x without nested paging: exits, and shadow page tables" }
    override class var notes: [String] {
        [
            "Every store to a shadowed table exits, leaf tables too: none goes out of sync.",
            "CR0 and CR4 are read from their shadows; writes exit, CLTS too. Segment bases and SYSENTER's MSRs pass "
                + "the MSR bitmap; descriptor tables are the guest's own.",
            "Page faults exit, true and hidden; of other exceptions #UD, #DB and #AC.",
            "The interrupt controllers are modelled in the hypervisor, other devices in a user process.",
        ]
    }

    private var trueFault, reflected: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        let exit = Self.exit
        kernel([.clts], .controlRegister, "exits", exit + [.emulate: 1], .worldSwitch)
        kernel([.invlpg], .tlb, "exits, the shadow is invalidated", exit + [.invlpg: 1], .worldSwitch)
        addressSpaceSwitch(
            "exits, switch to the shadow of the new root", exit + [.shadowRoot: 1, .writeCR3: 1], .worldSwitch)
        trueFault = path(
            "page fault", .exception, "exit, walk of the guest's tables in software, injected",
            exit + [.shadowFill: 1, .injection: 1], .worldSwitch)
        reflected = path(
            "#UD, #DB, #AC", .exception, "exit, injected", exit + [.injection: 1], .worldSwitch)
        shadow = ShadowPaging(self, ShadowPaging.Manner(fault: exit, hiddenFault: "exit", store: "exit"))
    }

    override func raised(_ event: ModelEvent) {
        switch UInt8(truncatingIfNeeded: event.operand) {
        case ExceptionVector.pf: charge(trueFault, event)
        case ExceptionVector.ud, ExceptionVector.db, ExceptionVector.ac: charge(reflected, event)
        default: break
        }
    }
}
