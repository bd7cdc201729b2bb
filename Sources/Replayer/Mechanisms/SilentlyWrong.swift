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

    private static let isOne: [Bool] = (0...UInt8.max).map { raw in
        EventKind(rawValue: raw).map(instructions.contains) ?? false
    }

    @inline(__always) mutating func note(_ event: ModelEvent) {
        if Self.isOne[Int(event.kind.rawValue)], !event.isUser { add(event, isWrong: isWrong(event)) }
    }

    private func isWrong(_ event: ModelEvent) -> Bool {
        switch event.kind {
        // All that shows is the interrupt flag.
        case .pushf, .popf, .iret: event.value & RFlags.if == 0
        case .sgdt, .sidt, .sldt, .str: true
        // CS shows the ring; other segments show what was loaded.
        case .segmentStore: event.operand == UInt64(SegmentIndex.cs)
        default: false
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
