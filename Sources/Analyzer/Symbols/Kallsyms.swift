/// A Linux kernel's own symbol table, as it lies in its memory.
///
/// It is found by its structure and by nothing else: a table of 256 tokens in which the digits stand for themselves,
/// followed by the tokens' places; before it, a number of symbols, as many compressed names, and the places of every
/// 256th of them; and either before those or behind the tokens, ascending addresses. That holds for every kernel with
/// the table since 2.6; what changed is the order, the width of the places, and how addresses are coded.
package struct Kallsyms {
    /// How addresses are coded.
    package enum Coding: String {
        /// A word each.
        case absolute
        /// 32 bits each, above a base.
        case relative
        /// As `relative`, with those of the per-CPU area, which lie below the kernel, told apart by their sign.
        case relativePerCPU
    }

    /// One symbol in the table's order.
    package struct Entry: Equatable {
        package var address: UInt64
        /// As nm prints it.
        package var type: UInt8
        package var name: String

        package init(address: UInt64, type: UInt8, name: String) {
            self.address = address
            self.type = type
            self.name = name
        }
    }

    package let entries: [Entry]
    package let coding: Coding
    package let wordSize: Int
    /// Offsets in memory of two of the tables.
    package let tokenPlace: Int
    package let namesPlace: Int

    static let fewestSymbols = 16
    static let mostSymbols = 1 << 20
    /// Places that are looked at, and tables of tokens of which names are looked for: a guest may fill its memory with
    /// what looks like them.
    private static let mostPlaces = 4096
    private static let mostTokenTables = 16

    /// All tables in `memory`, which is the kernel's as it lies in RAM.
    package static func all(in memory: UnsafeRawBufferPointer) -> [Kallsyms] {
        var found: [Kallsyms] = []
        var (start, places, tokenTables) = (0, 0, 0)
        while places < mostPlaces, tokenTables < mostTokenTables,
            let place = TokenTable.digits(in: memory, from: start)
        {
            start = place + 1
            places += 1
            if let tokens = TokenTable(memory, digits: place) {
                tokenTables += 1
                found += tables(memory, tokens)
            }
        }
        return found
    }

    private static func tables(_ memory: UnsafeRawBufferPointer, _ tokens: TokenTable) -> [Kallsyms] {
        for wordSize in [8, 4] where tokens.start % wordSize == 0 {
            guard let names = NameTable.find(memory, tokens, wordSize: wordSize) else { continue }
            let finder = AddressFinder(memory: memory, names: names, tokens: tokens, wordSize: wordSize)
            guard let (addresses, coding) = finder.find() else { continue }
            return [Kallsyms(names, addresses, coding, wordSize, tokens)]
        }
        return []
    }

    private init(
        _ names: NameTable, _ addresses: [UInt64], _ coding: Coding, _ wordSize: Int, _ tokens: TokenTable
    ) {
        self.coding = coding
        self.wordSize = wordSize
        tokenPlace = tokens.start
        namesPlace = names.start
        var entries: [Entry] = []
        entries.reserveCapacity(addresses.count)
        names.expand { index, text in
            entries.append(
                Entry(
                    address: addresses[index], type: text.first ?? 0x3F,
                    name: String(decoding: text.dropFirst(), as: UTF8.self)))
        }
        self.entries = entries
    }
}

/// The 256 pieces that names are made of.
struct TokenTable {
    private static let longestToken = 256
    private static let digit = 0x30
    let start: Int
    /// The end of the tokens' places.
    let end: Int
    let tokens: [[UInt8]]

    /// The next place where the digits stand one after the other, each with a zero byte between.
    static func digits(in memory: UnsafeRawBufferPointer, from start: Int) -> Int? {
        let length = 19
        // Where the digits would end. No two bytes of them are zero one after the other, so most of memory is skipped.
        var end = start + length - 1
        while end < memory.count {
            let last = memory[end]
            if last == 0x39 {
                let first = end - length + 1
                if (0..<length).allSatisfy({ memory[first + $0] == ($0 % 2 == 0 ? 0x30 + UInt8($0 / 2) : 0) }) {
                    return first
                }
                end += length
            } else if last == 0 {
                end += memory[end - 1] == 0 ? length : 1
            } else {
                end += (0x30...0x38).contains(last) ? length - 1 - 2 * Int(last - 0x30) : length
            }
        }
        return nil
    }

