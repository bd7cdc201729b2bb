/// The symbol table and the build ID of an ELF file.
package struct ELFSymbols {
    private static let mostSymbols = 8 << 20
    package private(set) var symbols: [Symbol] = []
    package private(set) var buildID: [UInt8]?

    private let bytes: [UInt8]
    private let is64: Bool

    private struct Section {
        var type: UInt64
        var offset: Int
        var size: Int
        var link: Int
    }

    /// Nil if the file is not well formed.
    package init?(_ bytes: [UInt8]) {
        self.bytes = bytes
        guard bytes.count >= 64, bytes[5] == 1, bytes[4] == 1 || bytes[4] == 2 else { return nil }
        is64 = bytes[4] == 2
        guard let sections = sections() else { return nil }
        let (symbolTable, note): (UInt64, UInt64) = (2, 7)
        for section in sections {
            if section.type == symbolTable, sections.indices.contains(section.link) {
                readSymbols(section, sections[section.link])
            } else if section.type == note {
                buildID = buildID ?? Self.buildID(Array(bytes[section.offset..<section.offset + section.size]))
            }
        }
    }

    private func number(_ offset: Int, _ size: Int) -> UInt64 {
        guard offset >= 0, offset + size <= bytes.count else { return 0 }
        return bytes[offset..<offset + size].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Nil if a section is not inside the file.
    private func sections() -> [Section]? {
        let table = number(is64 ? 0x28 : 0x20, is64 ? 8 : 4)
        let entry = Int(number(is64 ? 0x3A : 0x2E, 2))
        let count = Int(number(is64 ? 0x3C : 0x30, 2))
        guard table <= UInt64(bytes.count), entry >= (is64 ? 64 : 40), Int(table) + entry * count <= bytes.count else {
            return nil
        }
        var sections: [Section] = []
        for index in 0..<count {
            let base = Int(table) + entry * index
            let word = is64 ? 8 : 4
            let type = number(base + 4, 4)
            let offset = number(base + (is64 ? 0x18 : 0x10), word)
            let size = number(base + (is64 ? 0x20 : 0x14), word)
            let isEmpty = type == 0 || type == 8
            guard isEmpty || offset <= UInt64(bytes.count) && size <= UInt64(bytes.count) - offset else { return nil }
            sections.append(
                Section(
                    type: type, offset: isEmpty ? 0 : Int(offset), size: isEmpty ? 0 : Int(size),
                    link: Int(number(base + (is64 ? 0x28 : 0x18), 4))))
        }
        return sections
    }

    private mutating func readSymbols(_ table: Section, _ strings: Section) {
        let entry = is64 ? 24 : 16
        for start in stride(from: table.offset, through: table.offset + table.size - entry, by: entry) {
            guard symbols.count < Self.mostSymbols else { return }
            let info = bytes[start + (is64 ? 4 : 12)]
            let section = number(start + (is64 ? 6 : 14), 2)
            let value = is64 ? number(start + 8, 8) : number(start + 4, 4)
            let name = Int(number(start, 4))
            // Of functions, objects and what has no type; not of files and sections.
            guard info & 0xF <= 2, section != 0, name > 0, name < strings.size else { continue }
            let text = bytes[(strings.offset + name)..<(strings.offset + strings.size)].prefix { $0 != 0 }
            let type: UInt8 = info & 0xF == 1 ? 0x44 : 0x54
            symbols.append(
                Symbol(
                    address: value, type: info >> 4 == 0 ? type | 0x20 : type,
                    name: String(decoding: text, as: UTF8.self)))
        }
    }

    /// The GNU build ID in a section of notes.
    package static func buildID(_ notes: [UInt8]) -> [UInt8]? {
        func number(_ place: Int) -> Int { (0..<4).reversed().reduce(0) { $0 << 8 | Int(notes[place + $1]) } }
        var place = 0
        while place + 12 <= notes.count {
            let (nameSize, size, type) = (number(place), number(place + 4), number(place + 8))
            let name = place + 12
            let contents = name + (nameSize + 3) / 4 * 4
            guard contents <= notes.count, size <= notes.count - contents else { return nil }
            if type == 3, notes[name..<name + min(nameSize, 3)].elementsEqual("GNU".utf8) {
                return Array(notes[contents..<contents + size])
            }
            place = contents + (size + 3) / 4 * 4
        }
        return nil
    }
}
