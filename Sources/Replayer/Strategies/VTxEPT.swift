import VMM

/// Intel's extension with nested paging: the guest's tables are its own, and walks go through two sets of them.
final class VTxEPT: NestedPaging {
    override class var name: String { "vtx-ept" }
    override class var summary: String { "VT-x with extended page tables: few exits, longer walks" }
    override class var violation: String { "EPT violation" }
    override class var notes: [String] {
        [
            "Walks are priced by their references, \(hostLevels) levels on the host's side; caches of "
                + "walks, which shorten them, are left out.",
            "The host maps 4-KB pages, each entered at its first touch.",
            "MOV to CR3, INVLPG, CLTS and page faults are direct. The interrupt controllers are modelled in the "
                + "hypervisor, other devices in a user process; no posted interrupts.",
        ]
    }
}
