import DifferentialSupport
import VMM

/// Makes random programs. The parts of it: `FormItems` for instructions of any form with good operands, `Branches` for
/// how blocks end, `SystemItems` for what only a machine has, `SelfModification` for stores to code.
final class ProgramGenerator {
    let setting: Setting
    let pool: FormPool
    /// The program is one that the host CPU can run too: a user's, and nothing in it is meant to fault.
    let forHost: Bool
    var random: Random
    var program: Program
    /// What general registers are known to hold at this place of the block.
    var known = [UInt64?](repeating: nil, count: 16)
    /// Blocks that end with RET and are called.
    var functions: [Int] = []
    private var nextID = 0
    private var items: [Item] = []

    init(setting: Setting, pool: FormPool, forHost: Bool, random: Random) {
        self.setting = setting
        self.pool = pool
        self.forHost = forHost
        self.random = random
        program = Program(test: Case(setting: setting))
    }

    var is64: Bool { setting.is64Bit }

    func make() -> Program {
        chooseStart()
        if !forHost && random.chance(6) {
            makeRaw()
        } else {
            let count = 4 + random.below(random.chance(30) ? 40 : 16)
            functions = (1..<count).filter { _ in random.chance(15) }
            for number in 0..<count { makeBlock(number, of: count) }
            addExit()
            if !forHost { addSelfModification() }
        }
        chooseEvents()
        return program
    }

    private func chooseStart() {
        program.gapSeed = random.next()
        program.test.codeIsWritable = random.chance(65)
        program.test.watchesEvents = !forHost && random.chance(20)
        program.test.stateSeed = random.next()
        program.test.threshold = UInt16(random.pick([0, 0, 0, 1, 2, 5]))
        program.test.fuel = UInt64(5 + random.below(random.chance(20) ? 150 : 45))
        program.test.limit = forHost ? 30000 : random.chance(90) ? 4000 : 20000
        program.test.masksExceptions = forHost
        for number in 0..<16 {
            let pointer = Linear.low + Linear.data + UInt64(random.below(0x1e00))
            let value = random.chance(35) ? pointer : random.integer()
            program.test.registers[number] = is64 ? value : number < 8 ? value & 0xffff_ffff : 0
        }
        program.test.registers[4] = Linear.stackStart - UInt64(random.below(32) * 8)
        var flags: UInt64 = 2 | random.next() & RFlags.arithmetic
        if forHost || random.chance(80) { flags |= RFlags.if }
        if !forHost {
            if random.chance(4) { flags |= RFlags.df }
            if random.chance(25) { flags |= RFlags.iopl }
            if random.chance(2) { flags |= RFlags.ac }
            if random.chance(1) { flags |= RFlags.tf }
        }
        program.test.rflags = flags
    }

    // MARK: Blocks

    private func makeBlock(_ number: Int, of count: Int) {
        items = []
        known = [UInt64?](repeating: nil, count: 16)
        if random.chance(25) { resetStack() }
        for _ in 0..<(1 + random.below(random.chance(10) ? 40 : 12)) { addItem() }
        var block = Block()
        block.seeksPageEnd = random.chance(12)
        block.follows = number > 0 && fallsThrough
        fallsThrough = functions.contains(number) ? addReturn() : addBranch(from: number, of: count)
        block.items = items
        program.blocks.append(block)
    }

    /// Whether the block made last runs on into the next.
    private var fallsThrough = false

    private func addItem() {
        if !functions.isEmpty, random.chance(5) {
            // CALL rel32
            let target = Reference.Target.block(random.pick(functions))
            add([0xe8, 0, 0, 0, 0], .branch, [Reference(form: .relative32, position: 1, target: target)])
            forgetAll()
            return
        }
        if !forHost && random.chance(12) { return addSystemItem() }
        if random.chance(8) { return addNeighbours() }
        addFormItem()
    }

