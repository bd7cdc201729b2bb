import VMM

/// AMD's extension with nested paging.
final class SVMNPT: HardwareVirtualization {
    override class var name: String { "svm-npt" }
    override class var summary: String { "SVM with nested page tables: few exits, longer walks" }
    override class var notes: [String] {
        [
            "As vtx-ept; the cost table of an AMD processor gives the price of a VMRUN. Selective intercepts of CR0 "
                + "are left out."
        ]
    }

    private var walks: NestedWalks?

    required init(_ setting: Setting) {
        super.init(setting)
        walks = NestedWalks(self, violation: "nested page fault", exit: Self.exit)
    }

    override func tlbFilled(_ event: ModelEvent) { walks?.filled(event) }
    override func firstTouched(_ event: ModelEvent) { walks?.touched(event) }
    override func switched(_ event: ModelEvent) {}
}
