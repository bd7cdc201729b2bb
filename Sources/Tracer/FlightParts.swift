import Glibc

/// The files of a flight recorder: each is a trace that begins with a whole checkpoint, and only the last two are kept
/// until they become one. Without a flight recorder there is one file.
package struct FlightParts {
    private let path: String
    private let isUsed: Bool
    private var number = 0

    init(_ path: String, isUsed: Bool) {
        self.path = path
        self.isUsed = isUsed
    }

    private func name(_ number: Int) -> String { "\(path).part\(number)" }

    /// Makes the trace empty, and removes the parts of an earlier recording, so that they are not taken for this one's.
    func begin() throws(TraceError) {
        guard isUsed else { return }
        for name in Self.leftParts(path) {
            guard !TraceFileWriter.isBeingWritten(name) else {
                throw .unusable("another recording is writing \(name)")
            }
            unlink(name)
        }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw .cannotWrite(errno: errno) }
        _ = close(descriptor)
    }

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
        return try Self.merge(names, into: path, complete: complete)
    }

    private static func merge(
        _ names: [String], into path: String, complete: Bool
    ) throws(TraceError) -> TraceStatistics {
        // It has its name when it is whole, so that nothing is lost with a process that is killed now.
        let unfinished = path + ".unfinished"
        let file = try TraceFileWriter(unfinished)
        var statistics = TraceStatistics()
        for (index, name) in names.enumerated() {
            let reader = try TraceReader(name)
            for entry in reader.blocks where isKept(entry, isFirst: index == 0, isLast: index == names.count - 1) {
                let payload = try reader.payload(entry)
                try file.append(entry.header, payload)
                statistics.note(entry.header, payload)
            }
        }
        if complete { try file.finish() }
        guard rename(unfinished, path) == 0 else { throw .cannotWrite(errno: errno) }
        for name in names { unlink(name) }
        return statistics
    }

    // MARK: What a recorder left that was killed

    /// Makes the trace at `path` of the parts that a flight recorder left beside it when it was killed. Nothing happens
    /// if there is a trace already, or if there are no parts.
    /// - Returns: the names of the parts that it was made of.
    package static func salvage(_ path: String) throws(TraceError) -> [String] {
        var status = stat()
        guard stat(path, &status) != 0 || status.st_size == 0 else { return [] }
        let names = leftParts(path)
        for name in names where TraceFileWriter.isBeingWritten(name) {
            throw .unusable("it is still being recorded; its parts become one trace at the end")
        }
        // The newest may have been killed before it could be read; the one before it then ends where that began.
        let readable = names.filter { name in
            guard let reader = try? TraceReader(name) else { return false }
            return reader.blocks.contains { $0.stream == .sync }
        }
        guard !readable.isEmpty else { return [] }
        _ = try merge(Array(readable.suffix(2)), into: path, complete: false)
        for name in names { unlink(name) }
        return readable
    }

    /// The parts beside `path`, in the order in which they were recorded.
    private static func leftParts(_ path: String) -> [String] {
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { String(path[...$0]) } ?? "./"
        let prefix = String(path[(slash.map(path.index(after:)) ?? path.startIndex)...]) + ".part"
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var numbers: [Int] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(prefix), let number = Int(name.dropFirst(prefix.count)) { numbers.append(number) }
        }
        return numbers.sorted().map { "\(path).part\($0)" }
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
