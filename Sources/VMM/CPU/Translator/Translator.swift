import CEngine
import CZydis

/// A way out of translated code to a known place. While it leads to a block that has no code yet, or is looked at
/// anew each time, its stub leaves with its number.
struct CodeExit {
    /// Where it leads.
    var rip: UInt64
    /// The jump in the code that can be made to go to the target directly; nil if the target is on another page, where
    /// the modelled TLB must be asked first.
    var site: JumpSite?
    /// The stub that leaves.
    var stub: UnsafeRawPointer
    /// The next exit that is linked to the same block; 0 ends the list.
    var nextIncoming: UInt32
}

/// Turns hot blocks into host code (docs/architecture.md, "Translator").
///
/// A block's code keeps ten guest registers in host registers and the arithmetic flags in the host's, probes the
/// private data cache inline, and calls the interpreter's handler of an instruction for whatever else: sensitive
/// instructions, misses, faults. So everything that can be seen is done by the same functions in either engine.
final class Translator {
    /// Blocks are translated when they have been entered so often.
    var threshold: UInt16 = 16
    /// Whether a count is a nanosecond, so that translated code can read the time-stamp counter.
    var countsNanoseconds = false
    /// Code counts the kernel's indirect branches; set it only with `isStale`.
    var countsBranches = false
    /// Code marks the kernel's return addresses (`CallMarks`); set it only with `isStale`.
    var marksCalls = false
    /// Blocks translated so far, for statistics.
    private(set) var translated: UInt64 = 0
    /// How often all code was forgotten: numbers of exits are good within one generation.
    private(set) var generation = 0

    private static let hotSize = 40 << 20, coldSize = 24 << 20, exitCapacity = 1 << 20
    /// Room that any block's code fits into.
    private static let mostBytes = BlockBuilder.maximumInstructions * 512

    private let code: CodeMemory
    let cpu: CPU
    unowned let blocks: BlockCache
    private let memory: GuestMemory
    let thunks: Thunks
    /// Where code begins after the thunks.
    private let firstPlace: UnsafeMutableRawPointer
    /// Exits by number. One allocation of `exitCapacity`, owned here.
    let exits: UnsafeMutablePointer<CodeExit>
    var exitCount = firstExit
    /// The exit of indirect branches, which have put RIP into the state; the others count from `firstExit` on.
    static let exitToRIP = 1
    private static let firstExit = 2
    private typealias Enter = @convention(c) (CPU, UnsafeRawPointer) -> UInt32
    private let enterFunction: Enter

    // The block being translated.
    /// Its code, and what of it is rarely run, far away.
    var hot: Emitter
    var cold: Emitter
    var block: BlockCache.BlockPointer
    /// The instructions of the block: `count` of a capacity of `BlockBuilder.maximumInstructions`, owned here.
    let instructions: UnsafeMutablePointer<GuestInstruction>
    var count = 0
    var index = 0
    /// Jumps of the current instruction to the stub that does it by its handler instead.
    var misses: [JumpSite] = []
    /// Its probes of the data cache.
    var probes: [Probe] = []
    /// Jumps to the stub that does all of the present group by its handlers.
    private var groupMisses: [JumpSite] = []
    var sideExits: [SideExit] = []
    var flags = FlagState()

    /// What a test has put in.
    private let bug: TranslatorBug?
    func has(_ bug: TranslatorBug) -> Bool { self.bug == bug }

    init?(cpu: CPU, blocks: BlockCache, memory: GuestMemory, bug: TranslatorBug? = nil) {
        guard let code = CodeMemory(size: Self.hotSize + Self.coldSize) else { return nil }
        self.code = code
        self.cpu = cpu
        self.blocks = blocks
        self.memory = memory
        self.bug = bug
        var emitter = Emitter(code.writable)
        thunks = Thunks(&emitter, bug: bug)
        Thunks.fillFlagTable(cpu)
        enterFunction = unsafeBitCast(code.run(thunks.enter), to: Enter.self)
        firstPlace = emitter.place
        hot = emitter
        cold = Emitter(code.writable + Self.hotSize)
        exits = .allocate(capacity: Self.exitCapacity)
        instructions = .allocate(capacity: BlockBuilder.maximumInstructions)
        block = UnsafeMutableRawPointer(blocks.arena).assumingMemoryBound(to: Block.self)
        misses.reserveCapacity(8)
        JumpCache.clear(cpu)
    }

    deinit {
        exits.deallocate()
        instructions.deallocate()
    }

    // MARK: Running

    /// Whether blocks of `mode` are translated at all: 64-bit code, and 32-bit code whose segments do not show.
    static func handles(_ mode: UInt32) -> Bool {
        mode & ModeKey.sizeMask == ModeKey.code64 || mode & ModeKey.flat != 0
    }

