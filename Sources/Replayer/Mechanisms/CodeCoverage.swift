/// Which bytes of the guest's kernel code have been translated. A block may be decoded more than once, as a whole or
/// from its middle on; each of its instructions is translated once, until it is changed.
struct CodeCoverage {
    /// By frame: a bit for each byte.
    private var frames: [UInt64: [UInt64]] = [:]

    /// Takes a block of `instructions` instructions in `bytes` bytes.
    /// - Returns: the instructions of it that are new, in proportion to its bytes.
    mutating func add(_ physical: UInt64, bytes: UInt64, instructions: UInt64) -> Int64 {
        var new: UInt64 = 0
        for address in physical..<physical + bytes {
            let (word, bit) = (Int(address & 4095) / 64, UInt64(1) << (address & 63))
            frames[address >> 12, default: [UInt64](repeating: 0, count: 64)].withUnsafeMutableBufferPointer {
                if $0[word] & bit == 0 {
                    $0[word] |= bit
                    new += 1
                }
            }
        }
        return bytes > 0 ? Int64((new * instructions + bytes - 1) / bytes) : 0
    }

    /// Code was changed.
    mutating func remove(_ physical: UInt64, bytes: UInt64) {
        for address in physical..<physical &+ bytes {
            guard let index = frames.index(forKey: address >> 12) else { continue }
            frames.values[index][Int(address & 4095) / 64] &= ~(1 << (address & 63))
        }
    }
}
