import VMM

/// What the bare machine pays for an event, on top of the instruction itself being one of its counts.
package enum NativeCosts {
    /// The price of one event of each kind that is an instruction or a delivery; others depend on what they are.
    package static func charges(_ kind: EventKind) -> Charges { table[Int(kind.rawValue)] }

    private static let table: [Charges] = EventKind.allCases.map { kind in
        switch kind {
        case .cli: [.cli: 1]
        case .sti: [.sti: 1]
        case .pushf: [.pushf: 1]
        case .popf: [.popf: 1]
        case .iret: [.iret: 1]
        case .farReturn, .farJump, .farCall: [.farTransfer: 1]
        case .interruptInstruction: [.softwareInterrupt: 1]
        case .syscall: [.syscall: 1]
        case .sysret: [.sysret: 1]
        case .sysenter: [.sysenter: 1]
        case .sysexit: [.sysexit: 1]
        case .swapgs: [.swapgs: 1]
        case .readControl: [.readControl: 1]
        case .writeControl: [.writeControl: 1]
        case .readDebug: [.readDebug: 1]
        case .writeDebug: [.writeDebug: 1]
        case .clts: [.clts: 1]
        case .lmsw, .smsw: [.machineStatusWord: 1]
        case .lgdt, .lidt: [.loadDescriptorTable: 1]
        case .lldt, .ltr: [.loadSystemSegment: 1]
        case .sgdt, .sidt, .sldt, .str: [.storeDescriptorTable: 1]
        case .segmentLoad: [.segmentLoad: 1]
        case .segmentStore: [.segmentStore: 1]
        case .lar, .lsl, .verr, .verw, .arpl: [.segmentInspection: 1]
        case .invlpg: [.invlpg: 1]
        case .invd, .wbinvd: [.wbinvd: 1]
        case .rdmsr: [.rdmsr: 1]
        case .wrmsr: [.wrmsr: 1]
        case .rdtsc, .rdtscp: [.rdtsc: 1]
        case .rdpmc: [.rdpmc: 1]
        case .cpuid: [.cpuid: 1]
        case .hlt: [.hlt: 1]
        case .pause: [.pause: 1]
        case .portIn, .portOut: [.portInstruction: 1, .portBus: 1]
        case .mmioRead, .mmioWrite: [.mmioBus: 1]
        case .exception, .undefinedInstruction: [.exceptionDelivery: 1]
        case .interruptDelivered: [.interruptDelivery: 1]
        case .taskSwitch: [.taskSwitch: 1]
        case .monitor, .mwait, .xgetbv, .xsetbv, .rsm: [.rareInstruction: 1]
        case .tlbFill: [.walkReference: 1]
        case .none, .dma, .interruptAsserted, .modeSwitch, .pageTableWrite, .descriptorWrite, .firstTouch, .payload,
            .pageTableBegin, .pageTableEntry, .pageTableEnd, .tlbReuse, .codeDecoded, .codeChanged:
            .none
        }
    }

    static let writeCR3: Charges = [.writeCR3: 1]
    static let localAPIC: Charges = [.localAPICAccess: 1]

    /// Adds what `event` costs on the bare machine to `counts`.
    static func add(_ event: ModelEvent, to counts: inout PrimitiveCounts) {
        switch event.kind {
        case .undefinedInstruction:
            // Its exception is an event of its own.
            return
        case .portIn, .portOut: counts.add(charges(event.kind), times: event.times * event.elements)
        case .mmioRead, .mmioWrite:
            if case .localAPIC = event.deviceRole {
                counts.add(localAPIC, times: event.times)
            } else {
                counts.add(charges(event.kind), times: event.times)
            }
        case .writeControl where event.operand == 3: counts.add(writeCR3, times: event.times)
        case .tlbFill: counts.add(.walkReference, Int64(event.detail >> 8 & 0xff))
        default: counts.add(charges(event.kind), times: event.times)
        }
    }
}