    /// Runs a block's code, at an executable address, and what is linked to it.
    /// - Returns: the number of the exit taken, or 0 if the machine must be looked at. RIP and count are exact.
    @inline(__always) func run(_ code: UnsafeRawPointer) -> Int {
        let exit = Int(enterFunction(cpu, code))
        if exit > Self.exitToRIP { cpu.pointee.rip = exits[exit].rip }
        return exit
    }

    /// Where a translated block's code is executed.
    @inline(__always) func executable(_ block: BlockCache.BlockPointer) -> UnsafeRawPointer {
        code.executable + Int(block.pointee.code)
    }

    /// Makes exit `number` go to `target` directly from now on, if it may.
    func link(_ number: Int, to target: BlockCache.BlockPointer) {
        guard number >= Self.firstExit, let site = exits[number].site, exits[number].rip == target.pointee.rip else {
            return
        }
        site.lead(to: code.writable + Int(target.pointee.code))
        exits[number].nextIncoming = target.pointee.incoming
        target.pointee.incoming = UInt32(number)
    }

    /// Undoes what leads to a block that is going.
    func unlink(_ target: BlockCache.BlockPointer) {
        var number = Int(target.pointee.incoming)
        while number != 0 {
            if !has(.staleLink) { exits[number].site?.lead(to: exits[number].stub) }
            number = Int(exits[number].nextIncoming)
        }
        target.pointee.incoming = 0
        if !has(.staleTarget) { JumpCache.remove(target, cpu) }
        target.pointee.code = 0
    }

    /// Forgets all code. None may be running.
    func flush() {
        hot = Emitter(firstPlace)
        cold = Emitter(code.writable + Self.hotSize)
        exitCount = Self.firstExit
        generation += 1
        isStale = false
        JumpCache.clear(cpu)
    }

    /// All code rests on something that has changed, and is to go before any runs.
    var isStale = false

    /// Whether all code must go: it is stale, or another block may not fit.
    var mustFlush: Bool {
        isStale || code.writable + Self.hotSize - hot.place < Self.mostBytes
            || code.writable + code.size - cold.place < Self.mostBytes
            || Self.exitCapacity - exitCount < 2 * BlockBuilder.maximumInstructions
    }

    // MARK: Translation

    /// Translates a live block of one page, for which there is room.
    /// - Returns: whether it has code now.
    func translate(_ block: BlockCache.BlockPointer, _ builder: inout BlockBuilder) -> Bool {
        guard let page = memory.readPage(block.pointee.physical) else { return false }
        self.block = block
        count = Int(block.pointee.instructionCount)
        let bytes = UnsafeRawPointer(page + Int(block.pointee.physical & ~pageMask))
        var condition: CrossingCondition?
        if block.pointee.secondPage == ~0 {
            builder.read(block, bytes: bytes, into: instructions)
        } else {
            condition = CrossingCondition(block.pointee, cpu)
            guard condition != nil, let second = memory.readPage(block.pointee.secondPage) else { return false }
            readCrossing(bytes, UnsafeRawPointer(second), &builder)
        }
        ProbeGroup.analyze(instructions, count: count, width: is64 ? 8 : 4)
        FlagLiveness.analyze(instructions, count: count, bug: bug)
        flags = FlagState()
        let start = hot.place
        if let condition { emitCrossingCheck(condition) }
        emitHead()
        for index in 0..<count {
            self.index = index
            emit(instructions[index])
            emitMisses()
        }
        emitEnd()
        block.pointee.code = UInt32(start - code.writable)
        translated += 1
        return true
    }

    /// Reads the one instruction of a block that begins at `first` and goes on at `second`, on another page.
    private func readCrossing(_ first: UnsafeRawPointer, _ second: UnsafeRawPointer, _ builder: inout BlockBuilder) {
        let length = Int(block.pointee.byteLength)
        let onFirst = Int(pageSize - (block.pointee.physical & ~pageMask))
        withUnsafeTemporaryAllocation(byteCount: length, alignment: 1) { bytes in
            bytes.baseAddress!.copyMemory(from: first, byteCount: min(length, onFirst))
            if length > onFirst {
                (bytes.baseAddress! + onFirst).copyMemory(from: second, byteCount: length - onFirst)
            }
            builder.read(block, bytes: UnsafeRawPointer(bytes.baseAddress!), into: instructions)
        }
    }

