import VMM

/// An image in memory.
final class MemoryImage: BlockSource {
    let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
    /// Each 512 bytes begin with their number.
    convenience init(sectors: Int) {
        var bytes = [UInt8](repeating: 0, count: sectors * 512)
        for sector in 0..<sectors {
            for index in 0..<4 { bytes[sector * 512 + index] = UInt8(truncatingIfNeeded: sector >> (index * 8)) }
            bytes[sector * 512 + 511] = 0xA5
        }
        self.init(bytes)
    }
    var byteCount: UInt64 { UInt64(bytes.count) }
    func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        for index in 0..<buffer.count {
            let place = offset + UInt64(index)
            buffer[index] = place < byteCount ? bytes[Int(place)] : 0
        }
    }
}
