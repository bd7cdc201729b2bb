import VMM

/// Executions that x86 does not trap on and that would have given a deprivileged kernel another result: at ring 1 (or
/// 3) with the real interrupt flag set, and with the VMM's descriptor tables.
package struct SilentlyWrong {
    package struct Count {
        package var executed: Int64 = 0
        package var wrong: Int64 = 0
    }

    /// By site.
    package private(set) var sites: [UInt32: Count] = [:]
    /// By kind.
    package private(set) var kinds: [EventKind: Count] = [:]

    /// Those of which it is decided here. What LAR, LSL, VERR, VERW, SMSW and CPUID would have shown depends on
    /// descriptors and a CPU that the VMM chooses.
    package static let decided: Set<EventKind> = [
        .pushf, .popf, .iret, .sgdt, .sidt, .sldt, .str, .segmentStore,
    ]

    /// Instructions that may be silently wrong.
    package static let instructions: [EventKind] = [
        .pushf, .popf, .iret, .sgdt, .sidt, .sldt, .str, .smsw, .segmentStore, .lar, .lsl, .verr, .verw, .cpuid,
    ]

    private static let isOther: [Bool] = (0...UInt8.max).map { raw in
        let kind = EventKind(rawValue: raw)
        return kind.map { instructions.contains($0) && ![.pushf, .popf, .iret].contains($0) } ?? false
    }

    /// PUSHF, POPF and IRET, of which all that shows is the interrupt flag.
    mutating func note(_ event: ModelEvent) {
        guard !event.isUser, event.kind == .pushf || event.kind == .popf || event.kind == .iret else { return }
        add(event, isWrong: event.value & RFlags.if == 0)
    }

    @inline(__always) mutating func noteOther(_ event: ModelEvent) {
        if Self.isOther[Int(event.kind.rawValue)], !event.isUser { noteRare(event) }
    }

    private mutating func noteRare(_ event: ModelEvent) {
        switch event.kind {
        case .sgdt, .sidt, .sldt, .str: add(event, isWrong: true)
        // CS shows the ring; other segments show what was loaded.
        case .segmentStore: add(event, isWrong: event.operand == UInt64(SegmentIndex.cs))
        default: add(event, isWrong: false)
        }
    }

    private mutating func add(_ event: ModelEvent, isWrong: Bool) {
        sites[event.site, default: Count()].executed += event.times
        kinds[event.kind, default: Count()].executed += event.times
        guard isWrong else { return }
        sites[event.site, default: Count()].wrong += event.times
        kinds[event.kind, default: Count()].wrong += event.times
    }
}
