import Analyzer
import CEngine
import Testing
import VMM

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

    @Test func eventsThemselvesAreFiltered() throws {
        let port = EventRecord(
            count: 1, address: 0x1000, operand: 0x3F8, value: 0, kind: EventKind.portOut.rawValue, ring: 0, size: 1,
            flags: 0, detail: 1)
        for (text, expected) in [
            ("", true), ("kind=port*", true), ("kind!=port*", false), ("kind=cpuid,portOut", true),
            ("port=0x3f8-0x3ff", true), ("port!=0x3f8", false), ("msr=0x3f8", false), ("ring=1-3", false),
            ("site=0x1000 ring=0", true),
        ] {
            #expect(try Filter(text).predicate()(port) == expected, "\(text)")
        }
        for text in ["symbol=x", "ring=0 pid=3", "device=UART"] {
            #expect(throws: Filter.Failure.self) { try Filter(text).predicate() }
        }
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