    /// The table whose token for "0" lies at `digits`, if there is one.
    init?(_ memory: UnsafeRawBufferPointer, digits: Int) {
        var end = digits
        for _ in Self.digit..<256 {
            let limit = min(end + Self.longestToken, memory.count)
            guard let length = memory[end..<limit].firstIndex(of: 0) else { return nil }
            end = length + 1
        }
        for alignment in [8, 4] {
            let places = (end + alignment - 1) / alignment * alignment
            guard places + 512 <= memory.count else { continue }
            let index = (0..<256).map {
                Int(UInt16(littleEndian: memory.loadUnaligned(fromByteOffset: places + 2 * $0, as: UInt16.self)))
            }
            let start = digits - index[Self.digit]
            guard index[0] == 0, start >= 0, start % alignment == 0,
                (1..<256).allSatisfy({ index[$0] > index[$0 - 1] && start + index[$0] < end }),
                (1..<256).allSatisfy({ memory[start + index[$0] - 1] == 0 })
            else { continue }
            self.start = start
            self.end = places + 512
            tokens = index.map { place in Array(memory[(start + place)..<end].prefix { $0 != 0 }) }
            return
        }
        return nil
    }
}

/// The compressed names, each a length and as many tokens.
struct NameTable {
    /// How far before the tokens the names are looked for: 64 MB hold more than `Kallsyms.mostSymbols` names.
    private static let reach = 64 << 20
    /// Names between two markers.
    private static let stride = 256
    /// What the first character of a name can be.
    private static let types = Set("aAbBcCdDgGiInNpPrRsStTuUvVwW-?".utf8)
    private static let tried = 16
    /// Of a name, compressed and not: the kernel's own limit.
    private static let longestName = 512

    let memory: UnsafeRawBufferPointer
    let tokens: TokenTable
    /// Where the number of symbols is, and the first name.
    let countPlace: Int
    let start: Int
    let count: Int

