/// Where the contents of a disk or CD image come from: bytes that never change.
package protocol BlockSource: AnyObject {
    /// The size of the image in bytes.
    var byteCount: UInt64 { get }
    /// Fills `buffer` from byte `offset` on; bytes past the end are zero.
    func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
}

/// A disk of 512-byte sectors. Buffers hold whole sectors and lie inside the disk.
package protocol BlockDevice: Archivable {
    var sectorCount: UInt64 { get }
    /// Fills `buffer` from `sector` on.
    func read(_ sector: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    /// Stores `buffer` from `sector` on.
    func write(_ sector: UInt64, from buffer: UnsafeRawBufferPointer)
}

/// A disk whose written sectors live in memory, above a source that is only read.
package final class CopyOnWriteDisk: BlockDevice {
    /// Bytes in a sector.
    package static let sectorSize = 512

    /// Two cylinders of 16 heads and 63 sectors: firmware takes a disk without a cylinder for none at all.
    private static let fewestSectors: UInt64 = 2 * 16 * 63

    private let source: any BlockSource
    /// Whole sectors of the source and as many of zeros as the smallest disk needs; a partial last sector counts.
    package let sectorCount: UInt64
    /// Written sectors. Only looked up by key; whoever walks them sorts the keys.
    private var overlay: [UInt64: [UInt8]] = [:]

    /// A disk that looks like `source` until it is written to.
    package init(_ source: any BlockSource) {
        self.source = source
        let size = UInt64(Self.sectorSize)
        sectorCount = max(source.byteCount / size + (source.byteCount % size == 0 ? 0 : 1), Self.fewestSectors)
    }

    package func read(_ sector: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        let size = Self.sectorSize
        for index in 0..<buffer.count / size {
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[index * size..<(index + 1) * size])
            let number = sector &+ UInt64(index)
            if let bytes = overlay[number] {
                target.copyBytes(from: bytes)
            } else if number < sectorCount {
                source.read(number * UInt64(size), into: target)
            } else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
    }

    package func write(_ sector: UInt64, from buffer: UnsafeRawBufferPointer) {
        let size = Self.sectorSize
        for index in 0..<buffer.count / size {
            let number = sector &+ UInt64(index)
            guard number < sectorCount else { return }
            overlay[number] = [UInt8](buffer[index * size..<(index + 1) * size])
        }
    }

    package func archive(_ archive: StateArchive) {
        archive.expect("sectorCount", sectorCount)
        var numbers = overlay.keys.sorted()
        var count = UInt64(numbers.count)
        archive.field("written", &count)
        if archive.isRestoring {
            overlay = [:]
            numbers = []
        }
        var index: UInt64 = 0
        while index < count, archive.failure == nil {
            var number = archive.isRestoring ? 0 : numbers[Int(index)]
            archive.field("sector", &number)
            var bytes = overlay[number] ?? [UInt8](repeating: 0, count: Self.sectorSize)
            archive.fixed("bytes", &bytes)
            if archive.isRestoring, number < sectorCount { overlay[number] = bytes }
            index += 1
        }
    }
}
