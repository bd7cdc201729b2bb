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
    /// - Returns: what the processor watches from then on.
    func restore(
        _ number: Int, on machine: Machine
    ) throws(TraceError) -> (frames: [UInt8], descriptors: [Range<UInt64>])? {
        let epoch = checkpoints[number].entry.header.epoch
        var contents: [UInt32: UInt32] = [:]
        var isFromZero = false
        var state: [UInt8] = []
        var watch: (frames: [UInt8], descriptors: [Range<UInt64>])?
        for index in 0...number where checkpoints[index].entry.header.epoch == epoch {
            let wanted: Set<UInt8>? = index == number ? nil : [1, 2, 3]
            var block = try reader.load(checkpoints[index].entry, wanted: wanted)
            if index != number { block.columns.append((4, [])) }
            let record = try CheckpointRecord.record(block)
            if record.isFull {
                contents = [:]
                isFromZero = true
            }
            for (page, content) in zip(record.pages, record.contents) { contents[page] = content }
            state = record.state
            watch = record.watch
        }
        if isFromZero { machine.memory.clearRAM() }
        try restorePages(contents, epoch, machine)
        do {
            try machine.restoreWithoutRAM(state)
        } catch {
            throw .unusable("the checkpoint at count \(machine.clock.count) cannot be restored: \(error)")
        }
        return watch
    }

    private func restorePages(_ contents: [UInt32: UInt32], _ epoch: UInt32, _ machine: Machine) throws(TraceError) {
        let pageCount = UInt32(machine.configuration.memorySize / 4096)
        let zeros = [UInt8](repeating: 0, count: 4096)
        // In order of contents, so that each block is read once.
        let order = contents.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
        let blocks = reader.blocks(.pages).filter { $0.header.epoch == epoch }
        var next = 0
        var current: (first: UInt64, bytes: [UInt8])?
        for (page, content) in order {
            guard page < pageCount else { throw .unusable("a checkpoint has page \(page) of \(pageCount)") }
            if content == 0 {
                zeros.withUnsafeBytes { machine.memory.setRAMPage(page, $0) }
                continue
            }
            let number = UInt64(content - 1)
            while current.map({ number >= $0.first + UInt64($0.bytes.count / 4096) }) ?? true {
                while next < blocks.count, blocks[next].header.firstItem + UInt64(blocks[next].header.items) <= number {
                    next += 1
                }
                guard next < blocks.count, blocks[next].header.firstItem <= number else {
                    throw .unusable("the trace does not hold the contents of page \(page)")
                }
                let bytes = try reader.load(blocks[next]).column(1)
                guard bytes.count == Int(blocks[next].header.items) * 4096 else {
                    throw .malformed(
                        offset: blocks[next].offset, expected: "\(blocks[next].header.items) pages",
                        found: "\(bytes.count) bytes")
                }
                current = (blocks[next].header.firstItem, bytes)
                next += 1
            }
            guard let current, number >= current.first else {
                throw .unusable("the trace does not hold the contents of page \(page)")
            }
            let start = Int(number - current.first) * 4096
            current.bytes[start..<start + 4096].withUnsafeBytes { machine.memory.setRAMPage(page, $0) }
        }
    }
}
