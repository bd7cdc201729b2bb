import Replayer
import Testing
import VMM

/// Prices of multiples of primitives.
struct PricingTests {
    private struct Generator: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    private func counts(_ items: [(Primitive, Int64)]) -> PrimitiveCounts {
        var counts = PrimitiveCounts()
        for (primitive, count) in items { counts.add(primitive, count) }
        return counts
    }

    @Test func lowAndHighFollowTheSign() throws {
        var table = try #require(BuiltInCosts.table("skylake"))
        table[.cli].value = CostRange(1, 2, 4)
        table[.sti].value = CostRange(10, 20, 40)
        #expect(counts([(.cli, 3), (.sti, -1)]).cycles(table) == CostRange(3 - 40, 6 - 20, 12 - 10))
    }

    /// The extremes of a ratio are those that trying every corner of the table's ranges finds.
    @Test(arguments: 1...20) func ratiosAreExact(seed: Int) throws {
        var generator = Generator(state: UInt64(seed))
        var table = try #require(BuiltInCosts.table("zen3"))
        let used: [Primitive] = [.instruction, .cli, .sti, .cpuid, .exitRoundTrip, .decode]
        var (native, added) = (PrimitiveCounts(), PrimitiveCounts())
        for primitive in used {
            let low = Double(Int.random(in: 1...50, using: &generator))
            let high = low + Double(Int.random(in: 0...200, using: &generator))
            table[primitive].value = CostRange(low, (low + high) / 2, high)
            native.add(primitive, Int64.random(in: 0...1000, using: &generator))
            added.add(primitive, Int64.random(in: -800...800, using: &generator))
        }
        native.add(.instruction, 1)
        var (lowest, highest) = (Double.infinity, -Double.infinity)
        for corner in 0..<1 << used.count {
            var (base, extra) = (0.0, 0.0)
            for (index, primitive) in used.enumerated() {
                let range = table[primitive].value
                let value = corner >> index & 1 == 1 ? range.high : range.low
                base += Double(native[primitive]) * value
                extra += Double(added[primitive]) * value
            }
            lowest = min(lowest, 1 + extra / base)
            highest = max(highest, 1 + extra / base)
        }
        let ratio = ModelResult.Entry.ratio(of: added, to: native, table)
        #expect(abs(ratio.low - lowest) < 1e-6, "seed \(seed)")
        #expect(abs(ratio.high - highest) < 1e-6, "seed \(seed)")
        #expect(ratio.low <= ratio.typical && ratio.typical <= ratio.high)
    }

    @Test func theShareOfEstimatesCountsBothSigns() throws {
        var table = try #require(BuiltInCosts.table("skylake"))
        for (primitive, role) in [(Primitive.cli, Cost.Role.input), (.decode, .estimate)] {
            table[primitive].value = CostRange(10, 10, 10)
            table[primitive].role = role
        }
        #expect(counts([(.cli, -1), (.decode, 3)]).estimatedShare(table) == 0.75)
        #expect(counts([]).estimatedShare(table) == 0)
    }
}

/// The strategies' own descriptions.
struct CatalogTests {
    @Test(arguments: StrategyCatalog.all.map { $0.name }) func pathsAreDescribed(name: String) throws {
        let type = try #require(StrategyCatalog.named(name))
        let strategy = StrategyCatalog.describe(type)
        for path in strategy.ledger.paths {
            #expect(!path.event.isEmpty && !path.mechanism.isEmpty)
            #expect(path.charges.items.allSatisfy { $0.count != 0 })
        }
        #expect(strategy.ledger.paths.count < 256)
        #expect(!type.summary.isEmpty)
    }

    @Test func namesAreTheirOwn() {
        let names = StrategyCatalog.all.map { $0.name }
        #expect(names.count == 12 && Set(names).count == 12)
    }

    @Test func thereAreTwentyDefects() { #expect(Mutation.allCases.count >= 20) }
}

/// The padding of annotated instructions.
struct AfterburnerTests {
    @Test func bytesAreThoseOfTheSources() {
        for (kind, short, long) in [(EventKind.pushf, 5, 6), (.cli, 7, 8), (.portIn, 13, 14), (.sti, 23, 23)] {
            #expect(Afterburner.bytes(kind, isLong: false) == short)
            #expect(Afterburner.bytes(kind, isLong: true) == long)
        }
    }
}
