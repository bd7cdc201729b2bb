import CEngine

/// What a block that crosses a page end rests on besides its own place: that the fetch TLB leads from its second linear
/// page to its second physical page, with the rights that its mode needs. Translated code checks it in place.
struct CrossingCondition {
    /// Where the entry is among the fetch TLB's.
    let slot: Int
    let tag: UInt64
    /// Of the entry's frame: the bits that matter, which fit a sign-extended 32-bit constant, and their value.
    let mask, frame: UInt64

    /// The condition under which `block` may run in the present state of the fetch TLB; nil if that holds no entry for
    /// the second page, or one of no use.
    init?(_ block: Block, _ cpu: CPU) {
        guard cpu.pointee.cr0 & CR0.pg != 0 else { return nil }
        let is64 = block.mode & ModeKey.sizeMask == ModeKey.code64
        let second = ((block.rip & pageMask) &+ pageSize) & (is64 ? ~0 : 0xffff_ffff)
        let shift: UInt64 = cpu.pointee.cr4 & CR4.pae != 0 ? 21 : 22
        guard let (slot, entry) = TLB.lookup(second, in: cpu.pointee.fetchEntries, largeShift: shift) else {
            return nil
        }
        let rights = (block.mode & ModeKey.user != 0 ? TLBFlags.user : 0) | TLBFlags.noExecute
        let pageBits: UInt64 = slot < TLB.smallEntries ? 0 : ((1 << shift) - 1) & pageMask
        self.slot = slot
        tag = entry.tag
        mask = (pageMask & ~pageBits) | rights
        frame = entry.frame & mask
        let physical = (entry.frame & pageMask) | (second & pageBits)
        guard frame & rights == rights & TLBFlags.user, physical & cpu.pointee.physicalMask == block.secondPage else {
            return nil
        }
    }
}

extension Translator {
    /// Checks a crossing block's condition; where it does not hold, leaves to be looked at anew.
    func emitCrossingCheck(_ condition: CrossingCondition) {
        let entry = Int32(condition.slot * MemoryLayout<TLBEntry>.stride)
        hot.load(.rdx, .state(StateOffset.fetchEntries))
        hot.move(.rax, constant: condition.tag)
        hot.arithmetic(ArithmeticNumber.cmp, .rax, .memory(.rdx, entry))
        let otherPage = hot.jump(if: Condition.notEqual)
        hot.load(.rax, .memory(.rdx, entry + 8))
        hot.arithmetic(
            ArithmeticNumber.and, .register(.rax), constant: Int32(truncatingIfNeeded: condition.mask))
        hot.move(.rdx, constant: condition.frame)
        hot.arithmetic(ArithmeticNumber.cmp, .rax, .register(.rdx))
        let otherFrame = hot.jump(if: Condition.notEqual)
        otherPage.lead(to: cold.place)
        otherFrame.lead(to: cold.place)
        emitStub(addExit(to: block.pointee.rip))
    }
}
