import CEngine

// Moving between blocks. Handlers return the next operation; these are the operations at a block's two ends, and what
// branches use to find their target.
extension UnsafeMutablePointer where Pointee == CPUState {
    /// The head of every block: charges its instructions, or goes back if a deadline comes first.
    @inline(__always) func enterBlock(_ op: OperationPointer) -> Next {
        let count = pointee.count &+ UInt64(op.pointee.remaining)
        guard count <= pointee.deadline else { return nil }
        pointee.count = count
        pointee.blockRIP = pointee.rip
        return op + 1
    }

    /// The head of a block in code whose CS limit can cut it off: goes back if it does, for the run loop to step.
    func enterBlockWithinLimit(_ op: OperationPointer) -> Next {
        let last = pointee.rip &+ op.pointee.immediate &- 1
        guard last <= UInt64(pointee.segments.1.limit) else { return nil }
        return enterBlock(op)
    }

    /// The operation after a block's last instruction: control runs on.
    func fallThrough(_ op: OperationPointer) -> Next {
        branch(to: truncateRIP(pointee.blockRIP &+ UInt64(op.pointee.offset)), op)
    }

    /// Continues at `rip`, already cut to the code size, at the end of a block. `count` is exact there.
    @inline(__always) func jump(to rip: UInt64) -> Next {
        pointee.rip = rip
        guard pointee.patched == nil else { return nil }
        return findBlock()
    }

    /// A direct branch at the end of a block, to `rip`. Branches inside a page are linked: the page they are on is the
    /// one being executed, so no lookup of the modelled TLB is due.
    @inline(__always) func branch(to rip: UInt64, _ op: OperationPointer) -> Next {
        pointee.rip = rip
        guard pointee.patched == nil else { return nil }
        if let link = op.pointee.link { return link }
        return linkBranch(op)
    }

    @inline(never) private func linkBranch(_ op: OperationPointer) -> Next {
        guard let head = findBlock() else { return nil }
        let from = (pointee.blockRIP &+ UInt64(op.pointee.offset)) & pageMask
        if from == pointee.rip & pageMask && pointee.blockRIP & pageMask == from { op.pointee.link = head }
        return head
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Where RIP points, as a linear address.
    @inline(__always) var linearRIP: UInt64 {
        is64Bit ? pointee.rip : (pointee.segments.1.base &+ pointee.rip) & 0xffff_ffff
    }

    /// The decoded block at RIP, if the modelled TLB and the cache have it at hand; otherwise nil, and the run loop
    /// does
    /// the rest.
    @inline(__always) func findBlock() -> OperationPointer? {
        let linear = linearRIP
        var physical = linear
        if pointee.cr0 & CR0.pg != 0 {
            let shift: UInt64 = pointee.cr4 & CR4.pae != 0 ? 21 : 22
            guard let (slot, entry) = TLB.lookup(linear, in: pointee.fetchEntries, largeShift: shift) else {
                return nil
            }
            let needed: UInt64 = pointee.cpl == 3 ? TLBFlags.user : 0
            guard entry.frame & (needed | TLBFlags.noExecute) == needed else { return nil }
            let pageBits: UInt64 = slot < TLB.smallEntries ? 0xfff : (1 << shift) - 1
            physical = (entry.frame & pageMask) | (linear & pageBits)
        }
        return BlockCache.find(
            physical & pointee.physicalMask, pointee.rip, pointee.mode, buckets: pointee.blockBuckets,
            arena: pointee.blockArena)
    }
}

extension Processor {
    // MARK: Run loop

