/// A kernel's own description of its types (BPF Type Format), for where the members of structures are.
package struct BTF {
    static let magic: UInt16 = 0xEB9F
    private static let typeSize = 12
    private static let memberSize = 12
    private static let longestChain = 32
    /// Members that are looked at for one, since types may contain each other.
    private static let mostMembers = 1 << 16

    private enum Kind: UInt8 {
        case integer = 1
        case pointer, array, structure, union, enumeration, forward, typedef, volatile, const, restrict
        case function, prototype, variable, dataSection, float, declarationTag, typeTag, enumeration64
    }

    private let bytes: [UInt8]
    private let strings: Range<Int>
    /// Where each type begins, by its number; type 0 is void.
    private let places: [Int]

    /// Reads what lies between a kernel's `__start_BTF` and `__stop_BTF`; nil if it is not well formed.
    package init?(_ bytes: [UInt8]) {
        func number(_ place: Int) -> Int { Self.number(bytes, place) }
        guard bytes.count >= 24, number(0) & 0xFFFF == Int(Self.magic) else { return nil }
        let header = number(4)
        let types = header + number(8)
        let typesEnd = types + number(12)
        let strings = header + number(16)
        let stringsEnd = strings + number(20)
        guard header >= 24, types <= typesEnd, typesEnd <= bytes.count, strings <= stringsEnd,
            stringsEnd <= bytes.count
        else { return nil }
        var places = [0]
        var place = types
        while place + Self.typeSize <= typesEnd {
            places.append(place)
            guard let extra = Self.extra(number(place + 4)) else { return nil }
            place += Self.typeSize + extra
        }
        guard place == typesEnd else { return nil }
        self.bytes = bytes
        self.strings = strings..<stringsEnd
        self.places = places
    }

    /// How many bytes follow a type, by its info word.
    private static func extra(_ info: Int) -> Int? {
        let count = info & 0xFFFF
        switch Kind(rawValue: UInt8((info >> 24) & 0x1F)) {
        case .integer, .variable, .declarationTag: return 4
        case .array: return 12
        case .structure, .union, .dataSection, .enumeration64: return count * 12
        case .enumeration, .prototype: return count * 8
        case nil: return nil
        default: return 0
        }
    }

    private static func number(_ bytes: [UInt8], _ place: Int) -> Int {
        guard place >= 0, place + 4 <= bytes.count else { return 0 }
        return bytes.withUnsafeBytes {
            Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
        }
    }

    private func kind(_ type: Int) -> Kind? {
        guard places.indices.contains(type), type > 0 else { return nil }
        return Kind(rawValue: UInt8((Self.number(bytes, places[type] + 4) >> 24) & 0x1F))
    }

    private func nameMatches(_ offset: Int, _ name: [UInt8]) -> Bool {
        let place = strings.lowerBound + offset
        guard place + name.count < strings.upperBound, bytes[place + name.count] == 0 else { return false }
        return bytes[place..<place + name.count].elementsEqual(name)
    }

    /// The number of the structure of this name.
    private func structure(_ name: String) -> Int? {
        let wanted = Array(name.utf8)
        return places.indices.dropFirst().first {
            kind($0) == .structure && Self.number(bytes, places[$0] + 4) & 0xFFFF > 0
                && nameMatches(Self.number(bytes, places[$0]), wanted)
        }
    }

    /// The type behind typedefs and qualifiers.
    private func resolved(_ type: Int) -> Int {
        var type = type
        for _ in 0..<Self.longestChain {
            switch kind(type) {
            case .typedef, .volatile, .const, .restrict, .typeTag: type = Self.number(bytes, places[type] + 8)
            default: return type
            }
        }
        return type
    }

    /// Where a member lies in a structure, in bytes. `path` may lead into members: `core_layout.base`.
    package func offset(of path: String, in name: String) -> Int? {
        guard var type = structure(name) else { return nil }
        var offset = 0
        for part in path.split(separator: ".") {
            var budget = Self.mostMembers
            guard let (bits, member) = member(Array(part.utf8), of: type, depth: 0, &budget) else { return nil }
            offset += bits / 8
            type = resolved(member)
        }
        return offset
    }

    /// The size of a structure in bytes.
    package func size(of name: String) -> Int? { structure(name).map { Self.number(bytes, places[$0] + 8) } }

    /// A member's place in bits and its type; those of unnamed structures and unions count as the outer one's.
    private func member(
        _ name: [UInt8], of type: Int, depth: Int, _ budget: inout Int
    ) -> (bits: Int, type: Int)? {
        guard depth < Self.longestChain, let kind = kind(type), kind == .structure || kind == .union else { return nil }
        let info = Self.number(bytes, places[type] + 4)
        let hasBitfields = info >> 31 != 0
        for index in 0..<(info & 0xFFFF) where budget > 0 {
            budget -= 1
            let place = places[type] + Self.typeSize + index * Self.memberSize
            let nameOffset = Self.number(bytes, place)
            let memberType = Self.number(bytes, place + 4)
            let offset = Self.number(bytes, place + 8)
            let bits = hasBitfields ? offset & 0xFF_FFFF : offset
            if nameMatches(nameOffset, name) { return (bits, memberType) }
            guard nameMatches(nameOffset, []) else { continue }
            if let inner = member(name, of: resolved(memberType), depth: depth + 1, &budget) {
                return (bits + inner.bits, inner.type)
            }
        }
        return nil
    }
}
