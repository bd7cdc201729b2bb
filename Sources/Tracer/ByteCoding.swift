/// Appends integers in the trace's encodings: little-endian, or LEB128 varints of up to ten bytes.
package struct ByteWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    package mutating func fixed<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    package mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// A signed value in zigzag form: 0, -1, 1, -2 … become 0, 1, 2, 3 ….
    package mutating func signed(_ value: Int64) { varint(zigzag(value)) }

    package mutating func raw(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

    package mutating func clear() { bytes.removeAll(keepingCapacity: true) }
}

@inline(__always) package func zigzag(_ value: Int64) -> UInt64 {
    UInt64(bitPattern: (value &<< 1) ^ (value &>> 63))
}

@inline(__always) package func unzigzag(_ value: UInt64) -> Int64 {
    Int64(bitPattern: value >> 1) ^ (0 &- Int64(bitPattern: value & 1))
}

/// Takes integers out of a column. Every read is checked; `offset` is where its block begins in the file.
package struct ByteReader {
    package let bytes: [UInt8]
    package private(set) var cursor = 0
    private let offset: UInt64
    private let name: String

    /// `name` says what the bytes are, for error messages.
    package init(_ bytes: [UInt8], name: String, offset: UInt64) {
        self.bytes = bytes
        self.name = name
        self.offset = offset
    }

    package var isAtEnd: Bool { cursor >= bytes.count }
    package var left: Int { bytes.count - cursor }

    package mutating func byte() throws(TraceError) -> UInt8 {
        guard cursor < bytes.count else { throw failure("more bytes", "its end") }
        defer { cursor += 1 }
        return bytes[cursor]
    }

    package mutating func fixed<T: FixedWidthInteger>(_: T.Type = T.self) throws(TraceError) -> T {
        let size = MemoryLayout<T>.size
        guard left >= size else { throw failure("\(size) bytes", "\(left)") }
        var value: T = 0
        for index in (0..<size).reversed() { value = value << 8 | T(truncatingIfNeeded: bytes[cursor + index]) }
        cursor += size
        return value
    }

    package mutating func varint() throws(TraceError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while cursor < bytes.count {
            let byte = bytes[cursor]
            cursor += 1
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw failure("a number of at most 64 bits", "none")
    }

    package mutating func signed() throws(TraceError) -> Int64 { unzigzag(try varint()) }

    /// A varint that must be at most `limit`.
    package mutating func number(_ what: String, atMost limit: UInt64) throws(TraceError) -> UInt64 {
        let value = try varint()
        guard value <= limit else { throw failure("\(what) of at most \(limit)", "\(value)") }
        return value
    }

    /// The next `count` bytes.
    package mutating func raw(_ count: Int) throws(TraceError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= left else { throw failure("\(count) bytes", "\(left)") }
        defer { cursor += count }
        return bytes[cursor..<cursor + count]
    }

    /// An error about this column.
    package func failure(_ expected: String, _ found: String) -> TraceError {
        .malformed(offset: offset, expected: "\(expected) in the block's \(name)", found: found)
    }
}
