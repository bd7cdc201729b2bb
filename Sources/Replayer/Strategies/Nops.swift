import VMM

/// The pre-virtualized binary on the bare machine: each annotated instruction carries its padding.
final class Nops: Strategy {
    override class var name: String { "nops" }
    override class var summary: String { "the pre-virtualized binary on the bare machine: padding, and nothing else" }
    override class var notes: [String] {
        [
            "The padding's price is that of executing it; what its bytes cost in the instruction cache is left out.",
            "Stores to live page tables count as annotated. What the tool lacked in 2005 (verr, verw, rdtsc, rdpmc, "
                + "sysenter, sysexit, swapgs, sysret) has no padding unless --extended is given.",
        ]
    }

    private lazy var padding = Padding(self)

    required init(_ setting: Setting) {
        super.init(setting)
        _ = padding
    }

    override func observe(_ event: ModelEvent) { padding.charge(event) }
}