    /// Executes until `clock` counts `limit`, or something else needs the machine. RIP, count and `clock` are exact
    /// then.
    package func run(until limit: UInt64) -> StopReason {
        defer { clock.count = cpu.pointee.count }
        cpu.pointee.count = clock.count
        stopRequested = false
        while true {
            cpu.restorePatched()
            cpu.pointee.position = cpu.pointee.count
            clock.count = cpu.pointee.count
            if stopRequested { return .stopped }
            if cpu.pointee.count >= limit { return .count }
            // Translated code has the distance to the deadline in a signed register.
            cpu.pointee.deadline = min(limit, cpu.pointee.count &+ 1 << 62)
            if cpu.pointee.pending != 0 {
                if cpu.pointee.pending & PendingFlags.shutdown != 0 { return .shutdown }
                if cpu.pointee.pending & PendingFlags.unsupported != 0 { return .unsupported }
                cpu.deliverFault()
                continue
            }
            if takeEvent() { continue }
            if cpu.pointee.halted { return .halted }
            if needsStep {
                step()
            } else if let translator, cpu.pointee.dataCache != dataCaches.disabled {
                runTranslated(translator)
            } else {
                runBlocks()
            }
        }
    }

    /// Delivers a debug trap, SMI, NMI or interrupt that is due at this boundary (SDM volume 3, table 6-2).
    private func takeEvent() -> Bool {
        let shadow = cpu.pointee.interruptShadow
        if cpu.pointee.pendingDebug != 0 && shadow != 2 {
            cpu.pointee.halted = false
            cpu.deliverDebugTrap()
            return true
        }
        guard shadow == 0 else { return false }
        if cpu.pointee.smiPending && !cpu.pointee.inSMM {
            cpu.pointee.smiPending = false
            cpu.pointee.halted = false
            cpu.enterSMM()
            return true
        }
        if cpu.pointee.nmiPending && !cpu.pointee.nmiBlocked {
            cpu.pointee.nmiPending = false
            cpu.pointee.halted = false
            cpu.deliverNMI()
            return true
        }
        if cpu.pointee.interruptLine && cpu.pointee.flags & RFlags.if != 0 {
            cpu.pointee.halted = false
            cpu.deliverInterrupt(vector: acknowledgeInterrupt())
            return true
        }
        return false
    }

    /// Whether exactly one instruction may run before something must be looked at again.
    private var needsStep: Bool {
        cpu.pointee.interruptShadow != 0 || cpu.pointee.flags & (RFlags.tf | RFlags.rf) != 0
            || cpu.pointee.dr.7 & 0xff != 0
    }

    /// Runs linked blocks until one goes back.
    private func runBlocks() {
        guard let head = cpu.findBlock() ?? fetchBlock() else { return }
        guard head.pointee.handler(cpu, head) != nil else { return finishPartial(head) }
        var op = head + 1
        while let next = op.pointee.handler(cpu, op) { op = next }
    }

    /// A head refused to start: the deadline is inside its block, or the segment's limit, or the block is stale.
    func finishPartial(_ head: OperationPointer) {
        guard cpu.pointee.pending == 0, BlockCache.block(ofHead: head).pointee.isAlive else { return }
        let count = UInt64(head.pointee.remaining)
        if cpu.pointee.count &+ count > cpu.pointee.deadline {
            guard cpu.pointee.deadline > cpu.pointee.count else { return }
            runPartial(head, instructions: Int(cpu.pointee.deadline &- cpu.pointee.count))
        } else {
            runPartial(head, instructions: 1)
        }
    }

    /// Executes up to `instructions` instructions of a block one at a time, and stops at the boundary after them.
    private func runPartial(_ head: OperationPointer, instructions: Int) {
        guard crossingBlockHolds(head) else { return }
        cpu.pointee.blockRIP = cpu.pointee.rip
        cpu.pointee.count &+= UInt64(head.pointee.remaining)
        var op = head + 1
        for _ in 0..<instructions {
            guard withinLimit(op) else { return }
            guard let next = op.pointee.handler(cpu, op) else { return }
            if next != op + 1 { return }
            op = next
        }
        _ = cpu.leave(at: op)
        cpu.pointee.rip = cpu.truncateRIP(cpu.pointee.rip)
    }

