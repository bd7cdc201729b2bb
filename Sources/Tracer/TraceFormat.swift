import CXXHash

// The container: a file header, then blocks, then an index and a trailer. docs/trace-format.md has every byte.

/// The first bytes of a trace, and what may be in it.
package enum TraceFormat {
    package static let version: UInt32 = 1
    package static let magic: [UInt8] = [0x89, 0x54, 0x4C, 0x49, 0x4E, 0x45, 0x0D, 0x0A]  // "\x89TLINE\r\n"
    package static let headerSize = 32
    package static let blockMagic: UInt32 = 0x4B4C_4254  // "TBLK"
    package static let blockHeaderSize = 64
    package static let columnHeaderSize = 12
    package static let trailerMagic: UInt64 = 0x444E_4545_4E49_4C54  // "TLINEEND"
    package static let trailerSize = 32
    /// Bytes of a column before compression.
    package static let largestColumn = 32 << 20
    /// Bytes of all columns of a block as stored, with their headers.
    package static let largestBlock = 64 << 20
    package static let mostColumns = 32
    /// Bytes of all columns of a block before compression.
    package static let largestContents = 96 << 20
    /// Items of a block: events, journal entries, pages ….
    package static let mostItems: UInt32 = 1 << 22
    /// Sites of one epoch.
    package static let mostSites = 1 << 20
}

/// What a block holds. Numbers are part of the format. 32 to 63 are reserved for network frames, 64 to 95 for further
/// disks; readers skip streams that they do not know.
package enum TraceStream: UInt8, CaseIterable {
    case manifest = 1
    case images, sites, events, journal, digests, pages, checkpoints, marks, sync, end, index
}

/// What precedes a block's columns: 64 bytes.
package struct BlockHeader: Equatable {
    package var stream: UInt8
    /// Site numbers and page numbers count within an epoch; a flight recorder begins new ones.
    package var epoch: UInt32
    /// Bytes of the columns as stored, with their headers.
    package var length: UInt32
    package var items: UInt32
    /// Counts of the first and last item.
    package var firstCount: UInt64
    package var lastCount: UInt64
    /// Number of the first item in its stream.
    package var firstItem: UInt64

    /// The header's bytes for columns that are `payload`.
    func bytes(payload: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.fixed(TraceFormat.blockMagic)
        writer.fixed(stream)
        writer.raw([0, 0, 0])
        writer.fixed(epoch)
        writer.fixed(length)
        writer.fixed(items)
        writer.fixed(UInt32(0))
        writer.fixed(firstCount)
        writer.fixed(lastCount)
        writer.fixed(firstItem)
        writer.fixed(XXH3_64bits(payload, payload.count))
        writer.fixed(XXH3_64bits(writer.bytes, writer.bytes.count))
        return writer.bytes
    }

    /// A header and the checksum of its columns, read from `bytes` at `offset` of the file.
    static func parse(_ bytes: [UInt8], at offset: UInt64) throws(TraceError) -> (header: BlockHeader, checksum: UInt64)
    {
        var reader = ByteReader(bytes, name: "header", offset: offset)
        guard bytes.count == TraceFormat.blockHeaderSize else {
            throw .malformed(offset: offset, expected: "a block header of 64 bytes", found: "\(bytes.count) bytes")
        }
        let magic: UInt32 = try reader.fixed()
        guard magic == TraceFormat.blockMagic else {
            throw .malformed(offset: offset, expected: "a block", found: "\(hexadecimal(UInt64(magic)))")
        }
        let stream = try reader.byte()
        _ = try reader.raw(3)
        let epoch: UInt32 = try reader.fixed()
        let length: UInt32 = try reader.fixed()
        let items: UInt32 = try reader.fixed()
        _ = try reader.raw(4)
        let firstCount: UInt64 = try reader.fixed()
        let lastCount: UInt64 = try reader.fixed()
        let firstItem: UInt64 = try reader.fixed()
        let header = BlockHeader(
            stream: stream, epoch: epoch, length: length, items: items, firstCount: firstCount, lastCount: lastCount,
            firstItem: firstItem)
        let payload: UInt64 = try reader.fixed()
        let own: UInt64 = try reader.fixed()
        try check(header, own, bytes, offset)
        return (header, payload)
    }

    private static func check(
        _ header: BlockHeader, _ own: UInt64, _ bytes: [UInt8], _ offset: UInt64
    ) throws(TraceError) {
        let computed = XXH3_64bits(bytes, TraceFormat.blockHeaderSize - 8)
        guard own == computed else {
            throw .malformed(
                offset: offset, expected: "a block header with checksum \(hexadecimal(computed))",
                found: hexadecimal(own))
        }
        guard header.length <= UInt32(TraceFormat.largestBlock) else {
            throw .malformed(
                offset: offset, expected: "a block of at most \(TraceFormat.largestBlock) bytes",
                found: "\(header.length)")
        }
        guard header.items <= TraceFormat.mostItems else {
            throw .malformed(
                offset: offset, expected: "at most \(TraceFormat.mostItems) items", found: "\(header.items)")
        }
    }
}

/// One block before it is compressed, or after.
package struct Block {
    package var header: BlockHeader
    /// Columns by number, in ascending order.
    package var columns: [(id: UInt8, bytes: [UInt8])]
    /// Where it begins in the file, once it is known.
    package var offset: UInt64 = 0

    package init(
        _ stream: TraceStream, epoch: UInt32, items: Int, counts: ClosedRange<UInt64>, firstItem: UInt64 = 0,
        _ columns: [(id: UInt8, bytes: [UInt8])]
    ) {
        header = BlockHeader(
            stream: stream.rawValue, epoch: epoch, length: 0, items: UInt32(items), firstCount: counts.lowerBound,
            lastCount: counts.upperBound, firstItem: firstItem)
        self.columns = columns
    }

    init(header: BlockHeader, columns: [(id: UInt8, bytes: [UInt8])], offset: UInt64) {
        self.header = header
        self.columns = columns
        self.offset = offset
    }

    /// The bytes of a column that must be there.
    package func column(_ id: UInt8) throws(TraceError) -> [UInt8] {
        guard let column = columns.first(where: { $0.id == id }) else {
            throw .malformed(offset: offset, expected: "column \(id) in the block", found: "none")
        }
        return column.bytes
    }

    package func reader(_ id: UInt8, _ name: String) throws(TraceError) -> ByteReader {
        ByteReader(try column(id), name: name, offset: offset)
    }
}

package func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

/// A place in a run: counts and virtual nanoseconds since power-on.
package struct TracePosition: Equatable, Comparable {
    package var count: UInt64
    package var nanoseconds: UInt64

    package init(count: UInt64, nanoseconds: UInt64) {
        self.count = count
        self.nanoseconds = nanoseconds
    }

    package static func < (left: TracePosition, right: TracePosition) -> Bool {
        (left.count, left.nanoseconds) < (right.count, right.nanoseconds)
    }
}
