import VMM

/// A virtualization strategy: what one system does with each event of the guest. A subclass declares its rules (paths
/// that depend on nothing but the kind of event and the ring) and overrides what needs state. It sees every event, and
/// can change nothing that the guest sees.
///
/// Most events are the guest kernel's; in user mode all runs direct but for what `userRules` says.
package class Strategy {
    /// What a strategy is made with.
    package struct Setting {
        package let context: GuestContext
        package let devices: DevicePolicy
        package let options: StrategyOptions
        package let mutation: Mutation?
    }

    package final let ledger = Ledger()
    package final let setting: Setting
    package final let context: GuestContext
    /// The seeded defect of this run.
    private final let mutation: Mutation?
    /// Set by strategies that shadow the guest's page tables.
    package final var shadow: ShadowPaging?
    /// How registers of devices are reached; nil where the guest has them to itself.
    package final var devices: DeviceAccess?
    private final var kernelRules = [PathID?](repeating: nil, count: 256)
    private final var userRules = [PathID?](repeating: nil, count: 256)
    /// What the audits found, at most `mostFindings`.
    package final private(set) var findings: [AuditFinding] = []
    /// Checks that audits have made.
    package final var auditedChanges: Int64 = 0
    private static let mostFindings = 16

    package required init(_ setting: Setting) {
        self.setting = setting
        context = setting.context
        mutation = setting.mutation
    }

    // MARK: What it is

    /// As on the command line.
    package class var name: String { fatalError("a strategy has a name") }
    /// One sentence.
    package class var summary: String { fatalError("a strategy says what it is") }
    /// The widths of guest kernels that it existed for: 32, 64.
    package class var widths: Set<Int> { [32, 64] }
    /// Why it is hypothetical for a 64-bit guest or a 32-bit one, if it can be modelled there all the same.
    package class func hypothetical(width: Int) -> String? {
        widths.contains(width) ? nil : "it never existed for \(width)-bit kernels"
    }
    /// Whether it can be modelled at all for kernels of a width.
    package class func isApplicable(width: Int) -> Bool { true }
    /// What the model leaves out or decides where the system could do otherwise.
    package class var notes: [String] { [] }
    /// The way in which it reaches devices if `--devices` does not say otherwise.
    package class var usualDevices: DeviceWay { .direct }

    // MARK: Declaring

    package final func path(
        _ event: String, _ eventClass: EventClass, _ mechanism: String, _ charges: Charges, _ tally: Tally = .none
    ) -> PathID {
        ledger.add(
            Path(event: event, eventClass: eventClass, mechanism: mechanism, charges: charges, tally: tally))
    }

    /// Instead of what the bare machine does for an instruction of the kernel, something else happens: `charges`.
    package final func kernel(
        _ kinds: [EventKind], _ eventClass: EventClass, _ mechanism: String, _ charges: Charges,
        _ tally: Tally = .none
    ) {
        for kind in kinds {
            let path = path(kind.mnemonic, eventClass, mechanism, charges - NativeCosts.charges(kind), tally)
            kernelRules[Int(kind.rawValue)] = path
            if kind == .writeControl {
                // Writes to CR3 are not the rule's, and those to CR8 may have a path of their own.
                verify([path, taskPriority].compactMap { $0 }, kind.mnemonic) {
                    $0.count([kind], .kernel) - $0.addressSpaceSwitches
                }
            } else {
                verify([path], count: [kind], in: .kernel)
            }
        }
    }

    /// MOV to CR8, the task priority, has a path of its own. To be declared before the rule for MOV to CR.
    package final func taskPriority(_ mechanism: String, _ charges: Charges) {
        taskPriority = path("MOV to CR8", .controlRegister, mechanism, charges - NativeCosts.charges(.writeControl))
    }
    private final var taskPriority: PathID?

    /// What MOV to CR3 costs instead of what it does on the bare machine. `besides` are paths that a strategy takes
    /// for some of them.
    package final func addressSpaceSwitch(
        _ mechanism: String, _ charges: Charges, _ tally: Tally = .none, besides: [PathID] = []
    ) {
        let path = path("MOV to CR3", .addressSpace, mechanism, charges - NativeCosts.writeCR3, tally)
        spaceSwitch = path
        verify([path] + besides, "MOV to CR3") { $0.addressSpaceSwitches }
    }
    private final var spaceSwitch: PathID?

    /// As `kernel`, for user code.
    package final func user(
        _ kinds: [EventKind], _ eventClass: EventClass, _ mechanism: String, _ charges: Charges,
        _ tally: Tally = .none
    ) {
        for kind in kinds {
            let path = path(
                kind.mnemonic + " in user mode", eventClass, mechanism, charges - NativeCosts.charges(kind), tally)
            userRules[Int(kind.rawValue)] = path
            verify([path], count: [kind], in: .user)
        }
    }

    /// Rings whose events a check counts.
    package enum Rings { case kernel, user, all }

    private struct Check {
        let paths: [PathID]
        let what: String
        let expected: (IndependentCounts) -> Int64
    }
    private final var checks: [Check] = []

    /// At the end, `paths` together were taken as often as there were events of `kinds`.
    package final func verify(_ paths: [PathID], count kinds: [EventKind], in rings: Rings) {
        let names = kinds.map(\.mnemonic).joined(separator: ", ")
        checks.append(Check(paths: paths, what: names) { $0.count(kinds, rings) })
    }

    package final func verify(
        _ paths: [PathID], _ what: String, expected: @escaping (IndependentCounts) -> Int64
    ) {
        checks.append(Check(paths: paths, what: what, expected: expected))
    }

    /// Holds what was charged against what was counted.
    package final func crossCheck(_ counts: IndependentCounts, at count: UInt64) {
        for check in checks {
            let charged = check.paths.reduce(Int64(0)) { sum, path in
                sum + Ledger.Part.allCases.reduce(Int64(0)) { $0 + ledger.times(path.number, in: $1) }
            }
            let expected = check.expected(counts)
            auditedChanges += 1
            if charged != expected {
                found("\(check.what): charged \(charged) times, counted \(expected)", count)
            }
        }
    }

    @inline(__always) package final func charge(_ path: PathID, _ event: ModelEvent, times: Int64 = 1) {
        ledger.charge(path, site: event.site, part: event.part, times: times &* event.times)
    }

    /// The same for a path that the strategy declares in its initializer.
    @inline(__always) package final func charge(_ path: PathID?, _ event: ModelEvent, times: Int64 = 1) {
        if let path { charge(path, event, times: times) }
    }

    package final func chargeRule(_ event: ModelEvent) {
        let rules = event.isUser ? userRules : kernelRules
        guard var path = rules[Int(event.kind.rawValue)] else { return }
        if event.kind == .writeControl, event.operand == 8, let taskPriority { path = taskPriority }
        if _slowPath(mutation != nil), isLost(event) { return }
        charge(path, event)
    }

    /// Whether a seeded defect loses the charge for an event.
    private final func isLost(_ event: ModelEvent) -> Bool {
        guard event.count % 13 == 0 else { return false }
        switch event.kind {
        case .exception: return has(.exceptionUncounted)
        case .interruptDelivered: return has(.interruptUncounted)
        case .syscall, .sysenter, .interruptInstruction: return has(.entryUncounted)
        case .iret, .sysret, .sysexit: return has(.returnUncounted)
        case .invlpg: return has(.invalidationSkipped)
        case .wrmsr, .rdmsr, .cli, .sti: return has(.hypercallUncounted)
        case .cpuid: return has(.exitUncounted)
        default: return false
        }
    }

    // MARK: Taking events

    /// Takes the next event.
    package final func take(_ event: ModelEvent) {
        observe(event)
        switch event.kind {
        case .tlbFill: tlbFilled(event)
        case .tlbReuse: tlbReused(event)
        case .pageTableWrite: pageTableWritten(event)
        case .pageTableBegin: pageTableBegan(event)
        case .pageTableEnd: pageTableEnded(event)
        case .pageTableEntry: pageTableEntryFound(event)
        case .none, .payload, .dma, .modeSwitch: break
        case .firstTouch: firstTouched(event)
        case .descriptorWrite: descriptorWritten(event)
        case .codeDecoded: decoded(event)
        case .codeChanged: codeChanged(event)
        case .portIn, .portOut, .mmioRead, .mmioWrite: accessed(event)
        case .exception: raised(event)
        case .interruptAsserted: asserted(event)
        case .interruptDelivered: delivered(event)
        case .syscall, .sysenter, .interruptInstruction: entered(event)
        case .iret, .sysret, .sysexit, .farReturn: returned(event)
        case .writeControl where event.operand == 3: switched(event)
        case .invlpg: invalidated(event)
        case .cli, .sti, .popf, .pushf: flagsChanged(event)
        case .rdmsr, .wrmsr: accessedMSR(event)
        default: chargeRule(event)
        }
    }

    /// Sees each event before its own method does.
    package func observe(_ event: ModelEvent) {}
    package func tlbFilled(_ event: ModelEvent) { shadow?.walked(event) }
    package func tlbReused(_ event: ModelEvent) { shadow?.walked(event) }
    package func pageTableWritten(_ event: ModelEvent) { shadow?.written(event) }
    package func pageTableBegan(_ event: ModelEvent) {}
    /// An entry of the page table that just began, not zero.
    package func pageTableEntryFound(_ event: ModelEvent) {}
    package func pageTableEnded(_ event: ModelEvent) { shadow?.ended(event) }
    package func firstTouched(_ event: ModelEvent) {}
    package func descriptorWritten(_ event: ModelEvent) {}
    package func decoded(_ event: ModelEvent) {}
    package func codeChanged(_ event: ModelEvent) {}
    package func raised(_ event: ModelEvent) { chargeRule(event) }
    package func asserted(_ event: ModelEvent) {}
    package func delivered(_ event: ModelEvent) { chargeRule(event) }
    package func entered(_ event: ModelEvent) { chargeRule(event) }
    package func returned(_ event: ModelEvent) { chargeRule(event) }
    package func switched(_ event: ModelEvent) {
        if has(.rootSwitchSkipped), event.count % 13 == 0 { return }
        charge(spaceSwitch, event)
    }
    package func invalidated(_ event: ModelEvent) { chargeRule(event) }
    package func flagsChanged(_ event: ModelEvent) { chargeRule(event) }
    package func accessedMSR(_ event: ModelEvent) { chargeRule(event) }
    package func accessed(_ event: ModelEvent) { devices?.access(event) }

    /// The kernel took `count` indirect branches and returns in a part of the run.
    package func branched(_ count: Int64, in part: Ledger.Part) {}
    /// Nothing more comes.
    package func finish() {}
    /// Further numbers of its own, with names.
    package var extras: [(name: String, value: Int64)] {
        guard let shadow else { return [] }
        return [("shadow entries made", shadow.entriesMade), ("shadow entries dropped", shadow.entriesDropped)]
    }

    // MARK: Audits

    /// Counts a check, and keeps what it found.
    @inline(__always) package final func audit(
        _ holds: Bool, _ what: @autoclosure () -> String, _ event: ModelEvent
    ) {
        auditedChanges &+= 1
        if _slowPath(!holds) { found(what(), event.count) }
    }

    @inline(never) package final func found(_ what: String, _ count: UInt64) {
        if findings.count < Self.mostFindings { findings.append(AuditFinding(what: what, count: count)) }
    }

    /// Whether this run has the seeded defect.
    @inline(__always) package final func has(_ mutation: Mutation) -> Bool { self.mutation == mutation }
}

