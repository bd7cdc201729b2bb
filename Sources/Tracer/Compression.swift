import CXXHash
import CZstd

/// Puts blocks into their stored form. One context is used for all of them; the object belongs to one thread.
final class BlockCompressor {
    private static let zstd: UInt8 = 1
    private static let stored: UInt8 = 0

    private let context: OpaquePointer
    private var buffer: [UInt8] = []
    /// Columns shorter than this are not worth a frame.
    private static let shortest = 32

    init() {
        guard let made = ZSTD_createCCtx() else { fatalError("no memory for compression") }
        context = made
    }

    deinit { ZSTD_freeCCtx(context) }

    /// The stored columns of a block with their headers.
    func compress(_ columns: [(id: UInt8, bytes: [UInt8])], level: Int32) -> [UInt8] {
        var payload = ByteWriter()
        for column in columns {
            precondition(column.bytes.count <= TraceFormat.largestColumn)
            let size = column.bytes.count < Self.shortest ? nil : compress(column.bytes, level)
            payload.fixed(column.id)
            payload.fixed(size == nil ? Self.stored : Self.zstd)
            payload.fixed(UInt16(0))
            payload.fixed(UInt32(column.bytes.count))
            payload.fixed(UInt32(size ?? column.bytes.count))
            if let size { payload.raw(buffer[..<size]) } else { payload.raw(column.bytes) }
        }
        return payload.bytes
    }

    /// The compressed size in `buffer`, or nil if it is no smaller.
    private func compress(_ bytes: [UInt8], _ level: Int32) -> Int? {
        let bound = ZSTD_compressBound(bytes.count)
        if buffer.count < bound { buffer = [UInt8](repeating: 0, count: bound) }
        let size = ZSTD_compressCCtx(context, &buffer, buffer.count, bytes, bytes.count, level)
        return ZSTD_isError(size) == 0 && size < bytes.count ? size : nil
    }
}

/// Takes blocks out of their stored form.
final class BlockDecompressor {
    private let context: OpaquePointer

    init() {
        guard let made = ZSTD_createDCtx() else { fatalError("no memory for decompression") }
        context = made
    }

    deinit { ZSTD_freeDCtx(context) }

    /// The columns of a block whose stored bytes are `payload`; `wanted` limits them to some numbers.
    func columns(
        _ payload: [UInt8], at offset: UInt64, wanted: Set<UInt8>? = nil
    ) throws(TraceError) -> [(id: UInt8, bytes: [UInt8])] {
        var reader = ByteReader(payload, name: "columns", offset: offset)
        var columns: [(id: UInt8, bytes: [UInt8])] = []
        var seen = 0
        var total = 0
        while !reader.isAtEnd {
            seen += 1
            guard seen <= TraceFormat.mostColumns else {
                throw reader.failure("at most \(TraceFormat.mostColumns) columns", "more")
            }
            let id = try reader.byte()
            let codec = try reader.byte()
            _ = try reader.raw(2)
            let size: UInt32 = try reader.fixed()
            let stored: UInt32 = try reader.fixed()
            guard size <= UInt32(TraceFormat.largestColumn) else {
                throw reader.failure("a column of at most \(TraceFormat.largestColumn) bytes", "\(size)")
            }
            total += Int(size)
            guard total <= TraceFormat.largestContents else {
                throw reader.failure("columns of at most \(TraceFormat.largestContents) bytes", "more")
            }
            let bytes = try reader.raw(Int(stored))
            guard wanted?.contains(id) ?? true else { continue }
            switch codec {
            case 0:
                guard stored == size else { throw reader.failure("\(size) bytes in a stored column", "\(stored)") }
                columns.append((id, Array(bytes)))
            case 1: columns.append((id, try decompress(bytes, Int(size), reader)))
            default: throw reader.failure("column codec 0 or 1", "\(codec)")
            }
        }
        return columns
    }

    private func decompress(_ bytes: ArraySlice<UInt8>, _ size: Int, _ reader: ByteReader) throws(TraceError) -> [UInt8]
    {
        let content = bytes.withUnsafeBytes { ZSTD_getFrameContentSize($0.baseAddress, $0.count) }
        guard content == UInt64(size) else { throw reader.failure("a zstd frame of \(size) bytes", "another") }
        var result = 0
        let output = [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
            result = bytes.withUnsafeBytes {
                ZSTD_decompressDCtx(context, buffer.baseAddress, size, $0.baseAddress, $0.count)
            }
            initialized = ZSTD_isError(result) == 0 ? min(result, size) : 0
        }
        guard ZSTD_isError(result) == 0, result == size else {
            throw reader.failure("a zstd frame of \(size) bytes", "one that cannot be decompressed")
        }
        return output
    }
}
