import Analyzer
import Testing

struct FilterTests {
    @Test func termsBecomeConditions() throws {
        #expect(Filter().condition.sql == "1")
        #expect(
            try Filter("ring=0 kind=cpuid,rdmsr").condition.sql
                == "((s.ring >= ? AND s.ring <= ?)) AND (k.name GLOB ? OR k.name GLOB ?)")
        #expect(
            try Filter("port!=0x40-0x43").condition.sql
                == "(k.name IN ('portIn', 'portOut') AND NOT ((m.subject >= ? AND m.subject <= ?)))")
        // From the lower half of the addresses to the upper one.
        #expect(try Filter("site=0x1000-0xffffffffffffffff").condition.sql == "((s.address >= ? OR s.address <= ?))")
        #expect(try Filter("process=\"two words\" symbol=native_*").condition.sql.contains("p.name GLOB ?"))
    }

    @Test(arguments: [
        ("kind", 5), ("=3", 1), ("ring=", 6), ("ring=x", 6), ("ring=0  colour=red", 9), ("kind=cpuid,no", 12),
        ("phase=late", 7), ("process=\"a", 9), ("ring=3-1", 6), ("ring 0", 5), ("process=\"a\"b", 12),
    ])
    func mistakesAreNamedByColumn(text: String, column: Int) {
        let error = #expect(throws: Filter.Failure.self) { try Filter(text) }
        #expect(error?.column == column, "\(text)")
    }
}
