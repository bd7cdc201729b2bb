/// Bounds-checked little-endian reads from an image that may hold anything.
package struct ImageReader {
    package let bytes: [UInt8]

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    package var size: UInt64 { UInt64(bytes.count) }

    /// The integer at `offset`; `part` names what is being read if the image ends before it.
    package func integer<T: FixedWidthInteger & UnsignedInteger>(
        _ part: String, at offset: UInt64, as type: T.Type = T.self
    ) throws(BootError) -> T {
        let range = try range(part, at: offset, count: UInt64(MemoryLayout<T>.size))
        var value: T = 0
        for byte in bytes[range].reversed() { value = value << 8 | T(byte) }
        return value
    }

    /// `count` bytes from `offset` on.
    package func slice(_ part: String, at offset: UInt64, count: UInt64) throws(BootError) -> ArraySlice<UInt8> {
        bytes[try range(part, at: offset, count: count)]
    }

    private func range(_ part: String, at offset: UInt64, count: UInt64) throws(BootError) -> Range<Int> {
        let (end, overflow) = offset.addingReportingOverflow(count)
        guard !overflow, end <= size else {
            throw .truncated(part: part, needed: overflow ? .max : end, size: size)
        }
        return Int(offset)..<Int(end)
    }
}

/// A block of guest memory that a loader fills field by field before it is stored.
struct GuestBlock {
    private(set) var bytes: [UInt8]

    init(size: Int) { bytes = [UInt8](repeating: 0, count: size) }

    /// Stores a little-endian integer at `offset`, which the loaders keep within the block.
    mutating func set<T: FixedWidthInteger>(_ offset: Int, _ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + $0.count, with: $0) }
    }

    mutating func set(_ offset: Int, bytes source: some Collection<UInt8>) {
        bytes.replaceSubrange(offset..<offset + source.count, with: source)
    }
}

extension DMAMemory {
    /// Stores `bytes` at guest-physical `address`.
    package func store(_ bytes: some Sequence<UInt8>, at address: UInt64) {
        if bytes.withContiguousStorageIfAvailable({ self.write(address, from: UnsafeRawBufferPointer($0)) }) == nil {
            Array(bytes).withUnsafeBytes { self.write(address, from: $0) }
        }
    }

    /// The `count` bytes from guest-physical `address` on.
    package func load(_ count: Int, at address: UInt64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { self.read(address, into: $0) }
        return bytes
    }
}
