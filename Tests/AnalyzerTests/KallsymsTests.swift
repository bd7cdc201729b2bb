import Analyzer
import Testing

/// Kernel symbol tables in the layouts that there have been.
struct KallsymsTests {
    private static let base64: UInt64 = 0xFFFF_FFFF_9A20_0000
    private static let base32: UInt64 = 0xC8A0_0000

    /// Linux releases and what their tables look like.
    static let layouts: [(name: String, tables: SymbolTables)] = {
        func tables(_ base: UInt64, perCPU: Bool) -> SymbolTables {
            var tables = SymbolTables(symbols: SymbolTables.sample(1500, base: base, perCPU: perCPU))
            tables.base = base
            tables.wordSize = base >> 32 == 0 ? 4 : 8
            tables.coding = perCPU ? .relativePerCPU : .relative
            return tables
        }
        var old = tables(base64, perCPU: true)
        old.coding = .absolute
        old.markerSize = 8
        var old32 = tables(base32, perCPU: false)
        old32.coding = .absolute
        var wideMarkers = tables(base64, perCPU: true)
        wideMarkers.markerSize = 8
        var sequence = tables(base64, perCPU: true)
        sequence.hasSequence = true
        var last = tables(base64, perCPU: true)
        last.addressesLast = true
        var last32 = tables(base32, perCPU: false)
        last32.addressesLast = true
        var plain = tables(base64, perCPU: false)
        plain.addressesLast = true
        return [
            ("absolute, 64 bits", old), ("absolute, 32 bits", old32), ("4.6, 64 bits", wideMarkers),
            ("4.20 to 6.1, 64 bits", tables(base64, perCPU: true)),
            ("4.20 to 6.1, 32 bits", tables(base32, perCPU: false)),
            ("6.2, 64 bits", sequence), ("6.4, 64 bits", last), ("6.4, 32 bits", last32), ("6.15, 64 bits", plain),
        ]
    }()

    @Test(arguments: layouts.map(\.name))
    func everyLayoutIsRead(name: String) throws {
        let tables = try #require(Self.layouts.first { $0.name == name }).tables
        let bytes = tables.bytes()
        let found = bytes.withUnsafeBytes { Kallsyms.all(in: $0) }
        let table = try #require(found.first)
        #expect(found.count == 1)
        #expect(table.wordSize == tables.wordSize)
        #expect(table.entries.count == tables.symbols.count)
        for (entry, symbol) in zip(table.entries, tables.symbols) {
            #expect(entry.address == symbol.address)
            #expect(entry.type == symbol.text.utf8.first)
            #expect(entry.name == symbol.text.dropFirst())
        }
        let coding: Kallsyms.Coding =
            switch tables.coding {
            case .absolute: .absolute
            case .relative: .relative
            case .relativePerCPU: .relativePerCPU
            }
        #expect(table.coding == coding)
    }

    @Test func anythingElseIsNoTable() {
        var random = SystemRandomNumberGenerator()
        let noise = (0..<1 << 20).map { _ in UInt8.random(in: 0...255, using: &random) }
        #expect(noise.withUnsafeBytes { Kallsyms.all(in: $0) }.isEmpty)
        let zeros = [UInt8](repeating: 0, count: 1 << 20)
        #expect(zeros.withUnsafeBytes { Kallsyms.all(in: $0) }.isEmpty)
        #expect([UInt8]().withUnsafeBytes { Kallsyms.all(in: $0) }.isEmpty)
        // The digits alone.
        let digits = [[UInt8]](repeating: (0x30...0x39).flatMap { [UInt8($0), 0] }, count: 200).flatMap { $0 }
        #expect(digits.withUnsafeBytes { Kallsyms.all(in: $0) }.isEmpty)
    }

    /// A table that is cut off or changed anywhere is read as something or not at all, and nothing worse.
    @Test func damagedTablesDoNoHarm() {
        let bytes = SymbolTables(symbols: SymbolTables.sample(600, base: 0xFFFF_FFFF_8100_0000, perCPU: true)).bytes()
        for length in stride(from: 0, to: bytes.count, by: 397) {
            _ = bytes[..<length].withUnsafeBytes { Kallsyms.all(in: $0) }
        }
        for place in stride(from: 0, to: bytes.count, by: 97) {
            var changed = bytes
            changed[place] ^= 0xFF
            _ = changed.withUnsafeBytes { Kallsyms.all(in: $0) }
        }
    }

    @Test func symbolsReachToTheNextOne() {
        let table = SymbolTable(
            [
                Symbol(address: 0x2000, name: "second"), Symbol(address: 0x1000, name: "first"),
                Symbol(address: 0x1000, name: "alias"),
            ], regions: [0x1000..<0x3000])
        #expect(table.symbols.map(\.name) == ["first", "second"])
        #expect(table.lookup(0xFFF) == nil)
        #expect(table.lookup(0x1FFF)?.symbol.name == "first")
        #expect(table.lookup(0x1FFF)?.offset == 0xFFF)
        #expect(table.lookup(0x2FFF)?.symbol.name == "second")
        #expect(table.lookup(0x3000) == nil)
        #expect(SymbolTable([]).lookup(0) == nil)
    }
}
