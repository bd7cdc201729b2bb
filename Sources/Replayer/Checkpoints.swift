import Tracer
import VMM

/// Puts a machine into the state of a checkpoint.
struct CheckpointLoader {
    let reader: TraceReader
    let checkpoints: [(entry: IndexEntry, record: CheckpointRecord)]

    init(_ reader: TraceReader) throws(TraceError) {
        self.reader = reader
        checkpoints = try reader.checkpoints()
    }

    /// The last checkpoint at or before a position.
    func last(before position: TracePosition) -> Int? {
        checkpoints.lastIndex { $0.record.progress.position <= position }
    }

    /// Restores checkpoint `number` on a machine that was just switched on.
    /// - Returns: its record, with what belongs to the events and not to the machine.
    func restore(_ number: Int, on machine: Machine) throws(TraceError) -> CheckpointRecord {
        let chosen = checkpoints[number]
        let pages = Int(machine.configuration.memorySize / 4096)
        var contents = [UInt32](repeating: PageRestore.asBooted, count: pages)
        let earlier = checkpoints[..<number].filter { $0.entry.header.epoch == chosen.entry.header.epoch }
        // What was before a full one does not matter.
        let first = chosen.record.isFull ? earlier.count : earlier.lastIndex { $0.record.isFull } ?? 0
        for checkpoint in earlier[first...] {
            var block = try reader.load(checkpoint.entry, wanted: [1, 2, 3])
            block.columns.append((4, []))
            try Self.apply(CheckpointRecord.record(block), to: &contents)
        }
        let record = try CheckpointRecord.record(reader.load(chosen.entry))
        try Self.apply(record, to: &contents)
        if chosen.record.isFull || first < earlier.count && earlier[first].record.isFull { machine.memory.clearRAM() }
        try PageRestore(reader, epoch: chosen.entry.header.epoch, machine.memory).restore(contents)
        do {
            try machine.restoreWithoutRAM(record.state)
        } catch {
            throw .unusable("the checkpoint at count \(machine.clock.count) cannot be restored: \(error)")
        }
        return record
    }

    private static func apply(_ record: CheckpointRecord, to contents: inout [UInt32]) throws(TraceError) {
        for (page, content) in zip(record.pages, record.contents) {
            guard page < contents.count, content != PageRestore.asBooted else {
                throw .unusable("a checkpoint has page \(page) of \(contents.count)")
            }
            contents[Int(page)] = content
        }
    }
}
