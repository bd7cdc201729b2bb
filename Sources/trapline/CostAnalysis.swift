import Analyzer
import ArgumentParser
import Glibc
import Replayer
import Tracer
import VMM

/// A trace's store together with what strategies did, priced by one cost table. The guest is run again for it the first
/// time only, for each part that is asked for.
struct CostAnalysis {
    let store: AnalysisStore
    let model: StoredModel
    let result: ModelResult
    /// What the store keeps these prices under.
    let key: String

    /// - Parameter part: two positions between which alone the models run, or none for all of the trace.
    init(_ request: AnalysisRequest, _ options: ModelOptions, part: [PositionArgument] = []) throws {
        guard !options.audit, options.mutation == nil else {
            throw CommandError.badCombination("--audit goes with compare and replay")
        }
        let costs = try CostTables.table(options.costs)
        let bounds = try request.counts(of: part)
        let key = ModelKey(options: try options.key(part: bounds), build: Self.build)
        store = try request.store()
        if let known = try store.model(key) {
            model = known
        } else {
            model = try Self.run(request, options, store, key, part)
        }
        result = ModelResult(model.counts, costs, includesWaits: options.includeWaits)
        self.key = AnalysisStore.priceKey(costs, includesWaits: options.includeWaits)
        try store.price(model, result, key: self.key)
    }

    private static func run(
        _ request: AnalysisRequest, _ options: ModelOptions, _ store: AnalysisStore, _ key: ModelKey,
        _ part: [PositionArgument]
    ) throws -> StoredModel {
        let session = ModelSession(
            reader: try OpenTrace.reader(request.trace), path: request.trace, model: options,
            strategies: StrategyCatalog.all, engine: nil, images: request.imageArguments, from: part.first,
            to: part.last,
            divisions: try store.divisions())
        let outcome = try session.run()
        switch outcome.end {
        case .diverged(let divergence):
            throw CommandError.trace(path: request.trace, .unusable(divergence.sentence))
        case .outcome(.interrupted):
            throw EndingSignal.interrupted("nothing was kept")
        case .cutOff, .outcome, .position: break
        }
        let counts = ModelCounts(outcome.run, idleNanoseconds: outcome.idleNanoseconds)
        return try store.keep(counts, key, verified: (outcome.verifiedEvents, outcome.verifiedDigests))
    }

    /// Tells this build of the program from others, which may model differently.
    private static var build: String {
        var status = stat()
        guard stat("/proc/self/exe", &status) == 0 else { return "unknown" }
        return "\(status.st_size)-\(status.st_mtim.tv_sec)-\(status.st_mtim.tv_nsec)"
    }
}
