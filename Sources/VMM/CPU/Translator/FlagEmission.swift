import CEngine

/// Where the guest's arithmetic flags are at a point of a block's code.
struct FlagState {
    /// In the host's flags. Those that are not live may be wrong there.
    var inHost = false
    /// In `hostFlags`, or in the interpreter's form if that is 0.
    var inMemory = true
    /// The host's AF is not what the guest's is defined to be, which is 0.
    var clearsAF = false
}

// The flags of the guest live in the host's flags from the instruction that makes them to the first one that destroys
// those: then they are saved if they are live. The inline probe of the data cache destroys them.
extension Translator {
    var current: GuestInstruction { instructions[index] }

    /// Makes sure that memory has the flags. AX is lost.
    func saveFlags() {
        guard !flags.inMemory else { return }
        hot.flagsToAX(clearsAF: flags.clearsAF && !has(.auxiliaryCarry))
        if !has(.flagSave) { hot.store(.state(StateOffset.hostFlags), size: 2, .rax) }
        // Clearing AF in AH takes an instruction that sets flags.
        if flags.clearsAF { flags.inHost = false }
        flags.inMemory = true
    }

    /// To be called before code that destroys the host's flags, in an instruction that may look at `live` flags, or
    /// others after it.
    func loseHostFlags(live: UInt64) {
        if live != 0 { saveFlags() }
        flags.inHost = false
        flags.inMemory = true
    }

    /// Makes sure that the host has the flags. AX is lost.
    func loadFlags() {
        guard !flags.inHost else { return }
        hot.extend(.rax, size: 4, .state(StateOffset.hostFlags), from: 2, signed: false)
        hot.test(.register(.rax), size: 4, .rax)
        let missing = hot.jump(if: Condition.equal)
        missing.lead(to: cold.place)
        cold.call(thunks.loadFlags)
        cold.jump(to: hot.place)
        hot.flagsFromAX()
        flags.inHost = true
        flags.clearsAF = false
    }

    /// The host's flags are now the guest's, as far as they are live.
    func setHostFlags(clearsAF: Bool = false) {
        flags = FlagState(inHost: true, inMemory: false, clearsAF: clearsAF)
    }

    /// Before an instruction that writes only some flags: the host must have the others if they are live.
    func prepareForPartialFlags() {
        if current.liveAfter & ~current.writes != 0 { loadFlags() }
    }

    /// After such an instruction.
    func setPartialFlags() {
        flags.inHost = true
        flags.inMemory = false
    }
}
