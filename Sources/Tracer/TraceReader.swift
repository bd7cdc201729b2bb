import CXXHash
import Glibc

/// A trace file, whole or cut off. Nothing of it is believed before it is checked, and no more memory is taken than
/// one block needs, but for the index, the site dictionary and the journal.
package final class TraceReader {
    package let manifest: TraceManifest
    /// Every block in the order of the file; of an incomplete trace up to the last whole one.
    package let blocks: [IndexEntry]
    /// The recording was closed.
    package let isComplete: Bool
    /// How the recording ended, if it was closed.
    package let end: EndRecord?
    /// Up to where all streams reach.
    package let reach: TraceProgress
    package let fileSize: UInt64
    /// Bytes behind the last whole block of an incomplete trace.
    package let lostBytes: UInt64
    private let file: TraceFile
    private let decompressor = BlockDecompressor()
    private var siteCache: [UInt32: [Site]] = [:]

    /// Opens the trace at `path` and reads its index, or the headers of its blocks if there is none.
    package init(_ path: String) throws(TraceError) {
        let file = try TraceFile(path)
        self.file = file
        fileSize = file.size
        try Self.checkHeader(file)
        let decompressor = BlockDecompressor()
        func load(_ entry: IndexEntry) throws(TraceError) -> Block { try file.block(entry, decompressor) }
        let trailer = try Self.trailer(file)
        if let trailer, trailer.offset > 0 {
            blocks = try Self.indexed(file, trailer, decompressor)
            lostBytes = 0
        } else {
            let scan = Self.scan(file)
            blocks = scan.blocks
            lostBytes = trailer == nil ? file.size - scan.end : 0
        }
        isComplete = trailer != nil
        guard let first = blocks.first, first.stream == .manifest else {
            throw .malformed(
                offset: UInt64(TraceFormat.headerSize), expected: "the manifest as the first block",
                found: blocks.isEmpty ? "no whole block" : "stream \(blocks[0].header.stream)")
        }
        manifest = try TraceManifest.parse(load(first))
        let endEntry = isComplete ? blocks.last { $0.stream == .end } : nil
        end = try endEntry.map { entry throws(TraceError) in try EndRecord.record(load(entry)) }
        if let end {
            reach = end.progress
        } else if let sync = blocks.last(where: { $0.stream == .sync }) {
            reach = try TraceProgress.progress(load(sync))
        } else {
            reach = TraceProgress(position: manifest.start)
        }
    }

    private static func checkHeader(_ file: TraceFile) throws(TraceError) {
        let bytes = try file.read(0, min(TraceFormat.headerSize, Int(clamping: file.size)))
        guard bytes.starts(with: TraceFormat.magic) else {
            let found = bytes.prefix(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
            throw .notATrace(found: found.isEmpty ? "an empty file" : found.joined(separator: " "))
        }
        var reader = ByteReader(Array(bytes.dropFirst(8)), name: "header", offset: 0)
        guard bytes.count == TraceFormat.headerSize else {
            throw .malformed(
                offset: UInt64(bytes.count), expected: "a header of \(TraceFormat.headerSize) bytes",
                found: "the end of the file")
        }
        let version: UInt32 = try reader.fixed()
        guard version <= TraceFormat.version else {
            throw .newerVersion(found: version, supported: TraceFormat.version)
        }
        _ = try reader.raw(12)
        let checksum: UInt64 = try reader.fixed()
        let computed = XXH3_64bits(bytes, TraceFormat.headerSize - 8)
        guard checksum == computed, version > 0 else {
            throw .malformed(
                offset: 0, expected: "a file header with checksum \(hexadecimal(computed))",
                found: hexadecimal(checksum))
        }
    }

    /// Where the index is, nil if the file does not end with a trailer.
    private static func trailer(_ file: TraceFile) throws(TraceError) -> (offset: UInt64, length: UInt64)? {
        let size = UInt64(TraceFormat.trailerSize)
        guard file.size >= UInt64(TraceFormat.headerSize) + size else { return nil }
        let bytes = try file.read(file.size - size, TraceFormat.trailerSize)
        var reader = ByteReader(bytes, name: "trailer", offset: file.size - size)
        let offset: UInt64 = try reader.fixed()
        let length: UInt64 = try reader.fixed()
        let checksum: UInt64 = try reader.fixed()
        let magic: UInt64 = try reader.fixed()
        guard magic == TraceFormat.trailerMagic, checksum == XXH3_64bits(bytes, 16) else { return nil }
        guard offset == 0 || offset < file.size && length <= file.size - offset - size else { return nil }
        return (offset, length)
    }

    private static func indexed(
        _ file: TraceFile, _ trailer: (offset: UInt64, length: UInt64), _ decompressor: BlockDecompressor
    ) throws(TraceError) -> [IndexEntry] {
        let entry = try file.entry(at: trailer.offset)
        guard entry.stream == .index else {
            throw .malformed(
                offset: trailer.offset, expected: "the index", found: "stream \(entry.header.stream)")
        }
        let blocks = try IndexEntry.entries(file.block(entry, decompressor))
        var end = UInt64(TraceFormat.headerSize)
        for block in blocks {
            guard block.offset == end, block.end <= trailer.offset else {
                throw .malformed(
                    offset: trailer.offset, expected: "an index of blocks that follow one another",
                    found: "a block at byte \(block.offset)")
            }
            end = block.end
        }
        guard end == trailer.offset else {
            throw .malformed(offset: end, expected: "a block that the index names", found: "none")
        }
        return blocks
    }

    /// The blocks up to the last whole one, found by their headers, and where they end.
    private static func scan(_ file: TraceFile) -> (blocks: [IndexEntry], end: UInt64) {
        var blocks: [IndexEntry] = []
        var offset = UInt64(TraceFormat.headerSize)
        while let entry = try? file.entry(at: offset), entry.end <= file.size {
            if entry.stream != .index { blocks.append(entry) }
            offset = entry.end
        }
        // The last one may have been cut off where its header promises more, or be half written.
        while let last = blocks.last, (try? file.payload(last)) == nil {
            offset = last.offset
            blocks.removeLast()
        }
        return (blocks, offset)
    }

    // MARK: Blocks

    package func blocks(_ stream: TraceStream) -> [IndexEntry] { blocks.filter { $0.stream == stream } }

    /// A block with its columns, or those of them that are `wanted`.
    package func load(_ entry: IndexEntry, wanted: Set<UInt8>? = nil) throws(TraceError) -> Block {
        try file.block(entry, decompressor, wanted: wanted)
    }

    /// The same for another thread, with a decompressor of its own.
    func load(_ entry: IndexEntry, _ own: BlockDecompressor) throws(TraceError) -> Block { try file.block(entry, own) }

    /// The stored bytes of a block's columns, checked.
    package func payload(_ entry: IndexEntry) throws(TraceError) -> [UInt8] { try file.payload(entry) }

    /// The site dictionary of an epoch.
    package func sites(epoch: UInt32) throws(TraceError) -> [Site] {
        if let sites = siteCache[epoch] { return sites }
        var sites: [Site] = []
        for entry in blocks where entry.stream == .sites && entry.header.epoch == epoch {
            let block = try load(entry)
            guard entry.header.firstItem == UInt64(sites.count),
                sites.count + Int(entry.header.items)
                    <= TraceFormat.mostSites
            else {
                throw .malformed(
                    offset: entry.offset, expected: "site \(sites.count)", found: "\(entry.header.firstItem)")
            }
            var kinds = try block.reader(1, "sites")
            var addresses = try block.reader(2, "site addresses")
            var address: UInt64 = 0
            for _ in 0..<entry.header.items {
                let kind = try kinds.byte()
                let ring = try kinds.byte()
                let size = try kinds.byte()
                let flags = try kinds.byte()
                address &+= UInt64(bitPattern: try addresses.signed())
                sites.append(
                    Site(
                        kind: kind, ring: ring & 0x7f, size: size, flags: flags, address: address,
                        isFree: ring & 0x80 != 0))
            }
        }
        siteCache[epoch] = sites
        return sites
    }

    /// How many events of each kind there are, by the kind's number.
    package func eventCounts() throws(TraceError) -> [UInt64] {
        var counts = [UInt64](repeating: 0, count: 256)
        for entry in blocks(.events) {
            var reader = try load(entry, wanted: [EventColumn.kinds]).reader(EventColumn.kinds, "event counts")
            while !reader.isAtEnd {
                let kind = try reader.number("a kind", atMost: 255)
                counts[Int(kind)] &+= try reader.varint()
            }
        }
        return counts
    }

    // MARK: Small streams

    /// What came from outside, as far as the trace reaches, and the number of the first entry.
    package func journal() throws(TraceError) -> (first: UInt64, entries: [JournalEntry]) {
        var entries: [JournalEntry] = []
        let blocks = blocks(.journal)
        let first = blocks.first?.header.firstItem ?? 0
        for entry in blocks {
            guard entry.header.firstItem == first &+ UInt64(entries.count) else {
                throw .malformed(
                    offset: entry.offset, expected: "journal entry \(first &+ UInt64(entries.count))",
                    found: "\(entry.header.firstItem)")
            }
            entries += try JournalEntry.entries(load(entry))
        }
        return (first, entries)
    }

    package func marks() throws(TraceError) -> [TraceMark] {
        var marks: [TraceMark] = []
        for entry in blocks(.marks) { marks += try TraceMark.marks(load(entry)) }
        return marks
    }

    /// The checkpoints without their pages and state.
    package func checkpoints() throws(TraceError) -> [(entry: IndexEntry, record: CheckpointRecord)] {
        var found: [(entry: IndexEntry, record: CheckpointRecord)] = []
        for entry in blocks(.checkpoints) {
            found.append((entry, try CheckpointRecord.record(load(entry, wanted: [1]), fieldsOnly: true)))
        }
        return found
    }
}

/// The open file. Reads are at places; a short one is an error that names the place.
final class TraceFile {
    let size: UInt64
    private let descriptor: Int32

    init(_ path: String) throws(TraceError) {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .cannotRead(errno: errno) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            let isFolder = status.st_mode & S_IFMT == S_IFDIR
            _ = close(descriptor)
            throw isFolder ? .cannotRead(errno: EISDIR) : .unusable("a trace is read from a regular file")
        }
        size = UInt64(status.st_size)
    }

    deinit { _ = close(descriptor) }

    func read(_ offset: UInt64, _ count: Int) throws(TraceError) -> [UInt8] {
        guard offset <= size, UInt64(count) <= size - offset else {
            throw .malformed(offset: offset, expected: "\(count) bytes", found: "the end of the file")
        }
        var done = 0
        var failed: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while done < count {
                let result = pread(descriptor, buffer.baseAddress! + done, count - done, off_t(offset) + off_t(done))
                if result < 0 && errno == EINTR { continue }
                if result <= 0 {
                    failed = result < 0 ? errno : EIO
                    break
                }
                done += result
            }
            initialized = done
        }
        guard done == count else { throw .cannotRead(errno: failed) }
        return bytes
    }

    /// The block at `offset`; its header is checked, its columns are not read.
    func entry(at offset: UInt64) throws(TraceError) -> IndexEntry {
        IndexEntry(header: try header(at: offset).header, offset: offset)
    }

    private func header(at offset: UInt64) throws(TraceError) -> (header: BlockHeader, checksum: UInt64) {
        try BlockHeader.parse(read(offset, TraceFormat.blockHeaderSize), at: offset)
    }

    func payload(_ entry: IndexEntry) throws(TraceError) -> [UInt8] {
        let (header, checksum) = try header(at: entry.offset)
        guard header == entry.header else {
            throw .malformed(offset: entry.offset, expected: "the block that the index names", found: "another")
        }
        let bytes = try read(entry.offset + UInt64(TraceFormat.blockHeaderSize), Int(header.length))
        let computed = XXH3_64bits(bytes, bytes.count)
        guard computed == checksum else {
            throw .malformed(
                offset: entry.offset, expected: "a block with checksum \(hexadecimal(checksum))",
                found: hexadecimal(computed))
        }
        return bytes
    }

    func block(
        _ entry: IndexEntry, _ decompressor: BlockDecompressor, wanted: Set<UInt8>? = nil
    ) throws(TraceError) -> Block {
        let columns = try decompressor.columns(payload(entry), at: entry.offset, wanted: wanted)
        return Block(header: entry.header, columns: columns, offset: entry.offset)
    }
}
