import CEngine
import VMM

/// The machine's state that events change and do not tell at first.
package struct GuestStart {
    package var cr0, cr3, cr4: UInt64
    package var isLong: Bool
    package var interruptsEnabled: Bool
    package var ring: UInt8
    package var count: UInt64
    package var memoryBytes: UInt64

    /// Of no machine.
    static let none = GuestStart()

    private init() {
        (cr0, cr3, cr4, isLong) = (0, 0, 0, false)
        (interruptsEnabled, ring, count, memoryBytes) = (false, 0, 0, 0)
    }

    package init(_ machine: Machine) {
        let cpu = machine.processor.cpu.pointee
        (cr0, cr3, cr4) = (cpu.cr0, cpu.cr3, cpu.cr4)
        isLong = cpu.mode & ModeKey.longMode != 0
        interruptsEnabled = cpu.flags & RFlags.if != 0
        ring = cpu.cpl
        count = machine.clock.count
        memoryBytes = machine.configuration.memorySize
    }
}

/// What strategies may know of the guest besides the event at hand, which they must not change.
package final class GuestContext {
    package fileprivate(set) var cr0, cr3, cr4: UInt64
    package fileprivate(set) var isLong: Bool
    package let tables: GuestTables
    /// Of a TLB fill or reuse: the walk that it stands for, if its tables are known.
    package fileprivate(set) var walk: GuestTables.Walk?
    /// Of a page-table write: the entry before it.
    package fileprivate(set) var oldEntry: UInt64 = 0
    /// Of a page-table write: whether the table is in use, rather than a frame that once was one.
    package fileprivate(set) var isTableInUse = false

    package var isPAE: Bool { cr4 & CR4.pae != 0 }

    init(_ start: GuestStart) {
        (cr0, cr3, cr4, isLong) = (start.cr0, start.cr3, start.cr4, start.isLong)
        tables = GuestTables(memoryBytes: start.memoryBytes)
    }
}