/// Something that a model and what it is checked against do not agree on.
package struct AuditFinding {
    package let what: String
    /// The position.
    package let count: UInt64
}

/// Choices within strategies.
package struct StrategyOptions {
    /// In place and nops: cover what the 2005 tool lacked too (VERR, VERW, RDTSC, SYSENTER, SYSEXIT, SWAPGS, SYSRET).
    package var coversExtended = false
    /// RDTSC traps under trap-and-emulate.
    package var trapsTimestamp = false
    /// Compares the models' state with the guest's after every change.
    package var audits = false

    package init() {}
}

extension EventKind {
    /// The instructions' name where the kind is one, in capitals.
    package var mnemonic: String {
        switch self {
        case .iret: "IRET"
        case .farReturn: "far RET"
        case .farJump: "far JMP"
        case .farCall: "far CALL"
        case .interruptInstruction: "INT n"
        case .readControl: "MOV from CR"
        case .writeControl: "MOV to CR"
        case .readDebug: "MOV from DR"
        case .writeDebug: "MOV to DR"
        case .segmentLoad: "MOV to segment"
        case .segmentStore: "MOV from segment"
        case .portIn: "IN"
        case .portOut: "OUT"
        case .undefinedInstruction: "UD"
        case .mmioRead: "MMIO read"
        case .mmioWrite: "MMIO write"
        case .exception: "exception"
        case .interruptAsserted: "interrupt asserted"
        case .interruptDelivered: "interrupt"
        case .pageTableWrite: "page-table write"
        case .descriptorWrite: "descriptor write"
        case .tlbFill: "TLB fill"
        case .firstTouch: "first touch"
        case .taskSwitch: "task switch"
        default: "\(self)".uppercased()
        }
    }
}