    /// Accesses at small distances from one register, with what moves it and the stack between them.
    private func addNeighbours() {
        let base = UInt8(random.pick([3, 5, 6, 7]))
        addMove(Int(base), chooseTarget(8, reaches: .low32))
        for _ in 0..<(2 + random.below(6)) {
            let register = UInt8(random.pick([0, 1, 2]))
            let wide: [UInt8] = is64 && random.chance(40) ? [0x48] : random.chance(15) ? [0x66] : []
            let place: [UInt8] = [0x40 | register << 3 | base, UInt8(truncatingIfNeeded: random.below(80) - 40)]
            known[Int(register)] = nil
            switch random.below(12) {
            case 0..<3: add(wide + [0x8b] + place, .setUp)
            case 3..<6: add(wide + [0x89] + place, .setUp)
            case 6: add(wide + [random.pick([0x01, 0x29, 0x39, 0x03, 0x3b])] + place, .setUp)
            case 7: add([0x0f, random.pick([0xb6, 0xb7, 0xbe])] + place, .setUp)
            case 8: add([0x50 | register], .setUp)
            case 9: add([0x58 | register], .setUp)
            case 10:
                add((is64 ? [0x48] : []) + [0x83, 0xc0 | base, UInt8(random.below(32))], .setUp)
                known[Int(base)] = nil
            default: add([0x0f, random.pick([0x10, 0x11]), place[0], place[1]], .setUp)
            }
        }
    }

    private func addExit() {
        items = []
        add([0xcc], .exit)
        program.blocks.append(Block(items: items, follows: fallsThrough))
    }

    func add(_ bytes: [UInt8], _ kind: ItemKind, _ references: [Reference] = []) {
        items.append(makeItem(bytes, kind, references))
    }

    func makeItem(_ bytes: [UInt8], _ kind: ItemKind, _ references: [Reference] = []) -> Item {
        nextID += 1
        return Item(id: nextID, kind: kind, bytes: bytes, references: references)
    }

    /// Changes the item added last.
    func changeLast(_ change: (inout Item) -> Void) { change(&items[items.count - 1]) }

    func forgetAll() { for number in 0..<16 { known[number] = nil } }

    // MARK: Small instructions

    func littleEndian(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    /// MOV of an immediate into a whole general register.
    func addMove(_ register: Int, _ value: UInt64) {
        let opcode = 0xb8 | UInt8(register & 7)
        let extended: UInt8 = register >= 8 ? 1 : 0
        if !is64 || value >> 32 == 0 {
            add((extended != 0 ? [0x41] : []) + [opcode] + littleEndian(value, 4), .setUp)
            known[register] = value & 0xffff_ffff
        } else {
            add([0x48 | extended, opcode] + littleEndian(value, 8), .setUp)
            known[register] = value
        }
    }

    func resetStack() { addMove(4, Linear.stackStart - UInt64(random.below(64) * 8)) }

    /// ModRM and displacement of an absolute address, with the reg field given.
    func absolute(_ reg: UInt8, _ address: UInt64) -> [UInt8] {
        (is64 ? [0x04 | reg << 3, 0x25] : [0x05 | reg << 3]) + littleEndian(address, 4)
    }

    // MARK: Whole programs

    /// Random bytes, at which execution may begin anywhere.
    private func makeRaw() {
        for number in 0..<24 {
            items = []
            for _ in 0..<8 {
                var bytes = (0..<(1 + random.below(12))).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                // INT3 would end it.
                for index in bytes.indices where bytes[index] == 0xcc { bytes[index] = 0x90 }
                add(bytes, .system)
            }
            program.blocks.append(Block(items: items, seeksPageEnd: number % 8 == 7))
        }
        fallsThrough = true
        addExit()
    }

    private func chooseEvents() {
        guard !forHost else { return }
        let count = random.below(6)
        var counts = (0..<count).map { _ in 1 + UInt64(random.below(random.chance(50) ? 120 : 900)) }
        counts.sort()
        for count in counts {
            let kind: Event.Kind =
                switch random.below(12) {
                case 0...4: .check
                case 5...8: .interrupt(0xe0 | UInt8(random.below(8)))
                case 9: random.chance(50) ? .nmi : .check
                case 10:
                    .dma(
                        dmaTarget(), (0..<(1 + random.below(8))).map { _ in UInt8(truncatingIfNeeded: random.next()) })
                default: random.chance(10) ? .a20 : .check
                }
            program.test.events.append(Event(count: count, kind: kind))
        }
    }

    private func dmaTarget() -> UInt64 {
        let page = random.chance(70) ? Physical.code : Physical.data
        return page + UInt64(random.below(0x800))
    }
}
