import VMM

// What the small streams hold, and their columns. docs/trace-format.md has the same in words.

/// Something that came from outside.
package struct JournalEntry: Equatable {
    package enum Kind: UInt8 {
        /// Bytes that the first serial port took.
        case consoleInput = 1
        /// Whether console input may still come: one byte, 0 or 1.
        case expectsInput = 2
    }

    package var position: TracePosition
    package var kind: UInt8
    package var bytes: [UInt8]

    package init(position: TracePosition, kind: Kind, bytes: [UInt8]) {
        self.position = position
        self.kind = kind.rawValue
        self.bytes = bytes
    }

    static let largest: UInt64 = 1 << 20

    static func block(_ entries: [JournalEntry], first: UInt64, epoch: UInt32) -> Block {
        var fields = ByteWriter()
        var bytes = ByteWriter()
        var last = TracePosition(count: entries[0].position.count, nanoseconds: 0)
        for entry in entries {
            fields.varint(entry.position.count &- last.count)
            fields.signed(Int64(bitPattern: entry.position.nanoseconds &- last.nanoseconds))
            fields.varint(UInt64(entry.kind))
            fields.varint(UInt64(entry.bytes.count))
            bytes.raw(entry.bytes)
            last = entry.position
        }
        return Block(
            .journal, epoch: epoch, items: entries.count, counts: entries[0].position.count...last.count,
            firstItem: first, [(1, fields.bytes), (2, bytes.bytes)])
    }

    static func entries(_ block: Block) throws(TraceError) -> [JournalEntry] {
        var fields = try block.reader(1, "journal")
        var bytes = try block.reader(2, "journal's bytes")
        var entries: [JournalEntry] = []
        var last = TracePosition(count: block.header.firstCount, nanoseconds: 0)
        for _ in 0..<block.header.items {
            last.count &+= try fields.varint()
            last.nanoseconds &+= UInt64(bitPattern: try fields.signed())
            let kind = try fields.number("a journal kind", atMost: 255)
            let size = try fields.number("a journal entry's size", atMost: Self.largest)
            var entry = JournalEntry(position: last, kind: .consoleInput, bytes: Array(try bytes.raw(Int(size))))
            entry.kind = UInt8(kind)
            entries.append(entry)
        }
        return entries
    }
}

/// A line that the guest wrote to port 0xE9.
package struct TraceMark: Equatable {
    package var position: TracePosition
    package var text: String

    static let longest = 255

    static func block(_ marks: [TraceMark], first: UInt64, epoch: UInt32) -> Block {
        var fields = ByteWriter()
        var texts = ByteWriter()
        var last = TracePosition(count: marks[0].position.count, nanoseconds: 0)
        for mark in marks {
            fields.varint(mark.position.count &- last.count)
            fields.signed(Int64(bitPattern: mark.position.nanoseconds &- last.nanoseconds))
            fields.varint(UInt64(mark.text.utf8.count))
            texts.raw(mark.text.utf8)
            last = mark.position
        }
        return Block(
            .marks, epoch: epoch, items: marks.count, counts: marks[0].position.count...last.count, firstItem: first,
            [(1, fields.bytes), (2, texts.bytes)])
    }

    static func marks(_ block: Block) throws(TraceError) -> [TraceMark] {
        var fields = try block.reader(1, "marks")
        var texts = try block.reader(2, "marks' text")
        var marks: [TraceMark] = []
        var last = TracePosition(count: block.header.firstCount, nanoseconds: 0)
        for _ in 0..<block.header.items {
            last.count &+= try fields.varint()
            last.nanoseconds &+= UInt64(bitPattern: try fields.signed())
            let size = try fields.number("a mark's length", atMost: UInt64(Self.longest) * 4)
            marks.append(TraceMark(position: last, text: String(decoding: try texts.raw(Int(size)), as: UTF8.self)))
        }
        return marks
    }
}

/// How far each stream is at a position.
package struct TraceProgress: Equatable {
    package var position: TracePosition
    package var events: UInt64 = 0
    package var journal: UInt64 = 0
    package var digests: UInt64 = 0
    package var marks: UInt64 = 0

    package init(position: TracePosition) { self.position = position }

    func write(_ writer: inout ByteWriter) {
        for value in [position.count, position.nanoseconds, events, journal, digests, marks] { writer.varint(value) }
    }

    static func read(_ reader: inout ByteReader) throws(TraceError) -> TraceProgress {
        var progress = TraceProgress(
            position: TracePosition(count: try reader.varint(), nanoseconds: try reader.varint()))
        progress.events = try reader.varint()
        progress.journal = try reader.varint()
        progress.digests = try reader.varint()
        progress.marks = try reader.varint()
        return progress
    }

    package func block(epoch: UInt32) -> Block {
        var writer = ByteWriter()
        write(&writer)
        return Block(.sync, epoch: epoch, items: 1, counts: position.count...position.count, [(1, writer.bytes)])
    }

    static func progress(_ block: Block) throws(TraceError) -> TraceProgress {
        var reader = try block.reader(1, "progress")
        return try read(&reader)
    }
}

