import Replayer
import Tracer

/// The instructions around many sites, read in one run of the guest.
package struct CodeReader {
    /// A place, when an instruction is executed there, and where one before it begins.
    package struct Request {
        package var address: UInt64
        package var count: UInt64
        package var start: UInt64?

        package init(address: UInt64, count: UInt64, start: UInt64?) {
            self.address = address
            self.count = count
            self.start = start
        }
    }

    /// From here on it is quicker to begin at another checkpoint than to run there.
    private static let farAway: UInt64 = 600_000_000

    /// The lines for each request; none where the place is not mapped.
    package let lines: [[Surroundings.Line]]

    /// `isInterrupted` is asked between requests.
    package init(
        _ makeReplay: () throws(TraceError) -> Replay, _ requests: [Request], isInterrupted: () -> Bool = { false }
    ) throws(TraceError) {
        var lines = [[Surroundings.Line]](repeating: [], count: requests.count)
        var replay: Replay?
        let order = requests.indices.sorted { (requests[$0].count, $0) < (requests[$1].count, $1) }
        for index in order {
            if isInterrupted() { break }
            let request = requests[index]
            if replay.map({ request.count - min($0.position.count, request.count) > Self.farAway }) ?? true {
                let new = try makeReplay()
                try new.begin(at: request.count)
                replay = new
            }
            guard let replay else { continue }
            if case .diverged(let divergence) = try replay.run(to: TracePosition(count: request.count, nanoseconds: 0))
            {
                throw .unusable(divergence.sentence)
            }
            lines[index] = Surroundings.lines(
                replay.machine.processor, address: request.address, from: request.start)
        }
        self.lines = lines
    }
}
