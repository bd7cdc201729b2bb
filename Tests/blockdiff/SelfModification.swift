import DifferentialSupport

// Stores to code: to the running block, to one that runs later, directly and through another mapping of the page.
extension ProgramGenerator {
    func addSelfModification() {
        for block in program.blocks.indices {
            for index in program.blocks[block].items.indices where random.chance(25) {
                program.blocks[block].items[index].alternate = replacement(program.blocks[block].items[index])
            }
        }
        guard random.chance(55) else { return }
        for _ in 0..<(1 + random.below(6)) {
            let number = random.below(program.blocks.count - 1)
            let position = random.below(program.blocks[number].items.count)
            let target = chooseTarget(number, position)
            let stores = makeStores(to: target)
            program.blocks[number].items.insert(contentsOf: stores, at: position)
        }
    }

    private func chooseTarget(_ number: Int, _ position: Int) -> Item {
        let items = program.blocks[number].items
        switch random.below(10) {
        case 0..<3: return items[min(position + random.below(3), items.count - 1)]
        case 3..<5: return items[max(position - random.below(4), 0)]
        default: return random.pick(program.blocks[random.below(program.blocks.count - 1)].items)
        }
    }

    /// Other bytes of the same length: other immediates, another instruction of the program, or anything.
    private func replacement(_ item: Item) -> [UInt8] {
        var bytes = item.bytes
        if case .setUp = item.kind, bytes.count == 5 {
            for index in 1..<3 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
            return bytes
        }
        for _ in 0..<12 {
            let other = random.pick(random.pick(program.blocks).items)
            if other.bytes.count == bytes.count && other.references.isEmpty && other.kind != .exit {
                return other.bytes
            }
        }
        if random.chance(50) { return [UInt8](repeating: 0x90, count: bytes.count) }
        bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8))
        return bytes
    }

    private func makeStores(to item: Item) -> [Item] {
        let new = replacement(item)
        let widths = [1, 2, 4].filter { $0 <= new.count }
        let width = random.chance(60) ? widths.last! : random.pick(widths)
        let plus = width == 1 ? random.below(new.count) : new.count - width > 0 && random.chance(50) ? new.count - width : 0
        let value = Array(new[plus..<plus + width])
        let target: Reference.Target =
            random.chance(70) ? .item(item.id, plus: plus) : .alias(item.id, plus: plus)
        switch random.below(4) {
        case 0: return makeStringStore(target, value)
        case 1 where width == 4: return makeExchange(target, value)
        default: return [makeStore(target, value)]
        }
    }

    /// MOV [address], immediate.
    private func makeStore(_ target: Reference.Target, _ value: [UInt8]) -> Item {
        let prefix: [UInt8] = value.count == 2 ? [0x66] : []
        let head = prefix + [value.count == 1 ? 0xc6 : 0xc7] + absolute(0, 0)
        return makeItem(
            head + value, .selfModifying,
            [Reference(form: .absolute32, position: head.count - 4, target: target)])
    }

    /// MOV EDI, address; MOV EAX, value; STOS.
    private func makeStringStore(_ target: Reference.Target, _ value: [UInt8]) -> [Item] {
        let padded = value + [UInt8](repeating: 0, count: 4 - value.count)
        let store: [UInt8] = value.count == 1 ? [0xaa] : value.count == 2 ? [0x66, 0xab] : [0xab]
        return [
            makeItem(
                [0xbf, 0, 0, 0, 0], .setUp, [Reference(form: .absolute32, position: 1, target: target)]),
            makeItem([0xb8] + padded, .setUp), makeItem(store, .selfModifying),
        ]
    }

    /// MOV EDX, address; MOV EAX, value; XCHG [RDX], EAX or LOCK XADD.
    private func makeExchange(_ target: Reference.Target, _ value: [UInt8]) -> [Item] {
        [
            makeItem(
                [0xba, 0, 0, 0, 0], .setUp, [Reference(form: .absolute32, position: 1, target: target)]),
            makeItem([0xb8] + value, .setUp),
            makeItem(random.chance(60) ? [0x87, 0x02] : [0xf0, 0x0f, 0xc1, 0x02], .selfModifying),
        ]
    }
}