    /// Charges the block's instructions, or leaves if the deadline comes before their end.
    private func emitHead() {
        hot.arithmetic(
            ArithmeticNumber.sub, .register(.budget), constant: Int32(has(.charge) && count > 1 ? count - 1 : count))
        let short = hot.jump(if: Condition.less)
        short.lead(to: cold.place)
        cold.arithmetic(ArithmeticNumber.add, .register(.budget), constant: Int32(count))
        emitStub(addExit(to: block.pointee.rip))
    }

    /// Runs on to the next block, where the last instruction has not gone elsewhere.
    private func emitEnd() {
        if !instructions[count - 1].form.isTransfer { emitFallThrough() }
        emitSideExits()
    }

    /// The stub by which `instructions[index]` is done by its handler when its code cannot; then on with the next.
    private func emitMisses() {
        for probe in probes { emitFill(probe) }
        probes.removeAll(keepingCapacity: true)
        emitGroupMisses()
        guard !misses.isEmpty else { return }
        for site in misses { site.lead(to: cold.place) }
        misses.removeAll(keepingCapacity: true)
        emitHandlerCall(&cold, index)
        emitReturn(to: hot.place)
    }

    /// After the last instruction of a group: the stub that does it by its handlers.
    private func emitGroupMisses() {
        let group = instructions[index].group
        guard group.last == index, !groupMisses.isEmpty else { return }
        for site in groupMisses { site.lead(to: cold.place) }
        groupMisses.removeAll(keepingCapacity: true)
        for member in group.first...group.last { emitHandlerCall(&cold, member) }
        emitReturn(to: hot.place)
    }

    /// From the stub of the current instruction on with the next one.
    private func emitReturn(to place: UnsafeMutableRawPointer) {
        if instructions[index].form.isTransfer { return }
        if flags.inHost && instructions[index].liveAfter != 0 {
            cold.call(thunks.loadFlags)
            cold.flagsFromAX()
        }
        cold.jump(to: place)
    }

    /// Looks up the page that a probe missed and probes again; an operand that crosses the page's end, a fault or what
    /// is not plain RAM is the handler's.
    private func emitFill(_ probe: Probe) {
        let group = instructions[index].group
        probe.site.lead(to: cold.place)
        cold.arithmetic(ArithmeticNumber.xor, .address, .indexed(.state, .first, scale: 0, probe.tag))
        cold.move(.first, .address, size: 4)
        cold.arithmetic(ArithmeticNumber.and, .register(.first), size: 4, constant: Int32(pageSize) - 1)
        cold.arithmetic(ArithmeticNumber.cmp, .register(.first), size: 4, constant: Int32(pageSize) - probe.size)
        let crosses = cold.jump(if: Condition.above)
        let slots = UInt64(blocks.slot(of: block)) << 32 | UInt64(blocks.slot(of: instructions[index].op))
        // The first access may read where a later one of its group writes: it is the one that looks the page up.
        let writes = group.exists ? group.firstWrites : probe.writes
        let kind = (writes ? Thunks.fillWrites : 0) | (probe.isStack ? Thunks.fillIsStack : 0)
        cold.move(.first, constant: slots | kind)
        // The page is looked up for the first access, not for the lowest. LEA keeps the answer in ZF.
        let offset = instructions[index].groupOffset
        if offset != 0 { cold.loadAddress(.address, .memory(.address, offset)) }
        cold.call(thunks.fill)
        if offset != 0 { cold.loadAddress(.address, .memory(.address, -offset)) }
        guard writes != probe.writes else {
            cold.jump(if: Condition.notEqual, to: probe.start)
            let isAbsent = cold.jump()
            if group.exists { groupMisses += [crosses, isAbsent] } else { misses += [crosses, isAbsent] }
            return
        }
        let isAbsent = cold.jump(if: Condition.equal)
        let isReadOnly = compareTag(&cold, tag: probe.tag, room: Int32(pageSize) - probe.size)
        cold.jump(to: probe.end)
        groupMisses += [crosses, isAbsent, isReadOnly]
    }

    /// Calls the handler of an instruction of the block.
    func emitHandlerCall(_ e: inout Emitter, _ index: Int) {
        e.move(.rdx, constant: UInt64(blocks.slot(of: instructions[index].op)))
        e.move(.r14, constant: UInt64(blocks.slot(of: block)))
        e.call(thunks.handler)
    }

    // MARK: Exits

    /// A new exit; its stub is what is emitted into `cold` next.
    func addExit(to rip: UInt64, site: JumpSite? = nil) -> Int {
        exits[exitCount] = CodeExit(rip: rip, site: site, stub: cold.place, nextIncoming: 0)
        exitCount += 1
        return exitCount - 1
    }

    /// The stub of an exit.
    func emitStub(_ exit: Int) {
        cold.move(.rax, constant: UInt64(exit))
        cold.jump(to: thunks.exit)
    }
}
