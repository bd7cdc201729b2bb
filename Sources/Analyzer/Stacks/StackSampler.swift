import CEngine
import Replayer
import Tracer
import VMM

/// Samples of the kernel's call stacks at events: at a site's 1st, 2nd, 4th, 8th … event, each of which stands for
/// those up to the next one. The guest is run again for it, and nothing of it needs to be recorded.
struct StackSampler {
    /// One sample.
    struct Sample {
        var key: SiteKey
        var count: UInt64
        /// How many events it stands for.
        var weight: UInt64
        var frames: [StackScanner.Frame] = []
    }

    private static let most = 1 << 18
    private(set) var samples: [Sample] = []

    /// Reads where events are, and then runs the guest from one to the next.
    init(_ analysis: TraceAnalysis) throws {
        guard let kernel = analysis.kernel else {
            throw AnalysisError("the guest has no kernel whose symbols are known, so there are no stacks")
        }
        try choose(analysis)
        let replay = try analysis.makeReplay()
        try replay.begin()
        let scanner = StackScanner(kernel, analysis.symbols)
        for index in samples.indices {
            let count = samples[index].count
            if case .diverged(let divergence) = try replay.run(to: TracePosition(count: count, nanoseconds: 0)) {
                throw TraceError.unusable(divergence.sentence)
            }
            let cpu = replay.machine.processor.cpu.pointee
            guard cpu.cpl == 0, replay.position.count == count, kernel.image.contains(samples[index].key.address) else {
                continue
            }
            let pages = kernel.moved(to: GuestPages(replay.machine)).pages
            samples[index].frames = scanner.frames(
                at: samples[index].key.address, stack: replay.machine.processor.cpu.gpr(Register.rsp), pages)
        }
    }

    private mutating func choose(_ analysis: TraceAnalysis) throws {
        let cursor = try EventCursor(analysis.reader)
        let payload = EventKind.payload.rawValue
        var seen: [SiteKey: (events: UInt64, sample: Int)] = [:]
        while true {
            let (records, _) = try cursor.nextBatch()
            guard !records.isEmpty else { return }
            for record in records where record.kind != payload {
                let key = SiteKey(
                    address: record.address, kind: record.kind, ring: record.ring, size: record.size, phase: .kernel,
                    subject: 0)
                let events = (seen[key]?.events ?? 0) + 1
                if events & (events - 1) == 0, samples.count < Self.most {
                    seen[key] = (events, samples.count)
                    samples.append(Sample(key: key, count: record.count, weight: 0))
                } else {
                    seen[key]?.events = events
                }
                if let sample = seen[key]?.sample { samples[sample].weight += 1 }
            }
        }
    }
}
