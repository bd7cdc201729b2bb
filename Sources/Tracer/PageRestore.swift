import Glibc
import VMM

/// Puts the RAM pages of a checkpoint back: on two threads, since most of it is decompression.
package struct PageRestore {
    /// In place of a page's contents: it is as booted.
    package static let asBooted = UInt32.max
    /// Fewer pages than this are not worth a thread.
    private static let fewest = 1024

    private let reader: TraceReader
    private let blocks: [IndexEntry]
    private let memory: GuestMemory

    /// Restores pages of `epoch` into `memory`.
    package init(_ reader: TraceReader, epoch: UInt32, _ memory: GuestMemory) {
        self.reader = reader
        self.memory = memory
        blocks = reader.blocks(.pages).filter { $0.header.epoch == epoch }
    }

    /// Sets each page of RAM to its contents, by their numbers as `CheckpointRecord.contents` has them.
    package func restore(_ contents: [UInt32]) throws(TraceError) {
        // In order of contents, so that each block is read once; the page is in the lower half.
        var order: [UInt64] = []
        for (page, content) in contents.enumerated() where content != Self.asBooted {
            order.append(UInt64(content) << 32 | UInt64(page))
        }
        order.sort()
        guard order.count >= Self.fewest else { return try restore(order[...]) }
        // Large pages of the host, where it has them, are touched a few hundred times less often.
        madvise(memory.ramBytes.baseAddress, memory.ramBytes.count, MADV_HUGEPAGE)
        var otherFailure: TraceError?
        let thread = HostThread { [self] in
            do throws(TraceError) {
                try restore(order[(order.count / 2)...])
            } catch {
                otherFailure = error
            }
        }
        var failure: TraceError?
        do throws(TraceError) {
            try restore(order[..<(order.count / 2)])
        } catch {
            failure = error
        }
        thread.join()
        if let failure = failure ?? otherFailure { throw failure }
    }

    private func restore(_ order: ArraySlice<UInt64>) throws(TraceError) {
        let decompressor = BlockDecompressor()
        let zeros = [UInt8](repeating: 0, count: 4096)
        var next = 0
        var current: (first: UInt64, bytes: [UInt8]) = (0, [])
        for entry in order {
            let page = UInt32(truncatingIfNeeded: entry)
            if entry >> 32 == 0 {
                zeros.withUnsafeBytes { memory.setRAMPage(page, $0) }
                continue
            }
            let number = (entry >> 32) - 1
            if number < current.first || number - current.first >= UInt64(current.bytes.count / 4096) {
                while next < blocks.count, !Self.holds(blocks[next], number) { next += 1 }
                guard next < blocks.count else {
                    throw .unusable("the trace does not hold the contents of page \(page)")
                }
                current = (blocks[next].header.firstItem, try pages(of: blocks[next], decompressor))
            }
            let start = Int(number - current.first) * 4096
            current.bytes.withUnsafeBytes {
                memory.setRAMPage(page, UnsafeRawBufferPointer(rebasing: $0[start..<start + 4096]))
            }
        }
    }

    private static func holds(_ block: IndexEntry, _ number: UInt64) -> Bool {
        number >= block.header.firstItem && number - block.header.firstItem < UInt64(block.header.items)
    }

    private func pages(of entry: IndexEntry, _ decompressor: BlockDecompressor) throws(TraceError) -> [UInt8] {
        let bytes = try reader.load(entry, decompressor).column(1)
        guard bytes.count == Int(entry.header.items) * 4096 else {
            throw .malformed(
                offset: entry.offset, expected: "\(entry.header.items) pages", found: "\(bytes.count) bytes")
        }
        return bytes
    }
}
