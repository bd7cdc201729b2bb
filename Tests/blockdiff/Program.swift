import DifferentialSupport

/// What an item is for; only for statistics.
enum ItemKind: Hashable {
    /// An instruction of a form, by its number in the pool.
    case form(Int)
    /// Prepares registers or memory for what follows.
    case setUp
    case branch
    case service
    case system
    /// A store to code.
    case selfModifying
    case exit
}

/// A field of an instruction that is known only when all of the program has its place.
struct Reference {
    enum Form {
        /// Relative to the end of the instruction.
        case relative8
        case relative32
        /// A linear address in the low window.
        case absolute32
        case absolute64
        /// A displacement from the end of the instruction to a linear address in the low window.
        case ripRelative
    }

    enum Target {
        case block(Int)
        /// A byte of an item.
        case item(Int, plus: Int)
        /// The same byte in the writable alias of the code.
        case alias(Int, plus: Int)
        case linear(UInt64)
    }

    var form: Form
    /// Of the field, from the start of the instruction.
    var position: Int
    var target: Target
}

/// One instruction of a program.
struct Item {
    var id: Int
    var kind: ItemKind
    var bytes: [UInt8]
    var references: [Reference] = []
    /// Bytes of the same length that stand there when the page of code is exchanged.
    var alternate: [UInt8]?
}

struct Block {
    var items: [Item] = []
    /// Its bytes end where the page does, or cross its end, as far as can be.
    var seeksPageEnd = false
    /// It must follow the block before it, because that falls through.
    var follows = false
}

/// A program as its blocks, before they have places.
struct Program {
    var test: Case
    var blocks: [Block] = []
    /// Free bytes between groups of blocks.
    var gapSeed: UInt64 = 0

    /// The case with all code in its place; nil if there is too much code.
    func link() -> Case? {
        guard let places = place() else { return nil }
        var linked = test
        var offsets: [Int: Int] = [:]
        for (block, start) in zip(blocks, places) {
            var offset = start
            for item in block.items {
                offsets[item.id] = offset
                offset += item.bytes.count
            }
        }
        func address(_ target: Reference.Target) -> UInt64 {
            switch target {
            case .block(let number): return Linear.low + UInt64(places[min(number, blocks.count - 1)])
            case .item(let id, let plus): return Linear.low + UInt64((offsets[id] ?? places[0]) + plus)
            case .alias(let id, let plus): return Linear.low + Linear.alias + UInt64((offsets[id] ?? places[0]) + plus)
            case .linear(let address): return address
            }
        }
        linked.lines = []
        linked.alternates = []
        linked.blockStarts = Set(places)
        for block in blocks {
            for item in block.items {
                let offset = offsets[item.id]!
                var bytes = item.bytes
                for reference in item.references {
                    let end = Linear.low + UInt64(offset + bytes.count)
                    Self.resolve(reference, address(reference.target), end: end, &bytes)
                }
                linked.lines.append(CodeLine(offset: offset, bytes: bytes, item: item.id))
                if let alternate = item.alternate, offset / 4096 == 1, (offset + alternate.count - 1) / 4096 == 1 {
                    linked.alternates.append(CodeLine(offset: offset, bytes: alternate))
                }
            }
        }
        linked.lines.sort { $0.offset < $1.offset }
        linked.entry = places[0]
        return linked
    }

    private static func resolve(_ reference: Reference, _ target: UInt64, end: UInt64, _ bytes: inout [UInt8]) {
        let (value, count): (UInt64, Int) =
            switch reference.form {
            case .relative8: (target &- end, 1)
            case .relative32, .ripRelative: (target &- end, 4)
            case .absolute32: (target, 4)
            case .absolute64: (target, 8)
            }
        for index in 0..<count {
            bytes[reference.position + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8))
        }
    }

    /// Offsets of the blocks, in ascending order; the last block is the exit and comes last.
    private func place() -> [Int]? {
        var random = Random(gapSeed, 0x6170)
        var places: [Int] = []
        var offset = random.below(64)
        for block in blocks {
            let length = block.items.reduce(0) { $0 + $1.bytes.count }
            if !block.follows {
                offset += random.chance(20) ? random.below(48) : 0
                let room = 4096 - offset % 4096
                if block.seeksPageEnd, room > length, offset / 4096 < 3, length > 1 {
                    // Its last byte, or one before, is the last of the page.
                    offset += room - 1 - random.below(length - 1)
                }
            }
            places.append(offset)
            offset += length
        }
        return offset <= Physical.codeBytes - 16 ? places : nil
    }
}
