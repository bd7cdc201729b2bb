import CEngine
import Glibc

/// A run of decoded instructions that starts at one physical address and RIP in one mode: its description, which lies
/// in the arena directly before its operations.
struct Block {
    var physical: UInt64
    /// Physical page of the bytes after the page end, for an instruction that crosses it; ~0 otherwise.
    var secondPage: UInt64
    var mode: UInt32
    /// Of what it was decoded from. Behind the last operation that is more than it executes if the encoding there was
    /// rejected.
    var byteLength: UInt16
    var instructionCount: UInt8
    var isAlive: Bool
    /// Arena slots of the next block in the hash bucket, and of the next on the frame; 0 ends a list.
    var hashNext: UInt32
    var frameNext: UInt32
    var secondFrameNext: UInt32
    /// RIP of the first instruction.
    var rip: UInt64
    /// Offset of its translated code in the code memory; 0 while it has none.
    var code: UInt32
    /// The first exit of translated code that jumps to it, by number; 0 for none.
    var incoming: UInt32
    /// How often it was entered, up to where it is translated.
    var heat: UInt16
}

/// All decoded code, by physical address, RIP and mode, in one arena of bounded size that is emptied when it is full.
///
/// The first operation of a block, its head, is the entry that branches link to. Killing a block diverts its operations
/// to handlers that return to the run loop, so stale links are harmless; memory is reused only by `flush`, which must
/// not run while a block does.
final class BlockCache {
    typealias BlockPointer = UnsafeMutablePointer<Block>

    /// Slots of 64 bytes: a block takes one for its description and one for each operation.
    private static let capacity = 1 << 20
    private static let buckets = 1 << 17
    /// The arena, one mapping owned here. A slot number below `used` is inside it.
    let arena: UnsafeMutableRawPointer
    let hash: UnsafeMutablePointer<UInt32>
    private let frameFirst: UnsafeMutablePointer<UInt32>
    private let codeMap: CodeMap
    private let frameCount: Int
    private var used = 1
    /// What has code for some of the blocks: the processor's.
    unowned(unsafe) var translator: Translator?
    /// Blocks decoded so far, for statistics.
    private(set) var built: UInt64 = 0

    init(frameCount: Int) {
        self.frameCount = frameCount
        let bytes = BlockCache.capacity * MemoryLayout<Operation>.stride
        let mapping = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let mapping, mapping != MAP_FAILED else { fatalError("cannot reserve memory for decoded code") }
        arena = mapping
        hash = .allocate(capacity: BlockCache.buckets)
        hash.initialize(repeating: 0, count: BlockCache.buckets)
        frameFirst = .allocate(capacity: frameCount)
        frameFirst.initialize(repeating: 0, count: frameCount)
        codeMap = CodeMap(frameCount: frameCount)
    }

    deinit {
        munmap(arena, BlockCache.capacity * MemoryLayout<Operation>.stride)
        hash.deallocate()
        frameFirst.deallocate()
    }

    /// The arena slot of a block or an operation.
    func slot(of pointer: some _Pointer) -> Int {
        (UnsafeRawPointer(bitPattern: UInt(bitPattern: pointer)).unsafelyUnwrapped - UnsafeRawPointer(arena))
            / MemoryLayout<Operation>.stride
    }

    @inline(__always) private func block(_ slot: UInt32) -> BlockPointer {
        (arena + Int(slot) &* MemoryLayout<Operation>.stride).assumingMemoryBound(to: Block.self)
    }

    @inline(__always) private static func bucket(_ physical: UInt64, _ mode: UInt32) -> Int {
        let mixed = (physical ^ (UInt64(mode) &<< 40)) &* 0x9e37_79b9_7f4a_7c15
        return Int(truncatingIfNeeded: mixed >> 47)
    }

    /// The first operation of a block.
    @inline(__always) static func head(_ block: BlockPointer) -> OperationPointer {
        (UnsafeMutableRawPointer(block) + MemoryLayout<Operation>.stride).assumingMemoryBound(to: Operation.self)
    }

