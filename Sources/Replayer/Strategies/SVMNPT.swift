import VMM

/// AMD's extension with nested paging.
final class SVMNPT: NestedPaging {
    override class var name: String { "svm-npt" }
    override class var summary: String { "SVM with nested page tables: few exits, longer walks" }
    override class var violation: String { "nested page fault" }
    override class var notes: [String] {
        [
            "As vtx-ept; the cost table of an AMD processor gives the price of a VMRUN. Selective intercepts of CR0 "
                + "are left out."
        ]
    }
}