    /// #GP(0) where an instruction's bytes pass the limit of CS.
    private func withinLimit(_ op: OperationPointer) -> Bool {
        guard cpu.pointee.mode & ModeKey.unchecked(SegmentIndex.cs) == 0 else { return true }
        let last = cpu.rip(of: op) &+ UInt64(op.pointee.length) &- 1
        if last <= UInt64(cpu.pointee.segments.1.limit) { return true }
        _ = cpu.generalProtection(at: op)
        return false
    }

    /// One instruction under TF, RF, an interrupt shadow or breakpoints, and the debug trap that may follow it.
    private func step() {
        let resumes = cpu.pointee.flags & RFlags.rf != 0
        if !resumes && cpu.pointee.interruptShadow != 2 && hitsInstructionBreakpoint() { return }
        let traps = cpu.pointee.flags & RFlags.tf != 0
        let looksAfterIteration = traps || cpu.pointee.interruptShadow != 0 || cpu.pointee.dr.7 & 0xff != 0
        cpu.pointee.interruptShadow = 0
        cpu.pointee.flags &= ~RFlags.rf
        guard let head = cpu.findBlock() ?? fetchBlock() else { return }
        let before = cpu.pointee.count
        if looksAfterIteration { cpu.pointee.deadline = before &+ 1 }
        runPartial(head, instructions: 1)
        cpu.restorePatched()
        if traps && cpu.pointee.pending == 0 && cpu.pointee.count != before {
            cpu.pointee.pendingDebug |= DebugStatus.singleStep
        }
    }

    /// Instruction breakpoints (SDM volume 3, 17.2.4): a fault before the instruction.
    private func hitsInstructionBreakpoint() -> Bool {
        let control = cpu.pointee.dr.7
        guard control & 0xff != 0 else { return false }
        let linear = cpu.linearRIP
        var hits: UInt64 = 0
        for index in 0..<4 where control & (3 << UInt64(index * 2)) != 0 && (control >> UInt64(16 + index * 4)) & 3 == 0
        {
            if cpu_dr(cpu, Int32(index)).pointee == linear { hits |= 1 << UInt64(index) }
        }
        guard hits != 0 else { return false }
        cpu.pointee.pendingDebug |= hits
        cpu.setFault(ExceptionVector.db)
        return true
    }

    // MARK: Fetch

    /// The block at RIP after whatever it takes: page walk, decoding. Nil with a fault recorded, or when RIP must be
    /// looked
    /// at again.
    func fetchBlock() -> OperationPointer? {
        let linear = cpu.linearRIP
        if cpu.is64Bit {
            guard isCanonical(linear) else {
                cpu.setFault(ExceptionVector.gp, code: 0)
                return nil
            }
        } else if cpu.pointee.rip > UInt64(cpu.pointee.segments.1.limit) {
            cpu.setFault(ExceptionVector.gp, code: 0)
            return nil
        }
        guard let physical = translate(linear, [.fetch], cpl: cpu.pointee.cpl) else { return nil }
        if watchesPaging { touch(physical) }
        if let head = blocks.find(physical, cpu.pointee.rip, cpu.pointee.mode) { return head }
        return buildBlock(linear, physical)
    }

    private func buildBlock(_ linear: UInt64, _ physical: UInt64) -> OperationPointer? {
        let room = Int(pageSize - (physical & ~pageMask))
        let block = blocks.begin(instructions: BlockBuilder.maximumInstructions)
        if let page = memory.readPage(physical) {
            let bytes = UnsafeRawBufferPointer(start: page + Int(physical & ~pageMask), count: room)
            if case .built(let operations) = builder.build(
                block, bytes, physical: physical, rip: cpu.pointee.rip, mode: cpu.pointee.mode, single: false)
            {
                blocks.commit(block, operations: operations)
                markCode(physical)
                reportDecoded(physical, bytes: block.pointee.byteLength, instructions: block.pointee.instructionCount)
                return BlockCache.head(block)
            }
        }
        return buildCrossing(block, linear, physical, room)
    }

