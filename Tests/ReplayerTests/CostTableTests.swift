import Foundation
import Replayer
import Testing

struct CostTableTests {
    /// Every strategy that a table may name.
    private static let strategies: Set = [
        "native", "nops", "trap-and-emulate", "binary-translation", "vtx-shadow", "vtx-ept", "svm-npt", "l4-paravirt",
        "l4-inplace", "xen-paravirt", "xen-inplace", "pvm",
    ]

    @Test(arguments: BuiltInCosts.names) func theProjectsOwnTablesAreWhole(name: String) throws {
        let table = try #require(BuiltInCosts.table(name))
        #expect(table.name == name)
        #expect(table.costs.map(\.primitive) == Primitive.allCases)
        #expect(table.costs.contains { $0.role == .input })
        #expect(!table.checks.isEmpty)
        #expect(table.checks.allSatisfy { Self.strategies.contains($0.strategy) })
        #expect(table.hypothetical.keys.allSatisfy { Self.strategies.contains($0) })
    }

    @Test func aTableIsReadAsItIsWritten() throws {
        for table in BuiltInCosts.all { #expect(try CostTable(json: Array(table.json.utf8)) == table) }
    }

    @Test func thereIsNoOtherTable() { #expect(BuiltInCosts.table("pentium5") == nil) }

    @Test func busTimesDoNotFollowTheClock() throws {
        var table = try #require(BuiltInCosts.table("pentium4"))
        table[.portBus].value = CostRange(500, 840, 1500)
        table.clock = 2800
        #expect(table.cycles(.portBus) == CostRange(1400, 2352, 4200))
        table[.cli].value = CostRange(35, 35, 35)
        #expect(table.cycles(.cli) == CostRange(35, 35, 35))
    }

    @Test func aCheckInMicrosecondsIsCyclesOfItsOwnMachine() throws {
        let check = try #require(
            BuiltInCosts.table("pentium4")?.checks.first { $0.guest == "page-fault-32" && $0.strategy == "native" })
        #expect(abs(check.value - 1.42 * 2400) < 1e-6)
    }

    /// No published figure feeds a model and is then held against it.
    @Test func noCheckIsAnInput() {
        for table in BuiltInCosts.all {
            for check in table.checks where check.measure == .total {
                let twin = table.costs.first {
                    $0.role == .input && $0.source == check.source
                        && $0.value.typical == check.published
                }
                #expect(twin == nil, "\(table.name): \(check.source)")
            }
        }
    }

    // MARK: What is not a table

    /// A whole table with one piece of text replaced.
    private func damaged(_ text: String, _ replacement: String) throws -> CostTableError? {
        let whole = try #require(BuiltInCosts.table("pentium4")).json
        #expect(whole.contains(text))
        let range = try #require(whole.range(of: text))
        return error(whole.replacingCharacters(in: range, with: replacement))
    }

    private func error(_ text: String) -> CostTableError? {
        do throws(CostTableError) { _ = try CostTable(json: Array(text.utf8)) } catch { return error }
        return nil
    }

    private func cli(_ values: String, unit: String = "cycles") -> String {
        "{\"primitive\": \"cli\", \"unit\": \"\(unit)\", \(values), \"role\": \"input\""
    }
    private var whole: String { cli("\"low\": 35, \"typical\": 35, \"high\": 35") }

    @Test(arguments: [
        (
            "\"low\": -1, \"typical\": 35, \"high\": 35",
            "the member \"low\" of \"cli\" is -1; expected a number from 0 to 1000000000000"
        ),
        (
            "\"low\": 1e999, \"typical\": 35, \"high\": 35",
            "the member \"low\" of \"cli\" is inf; expected a number from 0 to 1000000000000"
        ),
        (
            "\"low\": \"35\", \"typical\": 35, \"high\": 35",
            "the member \"low\" of \"cli\" is \"35\"; expected a number from 0 to 1000000000000"
        ),
        (
            "\"low\": 36, \"typical\": 35, \"high\": 37",
            "the low value of \"cli\" is 36; expected at most the typical one, 35"
        ),
        (
            "\"low\": 35, \"typical\": 38, \"high\": 37",
            "the typical value of \"cli\" is 38; expected at most the high one, 37"
        ),
        ("\"low\": 35, \"typical\": 35", "the member \"high\" is missing; expected the row to have it"),
        (
            "\"low\": 35, \"typical\": 35, \"hihg\": 35",
            "there is no member \"hihg\"; expected the row to have primitive, unit, low, typical, high, role, source"
        ),
        (
            "\"low\": 35, \"typical\": 35, \"high\": 35, \"high\": 36",
            "the member \"high\" appears twice, the first time in line 7; expected it once"
        ),
    ]) func aBadRowIsNamedWithItsLine(values: String, sentence: String) throws {
        #expect(try damaged(whole, cli(values))?.description == "line 7: " + sentence)
    }

    @Test func theUnitIsChecked() throws {
        let error = try damaged(whole, cli("\"low\": 35, \"typical\": 35, \"high\": 35", unit: "nanoseconds"))
        #expect(error?.description == "line 7: the unit of \"cli\" is \"nanoseconds\"; expected \"cycles\"")
    }

    @Test func rowsAreKnownAndThereOnce() throws {
        #expect(
            try damaged("\"primitive\": \"cli\"", "\"primitive\": \"clj\"")?.description
                == "line 7: there is no primitive \"clj\"; expected one that 'trapline costs pentium4' lists")
        #expect(
            try damaged("\"primitive\": \"sti\"", "\"primitive\": \"cli\"")?.description
                == "line 8: the row of \"cli\" appears twice, the first time in line 7; expected it once")
        let rows = try #require(BuiltInCosts.table("pentium4")).json.split(
            separator: "\n", omittingEmptySubsequences: false)
        let without = rows.filter { !$0.contains("\"cli\"") && !$0.contains("\"sti\"") }.joined(separator: "\n")
        #expect(
            error(without)?.description
                == "line 1: the row of \"cli\" (and of 1 more) is missing; expected one in \"costs\" for each primitive"
        )
    }

    @Test func membersOfTheTableAreChecked() throws {
        #expect(
            try damaged("\"role\": \"input\"", "\"role\": \"guess\"")?.description
                == "line 7: the member \"role\" is \"guess\"; expected \"input\" or \"estimate\"")
        #expect(
            try damaged("\"clock_mhz\": 2800", "\"clock_mhz\": 0")?.description
                == "line 4: the member \"clock_mhz\" is 0; expected a number from 1 to 1000000")
        #expect(
            try damaged("\"name\": \"pentium4\"", "\"name\": \"a\\u001bb\"")?.description
                == "line 2: the member \"name\" is \"a\\u001bb\"; expected a text on one line")
        #expect(error("[]")?.description == "line 1: the table is an array; expected an object")
        #expect(
            error("{}")?.description == "line 1: the member \"name\" is missing; expected the table to have it")
    }

    @Test(arguments: [
        ("", "not JSON: line 1: expected a value, found the end of the file"),
        ("{\n\"name\" 1}", "not JSON: line 2: expected a colon after the key \"name\", found '1'"),
        ("{\"name\": NaN}", "not JSON: line 1: expected a value, found 'N'"),
        ("{\"a\": 1,}", "not JSON: line 1: expected a key in double quotes, found '}'"),
        ("{\"a\": 01}", "not JSON: line 1: expected a comma or }, found '1'"),
        ("{\"a\": \"\\x\"}", "not JSON: line 1: expected an escape sequence, found 'x'"),
        (
            "{\"a\": \"b\n\"}",
            "not JSON: line 1: expected a closing double quote on the same line, found the end of the line"
        ),
        ("{} x", "not JSON: line 1: expected the end of the file, found 'x'"),
        ("\u{7f}ELF", "not JSON: line 1: expected a value, found the byte 0x7f"),
    ]) func whatIsNotJSONIsSaid(text: String, sentence: String) {
        #expect(error(text)?.description == sentence)
    }

    @Test func deepAndLargeTextsAreRefused() {
        #expect(
            error(String(repeating: "[", count: 100_000))?.description
                == "not JSON: line 1: expected at most 32 levels of brackets, found '['")
        let large = [UInt8](repeating: UInt8(ascii: " "), count: CostTable.maximumFileSize + 1)
        #expect(throws: CostTableError.tooLarge(limit: CostTable.maximumFileSize)) { try CostTable(json: large) }
    }

    /// Any text ends in a table or in a sentence, and in nothing else.
    @Test func damagedBytesNeverTrap() throws {
        let whole = Array(try #require(BuiltInCosts.table("zen3")).json.utf8)
        var state: UInt64 = 0x9e37_79b9_7f4a_7c15
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1
            return Int(state >> 33) % bound
        }
        for _ in 0..<300 {
            var bytes = whole
            for _ in 0...random(4) { bytes[random(bytes.count)] = UInt8(random(256)) }
            if random(4) == 0 { bytes.removeLast(random(bytes.count)) }
            do throws(CostTableError) { _ = try CostTable(json: bytes) } catch { #expect(!error.description.isEmpty) }
        }
    }
}
