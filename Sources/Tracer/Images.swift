import CXXHash
import VMM

/// An image with its bytes, on its way into a trace.
package struct ImageContents {
    package var image: TraceImage
    /// Empty for disks, which are recorded as they are read.
    package var bytes: [UInt8]

    package init(image: TraceImage, bytes: [UInt8]) {
        self.image = image
        self.bytes = bytes
    }
}

/// A part of an image, as the images stream holds it.
package struct ImagePiece {
    package var offset: UInt64
    package var length: Int
    /// Where its contents (or with `isDigest` their 16-byte XXH3) begin in the block's column 2.
    package var place: Int
}

/// A block of the images stream.
package struct ImageBlock {
    package var image: Int
    package var isDigest: Bool
    package var pieces: [ImagePiece]
    package var data: [UInt8]

    static let digestSize = 16
    static let largestPiece: UInt64 = 1 << 20

    /// Pieces of image number `image`, as `(offset, bytes)`, whole or as digests.
    static func block(
        image: Int, pieces: [(offset: UInt64, bytes: ArraySlice<UInt8>)], asDigests: Bool, count: UInt64, epoch: UInt32
    ) -> Block {
        var fields = ByteWriter()
        var data = ByteWriter()
        fields.varint(UInt64(image))
        fields.varint(asDigests ? 1 : 0)
        var last: UInt64 = 0
        for piece in pieces {
            fields.signed(Int64(bitPattern: piece.offset &- last))
            fields.varint(UInt64(piece.bytes.count))
            last = piece.offset
            if asDigests {
                let digest = piece.bytes.withUnsafeBytes { XXH3_128bits($0.baseAddress, $0.count) }
                data.fixed(digest.low64)
                data.fixed(digest.high64)
            } else {
                data.raw(piece.bytes)
            }
        }
        return Block(
            .images, epoch: epoch, items: pieces.count, counts: count...count, [(1, fields.bytes), (2, data.bytes)])
    }

    package static func parse(_ block: Block, images: [TraceImage]) throws(TraceError) -> ImageBlock {
        var fields = try block.reader(1, "image pieces")
        let number = try fields.number("an image number", atMost: UInt64(max(images.count, 1)) - 1)
        guard !images.isEmpty else { throw fields.failure("an image of the manifest", "none") }
        let isDigest = try fields.number("a flag", atMost: 1) == 1
        var result = ImageBlock(image: Int(number), isDigest: isDigest, pieces: [], data: try block.column(2))
        var last: UInt64 = 0
        var place = 0
        for _ in 0..<block.header.items {
            last &+= UInt64(bitPattern: try fields.signed())
            let length = try fields.number("a piece's length", atMost: largestPiece)
            let stored = isDigest ? digestSize : Int(length)
            guard last <= images[Int(number)].size, length <= images[Int(number)].size - last,
                place + stored <= result.data.count
            else { throw fields.failure("a piece inside the image and the block", "one outside") }
            result.pieces.append(ImagePiece(offset: last, length: Int(length), place: place))
            place += stored
        }
        return result
    }

    /// Whether `bytes` are what piece `index` is the digest of.
    package func matches(_ index: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let digest = XXH3_128bits(bytes.baseAddress, bytes.count)
        let place = pieces[index].place
        func word(_ at: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(data[place + at + $1]) << UInt64($1 * 8) } }
        return word(0) == digest.low64 && word(8) == digest.high64
    }
}

/// A disk whose parts go into a trace when they are first read.
package final class RecordedDisk: BlockSource {
    /// Bytes that are recorded together.
    package static let chunk: UInt64 = 4096
    private static let mostPending = 1 << 20

    private let source: any BlockSource
    /// One bit for each chunk that is in the trace.
    private var known: [UInt64]
    private var pending: [(offset: UInt64, bytes: ArraySlice<UInt8>)] = []
    private var pendingBytes = 0
    /// Called when much is pending.
    var onPending: () -> Void = {}

    package init(_ source: any BlockSource) {
        self.source = source
        known = [UInt64](repeating: 0, count: Int(source.byteCount / Self.chunk / 64) + 1)
    }

    package var byteCount: UInt64 { source.byteCount }

    package func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        source.read(offset, into: buffer)
        guard offset < byteCount, !buffer.isEmpty else { return }
        let end = min(offset + UInt64(buffer.count), byteCount)
        for chunk in offset / Self.chunk...(end - 1) / Self.chunk { note(chunk) }
        if pendingBytes >= Self.mostPending { onPending() }
    }

    private func note(_ chunk: UInt64) {
        let (word, bit) = (Int(chunk / 64), UInt64(1) << (chunk % 64))
        guard known[word] & bit == 0 else { return }
        known[word] |= bit
        let start = chunk * Self.chunk
        var bytes = [UInt8](repeating: 0, count: Int(min(Self.chunk, byteCount - start)))
        bytes.withUnsafeMutableBytes { source.read(start, into: $0) }
        pending.append((start, bytes[...]))
        pendingBytes += bytes.count
    }

    /// The parts that were read for the first time since the last call.
    func takePending() -> [(offset: UInt64, bytes: ArraySlice<UInt8>)] {
        defer {
            pending = []
            pendingBytes = 0
        }
        return pending
    }

    /// Forgets what is in the trace, for a new one.
    func forget() {
        for index in known.indices { known[index] = 0 }
        _ = takePending()
    }
}
