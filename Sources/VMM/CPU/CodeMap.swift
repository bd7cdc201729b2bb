import Glibc

/// Which bytes of RAM hold decoded code, a bit each. It lets stores to data beside code go without a look at the blocks
/// of their frame. Bytes of dead blocks may still be marked, those of live ones always are.
final class CodeMap {
    private static let wordsPerFrame = Int(pageSize) / 64
    /// One mapping owned here, `wordsPerFrame` words a frame. What was never marked takes no memory.
    private let words: UnsafeMutablePointer<UInt64>
    private let byteCount: Int

    init(frameCount: Int) {
        byteCount = frameCount * CodeMap.wordsPerFrame * MemoryLayout<UInt64>.stride
        let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let mapping, mapping != MAP_FAILED else { fatalError("cannot reserve memory for the map of code") }
        words = mapping.bindMemory(to: UInt64.self, capacity: byteCount / MemoryLayout<UInt64>.stride)
    }

    deinit { munmap(words, byteCount) }

    /// Marks `count` bytes from `offset` on, all inside frame number `frame`.
    func mark(_ frame: Int, _ offset: Int, _ count: Int) {
        forEachWord(offset, count) { index, mask in
            words[frame * CodeMap.wordsPerFrame + index] |= mask
            return true
        }
    }

    /// Whether any of `count` bytes from `offset` on, all inside frame number `frame`, is marked.
    func containsCode(_ frame: Int, _ offset: Int, _ count: Int) -> Bool {
        var found = false
        forEachWord(offset, count) { index, mask in
            found = words[frame * CodeMap.wordsPerFrame + index] & mask != 0
            return !found
        }
        return found
    }

    func clear(_ frame: Int) {
        (words + frame * CodeMap.wordsPerFrame).update(repeating: 0, count: CodeMap.wordsPerFrame)
    }

    func clear() { madvise(words, byteCount, MADV_DONTNEED) }

    /// Calls `body` with each word of a frame and the bits in it for a range of bytes, until it returns false.
    @inline(__always) private func forEachWord(_ offset: Int, _ count: Int, _ body: (Int, UInt64) -> Bool) {
        var start = offset
        let end = min(offset + count, Int(pageSize))
        while start < end {
            let stop = min(end, (start | 63) + 1)
            let mask: UInt64 = (~0 >> UInt64(64 - (stop - start))) << UInt64(start & 63)
            guard body(start >> 6, mask) else { return }
            start = stop
        }
    }
}