    /// One instruction that crosses a page end, or lies in memory-mapped registers: its bytes are gathered first.
    private func buildCrossing(
        _ block: BlockCache.BlockPointer, _ linear: UInt64, _ physical: UInt64, _ room: Int
    ) -> OperationPointer? {
        var bytes = [UInt8](repeating: 0, count: BlockBuilder.maximumLength)
        let first = min(room, bytes.count)
        for index in 0..<first { bytes[index] = readByte(physical + UInt64(index)) }
        var second: UInt64 = ~0
        if first < bytes.count {
            let next = (linear &+ UInt64(room)) & (cpu.is64Bit ? ~0 : 0xffff_ffff)
            guard limitAllows(codeAt: cpu.pointee.rip &+ UInt64(room)) else { return nil }
            guard let address = translate(next, [.fetch], cpl: cpu.pointee.cpl) else { return nil }
            second = address & pageMask
            for index in first..<bytes.count { bytes[index] = readByte(second + UInt64(index - first)) }
        }
        let result = bytes.withUnsafeBytes {
            builder.build(block, $0, physical: physical, rip: cpu.pointee.rip, mode: cpu.pointee.mode, single: true)
        }
        guard case .built(let operations) = result else { return nil }
        let head = BlockCache.head(block)
        // What a device answers may change, so such code is decoded each time it runs.
        guard memory.readPage(physical) != nil else { return head }
        block.pointee.secondPage = second
        head.pointee.handler = { cpu, op in cpu.enterCrossingBlock(op) }
        blocks.commit(block, operations: operations)
        markCode(physical)
        if second != ~0 { markCode(second) }
        reportDecoded(physical, bytes: block.pointee.byteLength, instructions: block.pointee.instructionCount)
        return head
    }

    private func readByte(_ physical: UInt64) -> UInt8 {
        guard let page = memory.readPage(physical) else {
            return UInt8(truncatingIfNeeded: mmio.read(physical, size: 1))
        }
        return (page + Int(physical & ~pageMask)).load(as: UInt8.self)
    }

    private func markCode(_ physical: UInt64) {
        guard memory.attributes(physical) & FrameAttributes.code == 0, let page = memory.writablePage(physical) else {
            return
        }
        memory.mark(physical, FrameAttributes.code)
        dataCaches.protect(page)
    }

    /// Whether CS reaches as far as the second page of an instruction, which is fetched after that check. Otherwise
    /// records #GP(0). In a segment of 4 GB code runs on at its start.
    private func limitAllows(codeAt rip: UInt64) -> Bool {
        let limit = cpu.pointee.segments.1.limit
        if cpu.is64Bit || limit == 0xffff_ffff || rip <= UInt64(limit) { return true }
        cpu.setFault(ExceptionVector.gp, code: 0)
        return false
    }

    /// Whether the second page of a crossing block is still where its bytes came from. A fetch fault is recorded.
    func crossingBlockHolds(_ head: OperationPointer) -> Bool {
        let block = BlockCache.block(ofHead: head)
        guard block.pointee.secondPage != ~0 else { return true }
        cpu.pointee.position = cpu.pointee.count
        clock.count = cpu.pointee.count
        let linear = cpu.linearRIP
        let next = ((linear & pageMask) &+ pageSize) & (cpu.is64Bit ? ~0 : 0xffff_ffff)
        guard limitAllows(codeAt: cpu.pointee.rip &+ pageSize &- (linear & ~pageMask)) else { return false }
        guard let address = translate(next, [.fetch], cpl: cpu.pointee.cpl) else { return false }
        if address & pageMask == block.pointee.secondPage { return true }
        blocks.invalidate(block.pointee.physical, 1, cpu)
        return false
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The head of a block whose one instruction crosses a page end.
    func enterCrossingBlock(_ op: OperationPointer) -> Next {
        guard pointee.count &+ UInt64(op.pointee.remaining) <= pointee.deadline else { return nil }
        guard withProcessor({ $0.crossingBlockHolds(op) }) else { return nil }
        return enterBlockWithinLimit(op)
    }
}
