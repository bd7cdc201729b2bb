import CEngine
import CZydis

/// Picks the handler of one decoded instruction, and finishes its operation where the common operand wiring is not
/// enough. Returning nil means that the instruction does not exist in this form: #UD.
package typealias HandlerChoice = (inout Decoding) -> Handler?

/// The instructions that the engine has: one row a mnemonic. Rows live beside their handlers, in `Instructions/`.
package struct InstructionTable {
    private var selectors = [HandlerChoice?](repeating: nil, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)

    package static let shared = InstructionTable()

    private init() {
        addArithmetic()
        addMoves()
        addShifts()
        addBits()
        addBranches()
        addStrings()
        addStack()
        addSystem()
        addFarTransfers()
        addX87()
        addSSE()
    }

    /// The row of a mnemonic; nil if the engine does not have the instruction.
    package subscript(mnemonic: ZydisMnemonic) -> HandlerChoice? { selectors[Int(mnemonic.rawValue)] }

    /// Adds a row whose handler depends on the operands.
    package mutating func row(_ mnemonic: ZydisMnemonic, _ select: @escaping HandlerChoice) {
        precondition(selectors[Int(mnemonic.rawValue)] == nil, "an instruction has two rows")
        selectors[Int(mnemonic.rawValue)] = select
    }

    /// Shares a mnemonic that another instruction has already (MOVSD and CMPSD are strings and SSE2): `select` answers
    /// for the forms that `applies` to.
    package mutating func row(
        _ mnemonic: ZydisMnemonic, when applies: @escaping (Decoding) -> Bool, _ select: @escaping HandlerChoice
    ) {
        let other = selectors[Int(mnemonic.rawValue)]
        selectors[Int(mnemonic.rawValue)] = { d in applies(d) ? select(&d) : other?(&d) }
    }

    /// Adds a row with one handler for every form.
    package mutating func row(_ mnemonic: ZydisMnemonic, endsBlock: Bool = false, _ handler: @escaping Handler) {
        row(mnemonic) { decoding in
            if endsBlock { decoding.endsBlock = true }
            return handler
        }
    }
}

/// Handlers of one operation for each operand size.
package struct SizedHandlers {
    private let byte, word, doubleword, quadword: Handler

    package init(
        _ byte: @escaping Handler, _ word: @escaping Handler, _ doubleword: @escaping Handler,
        _ quadword: @escaping Handler
    ) {
        (self.byte, self.word, self.doubleword, self.quadword) = (byte, word, doubleword, quadword)
    }

    package subscript(size: Int) -> Handler {
        switch size {
        case 1: byte
        case 2: word
        case 4: doubleword
        default: quadword
        }
    }
}