    /// The block that a head operation belongs to.
    @inline(__always) static func block(ofHead head: OperationPointer) -> BlockPointer {
        (UnsafeMutableRawPointer(head) - MemoryLayout<Operation>.stride).assumingMemoryBound(to: Block.self)
    }

    /// The head of the block at `physical` and `rip` in `mode`, if it is decoded.
    @inline(__always) func find(_ physical: UInt64, _ rip: UInt64, _ mode: UInt32) -> OperationPointer? {
        BlockCache.find(physical, rip, mode, buckets: hash, arena: arena)
    }

    /// The same in a cache given by its memory.
    @inline(__always) static func find(
        _ physical: UInt64, _ rip: UInt64, _ mode: UInt32, buckets: UnsafeMutablePointer<UInt32>,
        arena: UnsafeMutableRawPointer
    ) -> OperationPointer? {
        var slot = buckets[bucket(physical, mode)]
        while slot != 0 {
            let candidate = (arena + Int(slot) &* MemoryLayout<Operation>.stride).assumingMemoryBound(to: Block.self)
            if candidate.pointee.physical == physical && candidate.pointee.rip == rip && candidate.pointee.mode == mode
            {
                return BlockCache.head(candidate)
            }
            slot = candidate.pointee.hashNext
        }
        return nil
    }

    // MARK: Building

    /// Space for a block of up to `instructions` instructions, emptying the cache first if it is full.
    func begin(instructions: Int) -> BlockPointer {
        if used + instructions + 3 > BlockCache.capacity { flush() }
        return block(UInt32(used))
    }

    /// Enters a finished block, which lies in the space that `begin` gave and has `operations` operations.
    func commit(_ newBlock: BlockPointer, operations: Int) {
        let slot = UInt32(used)
        used += operations + 1
        built += 1
        let bucket = BlockCache.bucket(newBlock.pointee.physical, newBlock.pointee.mode)
        newBlock.pointee.hashNext = hash[bucket]
        hash[bucket] = slot
        let frame = Int(newBlock.pointee.physical / pageSize)
        if frame < frameCount {
            newBlock.pointee.frameNext = frameFirst[frame]
            frameFirst[frame] = slot
            mark(newBlock, onFrame: frame)
        }
        let second = Int(newBlock.pointee.secondPage / pageSize)
        if newBlock.pointee.secondPage != ~0 && second < frameCount && second != frame {
            newBlock.pointee.secondFrameNext = frameFirst[second]
            frameFirst[second] = slot
            mark(newBlock, onFrame: second)
        }
    }

    // MARK: Dropping

    func hasBlocks(inFrameOf physical: UInt64) -> Bool {
        let frame = Int(physical / pageSize)
        return frame < frameCount && frameFirst[frame] != 0
    }

    /// Kills the blocks that hold any of `count` bytes at `physical`, all on one page.
    func invalidate(_ physical: UInt64, _ count: Int, _ cpu: CPU) {
        let frame = Int(physical / pageSize)
        guard frame < frameCount else { return }
        guard codeMap.containsCode(frame, Int(physical & ~pageMask), count) else { return }
        codeMap.clear(frame)
        var slot = frameFirst[frame]
        while slot != 0 {
            let candidate = block(slot)
            let next = self.next(candidate, onFrame: frame)
            if overlaps(candidate, physical, count) {
                kill(slot, candidate, cpu)
            } else {
                mark(candidate, onFrame: frame)
            }
            slot = next
        }
    }

    /// Kills the blocks that hold bytes of whole pages, which lie below the end of RAM.
    func invalidate(pages: Range<UInt64>, _ cpu: CPU) {
        for page in stride(from: pages.lowerBound & pageMask, to: pages.upperBound, by: Int(pageSize)) {
            invalidate(page, Int(pageSize), cpu)
        }
    }

