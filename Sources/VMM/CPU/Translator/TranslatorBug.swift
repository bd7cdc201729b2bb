/// A bug that a test puts into the translator, to see that the tests find it. They are looked at while code is emitted
/// or dropped, never while it runs.
package enum TranslatorBug: String, CaseIterable {
    /// Flags that an instruction destroys are not saved.
    case flagSave
    /// AF after a logical operation is the host's.
    case auxiliaryCarry
    /// Nobody is thought to look at the flags after a block.
    case flagLiveness
    /// The flags at a fault of a memory operand are not thought to be seen.
    case flagsAtFault
    /// ADC and SBB find any carry.
    case carryIn
    /// INC and DEC change CF too.
    case carryKept
    /// A shift by CL of zero changes the flags.
    case shiftByZero
    /// A branch out of the middle of a block is charged for the whole.
    case refund
    /// A block is charged an instruction too few.
    case charge
    /// An operand that crosses the end of its page is accessed there.
    case pageCross
    /// Writes go by the rights to read.
    case writeRights
    /// 32-bit addresses are not cut.
    case addressMask
    /// The bases of FS and GS are not added.
    case segmentBase
    /// The private cache of the other privilege is probed.
    case privilege
    /// Vector operands that are not aligned do not fault.
    case alignment
    /// A branch to another page is linked like one inside the page.
    case linkAcrossPages
    /// Links lead to a block that is gone.
    case staleLink
    /// The cache of branch targets leads to a block that is gone.
    case staleTarget
    /// … or to a page that is mapped elsewhere now.
    case stalePage
    /// The cache of branch targets does not tell modes apart.
    case targetMode
    /// A block whose code a handler has changed goes on.
    case ownCode
    /// What a handler asks to be done at the next boundary is not.
    case handlerLeave
    /// A register is not written back for a handler.
    case spill
    /// RSP changes before a push can fault.
    case pushOrder
    /// RET does not pop its bytes.
    case returnBytes
    /// RET leaves the mark of its return address.
    case callMark
    /// AH to BH are the low bytes.
    case highByte
}
