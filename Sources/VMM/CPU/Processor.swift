import CEngine
import CXXHash

/// Why `Processor.run` returned.
package enum StopReason: Equatable {
    /// The count that was asked for is reached.
    case count
    /// `stopSoon` was called.
    case stopped
    /// HLT, and nothing to wake up for yet.
    case halted
    /// A triple fault shut the processor down.
    case shutdown
    /// The instruction at RIP is one that the engine does not have.
    case unsupported
}

/// The one virtual CPU with everything that is private to it: state, TLB, decoded blocks, and its slow paths.
package final class Processor: Archivable {
    /// The architectural state. Owned here: allocated in init, freed in deinit, never moved.
    package let cpu: CPU
    package let memory: GuestMemory
    package let ports: PortBus
    package let mmio: MMIOBus
    package let clock: VirtualClock
    package let model: CPUModel
    package let engine: Engine

    var dataTLB = TLB()
    var fetchTLB = TLB()
    let dataCaches: DataCaches
    let blocks: BlockCache
    /// Nil with the interpreter, or where the host gives no executable memory.
    let translator: Translator?
    var builder: BlockBuilder

    /// Physical addresses are cut to this: the model's width, without bit 20 while A20 is masked.
    var physicalMask: UInt64 {
        get { cpu.pointee.physicalMask }
        set { cpu.pointee.physicalMask = newValue }
    }
    private(set) var a20Enabled = true
    var stopRequested = false

    /// Answers an external interrupt with its vector, as the INTA cycle does.
    package var acknowledgeInterrupt: () -> UInt8 = { 0xff }
    /// CR8 (0 to 15), which is the local APIC's task priority, and IA32_APIC_BASE; without an APIC they stay at these
    /// defaults.
    package var readCR8: () -> UInt8 = { 0 }
    package var writeCR8: (UInt8) -> Void = { _ in }
    package var apicBaseChanged: (UInt64) -> Void = { _ in }
    /// The x87 error output (FERR#), for CR0.NE = 0.
    package var assertFERR: () -> Void = {}
    /// Called with whether the processor is in system-management mode, when that changes (SMIACT#).
    package var smmChanged: (Bool) -> Void = { _ in }
    /// Receives full buffers of events while one is attached.
    private var sink: (any EventSink)?
    /// Whether the sink also wants TLB fills, first touches and stores into page tables and descriptor tables.
    private(set) var watchesPaging = false
    /// Whether it also wants what a model of another machine needs.
    private(set) var watchesModel = false
    /// Marks of the kernel's return addresses, if they are kept.
    var callMarks: CallMarks?
    /// For each slot of the data TLB, whether its page was accessed since the last flush; kept for `tlbReuse` alone.
    private var reusedSlots = [Bool](repeating: false, count: TLB.smallEntries + TLB.largeEntries)
    /// The running INS or OUTS, or the one that was left between two elements.
    var transfer: StringTransfer?
    /// Physical ranges of the descriptor tables that are watched for the sink.
    var descriptorRanges: [Range<UInt64>] = []

    package init(
        memory: GuestMemory, ports: PortBus, mmio: MMIOBus, clock: VirtualClock, model: CPUModel,
        engine: Engine = .interpreter, bug: TranslatorBug? = nil
    ) {
        self.engine = engine
        self.memory = memory
        self.ports = ports
        self.mmio = mmio
        self.clock = clock
        self.model = model
        let state = UnsafeMutableRawPointer.allocate(byteCount: Int(CPU_REGION_SIZE), alignment: Int(pageSize))
        cpu = state.bindMemory(to: CPUState.self, capacity: 1)
        cpu_clear(cpu)
        dataCaches = DataCaches(region: state)
        blocks = BlockCache(frameCount: Int(memory.size / pageSize))
        builder = BlockBuilder(model: model, state: cpu)
        translator = engine == .translator ? Translator(cpu: cpu, blocks: blocks, memory: memory, bug: bug) : nil
        cpu.pointee.physicalMask = (1 << model.physicalAddressBits) - 1
        cpu.pointee.fetchEntries = fetchTLB.entries
        cpu.pointee.blockBuckets = blocks.hash
        cpu.pointee.blockArena = blocks.arena
        cpu.pointee.processor = Unmanaged.passUnretained(self).toOpaque()
        cpu.pointee.dataCache = dataCaches.supervisor
        blocks.translator = translator
        translator?.countsNanoseconds = clock.instructionsPerMicrosecond == 1000
        memory.onCodeWrite = { [unowned self] address, count in codeWritten(address, count) }
        memory.onMapChange = { [unowned self] range in
            blocks.invalidate(pages: range, cpu)
            mapChanged()
        }
        memory.onDMA = { [unowned self] address, bytes, isWrite in
            // What a transfer moves is told by its XXH3; nobody pays for that without a sink.
            let hash = cpu.pointee.events == nil ? 0 : XXH3_64bits(bytes.baseAddress, bytes.count)
            cpu.emit(.dma, address: address, operand: UInt64(bytes.count), value: hash, detail: isWrite ? 1 : 0)
        }
        reset()
    }

    deinit {
        flushEvents()
        dataTLB.deallocate()
        fetchTLB.deallocate()
        cpu.deinitialize(count: 1)
        UnsafeMutableRawPointer(cpu).deallocate()
    }

    // MARK: Inputs

    /// Sets the level of INTR. It is looked at before the next instruction that may be interrupted.
    package func setInterruptLine(_ asserted: Bool) {
        if asserted && !cpu.pointee.interruptLine {
            cpu.emit(
                .interruptAsserted, address: 0, operand: cpu.pointee.flags & RFlags.if != 0 ? 1 : 0,
                value: UInt64(cpu.pointee.interruptShadow))
        }
        cpu.pointee.interruptLine = asserted
        if asserted { leaveBlockSoon() }
    }

    package func raiseNMI() {
        cpu.pointee.nmiPending = true
        leaveBlockSoon()
    }

    package func raiseSMI() {
        cpu.pointee.smiPending = true
        leaveBlockSoon()
    }

    /// Makes `run` return after the current instruction.
    package func stopSoon() {
        stopRequested = true
        leaveBlockSoon()
    }

    /// Masks or passes physical address bit 20.
    package func setA20(_ enabled: Bool) {
        guard enabled != a20Enabled else { return }
        a20Enabled = enabled
        physicalMask = ((1 << model.physicalAddressBits) - 1) & (enabled ? ~0 : ~(1 << 20))
        translator?.isStale = true
        mapChanged()
    }

    /// Puts the processor into its state after RESET# (SDM volume 3, table 10-1).
    package func reset() {
        if cpu_leaves_transfer(cpu).pointee != 0 { endTransfer() }
        cpu.resetState(model)
        flushTLB(keepGlobal: false)
        modeChanged()
    }

    // MARK: Changes that the caches must follow

    /// Ends the running block after the current instruction, if one is running.
    func leaveBlockSoon() { cpu.pointee.deadline = 0 }

    /// CR0, CR4, EFER, CPL or EFLAGS.AC changed: rights and fast paths are chosen anew.
    package func modeChanged() {
        dataCaches.select(for: cpu)
    }

    /// The paging mode changed, so that even a private entry that mirrors no TLB entry is stale.
    package func pagingChanged() {
        flushTLB(keepGlobal: false)
        dataCaches.dropAll()
        JumpCache.clear(cpu)
    }

    /// Addresses lead somewhere else than before. Decoded blocks are found by physical address and stay.
    func mapChanged() {
        dataCaches.dropAll()
        JumpCache.clear(cpu)
        leaveBlockSoon()
    }

    /// Empties the TLB as MOV to CR3 (`keepGlobal`) or to CR4 does.
    package func flushTLB(keepGlobal: Bool) {
        let caches = dataCaches
        dataTLB.flush(keepGlobal: keepGlobal) { slot, entry in caches.drop(slot, entry) }
        fetchTLB.flush(keepGlobal: keepGlobal) { slot, entry in forgetFetch(slot, entry) }
        if watchesModel {
            for slot in reusedSlots.indices { reusedSlots[slot] = false }
            dataCaches.dropAll()
        }
    }

    /// A data access uses a slot of the TLB.
    /// - Returns: whether it is the first since the last flush.
    func noteUse(_ slot: Int) -> Bool {
        guard !reusedSlots[slot] else { return false }
        reusedSlots[slot] = true
        return true
    }

    /// INVLPG: drops what translates `linear`, global or not.
    package func invalidatePage(_ linear: UInt64) {
        let shift = largeShift
        if let (slot, entry) = dataTLB.lookup(linear, largeShift: shift) {
            dataTLB.drop(slot)
            dataCaches.drop(slot, entry)
        }
        if let (slot, entry) = fetchTLB.lookup(linear, largeShift: shift) {
            fetchTLB.drop(slot)
            forgetFetch(slot, entry)
        }
    }

    /// An entry of the fetch TLB goes: what was proved by it must be looked up again.
    func forgetFetch(_ slot: Int, _ entry: TLBEntry) {
        guard entry.tag != 0, let translator, !translator.has(.stalePage) else { return }
        if slot < TLB.smallEntries { JumpCache.drop(page: entry.tag, cpu) } else { JumpCache.clear(cpu) }
    }

    // MARK: Events

    /// Attaches or detaches a sink for events, which gets what it watches besides those that are always reported.
    ///
    /// What is watched is begun anew, unless `keepingWatch`.
    package func attach(_ sink: (any EventSink)?, watching watch: EventWatch = .paging, keepingWatch: Bool = false) {
        flushEvents()
        self.sink = sink
        watchesPaging = sink != nil && watch.contains(.paging)
        let watchesModel = watchesPaging && watch.contains(.model)
        if watchesModel != self.watchesModel {
            self.watchesModel = watchesModel
            // Translated code counts indirect branches, or does not.
            translator?.countsBranches = watchesModel
            translator?.isStale = true
            leaveBlockSoon()
        }
        if !keepingWatch || !watchesPaging {
            for frame in 0..<Int(memory.size / pageSize) { memory.frames[frame] &= ~FrameAttributes.watched }
            descriptorRanges = []
        }
        // Of a transfer that was begun without this sink it gets the rest.
        if !keepingWatch || cpu.pointee.events == nil { transfer = nil }
        // What is cached already would never be seen to be touched.
        dataCaches.dropAll()
        if sink != nil && cpu.pointee.events == nil {
            let capacity = 1024
            cpu.pointee.events = .allocate(capacity: capacity)
            cpu.pointee.eventCapacity = UInt32(capacity)
        } else if sink == nil {
            cpu.pointee.events?.deallocate()
            cpu.pointee.events = nil
            cpu.pointee.eventCount = 0
        }
    }

    /// Begins to count events anew.
    package func clearEventCounts() {
        for kind in EventKind.allCases { cpu_event_count(cpu, Int32(kind.rawValue)).pointee = 0 }
    }

    /// Drops what is cached already, which would never be seen to be touched or stored to.
    func beginWatching() {
        dataCaches.dropAll()
        leaveBlockSoon()
    }

    // MARK: Written pages

    /// From now on RAM pages that are written to are noted.
    package func beginWriteTracking() {
        memory.forgetWrittenPages()
        dataCaches.dropAll()
        leaveBlockSoon()
    }

    /// Appends the numbers of the RAM pages that may have been written to since the last call or
    /// `beginWriteTracking`, in ascending order, and begins anew.
    package func takeWrittenPages(_ pages: inout [UInt32]) {
        memory.appendWrittenPages(to: &pages)
        beginWriteTracking()
    }

    /// Hands what is buffered to the sink.
    package func flushEvents() {
        guard let events = cpu.pointee.events, cpu.pointee.eventCount > 0 else { return }
        sink?.receive(UnsafeBufferPointer(start: events, count: Int(cpu.pointee.eventCount)))
        cpu.pointee.eventCount = 0
    }

    // MARK: State

    package func archive(_ archive: StateArchive) {
        cpu.archive(archive)
        archive.field("a20Enabled", &a20Enabled)
        dataTLB.archive("dataTLB", archive)
        fetchTLB.archive("fetchTLB", archive)
        guard archive.isRestoring else { return }
        transfer = nil
        physicalMask = ((1 << model.physicalAddressBits) - 1) & (a20Enabled ? ~0 : ~(1 << 20))
        blocks.flush()
        dataCaches.dropAll()
        modeChanged()
    }
}
