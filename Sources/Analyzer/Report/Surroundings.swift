import Replayer
import Tracer
import VMM

/// The instructions around one, as they were in the guest's memory when it was executed.
package struct Surroundings {
    /// One instruction.
    package struct Line {
        package var address: UInt64
        package var bytes: [UInt8]
        package var text: String
        /// The one that was asked for.
        package var isCenter: Bool
    }

    private static let before = 5
    private static let after = 4
    private static let longest = 15
    /// How far before the instruction decoding begins at most.
    private static let reach: UInt64 = 4096
    package let lines: [Line]

    /// Runs the guest to `count`, where the instruction at `address` is next. `start` is where one before it
    /// begins, such as its function's first.
    package init(
        _ makeReplay: () throws(TraceError) -> Replay, address: UInt64, count: UInt64, from start: UInt64?
    ) throws(TraceError) {
        let replay = try makeReplay()
        try replay.begin(at: count)
        if case .diverged(let divergence) = try replay.run(to: TracePosition(count: count, nanoseconds: 0)) {
            throw .unusable(divergence.sentence)
        }
        lines = Self.lines(replay.machine.processor, address: address, from: start)
    }

    /// The instructions around `address` in the memory of a guest that is about to execute it.
    static func lines(_ processor: Processor, address: UInt64, from start: UInt64?) -> [Line] {
        let bits = Disassembler.codeSize(processor.cpu)
        let disassembler = Disassembler()
        func line(_ place: UInt64) -> Line? {
            let bytes = processor.inspect(linear: place, count: Self.longest)
            let line = disassembler.line(bytes, rip: place, bits: bits)
            guard !line.text.isEmpty else { return nil }
            return Line(address: place, bytes: line.bytes, text: line.text, isCenter: place == address)
        }
        var before: [Line] = []
        if let start, start <= address, address - start <= Self.reach {
            var place = start
            while place < address, let next = line(place) {
                before.append(next)
                place += UInt64(next.bytes.count)
            }
            // Data between instructions, or another beginning: nothing before is known.
            if place != address { before = [] }
        }
        var lines = Array(before.suffix(Self.before))
        var place = address
        for _ in 0...Self.after {
            guard let next = line(place) else { break }
            lines.append(next)
            place &+= UInt64(next.bytes.count)
        }
        return lines
    }
}
