/// Builders for ACPI machine language (ACPI 5.0, chapter 20). Each gives the encoding of one term as bytes.
enum AML {
    typealias Bytes = [UInt8]

    // MARK: Data objects

    /// The shortest encoding of an integer.
    static func integer(_ value: UInt64) -> Bytes {
        switch value {
        case 0: [0x00]
        case 1: [0x01]
        case ...0xFF: [0x0A, UInt8(value)]
        case ...0xFFFF: [0x0B] + little(value, 2)
        case ...0xFFFF_FFFF: [0x0C] + little(value, 4)
        default: [0x0E] + little(value, 8)
        }
    }

    static func little(_ value: UInt64, _ size: Int) -> Bytes {
        (0..<size).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }

    static func package(_ elements: [Bytes]) -> Bytes {
        [0x12] + withLength([UInt8(elements.count)] + elements.flatMap { $0 })
    }

    /// Resource descriptors as a buffer; the end tag is added here, its checksum zero ("not used").
    static func resources(_ descriptors: [Bytes]) -> Bytes {
        let data = descriptors.flatMap { $0 } + ([0x79, 0x00] as Bytes)
        return [0x11] + withLength(integer(UInt64(data.count)) + data)
    }

    /// A compressed EISA identifier such as "PNP0A03".
    static func eisaID(_ text: String) -> Bytes {
        let characters = Array(text.utf8)
        precondition(characters.count == 7)
        let letters = characters[0..<3].reduce(UInt32(0)) { $0 << 5 | UInt32($1 - 0x40) }
        let digits = UInt32(text.dropFirst(3), radix: 16)!
        // The integer holds the big-endian bytes in memory order.
        return [0x0C] + little(UInt64((letters << 16 | digits).byteSwapped), 4)
    }

    // MARK: Names

    /// A name path: "\\" for the root, segments apart by dots, each padded with underscores.
    static func name(_ path: String) -> Bytes {
        let isRooted = path.hasPrefix("\\")
        let segments = (isRooted ? path.dropFirst() : path[...]).split(separator: ".").map {
            Bytes($0.utf8) + Bytes(repeating: UInt8(ascii: "_"), count: 4 - $0.utf8.count)
        }
        let prefix: Bytes
        switch segments.count {
        case 0: prefix = [0x00]
        case 1: prefix = []
        case 2: prefix = [0x2E]
        default: prefix = [0x2F, UInt8(segments.count)]
        }
        return (isRooted ? [0x5C] : []) + prefix + segments.flatMap { $0 }
    }

    // MARK: Named objects

    static func define(_ path: String, _ value: Bytes) -> Bytes { [0x08] + name(path) + value }

    static func scope(_ path: String, _ terms: [Bytes]) -> Bytes {
        [0x10] + withLength(name(path) + terms.flatMap { $0 })
    }

    static func device(_ path: String, _ terms: [Bytes]) -> Bytes {
        [0x5B, 0x82] + withLength(name(path) + terms.flatMap { $0 })
    }

    static func method(_ path: String, arguments: Int = 0, serialized: Bool = false, _ terms: [Bytes]) -> Bytes {
        let flags = UInt8(arguments) | (serialized ? 8 : 0)
        return [0x14] + withLength(name(path) + [flags] + terms.flatMap { $0 })
    }

    /// A processor without a P_BLK.
    static func processor(_ path: String, id: UInt8) -> Bytes {
        [0x5B, 0x83] + withLength(name(path) + [id] + little(0, 4) + [0])
    }

    static let pciConfigSpace: UInt8 = 2

    static func operationRegion(_ path: String, space: UInt8, offset: UInt64, length: UInt64) -> Bytes {
        [0x5B, 0x80] + name(path) + [space] + integer(offset) + integer(length)
    }

    /// Byte-wide fields of a region, in order.
    static func byteFields(of region: String, _ names: [String]) -> Bytes {
        let byteAccessPreserve: UInt8 = 0x01
        return [0x5B, 0x81] + withLength(name(region) + [byteAccessPreserve] + names.flatMap { name($0) + [8] })
    }

    // MARK: Statements and expressions

    static let arg0: Bytes = [0x68]
    static let noTarget: Bytes = [0x00]

    static func returning(_ value: Bytes) -> Bytes { [0xA4] + value }
    static func store(_ value: Bytes, in target: Bytes) -> Bytes { [0x70] + value + target }
    static func and(_ left: Bytes, _ right: Bytes) -> Bytes { [0x7B] + left + right + noTarget }
    static func or(_ left: Bytes, _ right: Bytes, in target: Bytes) -> Bytes { [0x7D] + left + right + target }
    static func isLess(_ left: Bytes, _ right: Bytes) -> Bytes { [0x95] + left + right }
    static func when(_ condition: Bytes, _ terms: [Bytes]) -> Bytes {
        [0xA0] + withLength(condition + terms.flatMap { $0 })
    }
    /// Names the 32 bits at byte `offset` of a buffer.
    static func dwordField(of buffer: Bytes, at offset: UInt64, _ path: String) -> Bytes {
        [0x8A] + buffer + integer(offset) + name(path)
    }

    // MARK: Resource descriptors (ACPI 5.0, section 6.4)

    /// A fixed, 16-bit decoded range of ports.
    static func io(_ base: UInt16, count: UInt8) -> Bytes {
        [0x47, 0x01] + little(UInt64(base), 2) + little(UInt64(base), 2) + [0x01, count]
    }

    /// An edge-triggered, active-high, exclusive ISA interrupt.
    static func irq(_ number: Int) -> Bytes { [0x22] + little(1 << UInt64(number), 2) }

    /// A level-triggered, active-high, shared interrupt out of `numbers`; the first number is at byte 5.
    static func interrupt(_ numbers: [UInt32]) -> Bytes {
        let consumerLevelHighShared: UInt8 = 0b1001
        let body = [consumerLevelHighShared, UInt8(numbers.count)] + numbers.flatMap { little(UInt64($0), 4) }
        return [0x89] + little(UInt64(body.count), 2) + body
    }

    /// The kinds of address space that a bridge forwards.
    enum Space {
        case bus, io
        case memory(cacheable: Bool)

        /// Resource type, general flags (both ends fixed, positive decode), type-specific flags.
        fileprivate var bytes: Bytes {
            switch self {
            case .bus: [2, 0x0C, 0x00]
            // Both ISA and non-ISA ranges.
            case .io: [1, 0x0C, 0x03]
            case .memory(let cacheable): [0, 0x0C, cacheable ? 0x03 : 0x01]
            }
        }
    }

    /// A window that a bridge forwards. `size` is the width of its numbers, 2 or 4 bytes.
    static func window(_ space: Space, _ range: ClosedRange<UInt64>, size: Int) -> Bytes {
        let numbers = [0, range.lowerBound, range.upperBound, 0, range.upperBound - range.lowerBound + 1]
        let body = space.bytes + numbers.flatMap { little($0, size) }
        return [size == 2 ? 0x88 : 0x87] + little(UInt64(body.count), 2) + body
    }

    // MARK: Package length (ACPI 5.0, section 20.2.4)

    /// `body` preceded by its length, which counts its own encoding too.
    private static func withLength(_ body: Bytes) -> Bytes {
        if body.count + 1 < 0x40 { return [UInt8(body.count + 1)] + body }
        for extra in 1...3 {
            let total = body.count + 1 + extra
            guard total < 1 << (4 + 8 * extra) else { continue }
            return [UInt8(extra << 6 | total & 0xF)] + little(UInt64(total >> 4), extra) + body
        }
        preconditionFailure("an AML package of \(body.count) bytes")
    }
}
