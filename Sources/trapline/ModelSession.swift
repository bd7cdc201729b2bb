import Replayer
import Tracer
import VMM

/// One re-execution of a trace, or of a part of it, that feeds strategies, checked as every replay is.
struct ModelSession {
    let reader: TraceReader
    let path: String
    let model: ModelOptions
    let strategies: [Strategy.Type]
    let engine: Engine?
    let images: [ImageArgument]
    let from: PositionArgument?
    let to: PositionArgument?
    /// What the charges are told apart by, besides their sites.
    var divisions: RunDivisions?

    /// What came out of it.
    struct Result {
        let run: StrategyRun
        let end: Replay.End
        let idleNanoseconds: UInt64
        let verifiedEvents: UInt64
        let verifiedDigests: UInt64
        let seconds: Double
        let machine: Machine
    }

    func run() throws(CommandError) -> Result {
        let policy = try model.policy()
        let mutation = try model.defect()
        EndingSignal.watch()
        let started = HostClock.seconds
        let progress = ProgressLine("modelling")
        let files = ImageFiles(images)
        return try OpenTrace.describing(path) { () throws(TraceError) in
            var options = Replay.Options()
            options.engine = engine
            let replay = try Replay(
                reader, options, file: { image throws(TraceError) in try files.bytes(image) },
                disk: { image throws(TraceError) in try files.disk(image) })
            let first = try from?.count(in: reader)
            let last = try to?.count(in: reader)
            if let first, let last, last < first {
                throw .unusable("the part to model ends at count \(last), which is before its beginning, \(first)")
            }
            try replay.begin(at: first)
            if let first { _ = try replay.run(to: TracePosition(count: first, nanoseconds: 0)) }
            let (start, end) = (replay.position.count, max(last ?? reader.reach.position.count, 1))
            replay.isInterrupted = {
                progress.show(Double(replay.position.count - start) / Double(max(end - min(start, end), 1)))
                return EndingSignal.wasReceived
            }
            let idle = replay.machine.processor.cpu.pointee.idleNanoseconds
            let run = StrategyRun(
                strategies, on: replay.machine, devices: policy, options: model.options, mutation: mutation,
                divisions: divisions)
            replay.model(with: run)
            defer { progress.clear() }
            let ended: Replay.End
            do throws(TraceError) {
                ended = try replay.run(to: last.map { TracePosition(count: $0, nanoseconds: 0) })
            } catch {
                run.finish()
                throw error
            }
            run.finish()
            return Result(
                run: run, end: ended,
                idleNanoseconds: replay.machine.processor.cpu.pointee.idleNanoseconds - idle,
                verifiedEvents: replay.verifier?.verified ?? 0, verifiedDigests: replay.verifiedDigests,
                seconds: HostClock.seconds - started, machine: replay.machine)
        }
    }
}