    /// The names whose markers are right, nearest before the tokens.
    static func find(_ memory: UnsafeRawBufferPointer, _ tokens: TokenTable, wordSize: Int) -> NameTable? {
        let lowest = max(0, tokens.start - reach)
        var place = (tokens.start - wordSize) / wordSize * wordSize
        let isType = tokens.tokens.map { $0.first.map(types.contains) ?? false }
        while place >= lowest {
            defer { place -= wordSize }
            let count = UInt32(littleEndian: memory.loadUnaligned(fromByteOffset: place, as: UInt32.self))
            guard count >= UInt32(Kallsyms.fewestSymbols), count <= UInt32(Kallsyms.mostSymbols) else { continue }
            if wordSize == 8, memory.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self) != 0 { continue }
            let table = NameTable(
                memory: memory, tokens: tokens, countPlace: place, start: place + wordSize, count: Int(count))
            if table.beginsWell(isType), table.hasMarkers(wordSize) { return table }
        }
        return nil
    }

    /// The length at `place` and where its tokens begin. Since Linux 6.1 lengths above 127 have two bytes; before, no
    /// name was as long.
    @inline(__always) private func length(at place: Int) -> (length: Int, next: Int)? {
        guard place + 1 < tokens.start else { return nil }
        let first = Int(memory[place])
        if first & 0x80 == 0 { return (first, place + 1) }
        return (first & 0x7F | Int(memory[place + 1]) << 7, place + 2)
    }

    private func beginsWell(_ isType: [Bool]) -> Bool {
        var place = start
        for _ in 0..<min(count, Self.tried) {
            guard let (length, next) = length(at: place), (1...Self.longestName).contains(length),
                next + length < tokens.start,
                isType[Int(memory[next])]
            else { return false }
            place = next + length
        }
        return true
    }

    /// Whether the places of every 256th name follow the last one, in 32 bits or, before Linux 4.20, in words.
    private func hasMarkers(_ wordSize: Int) -> Bool {
        var markers: [Int] = []
        var place = start
        for index in 0..<count {
            if index % Self.stride == 0 { markers.append(place - start) }
            guard let (length, next) = length(at: place), (1...Self.longestName).contains(length),
                next + length < tokens.start
            else {
                return false
            }
            place = next + length
        }
        let first = (place + wordSize - 1) / wordSize * wordSize
        return Set([4, wordSize]).contains { width in
            first + markers.count * width <= tokens.start
                && markers.indices.allSatisfy { number(first + $0 * width, width) == markers[$0] }
        }
    }

    private func number(_ place: Int, _ width: Int) -> Int {
        guard width == 8 else {
            return Int(UInt32(littleEndian: memory.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
        }
        return Int(truncatingIfNeeded: memory.loadUnaligned(fromByteOffset: place, as: UInt64.self))
    }

    /// Each symbol's number and name, whose first character is the type.
    func expand(_ body: (Int, [UInt8]) -> Void) {
        var place = start
        var text: [UInt8] = []
        for index in 0..<count {
            guard let (length, next) = length(at: place) else { return }
            text.removeAll(keepingCapacity: true)
            for position in next..<next + length where text.count <= Self.longestName {
                text += tokens.tokens[Int(memory[position])]
            }
            place = next + length
            body(index, text)
        }
    }
}

/// Finds the addresses that belong to names.
struct AddressFinder {
    let memory: UnsafeRawBufferPointer
    let names: NameTable
    let tokens: TokenTable
    let wordSize: Int

    /// The kernel's half of memory, of a 32-bit one at the lowest split there is.
    private var lowestBase: UInt64 { wordSize == 8 ? 0xFFFF_8000_0000_0000 : 0x4000_0000 }
    /// Kernels are smaller.
    private static let largestOffset: UInt64 = 1 << 31

    /// Before Linux 6.4 the addresses come first; since then they come last.
    func find() -> (addresses: [UInt64], coding: Kallsyms.Coding)? {
        let offsetBytes = aligned(names.count * 4)
        let before = names.countPlace - wordSize
        return relative(offsets: before - offsetBytes, base: before)
            ?? relative(offsets: aligned(tokens.end), base: aligned(tokens.end) + offsetBytes)
            ?? absolute(names.countPlace - names.count * wordSize)
            ?? absolute(aligned(tokens.end))
    }

    private func aligned(_ place: Int) -> Int { (place + wordSize - 1) / wordSize * wordSize }

    private func word(_ place: Int) -> UInt64 {
        wordSize == 8
            ? UInt64(littleEndian: memory.loadUnaligned(fromByteOffset: place, as: UInt64.self))
            : UInt64(UInt32(littleEndian: memory.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
    }

    private func relative(offsets: Int, base: Int) -> (addresses: [UInt64], coding: Kallsyms.Coding)? {
        guard offsets >= 0, max(base + wordSize, offsets + names.count * 4) <= memory.count else { return nil }
        let base = word(base)
        guard base >= lowestBase else { return nil }
        let values = (0..<names.count).map {
            Int32(littleEndian: memory.loadUnaligned(fromByteOffset: offsets + 4 * $0, as: Int32.self))
        }
        let isPerCPU = values.contains { $0 < 0 }
        let mask: UInt64 = wordSize == 8 ? .max : 0xFFFF_FFFF
        let addresses = values.map { value -> UInt64 in
            guard isPerCPU else { return (base &+ UInt64(UInt32(bitPattern: value))) & mask }
            // Where the sign tells, an address of the kernel's is the base less one less the value.
            return value >= 0 ? UInt64(value) : base &+ UInt64(-1 - Int64(value))
        }
        guard isTable(addresses), (addresses.last ?? 0) &- base < Self.largestOffset else { return nil }
        return (addresses, isPerCPU ? .relativePerCPU : .relative)
    }

    private func absolute(_ place: Int) -> (addresses: [UInt64], coding: Kallsyms.Coding)? {
        guard place >= 0, place + names.count * wordSize <= memory.count else { return nil }
        let addresses = (0..<names.count).map { word(place + wordSize * $0) }
        return isTable(addresses) ? (addresses, .absolute) : nil
    }

    /// Addresses ascend, most of them differ, and the last lies in the kernel's half.
    private func isTable(_ addresses: [UInt64]) -> Bool {
        guard let last = addresses.last, last >= lowestBase else { return false }
        var distinct = 1
        for index in addresses.indices.dropFirst() {
            guard addresses[index] >= addresses[index - 1] else { return false }
            if addresses[index] != addresses[index - 1] { distinct += 1 }
        }
        return distinct > addresses.count / 4
    }
}