/// The state at a position, in short: everything but RAM as `Machine.stateSummary` gives it, and a hash of each RAM
/// page that changed since the digest before.
package struct DigestRecord {
    package var progress: TraceProgress
    package var digest: StateDigest
    package var summary: [UInt8]
    package var pages: [UInt32]
    /// The low 32 bits of the pages' XXH3.
    package var hashes: [UInt32]

    static let largestSummary: UInt64 = 16 << 20
    static let mostPages: UInt64 = 1 << 20

    package init(
        progress: TraceProgress, digest: StateDigest, summary: [UInt8], pages: [UInt32], hashes: [UInt32]
    ) {
        self.progress = progress
        self.digest = digest
        self.summary = summary
        self.pages = pages
        self.hashes = hashes
    }

    static func block(_ record: DigestRecord, number: UInt64, epoch: UInt32) -> Block {
        var fields = ByteWriter()
        record.progress.write(&fields)
        fields.fixed(record.digest.high)
        fields.fixed(record.digest.low)
        fields.varint(UInt64(record.pages.count))
        var hashes = ByteWriter()
        for hash in record.hashes { hashes.fixed(hash) }
        let count = record.progress.position.count
        return Block(
            .digests, epoch: epoch, items: 1, counts: count...count, firstItem: number,
            [(1, fields.bytes), (2, record.summary), (3, pageNumbers(record.pages)), (4, hashes.bytes)])
    }

    package static func record(_ block: Block) throws(TraceError) -> DigestRecord {
        var fields = try block.reader(1, "digest")
        let progress = try TraceProgress.read(&fields)
        let high: UInt64 = try fields.fixed()
        let low: UInt64 = try fields.fixed()
        let count = try fields.number("a number of pages", atMost: mostPages)
        var numbers = try block.reader(3, "page numbers")
        var hashReader = try block.reader(4, "page hashes")
        let pages = try readPageNumbers(&numbers, Int(count))
        var hashes: [UInt32] = []
        for _ in 0..<count { hashes.append(try hashReader.fixed()) }
        return DigestRecord(
            progress: progress, digest: StateDigest(high: high, low: low), summary: try block.column(2), pages: pages,
            hashes: hashes)
    }
}

/// Ascending page numbers as differences.
func pageNumbers(_ pages: [UInt32]) -> [UInt8] {
    var writer = ByteWriter()
    var last: UInt32 = 0
    for page in pages {
        writer.varint(UInt64(page &- last))
        last = page
    }
    return writer.bytes
}

func readPageNumbers(_ reader: inout ByteReader, _ count: Int) throws(TraceError) -> [UInt32] {
    var pages: [UInt32] = []
    var last: UInt64 = 0
    for _ in 0..<count {
        last &+= try reader.varint()
        guard last < DigestRecord.mostPages else { throw reader.failure("a page below 1048576", "\(last)") }
        pages.append(UInt32(last))
    }
    return pages
}

