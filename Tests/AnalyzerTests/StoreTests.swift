import Analyzer
import Foundation
import Replayer
import Testing
import Tracer
import VMM

func readFile(_ path: String) -> [UInt8]? { FileManager.default.contents(atPath: path).map { Array($0) } }

/// Stores of the recorded samples.
final class StoreTests {
    private let folder = NSTemporaryDirectory() + "analyzer-test-" + UUID().uuidString

    init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private static let samples = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("traces").path

    private func store(_ name: String, withEvents: Bool = false, named: String? = nil) throws -> AnalysisStore {
        let path = Self.samples + "/" + name
        let reader = try TraceReader(path)
        let identity = try StoreIdentity(path: path, reader, symbolFiles: [])
        return try AnalysisStore.open(identity, named: named ?? folder + "/" + name, withEvents: withEvents) {
            try TraceAnalysis(reader) { () throws(TraceError) in
                var options = Replay.Options()
                options.verifies = false
                return try Replay(reader, options)
            }
        }
    }

    private func number(_ store: AnalysisStore, _ sql: String) throws -> Int64 {
        guard case .integer(let number) = try store.rows(sql).first?[0] else { return -1 }
        return number
    }

    @Test(arguments: ["v1-builtin-paging.tline", "v1-tasks.tline", "v1-long-mode.tline", "v1-smm.tline"])
    func everyEventIsCounted(name: String) throws {
        let store = try store(name, withEvents: true)
        let counts = try TraceReader(Self.samples + "/" + name).eventCounts()
        for (kind, count) in counts.enumerated() where count > 0 {
            let sum = "SELECT sum(m.samples) FROM summary m JOIN site s ON s.id = m.site WHERE s.kind = \(kind)"
            #expect(try number(store, sum) == Int64(count))
            #expect(try number(store, "SELECT sum(samples) FROM timeline WHERE kind = \(kind)") == Int64(count))
            let runs = "SELECT sum(e.samples) FROM event_run e JOIN site s ON s.id = e.site WHERE s.kind = \(kind)"
            #expect(try number(store, runs) == Int64(count))
        }
        let spots = try HotSpots(store, by: .instruction)
        #expect(spots.samples == counts.reduce(0, +))
        #expect(spots.rows.count == spots.groups)
        #expect(try TraceDifference(TraceSummary(store), TraceSummary(store)).changes.isEmpty)
    }

    @Test func partsOfATraceAddUp() throws {
        let name = "v1-builtin-paging.tline"
        let reader = try TraceReader(Self.samples + "/" + name)
        let end = reader.reach.position.count
        let whole = try HotSpots(store(name), by: .site)
        var sums: UInt64 = 0
        for part in [0..<end / 3, end / 3..<end * 2 / 3, end * 2 / 3..<end + 1] {
            let store = try store(name)
            try store.restrict(to: part, of: reader)
            sums += try HotSpots(store, by: .site).samples
        }
        #expect(sums == whole.samples)
    }

    @Test func filtersAndGroupsAgree() throws {
        let store = try store("v1-builtin-paging.tline")
        for grouping in HotSpots.Grouping.allCases {
            let spots = try HotSpots(store, by: grouping)
            #expect(spots.rows.reduce(0) { $0 + $1.samples } == spots.samples, "\(grouping)")
        }
        let ports = try HotSpots(store, by: .device, Filter("kind=portIn,portOut")).samples
        #expect(ports == (try HotSpots(store, by: .site, Filter("port=0-0xffff")).samples))
        #expect(try HotSpots(store, by: .device, Filter("device=UART")).samples > 0)
        let inside = try HotSpots(store, by: .site, Filter("ring=0")).samples
        let outside = try HotSpots(store, by: .site, Filter("ring!=0")).samples
        #expect(inside + outside == (try HotSpots(store, by: .ring).samples))
    }