/// Makes events of the guest into what strategies take: with sites, ring changes, part of the run, page tables, and
/// delay loops folded up. Everything that all strategies see alike is done here, once.
package final class FrontEnd {
    package let context: GuestContext
    package private(set) var sites: [EventSite] = [EventSite(address: 0, kind: 0, ring: 0)]
    /// Events at each site, but for those in delay loops.
    package private(set) var siteCounts: [Int64] = [0]
    /// Where each site was first met.
    package private(set) var siteFirsts: [UInt64] = [0]
    private var siteTable: [EventSite: UInt32] = [:]
    /// The site that an address, by its low bits, had last.
    private var recentSites = [UInt32](repeating: 0, count: 1 << 12)
    private var detector = WaitDetector()
    private var part = Ledger.Part.boot
    private var interruptsEnabled: Bool
    private var startCount: UInt64
    private var lastCount: UInt64

    /// What the bare machine pays, by part, without the instructions.
    package private(set) var native = [PrimitiveCounts](repeating: PrimitiveCounts(), count: Ledger.Part.allCases.count)
    /// Events by part and kind.
    package private(set) var kinds: [[Int64]]
    private var waitCounts: [UInt64] = [0, 0]
    private var bootCounts: UInt64 = 0
    /// The count from which on `onDivision` wants to be called, which says the next one.
    var nextDivision: UInt64 = .max
    var onDivision: (_ count: UInt64) -> UInt64 = { _ in .max }
    /// Takes each event.
    private let emit: (ModelEvent) -> Void

    init(_ start: GuestStart, emit: @escaping (ModelEvent) -> Void) {
        context = GuestContext(start)
        interruptsEnabled = start.interruptsEnabled
        startCount = start.count
        lastCount = start.count
        kinds = Ledger.Part.allCases.map { _ in [Int64](repeating: 0, count: 256) }
        self.emit = emit
    }

    // MARK: Events

    func take(_ batch: UnsafeBufferPointer<EventRecord>) {
        for index in 0..<batch.count {
            let record = batch[index]
            if record.kind == EventKind.payload.rawValue { continue }
            let site = site(of: record)
            if WaitDetector.isPoll(record.kind) {
                poll(record, site)
            } else if WaitDetector.isTransparent(record.kind) {
                pass(record, site)
            } else {
                endRun()
                pass(record, site)
            }
        }
    }

    private func poll(_ record: EventRecord, _ site: UInt32) {
        switch detector.take(record, site: site) {
        case .waits: return
        case .held: return
        case .breaks:
            endRun()
            if detector.take(record, site: site) == .breaks { pass(record, site) }
        }
    }

    /// Ends a run of polls: what was held back was no delay loop, and the rest was one.
    private func endRun() {
        for (record, site) in detector.held { pass(record, site) }
        let loop = part
        let counts = detector.end { site, operand, times in
            let kind = EventKind(rawValue: sites[Int(site)].kind)
            if kind == .rdtsc || kind == .rdtscp || kind == .pause { waitSites.append(site) }
            passWait(site, operand, times)
        }
        for site in waitSites { detector.learn(site) }
        waitSites.removeAll(keepingCapacity: true)
        waitCounts[loop.rawValue] += counts
    }

    private var waitSites: [UInt32] = []

    /// The polls of a delay loop at one site, all at once.
    private func passWait(_ site: UInt32, _ operand: UInt64, _ times: Int64) {
        let place = sites[Int(site)]
        guard let kind = EventKind(rawValue: place.kind) else { return }
        let event = ModelEvent(
            kind: kind, ring: place.ring, ringAfter: place.ring, interruptsEnabled: interruptsEnabled,
            wereEnabled: interruptsEnabled, size: 0, detail: 4, address: place.address,
            operand: operand, value: 0, count: lastCount, site: site, part: .wait, times: times,
            isLong: context.isLong, isString: false)
        NativeCosts.add(event, to: &native[Ledger.Part.wait.rawValue])
        kinds[Ledger.Part.wait.rawValue][Int(place.kind)] += times
        emit(event)
    }

    private func pass(_ record: EventRecord, _ site: UInt32) {
        guard let kind = EventKind(rawValue: record.kind) else { return }
        if part == .boot {
            if kind == .codeDecoded { bootBranches = record.value >> 16 }
            if isUpperHalf(record) { beginKernel(at: record.count) }
        }
        if record.count >= nextDivision { nextDivision = onDivision(record.count) }
        lastCount = record.count
        let carriesState = kind != .rdtsc && kind != .rdtscp && kind != .pause
        let enabled = carriesState ? record.flags & EventFlags.interruptsEnabled != 0 : interruptsEnabled
        let event = ModelEvent(
            kind: kind, ring: record.ring,
            ringAfter: carriesState ? record.flags >> EventFlags.ringShift & 3 : record.ring,
            interruptsEnabled: enabled, wereEnabled: interruptsEnabled, size: record.size, detail: record.detail,
            address: record.address, operand: record.operand, value: record.value, count: record.count, site: site,
            part: part, times: 1, isLong: context.isLong, isString: record.flags & EventFlags.hasPayload != 0)
        NativeCosts.add(event, to: &native[part.rawValue])
        kinds[part.rawValue][Int(record.kind)] += 1
        siteCounts[Int(site)] += 1
        prepare(event)
        emit(event)
        follow(event)
        // Gates clear IF, or the next event says that they did not.
        interruptsEnabled =
            enabled && kind != .exception && kind != .interruptDelivered && kind != .interruptInstruction
    }

    /// Work out what strategies are told about an event before they see it.
    private func prepare(_ event: ModelEvent) {
        switch event.kind {
        case .tlbFill, .tlbReuse:
            context.walk = context.tables.walk(
                event.address, cr3: context.cr3, isLong: context.isLong, isPAE: context.isPAE,
                pageShift: UInt64(event.size))
        case .pageTableWrite:
            let table = context.tables.table(at: event.operand)
            context.isTableInUse = table != GuestTables.none && context.tables.isInUse(table, cr3: context.cr3)
            context.oldEntry =
                table == GuestTables.none
                ? 0 : context.tables.entry(table, context.tables.slot(of: event.operand, in: table))
        default: break
        }
    }

    /// Keeps up with the guest after strategies have seen an event.
    private func follow(_ event: ModelEvent) {
        switch event.kind {
        case .pageTableBegin:
            context.tables.begin(event.operand, level: event.detail, entryBytes: Int(event.size))
        case .pageTableEntry, .pageTableWrite:
            context.tables.write(event.operand, event.value, bytes: Int(event.size))
        case .pageTableEnd: context.tables.end(event.operand)
        case .writeControl:
            switch event.operand {
            case 0: context.cr0 = event.value
            case 3: context.cr3 = event.value
            case 4: context.cr4 = event.value
            default: break
            }
        case .modeSwitch: context.isLong = event.value & UInt64(ModeKey.longMode) != 0
        default: break
        }
    }

    // MARK: Sites

    private static let hasNoSite: [Bool] = (0...UInt8.max).map { raw in
        switch EventKind(rawValue: raw) {
        case .tlbFill, .tlbReuse, .firstTouch, .dma, .interruptAsserted, .interruptDelivered, .codeDecoded,
            .codeChanged,
            .pageTableBegin, .pageTableEntry, .pageTableEnd:
            true
        default: false
        }
    }

    /// The number of a record's site, 0 if it has none.
    private func site(of record: EventRecord) -> UInt32 {
        if Self.hasNoSite[Int(record.kind)] { return 0 }
        let slot = Int(truncatingIfNeeded: record.address) & (recentSites.count - 1)
        let recent = sites[Int(recentSites[slot])]
        if recent.address == record.address, recent.kind == record.kind, recent.ring == record.ring {
            return recentSites[slot]
        }
        let site = EventSite(address: record.address, kind: record.kind, ring: record.ring)
        let number: UInt32
        if let known = siteTable[site] {
            number = known
        } else {
            number = UInt32(sites.count)
            sites.append(site)
            siteCounts.append(0)
            siteFirsts.append(record.count)
            siteTable[site] = number
        }
        recentSites[slot] = number
        return number
    }

    // MARK: Parts

    /// Whether a record is of code in the upper half of the address space with paging on, where kernels live.
    private func isUpperHalf(_ record: EventRecord) -> Bool {
        // Code is decoded before it can do anything else, so the kernel begins with that.
        let isCode = record.kind == EventKind.codeDecoded.rawValue
        guard context.cr0 & CR0.pg != 0, record.ring != 3, isCode || !Self.hasNoSite[Int(record.kind)] else {
            return false
        }
        return context.isLong ? record.address >> 63 != 0 : record.address >= 0x8000_0000
    }

    private func beginKernel(at count: UInt64) {
        part = .kernel
        bootCounts = count - startCount
    }

    /// Indirect branches of the kernel when code was last decoded in the boot part; nil before that.
    private(set) var bootBranches: UInt64?

    /// Nothing more comes; the run is at `count`. A run that had no kernel part was all kernel.
    func finish(at count: UInt64) {
        endRun()
        let total = count - startCount
        if part == .boot {
            native[Ledger.Part.kernel.rawValue] = native[Ledger.Part.boot.rawValue]
            native[Ledger.Part.boot.rawValue] = PrimitiveCounts()
            kinds[Ledger.Part.kernel.rawValue] = kinds[Ledger.Part.boot.rawValue]
            kinds[Ledger.Part.boot.rawValue] = [Int64](repeating: 0, count: 256)
            waitCounts = [0, waitCounts[0]]
            isAllKernel = true
        } else {
            native[Ledger.Part.boot.rawValue].add(.instruction, Int64(bootCounts - waitCounts[0]))
        }
        let kernel = total - bootCounts - waitCounts[1]
        native[Ledger.Part.kernel.rawValue].add(.instruction, Int64(kernel))
        native[Ledger.Part.wait.rawValue].add(.instruction, Int64(waitCounts[0] + waitCounts[1]))
    }

    /// There was no kernel part apart from the boot.
    private(set) var isAllKernel = false
}