/// From where replay can start: the machine's state without RAM, and the RAM pages that changed since the checkpoint
/// before, by their numbers in the pages stream.
package struct CheckpointRecord {
    package var progress: TraceProgress
    /// All RAM pages that are not listed are zero; otherwise they are as at the checkpoint before, or as booted.
    package var isFull: Bool
    package var pages: [UInt32]
    /// 0 for a page of zeros, otherwise the page's number in the stream and epoch, plus one.
    package var contents: [UInt32]
    package var state: [UInt8]
    /// With paging events: what the processor watches then.
    package var watch: (frames: [UInt8], descriptors: [Range<UInt64>])?
    /// With events: string I/O that was left between two elements and is not reported yet.
    package var transfer: StringTransfer?

    static func block(_ record: CheckpointRecord, number: UInt64, epoch: UInt32) -> Block {
        var fields = ByteWriter()
        record.progress.write(&fields)
        fields.varint(record.isFull ? 1 : 0)
        fields.varint(UInt64(record.pages.count))
        var contents = ByteWriter()
        var last: UInt32 = 0
        for content in record.contents {
            contents.signed(Int64(content) - Int64(last))
            last = content
        }
        let count = record.progress.position.count
        var block = Block(
            .checkpoints, epoch: epoch, items: 1, counts: count...count, firstItem: number,
            [(1, fields.bytes), (2, pageNumbers(record.pages)), (3, contents.bytes), (4, record.state)])
        if let watch = record.watch {
            var ranges = ByteWriter()
            for range in watch.descriptors {
                ranges.varint(range.lowerBound)
                ranges.varint(UInt64(range.count))
            }
            block.columns += [(5, watch.frames), (6, ranges.bytes)]
        }
        if let transfer = record.transfer {
            var fields = ByteWriter()
            let event = transfer.event
            for value in [
                event.count, event.address, event.operand, event.value, UInt64(event.kind), UInt64(event.ring),
                UInt64(event.size), UInt64(event.detail),
            ] { fields.varint(value) }
            block.columns += [(7, fields.bytes), (8, transfer.payload)]
        }
        return block
    }

    /// The record without what is not in `block`'s columns: reading the fields alone takes column 1 only.
    package static func record(_ block: Block, fieldsOnly: Bool = false) throws(TraceError) -> CheckpointRecord {
        var fields = try block.reader(1, "checkpoint")
        let progress = try TraceProgress.read(&fields)
        let isFull = try fields.number("a flag", atMost: 1) == 1
        let count = try fields.number("a number of pages", atMost: DigestRecord.mostPages)
        var record = CheckpointRecord(progress: progress, isFull: isFull, pages: [], contents: [], state: [])
        if fieldsOnly { return record }
        var numbers = try block.reader(2, "page numbers")
        record.pages = try readPageNumbers(&numbers, Int(count))
        var contents = try block.reader(3, "page contents")
        var last: Int64 = 0
        for _ in 0..<count {
            last &+= try contents.signed()
            guard let content = UInt32(exactly: last) else { throw contents.failure("a page's number", "\(last)") }
            record.contents.append(content)
        }
        record.state = try block.column(4)
        record.watch = try watch(block)
        record.transfer = try transfer(block)
        return record
    }

    private static func transfer(_ block: Block) throws(TraceError) -> StringTransfer? {
        guard block.columns.contains(where: { $0.id == 7 }) else { return nil }
        var reader = try block.reader(7, "transfer")
        var transfer = StringTransfer()
        transfer.event.count = try reader.varint()
        transfer.event.address = try reader.varint()
        transfer.event.operand = try reader.varint()
        transfer.event.value = try reader.number("elements of a transfer", atMost: StringTransfer.most - 1)
        transfer.event.kind = UInt8(try reader.number("a kind", atMost: 255))
        transfer.event.ring = UInt8(try reader.number("a ring", atMost: 3))
        transfer.event.size = UInt8(try reader.number("an instruction's size", atMost: 15))
        transfer.event.detail = UInt32(try reader.number("an element's size", atMost: 4))
        transfer.event.flags = EventFlags.hasPayload
        transfer.payload = try block.column(8)
        guard UInt64(transfer.payload.count) == transfer.event.value * UInt64(transfer.event.detail) else {
            throw reader.failure("\(transfer.event.value) elements", "\(transfer.payload.count) bytes")
        }
        return transfer
    }

    private static func watch(_ block: Block) throws(TraceError) -> (frames: [UInt8], descriptors: [Range<UInt64>])? {
        guard block.columns.contains(where: { $0.id == 5 }) else { return nil }
        var reader = try block.reader(6, "descriptor ranges")
        var ranges: [Range<UInt64>] = []
        while !reader.isAtEnd {
            let start = try reader.number("an address", atMost: 1 << 52)
            ranges.append(start..<start + (try reader.number("a table's length", atMost: 1 << 17)))
        }
        return (try block.column(5), ranges)
    }
}

/// How a recording ended.
package struct EndRecord: Equatable {
    package var progress: TraceProgress
    package var outcome: String
    /// The byte of isa-debug-exit.
    package var exitValue: UInt8
    package var digest: StateDigest

    func block(epoch: UInt32) -> Block {
        var fields = ByteWriter()
        progress.write(&fields)
        fields.fixed(exitValue)
        fields.fixed(digest.high)
        fields.fixed(digest.low)
        let count = progress.position.count
        return Block(
            .end, epoch: epoch, items: 1, counts: count...count, [(1, fields.bytes), (2, Array(outcome.utf8))])
    }

    package static func record(_ block: Block) throws(TraceError) -> EndRecord {
        var fields = try block.reader(1, "end")
        let progress = try TraceProgress.read(&fields)
        let exitValue = try fields.byte()
        let high: UInt64 = try fields.fixed()
        let low: UInt64 = try fields.fixed()
        return EndRecord(
            progress: progress, outcome: String(decoding: try block.column(2), as: UTF8.self), exitValue: exitValue,
            digest: StateDigest(high: high, low: low))
    }
}
