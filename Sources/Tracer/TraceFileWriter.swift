import CXXHash
import Glibc

/// The file a trace is written to: header, blocks, index, trailer. Belongs to one thread.
package final class TraceFileWriter {
    private let descriptor: Int32
    private let compressor = BlockCompressor()
    private var index: [IndexEntry] = []
    private(set) var offset: UInt64 = 0
    private(set) var statistics = TraceStatistics()

    /// Creates or empties the file at `path` and writes the header.
    package init(_ path: String) throws(TraceError) {
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw .cannotWrite(errno: errno) }
        // Says that it is being written, as long as this process lives.
        flock(descriptor, LOCK_EX | LOCK_NB)
        var header = ByteWriter()
        header.raw(TraceFormat.magic)
        header.fixed(TraceFormat.version)
        header.fixed(UInt32(TraceFormat.headerSize))
        header.fixed(UInt64(0))
        header.fixed(XXH3_64bits(header.bytes, header.bytes.count))
        try write(header.bytes)
    }

    deinit { _ = close(descriptor) }

    /// Whether a process is writing the file at `path`.
    static func isBeingWritten(_ path: String) -> Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { _ = close(descriptor) }
        return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }

    /// Compresses and appends a block. After an error the file ends with the last whole block.
    package func append(_ block: Block, level: Int32 = 3) throws(TraceError) {
        let payload = compressor.compress(block.columns, level: level)
        var header = block.header
        header.length = UInt32(payload.count)
        try append(header, payload)
        statistics.note(block, compressor: payload)
    }

    /// Appends a block whose columns are in their stored form already.
    package func append(_ header: BlockHeader, _ payload: [UInt8]) throws(TraceError) {
        let entry = IndexEntry(header: header, offset: offset)
        try write(header.bytes(payload: payload) + payload)
        // One more than is indexed says that there is no index.
        if index.count <= IndexEntry.mostIndexed { index.append(entry) }
    }

    /// Writes the index and the trailer, and makes sure that all of it is in the file.
    package func finish() throws(TraceError) {
        let start = index.count <= IndexEntry.mostIndexed ? offset : 0
        if start > 0 { try append(IndexEntry.block(index)) }
        var trailer = ByteWriter()
        trailer.fixed(start)
        trailer.fixed(start > 0 ? offset - start : 0)
        trailer.fixed(XXH3_64bits(trailer.bytes, trailer.bytes.count))
        trailer.fixed(TraceFormat.trailerMagic)
        try write(trailer.bytes)
    }

    private func write(_ bytes: [UInt8]) throws(TraceError) {
        var done = 0
        while done < bytes.count {
            let result = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
            if result > 0 {
                done += result
            } else if result < 0 && errno == EINTR {
                continue
            } else {
                let number = result == 0 ? ENOSPC : errno
                _ = ftruncate(descriptor, off_t(offset))
                throw .cannotWrite(errno: number)
            }
        }
        offset += UInt64(bytes.count)
    }
}

/// Where a block is, as the index keeps it.
package struct IndexEntry: Equatable {
    package var header: BlockHeader
    package var offset: UInt64

    /// More blocks than this are found by reading their headers one after the other.
    static let mostIndexed = 1 << 20

    package var stream: TraceStream? { TraceStream(rawValue: header.stream) }
    /// The block's end in the file.
    package var end: UInt64 { offset + UInt64(TraceFormat.blockHeaderSize) + UInt64(header.length) }

    static func block(_ entries: [IndexEntry]) -> Block {
        var streams = ByteWriter()
        var fields = ByteWriter()
        var offset: UInt64 = 0
        for entry in entries {
            streams.fixed(entry.header.stream)
            fields.varint(entry.offset &- offset)
            fields.varint(UInt64(entry.header.epoch))
            fields.varint(UInt64(entry.header.length))
            fields.varint(UInt64(entry.header.items))
            fields.varint(entry.header.firstCount)
            fields.varint(entry.header.lastCount &- entry.header.firstCount)
            fields.varint(entry.header.firstItem)
            offset = entry.offset
        }
        return Block(
            .index, epoch: 0, items: min(entries.count, Int(TraceFormat.mostItems)), counts: 0...0,
            [(1, streams.bytes), (2, fields.bytes)])
    }

    static func entries(_ block: Block) throws(TraceError) -> [IndexEntry] {
        var fields = try block.reader(2, "index")
        var entries: [IndexEntry] = []
        var offset: UInt64 = 0
        for stream in try block.column(1) {
            offset &+= try fields.varint()
            let epoch = try fields.number("an epoch", atMost: UInt64(UInt32.max))
            let length = try fields.number("a block's length", atMost: UInt64(TraceFormat.largestBlock))
            let items = try fields.number("a number of items", atMost: UInt64(TraceFormat.mostItems))
            let first = try fields.varint()
            let last = first &+ (try fields.varint())
            let header = BlockHeader(
                stream: stream, epoch: UInt32(epoch), length: UInt32(length), items: UInt32(items), firstCount: first,
                lastCount: last, firstItem: try fields.varint())
            guard offset < 1 << 62 else { throw fields.failure("an offset inside a file", "\(offset)") }
            entries.append(IndexEntry(header: header, offset: offset))
        }
        return entries
    }
}

/// Bytes by stream and by column, for `info` and for measurements.
package struct TraceStatistics {
    package struct Column {
        package var raw: UInt64 = 0
        package var stored: UInt64 = 0
    }

    /// Stored bytes with headers, by stream number.
    package private(set) var streams: [UInt8: UInt64] = [:]
    package private(set) var blocks: [UInt8: UInt64] = [:]
    /// Columns of the events stream, by number.
    package private(set) var eventColumns: [UInt8: Column] = [:]

    package init() {}

    mutating func note(_ block: Block, compressor payload: [UInt8]) { note(block.header, payload) }

    /// Notes a block of which only the size is known.
    package mutating func note(_ header: BlockHeader, size: UInt64) {
        streams[header.stream, default: 0] += UInt64(TraceFormat.blockHeaderSize) + size
        blocks[header.stream, default: 0] += 1
    }

    /// Notes a block with columns in stored form.
    package mutating func note(_ header: BlockHeader, _ payload: [UInt8]) {
        note(header, size: UInt64(payload.count))
        guard header.stream == TraceStream.events.rawValue else { return }
        var cursor = 0
        while cursor + TraceFormat.columnHeaderSize <= payload.count {
            func word(_ at: Int) -> UInt64 {
                (0..<4).reduce(0) { $0 | UInt64(payload[cursor + at + $1]) << UInt64($1 * 8) }
            }
            let (raw, stored) = (word(4), word(8))
            eventColumns[payload[cursor], default: Column()].raw += raw
            eventColumns[payload[cursor], default: Column()].stored += stored
            cursor += TraceFormat.columnHeaderSize + Int(stored)
        }
    }
}
