import Testing
import VMM

@Suite struct ACPITablesTests {
    private func little(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> Int {
        (0..<size).reduce(0) { $0 | Int(bytes[offset + $1]) << ($1 * 8) }
    }

    private func table(_ block: [UInt8], _ offset: Int) -> (signature: String, bytes: [UInt8]) {
        let length = little(block, offset + 4, 4)
        let bytes = Array(block[offset..<offset + length])
        return (String(decoding: bytes[0..<4], as: UTF8.self), bytes)
    }

    private func sum(_ bytes: some Sequence<UInt8>) -> UInt8 { bytes.reduce(0, &+) }

    @Test(arguments: [true, false]) func placedTablesLinkAndSum(hasAPIC: Bool) {
        let tables = ACPITables(.init(hasAPIC: hasAPIC))
        let base = 0x7FE_0000
        let block = tables.block(at: UInt32(base))
        let root = tables.rootPointer(forBlockAt: UInt32(base))
        #expect(root.count == 36 && sum(root[0..<20]) == 0 && sum(root) == 0)
        #expect(block.count == tables.blockSize)
        for (place, size) in [(16, 4), (24, 8)] {
            let top = table(block, little(root, place, size) - base)
            #expect(top.signature == (size == 4 ? "RSDT" : "XSDT") && sum(top.bytes) == 0)
            let entries = stride(from: 36, to: top.bytes.count, by: size).map { little(top.bytes, $0, size) - base }
            let found = entries.map { table(block, $0) }
            #expect(found.map(\.signature) == (hasAPIC ? ["FACP", "APIC"] : ["FACP"]))
            for table in found { #expect(sum(table.bytes) == 0) }
            let fadt = found[0].bytes
            #expect(fadt.count == 244)
            #expect(little(fadt, 46, 2) == 9 && little(fadt, 48, 4) == 0xB2)
            #expect(little(fadt, 56, 4) == 0x600 && little(fadt, 64, 4) == 0x604 && little(fadt, 76, 4) == 0x608)
            #expect(little(fadt, 80, 4) == 0xAFE0)
            let dsdt = table(block, little(fadt, 40, 4) - base)
            #expect(dsdt.signature == "DSDT" && sum(dsdt.bytes) == 0)
            #expect(little(fadt, 140, 8) == little(fadt, 40, 4))
            #expect(little(fadt, 36, 4) % 64 == 0)
            #expect(table(block, little(fadt, 36, 4) - base).signature == "FACS")
        }
    }

    /// Does what firmware does with the script.
    @Test func loaderScriptGivesTheSameTables() throws {
        let tables = ACPITables(.init(hasAPIC: true))
        let places = ["etc/acpi/tables": 0x7FE_0000, "etc/acpi/rsdp": 0xF_5000]
        var memory = Dictionary(uniqueKeysWithValues: tables.firmwareFiles.map { ($0.name, $0.bytes) })
        let script = try #require(memory["etc/table-loader"])
        func text(_ bytes: ArraySlice<UInt8>) -> String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
        #expect(script.count % 128 == 0)
        for start in stride(from: 0, to: script.count, by: 128) {
            let command = Array(script[start..<start + 128])
            let file = text(command[4..<60])
            var bytes = try #require(memory[file])
            switch little(command, 0, 4) {
            case 1:
                #expect(places[file] != nil)
            case 2:
                let (offset, size) = (little(command, 116, 4), Int(command[120]))
                let value = little(bytes, offset, size) + (places[text(command[60..<116])] ?? 0)
                for index in 0..<size { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (index * 8)) }
            case 3:
                let (offset, from, count) = (little(command, 60, 4), little(command, 64, 4), little(command, 68, 4))
                bytes[offset] = 0 &- sum(bytes[from..<from + count])
            default:
                Issue.record("unknown loader command")
            }
            memory[file] = bytes
        }
        #expect(memory["etc/acpi/tables"] == tables.block(at: 0x7FE_0000))
        #expect(memory["etc/acpi/rsdp"] == tables.rootPointer(forBlockAt: 0x7FE_0000))
    }
}
