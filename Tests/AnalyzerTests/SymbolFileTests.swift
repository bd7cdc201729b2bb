import Analyzer
import Testing

struct SymbolFileTests {
    private func map(_ text: String) throws -> [Symbol] {
        try SymbolFile(Array(text.utf8), path: "map").symbols(for: nil)
    }

    @Test func mapsAreRead() throws {
        let symbols = try map("ffffffff81000000 T _text\nffffffff81000040 t start\tmodule\r\n")
        #expect(symbols.map(\.name) == ["_text", "start"])
        #expect(symbols[1].address == 0xFFFF_FFFF_8100_0040)
        #expect(symbols[1].type == UInt8(ascii: "t"))
    }

    @Test func otherFilesAreRefusedInOneSentence() {
        #expect(
            throws: AnalysisError("map: line 2 is no symbol; expected an address, a type and a name, or an ELF file")
        ) {
            try map("ffffffff81000000 T _text\nhello\n")
        }
        #expect(throws: AnalysisError("map: no symbols")) { try map("") }
        #expect(throws: AnalysisError("map: a damaged ELF file")) {
            try SymbolFile([0x7F, 0x45, 0x4C, 0x46, 2, 1], path: "map")
        }
    }

    @Test func buildIDsAreFoundInNotes() {
        let other: [UInt8] = [4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0] + Array("Xen\0".utf8) + [9, 0, 0, 0]
        let note: [UInt8] = [4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0] + Array("GNU\0".utf8) + [0xAA, 0xBB, 0xCC, 0]
        #expect(ELFSymbols.buildID(other + note) == [0xAA, 0xBB, 0xCC])
        #expect(ELFSymbols.buildID(other) == nil)
        #expect(ELFSymbols.buildID(Array(note.dropLast(3))) == nil)
        #expect(ELFSymbols.buildID([]) == nil)
    }

    /// The test's own executable is an ELF file with symbols.
    @Test func executablesAreRead() throws {
        let bytes = try #require(readFile("/proc/self/exe"))
        let symbols = try SymbolFile(bytes, path: "self").symbols(for: nil)
        #expect(symbols.contains { $0.name == "main" })
        for length in stride(from: 0, to: 4096, by: 61) { _ = ELFSymbols(Array(bytes[..<length])) }
    }
}
