import CEngine
import VMM

/// Reads everything in a trace, as far as it can be checked without running it.
package struct TraceCheck {
    package private(set) var events: UInt64 = 0
    package private(set) var pages: UInt64 = 0

    /// `progress` is told now and then how much of the work is done, from 0 to 1.
    package init(_ reader: TraceReader, progress: (Double) -> Void = { _ in }) throws(TraceError) {
        let size = Double(max(reader.fileSize, 1))
        for entry in reader.blocks {
            let block = try reader.load(entry)
            try check(entry, block, reader)
            progress(Double(entry.end) / size / 2)
        }
        try checkEvents(reader) { progress(0.5 + $0 / 2) }
        try checkCheckpoints(reader)
        _ = try reader.eventCounts()
        _ = try reader.journal()
    }

    private mutating func check(_ entry: IndexEntry, _ block: Block, _ reader: TraceReader) throws(TraceError) {
        switch entry.stream {
        case .manifest: _ = try TraceManifest.parse(block)
        case .images: _ = try ImageBlock.parse(block, images: reader.manifest.images)
        case .journal: _ = try JournalEntry.entries(block)
        case .digests: _ = try DigestRecord.record(block)
        case .checkpoints: _ = try CheckpointRecord.record(block)
        case .marks: _ = try TraceMark.marks(block)
        case .sync: _ = try TraceProgress.progress(block)
        case .end: _ = try EndRecord.record(block)
        case .pages:
            let bytes = try block.column(1)
            guard bytes.count == Int(entry.header.items) * 4096 else {
                throw .malformed(
                    offset: entry.offset, expected: "\(entry.header.items) pages", found: "\(bytes.count) bytes")
            }
            pages += UInt64(entry.header.items)
        case .sites: _ = try reader.sites(epoch: entry.header.epoch)
        case .events, .index, nil: break
        }
    }

    private mutating func checkEvents(_ reader: TraceReader, _ progress: (Double) -> Void) throws(TraceError) {
        let cursor = try EventCursor(reader)
        let total = Double(max(reader.blocks(.events).reduce(0) { $0 + UInt64($1.header.items) }, 1))
        while let record = try cursor.next() {
            if record.kind != EventKind.payload.rawValue { events += 1 }
            if events & 0xfffff == 0 { progress(Double(events) / total) }
        }
    }

    /// Each page that a checkpoint names is in the trace.
    private func checkCheckpoints(_ reader: TraceReader) throws(TraceError) {
        var ends: [UInt32: UInt64] = [:]
        for entry in reader.blocks(.pages) {
            let end = entry.header.firstItem &+ UInt64(entry.header.items)
            ends[entry.header.epoch] = max(ends[entry.header.epoch] ?? 0, end)
        }
        let pageCount = reader.manifest.memorySize / 4096
        for entry in reader.blocks(.checkpoints) {
            let record = try CheckpointRecord.record(reader.load(entry))
            for (page, content) in zip(record.pages, record.contents) {
                guard UInt64(page) < pageCount, UInt64(content) <= ends[entry.header.epoch] ?? 0 else {
                    throw .malformed(
                        offset: entry.offset, expected: "a page of \(pageCount) whose contents are in the trace",
                        found: "page \(page) with contents \(content)")
                }
            }
        }
    }
}

/// Copies a trace without some of its parts.
package struct TraceStrip {
    private let images: Bool
    private let events: Bool
    private let checkpoints: Bool

    package init(images: Bool, events: Bool, checkpoints: Bool) {
        self.images = images
        self.events = events
        self.checkpoints = checkpoints
    }

    /// Writes the copy. `progress` is told how much of it is done, from 0 to 1.
    /// - Returns: its size in bytes.
    package func copy(
        _ reader: TraceReader, to path: String, progress: (Double) -> Void = { _ in }
    ) throws(TraceError) -> UInt64 {
        if checkpoints, reader.manifest.start.count > 0 {
            throw .unusable("a trace that does not begin at power-on needs its checkpoints")
        }
        let file = try TraceFileWriter(path)
        for entry in reader.blocks {
            progress(Double(entry.offset) / Double(max(reader.fileSize, 1)))
            switch entry.stream {
            case .manifest:
                var manifest = reader.manifest
                if events { manifest.detail = .inputs }
                for index in manifest.images.indices where images && !manifest.images[index].path.isEmpty {
                    manifest.images[index].isEmbedded = false
                }
                let count = manifest.start.count
                try file.append(
                    Block(
                        .manifest, epoch: entry.header.epoch, items: 1, counts: count...count,
                        [(1, Array(manifest.text.utf8))]))
            case .events, .sites: if !events { try copy(entry, reader, file) }
            case .checkpoints, .pages: if !checkpoints { try copy(entry, reader, file) }
            case .images where images: try copyImage(entry, reader, file)
            default: try copy(entry, reader, file)
            }
        }
        if reader.isComplete { try file.finish() }
        return file.offset
    }

    private func copy(_ entry: IndexEntry, _ reader: TraceReader, _ file: TraceFileWriter) throws(TraceError) {
        try file.append(entry.header, reader.payload(entry))
    }

    /// What a file can give again is left out; of disks the digests of what was read stay.
    private func copyImage(_ entry: IndexEntry, _ reader: TraceReader, _ file: TraceFileWriter) throws(TraceError) {
        let block = try ImageBlock.parse(reader.load(entry), images: reader.manifest.images)
        let image = reader.manifest.images[block.image]
        guard !image.path.isEmpty, !block.isDigest else { return try copy(entry, reader, file) }
        var pieces: [(offset: UInt64, bytes: ArraySlice<UInt8>)] = []
        let isDisk = image.role == .disk || image.role == .cdrom
        for piece in block.pieces {
            let bytes = block.data[piece.place..<piece.place + piece.length]
            if isDisk {
                pieces.append((piece.offset, bytes))
            } else if piece.offset + UInt64(piece.length) > image.fileBytes {
                let known = Int(image.fileBytes - min(piece.offset, image.fileBytes))
                pieces.append((piece.offset + UInt64(known), bytes.dropFirst(known)))
            }
        }
        guard !pieces.isEmpty else { return }
        try file.append(
            ImageBlock.block(
                image: block.image, pieces: pieces, asDigests: isDisk, count: entry.header.firstCount,
                epoch: entry.header.epoch))
    }
}
