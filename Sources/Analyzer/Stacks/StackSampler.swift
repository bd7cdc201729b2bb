import CEngine
import Replayer
import Tracer
import VMM

/// Samples of the kernel's call stacks at events. The guest is run again for them with a shadow of its kernel's stacks,
/// so that nothing needs to be recorded.
struct StackSampler {
    /// One sample.
    struct Sample {
        var key: SiteKey
        var count: UInt64
        /// How many events it stands for.
        var weight: UInt64
        /// Where its callers go on, innermost first.
        var callers: [UInt64] = []
    }

    private(set) var samples: [Sample] = []

    /// Chooses events of the trace, and with `paging` also those that the guest's page tables give rise to, and runs
    /// the guest from one to the next. `goesOn` is told which part is done, and says whether to go on; if not, samples
    /// are missing or have no callers.
    init(_ analysis: TraceAnalysis, paging: Bool, goesOn: @escaping (Double) -> Bool) throws {
        guard let kernel = analysis.kernel else {
            throw AnalysisError("the guest has no kernel whose symbols are known, so there are no stacks")
        }
        let length = Double(max(analysis.reader.reach.position.count, 1))
        let runsTwice = paging && analysis.reader.manifest.detail != .paging
        let choices =
            runsTwice
            ? try Self.rerun(analysis) { goesOn(Double($0) / length / 2) } : try Self.recorded(analysis)
        samples = choices.samples
        let replay = try analysis.makeReplay()
        try replay.begin()
        guard let marks = CallMarks(replay.machine.memory) else {
            throw AnalysisError("there is no memory for a shadow of the guest's stacks")
        }
        replay.machine.processor.keep(marks)
        let scanner = StackScanner(kernel, analysis.symbols, marks)
        for index in samples.indices {
            let count = samples[index].count
            let part = Double(count) / length
            guard goesOn(runsTwice ? 0.5 + part / 2 : part) else { return }
            if case .diverged(let divergence) = try replay.run(to: TracePosition(count: count, nanoseconds: 0)) {
                throw TraceError.unusable(divergence.sentence)
            }
            let cpu = replay.machine.processor.cpu
            guard cpu.pointee.cpl == 0, replay.position.count == count, scanner.isCode(samples[index].key.address)
            else { continue }
            samples[index].callers = scanner.callers(
                stack: cpu.gpr(Register.rsp), kernel.moved(to: GuestPages(replay.machine)).pages)
        }
    }

    /// Chooses among the events that the trace holds.
    private static func recorded(_ analysis: TraceAnalysis) throws -> Choices {
        let choices = Choices()
        let cursor = try EventCursor(analysis.reader)
        while true {
            let (records, _) = try cursor.nextBatch()
            if records.isEmpty { return choices }
            choices.receive(records)
        }
    }

    /// Chooses among all events of another run of the guest, but for TLB fills, which models charge to no place.
    private static func rerun(_ analysis: TraceAnalysis, goesOn: @escaping (UInt64) -> Bool) throws -> Choices {
        let choices = Choices(without: [.tlbFill, .firstTouch])
        let replay = try analysis.makeReplay()
        try replay.begin()
        replay.isInterrupted = { [unowned replay] in !goesOn(replay.position.count) }
        replay.machine.processor.attach(choices, watching: .paging)
        if case .diverged(let divergence) = try replay.run() { throw TraceError.unusable(divergence.sentence) }
        replay.machine.processor.attach(nil)
        return choices
    }
}

/// Takes the kernel's events and chooses some of each site's.
private final class Choices: EventSink {
    private var choices: [SiteKey: SampleChoice] = [:]
    /// By kind, whether it is taken.
    private let takes: [Bool]

    init(without kinds: [EventKind] = []) {
        takes = (0...UInt8.max).map { kind in
            kind < EventKind.payload.rawValue && !kinds.contains { $0.rawValue == kind }
        }
    }

    func receive(_ events: UnsafeBufferPointer<EventRecord>) {
        for record in events where takes[Int(record.kind)] && record.ring != 3 {
            let key = SiteKey(
                address: record.address, kind: record.kind, ring: record.ring, size: record.size, phase: .kernel,
                subject: 0)
            choices[key, default: SampleChoice(seed: record.address)].take(count: record.count)
        }
    }

    /// What was chosen, in the order of the run.
    var samples: [StackSampler.Sample] {
        let samples = choices.flatMap { key, choice in
            choice.counts.enumerated().map { index, count in
                StackSampler.Sample(key: key, count: count, weight: choice.weight(index))
            }
        }
        return samples.sorted { ($0.count, $0.key.address, $0.key.kind) < ($1.count, $1.key.address, $1.key.kind) }
    }
}
