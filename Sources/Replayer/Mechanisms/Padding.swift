import VMM

/// What the afterburner does to an instruction: NOP bytes after it, so that it can be rewritten in place (LeVasseur et
/// al., 2005; the byte counts are those of its sources).
package enum Afterburner {
    /// Instructions that it annotates in the kernel.
    package static let covered: [EventKind] = [
        .popf, .pushf, .lgdt, .sgdt, .lidt, .sidt, .farJump, .segmentLoad, .segmentStore, .clts, .hlt, .cli, .sti,
        .lldt, .sldt, .ltr, .str, .portIn, .portOut, .invlpg, .iret, .farReturn, .cpuid, .wrmsr, .rdmsr,
        .interruptInstruction, .undefinedInstruction, .invd, .wbinvd, .smsw, .lmsw, .arpl, .lar, .lsl, .rsm,
        .readControl, .writeControl, .readDebug, .writeDebug,
    ]
    /// Sensitive instructions that it lacked.
    package static let uncovered: [EventKind] = [
        .verr, .verw, .rdtsc, .rdtscp, .rdpmc, .sysenter, .sysexit, .swapgs, .sysret,
    ]
    /// Bytes after an annotated store to a page table.
    package static let pageTableBytes = 12

    /// Bytes after an instruction.
    package static func bytes(_ kind: EventKind, isLong: Bool) -> Int {
        switch kind {
        case .iret, .farReturn: 4
        case .pushf: isLong ? 6 : 5
        case .hlt, .sldt, .invlpg: 6
        case .cli: isLong ? 8 : 7
        case .lgdt, .lidt, .farJump, .str: 9
        case .interruptInstruction: 11
        case .readControl, .writeControl, .readDebug, .writeDebug, .segmentStore: 12
        case .portIn: isLong ? 14 : 13
        case .clts: 14
        case .portOut, .lldt, .ltr, .segmentLoad: 16
        case .popf: 21
        case .sti: 23
        default: 8
        }
    }
}

/// The price of padding, for the strategies that run a pre-virtualized binary.
package struct Padding {
    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private let nop: PathID
    private let isCovered: [Bool]

    init(_ strategy: Strategy) {
        self.strategy = strategy
        nop = strategy.path("padding", .padding, "NOP bytes after an annotated instruction", [.nopByte: 1])
        let kinds = Afterburner.covered + (strategy.setting.options.coversExtended ? Afterburner.uncovered : [])
        isCovered = (0...UInt8.max).map { raw in
            kinds.contains { $0.rawValue == raw } || raw == EventKind.pageTableWrite.rawValue
        }
    }

    /// Whether an event is of an annotated instruction.
    @inline(__always) func covers(_ event: ModelEvent) -> Bool {
        !event.isUser && isCovered[Int(event.kind.rawValue)]
    }

    /// Charges the padding that `event`'s instruction runs through.
    func charge(_ event: ModelEvent) {
        guard covers(event), event.kind != .pageTableWrite || strategy.context.isTableInUse else { return }
        let bytes =
            event.kind == .pageTableWrite
            ? Afterburner.pageTableBytes : Afterburner.bytes(event.kind, isLong: event.isLong)
        strategy.charge(nop, event, times: Int64(bytes))
    }
}

/// The padding that is left of an annotated site once the in-place VMM has rewritten it.
package struct WedgePadding {
    /// A call or a jump into the wedge.
    private static let callBytes = 5

    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private let nop: PathID
    private let isCovered: [Bool]
    private static let inline: Set<EventKind> = [.cli, .sti, .pushf, .popf]

    init(_ strategy: Strategy) {
        self.strategy = strategy
        nop = strategy.path("padding", .padding, "NOP bytes left at a rewritten site", [.nopByte: 1])
        let kinds = Afterburner.covered + (strategy.setting.options.coversExtended ? Afterburner.uncovered : [])
        isCovered = (0...UInt8.max).map { raw in
            kinds.contains { $0.rawValue == raw && !Self.inline.contains($0) }
        }
    }

    func charge(_ event: ModelEvent) {
        guard !event.isUser, isCovered[Int(event.kind.rawValue)] else { return }
        let room = Int(event.size) + Afterburner.bytes(event.kind, isLong: event.isLong)
        strategy.charge(nop, event, times: Int64(max(room - Self.callBytes, 0)))
    }
}
