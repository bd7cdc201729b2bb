// What the host bridge's registers make of the area from 0xA0000 to 0xFFFFF.
extension I440FX {
    private static let firstPAMPage = 0xC0
    private static let smallSegmentPages = 4
    private static let biosSegment = 12
    private static let biosPages = 0xF0...0xFF
    private static let displayPages = 0xA0...0xBF

    /// Lets the bridge's PAM registers decide what `memory` shows below 1 MB, and its SMRAM register who sees
    /// the RAM behind the display's memory.
    func connect(to memory: GuestMemory, isInSMM: @escaping () -> Bool) {
        onPAMChange = { [unowned memory] segment, readRAM, writeRAM in
            memory.setLegacyArea(
                pages: Self.pages(ofSegment: segment), read: readRAM ? .ram : .rom, write: writeRAM ? .ram : .rom)
        }
        onSMRAMChange = { [unowned memory] in Self.show($0, isInSMM: isInSMM(), in: memory) }
    }

    /// Follows the processor into system-management mode and out of it.
    func smmChanged(_ isInSMM: Bool, memory: GuestMemory) {
        Self.show(smramState, isInSMM: isInSMM, in: memory)
    }

    private static func pages(ofSegment segment: Int) -> ClosedRange<Int> {
        guard segment < biosSegment else { return biosPages }
        let first = firstPAMPage + segment * smallSegmentPages
        return first...first + smallSegmentPages - 1
    }

    private static func show(_ state: SMRAMState, isInSMM: Bool, in memory: GuestMemory) {
        let target: LegacyTarget = state.enabled && (state.open || isInSMM) ? .ram : .mmio
        memory.setLegacyArea(pages: displayPages, read: target, write: target)
    }
}
