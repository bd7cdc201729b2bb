import Glibc

/// The files of a flight recorder: each is a trace that begins with a whole checkpoint, and only the last two are kept
/// until they become one. Without a flight recorder there is one file.
struct FlightParts {
    private let path: String
    private let isUsed: Bool
    private var number = 0

    init(_ path: String, isUsed: Bool) {
        self.path = path
        self.isUsed = isUsed
    }

    private func name(_ number: Int) -> String { "\(path).part\(number)" }

    /// The file that is written now.
    var current: String { isUsed ? name(number) : path }

    /// Drops the part before the present one and gives the name of the next.
    mutating func next() -> String {
        if number > 0 { unlink(name(number - 1)) }
        number += 1
        return name(number)
    }

    /// Puts the parts that are left into the trace; nil if there are no parts.
    func merge(complete: Bool) throws(TraceError) -> TraceStatistics? {
        guard isUsed else { return nil }
        let names = number > 0 ? [name(number - 1), name(number)] : [name(0)]
        let file = try TraceFileWriter(path)
        var statistics = TraceStatistics()
        for (index, name) in names.enumerated() {
            let reader = try TraceReader(name)
            for entry in reader.blocks where Self.isKept(entry, isFirst: index == 0, isLast: index == names.count - 1) {
                let payload = try reader.payload(entry)
                try file.append(entry.header, payload)
                statistics.note(entry.header, payload)
            }
        }
        if complete { try file.finish() }
        for name in names { unlink(name) }
        return statistics
    }

    /// The manifest and how it ended are there once.
    private static func isKept(_ entry: IndexEntry, isFirst: Bool, isLast: Bool) -> Bool {
        switch entry.stream {
        case .manifest: isFirst
        case .end, .sync: isLast
        case .index: false
        default: true
        }
    }
}