    /// Enters a block's bytes on one of its frames into the map.
    private func mark(_ block: BlockPointer, onFrame frame: Int) {
        let length = Int(block.pointee.byteLength)
        let offset = Int(block.pointee.physical & ~pageMask)
        let onFirst = min(length, Int(pageSize) - offset)
        if Int(block.pointee.physical / pageSize) == frame { codeMap.mark(frame, offset, onFirst) }
        if block.pointee.secondPage != ~0, Int(block.pointee.secondPage / pageSize) == frame {
            codeMap.mark(frame, 0, length - onFirst)
        }
    }

    /// The successor on a frame's list; a block that crosses pages is on two of them.
    private func next(_ block: BlockPointer, onFrame frame: Int) -> UInt32 {
        Int(block.pointee.physical / pageSize) == frame ? block.pointee.frameNext : block.pointee.secondFrameNext
    }

    private func overlaps(_ block: BlockPointer, _ physical: UInt64, _ count: Int) -> Bool {
        let start = block.pointee.physical
        let length = UInt64(block.pointee.byteLength)
        let end = physical &+ UInt64(count)
        guard block.pointee.secondPage != ~0 else { return start < end && physical < start &+ length }
        let onFirst = pageSize - (start & ~pageMask)
        if start < end && physical < start &+ onFirst { return true }
        let second = block.pointee.secondPage
        return second < end && physical < second &+ (length - onFirst)
    }

    /// Takes a block out of all lists and diverts its operations.
    private func kill(_ slot: UInt32, _ dead: BlockPointer, _ cpu: CPU) {
        let bucket = BlockCache.bucket(dead.pointee.physical, dead.pointee.mode)
        unlink(slot, from: hash + bucket) { BlockCache.link($0, \.hashNext) }
        let frame = Int(dead.pointee.physical / pageSize)
        if frame < frameCount { unlinkFrame(slot, frame) }
        let second = Int(dead.pointee.secondPage / pageSize)
        if dead.pointee.secondPage != ~0 && second < frameCount && second != frame { unlinkFrame(slot, second) }
        dead.pointee.isAlive = false
        // A repeated instruction of the block is begun again by its new bytes.
        cpu.pointee.deadline = 0
        if dead.pointee.code != 0 { translator?.unlink(dead) }
        let head = BlockCache.head(dead)
        head.pointee.handler = { _, _ in nil }
        for index in 1...Int(dead.pointee.instructionCount) + 1 {
            let op = head + index
            if op == cpu.pointee.patched {
                cpu.pointee.patchedHandler = { cpu, op in cpu.leave(at: op) }
            }
            op.pointee.handler = { cpu, op in cpu.leave(at: op) }
        }
    }

    private func unlink(
        _ slot: UInt32, from first: UnsafeMutablePointer<UInt32>,
        _ link: (BlockPointer) -> UnsafeMutablePointer<UInt32>
    ) {
        var place = first
        while place.pointee != slot {
            guard place.pointee != 0 else { return }
            place = link(block(place.pointee))
        }
        place.pointee = link(block(slot)).pointee
    }

    /// The address of one of a block's list links; the block stays in the arena.
    private static func link(_ block: BlockPointer, _ path: KeyPath<Block, UInt32>) -> UnsafeMutablePointer<UInt32> {
        let offset = MemoryLayout<Block>.offset(of: path).unsafelyUnwrapped
        return (UnsafeMutableRawPointer(block) + offset).assumingMemoryBound(to: UInt32.self)
    }

    private func unlinkFrame(_ slot: UInt32, _ frame: Int) {
        unlink(slot, from: frameFirst + frame) { candidate in
            Int(candidate.pointee.physical / pageSize) == frame
                ? BlockCache.link(candidate, \.frameNext)
                : BlockCache.link(candidate, \.secondFrameNext)
        }
    }

    /// Empties the cache. No block may be running.
    func flush() {
        used = 1
        hash.update(repeating: 0, count: BlockCache.buckets)
        frameFirst.update(repeating: 0, count: frameCount)
        codeMap.clear()
        translator?.flush()
    }
}
