import Glibc

/// The display's memory, a power of two of bytes. Pages that the guest has never written are zero and cost nothing.
///
/// The four planes of VGA are interleaved: the byte of plane p at offset o is byte 4 × o + p.
final class VideoMemory: Archivable {
    private static let pageSize = 4096

    let size: Int
    /// Owned by this object from `init` to `deinit`, `size` bytes; every index is masked with `size - 1` or checked.
    private let base: UnsafeMutablePointer<UInt8>
    /// One bit for each page written since the last clearing.
    private var touched: [UInt64]

    init(size: Int) {
        precondition(size.nonzeroBitCount == 1 && size >= Self.pageSize * 64)
        self.size = size
        guard let memory = calloc(size, 1) else { fatalError("no memory for a display of \(size) bytes") }
        base = memory.bindMemory(to: UInt8.self, capacity: size)
        touched = [UInt64](repeating: 0, count: size / Self.pageSize / 64)
    }

    deinit { free(base) }

    subscript(_ offset: Int) -> UInt8 {
        get { base[offset & (size - 1)] }
        set {
            let place = offset & (size - 1)
            base[place] = newValue
            let page = place / Self.pageSize
            touched[page >> 6] |= 1 << UInt64(page & 63)
        }
    }

    /// The four planes at a plane offset, plane 0 in the low byte.
    func planes(_ offset: Int) -> UInt32 {
        let place = (offset << 2) & (size - 1)
        return (0..<4).reduce(0) { $0 | UInt32(base[place + $1]) << (UInt32($1) * 8) }
    }

    /// Sets those of the four planes that `mask` names.
    func setPlanes(_ offset: Int, _ value: UInt32, mask: UInt8) {
        for plane in 0..<4 where mask >> UInt8(plane) & 1 != 0 {
            self[offset << 2 | plane] = UInt8(truncatingIfNeeded: value >> (UInt32(plane) * 8))
        }
    }

    /// Zeroes the first `count` bytes, rounded up to pages.
    func clear(_ count: Int) {
        for page in 0..<min((count + Self.pageSize - 1) / Self.pageSize, size / Self.pageSize) where isTouched(page) {
            (base + page * Self.pageSize).update(repeating: 0, count: Self.pageSize)
            touched[page >> 6] &= ~(1 << UInt64(page & 63))
        }
    }

    private func isTouched(_ page: Int) -> Bool { touched[page >> 6] >> UInt64(page & 63) & 1 != 0 }

    func archive(_ archive: StateArchive) {
        archive.expect("size", UInt64(size))
        if archive.isRestoring { clear(size) }
        archive.fixed("touched", &touched)
        for page in 0..<size / Self.pageSize where isTouched(page) {
            let start = UnsafeMutableRawPointer(base + page * Self.pageSize)
            archive.raw("page", UnsafeMutableRawBufferPointer(start: start, count: Self.pageSize))
        }
    }
}
