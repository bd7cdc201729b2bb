import CEngine

// The run loop of the translator: blocks that have code run it, others are interpreted until they are hot.
extension Processor {
    /// Runs blocks until the machine must be looked at. RIP, count and flags are in the state then.
    func runTranslated(_ translator: Translator) {
        cpu.pointee.idleNanoseconds = clock.idleNanoseconds
        var exit = 0
        // A target at hand needs no lookup. Its code leaves at once if it must not run yet.
        if !translator.mustFlush, let code = JumpCache.find(cpu.pointee.rip, cpu.pointee.mode, cpu) {
            exit = translator.run(code)
            if exit == 0 { return }
        }
        var generation = translator.generation
        while true {
            if translator.mustFlush { blocks.flush() }
            guard let head = cpu.findBlock() ?? fetchInTime() else { return }
            let block = BlockCache.block(ofHead: head)
            guard block.pointee.code != 0 || heat(block, translator) else {
                guard interpret(head) else { return }
                exit = 0
                continue
            }
            guard cpu.pointee.count &+ UInt64(block.pointee.instructionCount) <= cpu.pointee.deadline else {
                return finishPartial(head)
            }
            if block.pointee.secondPage != ~0 && !crossingBlockHolds(head) { return }
            JumpCache.insert(block.pointee.rip, block.pointee.mode, translator.executable(block), cpu)
            if exit != 0 && generation == translator.generation { translator.link(exit, to: block) }
            let before = cpu.pointee.count
            exit = translator.run(translator.executable(block))
            if exit == 0 { return }
            generation = translator.generation
            if block.pointee.secondPage != ~0 && cpu.pointee.count == before && cpu.pointee.rip == block.pointee.rip {
                // Its code rests on another entry of the TLB than the one that leads there now.
                translator.unlink(block)
                block.pointee.heat = 0
            }
        }
    }

    /// The block at RIP after whatever it takes, unless the run ends before its first instruction: a page walk that
    /// nothing executed may not be seen.
    private func fetchInTime() -> OperationPointer? {
        guard cpu.pointee.count < cpu.pointee.deadline else { return nil }
        cpu.pointee.position = cpu.pointee.count
        clock.count = cpu.pointee.count
        return fetchBlock()
    }

    /// Counts that `block` is entered, and translates it when it is hot.
    /// - Returns: whether it has code now.
    private func heat(_ block: BlockCache.BlockPointer, _ translator: Translator) -> Bool {
        guard block.pointee.heat >= translator.threshold else {
            block.pointee.heat += 1
            return false
        }
        guard Translator.handles(block.pointee.mode), block.pointee.isAlive else { return false }
        return translator.translate(block, &builder)
    }

    /// Interprets one block.
    /// - Returns: whether another follows at once, with RIP and count exact.
    private func interpret(_ head: OperationPointer) -> Bool {
        guard head.pointee.handler(cpu, head) != nil else {
            finishPartial(head)
            return false
        }
        var op = head + 1
        while let next = op.pointee.handler(cpu, op) {
            if next != op + 1 { return true }
            op = next
        }
        return false
    }
}
