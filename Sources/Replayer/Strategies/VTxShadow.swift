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

    private var shadow: ShadowPaging?
    private var switchRoot, trueFault, reflected: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        let exit = Self.exit
        kernel([.clts], .controlRegister, "exits", exit + [.emulate: 1], .worldSwitch)
        kernel([.invlpg], .tlb, "exits, the shadow is invalidated", exit + [.invlpg: 1], .worldSwitch)
        switchRoot = path(
            "MOV to CR3", .addressSpace, "exits, switch to the shadow of the new root",
            exit + [.shadowRoot: 1, .writeCR3: 1] - NativeCosts.writeCR3, .worldSwitch)
        if let switchRoot { verify([switchRoot], "MOV to CR3") { $0.addressSpaceSwitches } }
        trueFault = path(
            "page fault", .exception, "exit, walk of the guest's tables in software, injected",
            exit + [.shadowFill: 1, .injection: 1], .worldSwitch)
        reflected = path(
            "#UD, #DB, #AC", .exception, "exit, injected", exit + [.injection: 1], .worldSwitch)
        shadow = ShadowPaging(
            self,
            ShadowPaging.Paths(
                hiddenFault: path(
                    "TLB fill without a shadow entry", .translation, "exit, walk of the guest's tables in software",
                    exit, .hiddenFault),
                dirtyFault: path(
                    "first write to a page", .translation, "exit to set the dirty bit", exit + [.shadowFill: 1],
                    .hiddenFault),
                entryMade: path("shadow entry made", .translation, "entered into the shadow", [.shadowFill: 1]),
                protect: path(
                    "a page becomes or stops being a page table", .pageTable, "protected or released",
                    [.shadowProtect: 1]),
                write: path(
                    "page-table write", .pageTable, "exit, decode, emulate, apply to the shadow",
                    exit + [.decode: 1, .emulate: 1, .shadowUpdate: 1], .worldSwitch),
                knownWrite: nil,
                entryDropped: path("shadow entry dropped", .pageTable, "with its table", [.shadowDrop: 1])))
    }

    override func tlbFilled(_ event: ModelEvent) { shadow?.walked(event) }
    override func tlbReused(_ event: ModelEvent) { shadow?.walked(event) }
    override func pageTableWritten(_ event: ModelEvent) { shadow?.written(event) }
    override func pageTableEnded(_ event: ModelEvent) { shadow?.ended(event) }
    override func switched(_ event: ModelEvent) { charge(switchRoot, event) }

    override func raised(_ event: ModelEvent) {
        switch UInt8(truncatingIfNeeded: event.operand) {
        case ExceptionVector.pf: charge(trueFault, event)
        case ExceptionVector.ud, ExceptionVector.db, ExceptionVector.ac: charge(reflected, event)
        default: break
        }
    }

    override var extras: [(name: String, value: Int64)] {
        super.extras + [
            ("shadow entries made", shadow?.entriesMade ?? 0), ("shadow entries dropped", shadow?.entriesDropped ?? 0),
        ]
    }
}