    @Test func aStoreOfAnotherTraceIsRefusedOrMadeAnew() throws {
        let path = folder + "/one.sqlite"
        _ = try store("v1-fpu.tline", named: path)
        let error = #expect(throws: AnalysisError.self) { try store("v1-tasks.tline", named: path) }
        #expect(error?.description.hasSuffix("was made from another trace, or from this one before it changed") == true)
        let lacking = #expect(throws: AnalysisError.self) { try store("v1-fpu.tline", withEvents: true, named: path) }
        #expect(lacking?.description.hasSuffix("was made without --events") == true)
        try Data("no database".utf8).write(to: URL(fileURLWithPath: folder + "/other"))
        #expect(throws: AnalysisError("\(folder)/other is no analysis store")) {
            try store("v1-fpu.tline", named: folder + "/other")
        }
    }

    @Test func chargesAddUpToTheStrategies() throws {
        let name = "v1-builtin-paging.tline"
        let reader = try TraceReader(Self.samples + "/" + name)
        let replay = try Replay(reader)
        try replay.begin()
        let store = try store(name)
        let run = StrategyRun(
            StrategyCatalog.all, on: replay.machine, devices: DevicePolicy(), options: StrategyOptions(),
            divisions: try store.divisions())
        replay.model(with: run)
        _ = try replay.run()
        run.finish()
        let costs = try #require(BuiltInCosts.table("skylake"))
        let result = ModelResult(run, costs, idleNanoseconds: 0, includesWaits: false)
        let model = ModelKey(options: "none", build: "this")
        #expect(try store.model(model) == nil)
        let counts = ModelCounts(run, idleNanoseconds: 7)
        let kept = try store.keep(counts, model, verified: (1, 2))
        #expect(try store.model(ModelKey(options: "none", build: "another")) == nil)
        #expect(kept.verifiedEvents == 1 && kept.verifiedDigests == 2 && kept.counts.idleNanoseconds == 7)
        let again = ModelResult(kept.counts, costs, includesWaits: false)
        let key = AnalysisStore.priceKey(costs, includesWaits: false)
        try store.price(kept, again, key: key)
        for (entry, other) in zip(result.entries, again.entries) where entry.notApplicable == nil {
            #expect(entry.name == other.name && entry.ratio == other.ratio && entry.cyclesAdded == other.cyclesAdded)
            #expect(entry.sites.map(\.added) == other.sites.map(\.added))
            for grouping in HotSpots.Grouping.allCases where grouping != .device && grouping != .pid {
                let spots = try StrategyHotSpots(store, kept, key: key, strategy: entry.name, by: grouping)
                #expect(abs(spots.cycles - entry.cyclesAdded.typical) < 1, "\(entry.name) by \(grouping)")
            }
            let timed = kept.counts.strategies.first { $0.name == entry.name }?.timed ?? []
            let all = counts.strategies.first { $0.name == entry.name }?.times[1] ?? []
            #expect(timed.reduce(0) { $0 + $1.times } == all.reduce(0, +), "\(entry.name) over time")
        }
    }

    @Test func patchingSavesWhatTheInPlaceSystemWouldNotCharge() throws {
        let reader = try TraceReader(Self.samples + "/v1-builtin-paging.tline")
        let replay = try Replay(reader)
        try replay.begin()
        let run = StrategyRun(
            StrategyCatalog.all, on: replay.machine, devices: DevicePolicy(), options: StrategyOptions())
        replay.model(with: run)
        _ = try replay.run()
        run.finish()
        let costs = try #require(BuiltInCosts.table("skylake"))
        let counts = ModelCounts(run, idleNanoseconds: 0)
        let result = ModelResult(counts, costs, includesWaits: false)
        #expect(PatchCurve("xen-inplace", counts, result) == nil)
        let curve = try #require(PatchCurve("vtx-ept", counts, result))
        #expect(curve.sibling == "xen-inplace" && curve.useful > 0)
        let steps = PatchCurve.points(upTo: curve.useful).map { curve.step($0) }
        #expect(steps.map(\.sites) == steps.map(\.sites).sorted() && steps.last?.sites == curve.useful)
        #expect(steps.map(\.saved.typical) == steps.map(\.saved.typical).sorted())
        let entry = try #require(result["vtx-ept"])
        for step in steps {
            let native = result.nativeCycles.typical
            let ratio = entry.ratio.typical - step.saved.typical / native
            #expect(abs(step.ratio.typical - ratio) < 1e-9)
            #expect(step.ratio.low <= step.ratio.typical && step.ratio.typical <= step.ratio.high)
        }
        let address = counts.sites[Int(curve.candidates[0].site)].place.address
        #expect(curve.step(at: [address], counts).saved.typical >= steps[0].saved.typical)
        #expect(PatchCurve.points(upTo: 7) == [1, 2, 5, 7] && PatchCurve.points(upTo: 0).isEmpty)
    }

    @Test func statementsOnlyRead() throws {
        let store = try store("v1-fpu.tline")
        for sql in ["DELETE FROM site", "DROP TABLE site", "UPDATE meta SET value = 1", "CREATE TABLE x (y)"] {
            #expect(throws: AnalysisError("the statement would change the store")) { try store.rows(sql) }
        }
        #expect(throws: AnalysisError("SQL: expected one statement")) { try store.rows("SELECT 1; SELECT 2") }
        #expect(throws: AnalysisError.self) { try store.rows("SELECT nothing") }
        #expect(throws: AnalysisError.self) { try store.rows("") }
    }

    @Test func exportsHoldEverything() throws {
        let store = try store("v1-tasks.tline", withEvents: true)
        let total = try HotSpots(store, by: .ring).samples
        var folded: UInt64 = 0
        try store.folded { line in folded += UInt64(line.split(separator: " ").last!.dropLast())! }
        #expect(folded == total)
        var bytes: [UInt8] = []
        try PerfettoExport(store) { bytes += $0 }.run()
        // What is in it is read by Perfetto's own code in scripts/exports.
        #expect(bytes.count > 100)
        try store.copy(to: folder + "/copy.sqlite")
        #expect(throws: AnalysisError.self) { try store.copy(to: folder + "/copy.sqlite") }
    }
}
