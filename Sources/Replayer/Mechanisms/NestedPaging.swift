import VMM

/// Hardware virtualization with a second set of page tables under the guest's own: two-dimensional walks (Bhargava et
/// al., 2008), where each reference of the guest's walk, and the address that it ends with, is translated by a walk of
/// the host's tables.
class NestedPaging: HardwareVirtualization {
    /// Levels of the host's tables.
    static let hostLevels: Int64 = 4

    /// What a page's first touch is called.
    class var violation: String { fatalError("a strategy names its violation") }

    private var walk, reference, firstTouch: PathID?

    required init(_ setting: Setting) {
        super.init(setting)
        let walk = path("TLB fill", .translation, "two-dimensional walk", .none)
        let reference = path(
            "further references of it", .translation, "n × m + m beyond the guest's own n", [.walkReference: 1])
        let firstTouch = path(
            "first touch", .firstTouch, "\(Self.violation), a page of the host's is entered",
            Self.exit + [.nestedFill: 1], Tally(worldSwitches: 1, hiddenFaults: 1))
        verify([walk], count: [.tlbFill], in: .all)
        verify([firstTouch], count: [.firstTouch], in: .all)
        verify([reference], "references of nested walks") { $0.nestedReferences(hostLevels: Self.hostLevels) }
        (self.walk, self.reference, self.firstTouch) = (walk, reference, firstTouch)
    }

    override func tlbFilled(_ event: ModelEvent) {
        if has(.walkNotCounted), event.count % 13 == 0 { return }
        charge(walk, event, times: has(.walkCountedTwice) && event.count % 13 == 0 ? 2 : 1)
        let levels = Int64(event.detail >> 8 & 0xff)
        charge(reference, event, times: levels * Self.hostLevels + Self.hostLevels)
    }

    override func firstTouched(_ event: ModelEvent) {
        if has(.firstTouchUncounted), event.count % 13 == 0 { return }
        charge(firstTouch, event)
    }
}
