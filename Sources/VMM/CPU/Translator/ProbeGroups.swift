/// A run of memory accesses that one probe of the data cache serves: they lie at constant distances from one register,
/// and nothing between them can change what the modelled TLB holds.
///
/// The first access probes for all of them: it finds their page, or the page is looked up on its behalf. The others
/// then provably hit. Where they do not fit on one page, or the page is no plain RAM, the handlers do all of the run.
struct ProbeGroup {
    /// Indices of the first and the last instruction.
    var first = -1, last = -1
    /// The lowest address, relative to the register as it is at the first access, and the number of bytes.
    var low = 0, span = 0
    /// Some access writes; and the first one does.
    var writes = false, firstWrites = false

    var exists: Bool { first >= 0 }

    /// Wider runs would often cross the end of a page.
    private static let mostBytes = 256

    /// One memory access of an instruction.
    private struct Access {
        let base: Int
        let displacement: Int
        let size: Int
        let writes: Bool
    }

    /// Finds the groups among `count` instructions of a block whose stack and pointers are `width` bytes wide.
    static func analyze(_ instructions: UnsafeMutablePointer<GuestInstruction>, count: Int, width: Int) {
        var index = 0
        while index < count {
            let group = group(instructions, from: index, count: count, width: width)
            index = group.exists ? group.last + 1 : index + 1
        }
    }

    /// The group that begins with instruction `start`, entered into its members; one of a single access is none.
    private static func group(
        _ instructions: UnsafeMutablePointer<GuestInstruction>, from start: Int, count: Int, width: Int
    ) -> ProbeGroup {
        guard let opening = access(instructions[start], width) else { return ProbeGroup() }
        var group = ProbeGroup(
            first: start, last: start, low: opening.displacement, span: opening.size, writes: opening.writes,
            firstWrites: opening.writes)
        var moved = 0
        var index = start
        while let change = baseChange(instructions[index], opening.base, width) {
            moved += change
            index += 1
            guard index < count else { break }
            let next = instructions[index]
            guard next.mayTouchMemory else { continue }
            guard let other = access(next, width), other.base == opening.base else { break }
            let low = min(group.low, other.displacement + moved)
            let high = max(group.low + group.span, other.displacement + moved + other.size)
            guard high - low <= mostBytes else { break }
            group.low = low
            group.span = high - low
            group.last = index
            group.writes = group.writes || other.writes
        }
        guard group.last > start else { return ProbeGroup() }
        enter(group, into: instructions, base: opening.base, width)
        return group
    }

    /// Gives each access of the group its offset from the lowest address.
    private static func enter(
        _ group: ProbeGroup, into instructions: UnsafeMutablePointer<GuestInstruction>, base: Int, _ width: Int
    ) {
        var moved = 0
        for index in group.first...group.last {
            if let access = access(instructions[index], width) {
                instructions[index].group = group
                instructions[index].isProbed = index != group.first
                instructions[index].groupOffset = Int32(access.displacement + moved - group.low)
            }
            moved += baseChange(instructions[index], base, width) ?? 0
        }
    }

    /// The access of an instruction whose one memory operand is at a constant distance from a register.
    private static func access(_ instruction: GuestInstruction, _ width: Int) -> Access? {
        let stack = Register.rsp
        switch instruction.form {
        case .push:
            guard !instruction.destination.isMemory else { return nil }
            return Access(base: stack, displacement: -width, size: width, writes: true)
        case .call: return Access(base: stack, displacement: -width, size: width, writes: true)
        case .pop, .ret: return Access(base: stack, displacement: 0, size: width, writes: false)
        case .arithmetic, .test, .move, .extend, .not, .negate, .increment, .decrement, .shift, .exchange, .exchangeAdd,
            .multiplyTo, .multiply, .bitScan, .set, .conditionalMove, .vector, .vectorMove, .vectorLoadLow,
            .vectorStoreLow:
            break
        default: return nil
        }
        let address = instruction.address
        // One that must be aligned is judged before anything is looked up for it.
        guard instruction.hasMemory, !instruction.isAligned, address.base >= 0, address.index < 0, address.segment < 0,
            address.width == width * 8, let displacement = Int32(truncatingExactly: address.displacement, width)
        else { return nil }
        return Access(
            base: address.base, displacement: Int(displacement), size: instruction.accessSize,
            writes: instruction.writesMemory)
    }

    /// By how much an instruction moves a register; nil if that is not known before it runs, or nothing may follow.
    private static func baseChange(_ instruction: GuestInstruction, _ base: Int, _ width: Int) -> Int? {
        let isWhole = instruction.destination == .register(base) && instruction.size == width
        switch instruction.form {
        case .handler, .pause, .timestamp, .divide: return nil
        case .push where base == Register.rsp: return -width
        case .pop where base == Register.rsp && instruction.destination != .register(base): return width
        case .increment where isWhole: return 1
        case .decrement where isWhole: return -1
        case .arithmetic where isWhole && instruction.source == .immediate:
            guard let amount = Int(exactly: Int32(truncatingIfNeeded: instruction.immediate)) else { return nil }
            if instruction.code == ArithmeticNumber.add { return amount }
            if instruction.code == ArithmeticNumber.sub { return -amount }
        case .loadAddress where isWhole:
            let address = instruction.address
            if address.base == base, address.index < 0, address.width == width * 8,
                let amount = Int32(truncatingExactly: address.displacement, width)
            {
                return Int(amount)
            }
        default: break
        }
        return instruction.changes(base) ? nil : 0
    }
}

extension Int32 {
    /// A displacement that is a small signed number at the address width of `width` bytes.
    fileprivate init?(truncatingExactly displacement: UInt64, _ width: Int) {
        if width == 4 {
            self.init(truncatingIfNeeded: displacement)
        } else {
            self.init(exactly: Int64(bitPattern: displacement))
        }
    }
}

extension GuestInstruction {
    /// Whether the instruction accesses memory, or may for all that is known here.
    fileprivate var mayTouchMemory: Bool {
        switch form {
        case .handler, .pause, .timestamp, .push, .pop, .leave, .call, .callIndirect, .jumpIndirect, .ret: true
        default: hasMemory
        }
    }

    /// Bytes of the memory operand.
    fileprivate var accessSize: Int {
        switch form {
        case .extend: sourceSize
        case .set: 1
        case .vector, .vectorMove: 16
        default: size
        }
    }

    fileprivate var writesMemory: Bool {
        destination.isMemory
            && !(form == .test || form == .multiply || form == .arithmetic && code == ArithmeticNumber.cmp)
    }

    /// Whether the instruction may change a general register.
    fileprivate func changes(_ number: Int) -> Bool {
        let isNamed = destination == .register(number) || destination == .high(number)
        switch form {
        case .test, .jumpIf, .jump, .nothing, .carry, .vector, .vectorMove, .vectorLoadLow, .vectorShift: return false
        case .arithmetic: return isNamed && code != ArithmeticNumber.cmp
        case .exchange, .exchangeAdd: return isNamed || source == .register(number)
        case .compareExchange: return isNamed || number == Register.rax
        case .multiply, .divide, .convert: return number == Register.rax || number == Register.rdx
        case .push: return number == Register.rsp
        case .pop: return isNamed || number == Register.rsp
        case .handler, .pause, .timestamp, .leave, .call, .callIndirect, .jumpIndirect, .ret: return true
        default: return isNamed
        }
    }
}
