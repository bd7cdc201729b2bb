import CXXHash
import VMM

/// Knows the hash of every RAM page of a machine, and keeps it up to date from the pages that were written to.
///
/// Recorder and replayer both have one, so that a digest costs what changed and not what there is.
package final class StateTracker {
    private unowned let machine: Machine
    /// XXH3 of each page.
    package private(set) var hashes: [UInt64]
    private var written: [UInt32] = []
    /// For each consumer, the pages whose contents changed since it took them.
    private var changed: [[Bool]] = []

    package static let zeroHash: UInt64 = {
        let zeros = [UInt8](repeating: 0, count: 4096)
        return XXH3_64bits(zeros, zeros.count)
    }()

    /// Looks at all of RAM once, and has the machine note what is written from now on.
    package init(_ machine: Machine) {
        self.machine = machine
        let count = Int(machine.configuration.memorySize / 4096)
        hashes = (0..<count).map { Self.hash(machine.memory.ramPage(UInt32($0))) }
        machine.processor.beginWriteTracking()
    }

    private static func hash(_ page: UnsafeRawBufferPointer) -> UInt64 { XXH3_64bits(page.baseAddress, page.count) }

    /// Somebody who wants to know which pages change from now on.
    package func addConsumer() -> Int {
        update()
        changed.append([Bool](repeating: false, count: hashes.count))
        return changed.count - 1
    }

    /// Follows what was written since the last call.
    package func update() {
        written.removeAll(keepingCapacity: true)
        machine.processor.takeWrittenPages(&written)
        for page in written {
            let hash = Self.hash(machine.memory.ramPage(page))
            guard hash != hashes[Int(page)] else { continue }
            hashes[Int(page)] = hash
            for consumer in changed.indices { changed[consumer][Int(page)] = true }
        }
    }

    /// The pages whose contents changed since the consumer's last call, in ascending order.
    package func take(_ consumer: Int) -> [UInt32] {
        update()
        var pages: [UInt32] = []
        for page in hashes.indices where changed[consumer][page] {
            pages.append(UInt32(page))
            changed[consumer][page] = false
        }
        return pages
    }

    /// Every page that is not zero, as of the last `update`.
    func nonzeroPages() -> [UInt32] {
        hashes.indices.filter { hashes[$0] != Self.zeroHash }.map { UInt32($0) }
    }

    /// The digest of the machine's state with a summary of everything but RAM.
    package func digest(_ summary: [UInt8]) -> StateDigest {
        let ram = hashes.withUnsafeBytes { XXH3_128bits($0.baseAddress, $0.count) }
        var all = summary
        withUnsafeBytes(of: (ram.low64.littleEndian, ram.high64.littleEndian)) { all.append(contentsOf: $0) }
        return TraceImage.digest(all)
    }
}

/// Gives each different page contents a number in the pages stream. Bounded: contents that were forgotten are written
/// again.
final class PageStore {
    private static let slots = 1 << 17
    private static let pagesPerBlock = 128

    /// By the low bits of the contents' hash: hash and number plus one.
    private var table = [(low: UInt64, high: UInt64, number: UInt32)](
        repeating: (0, 0, 0), count: PageStore.slots)
    private var next: UInt32 = 0
    private var pending: [UInt8] = []
    private var pendingCount = 0

    /// The number plus one of contents that are not all zero; new ones are kept for `takeBlock`.
    func content(_ page: UnsafeRawBufferPointer) -> UInt32 {
        let hash = XXH3_128bits(page.baseAddress, page.count)
        let slot = Int(truncatingIfNeeded: hash.low64 & UInt64(Self.slots - 1))
        if table[slot].number != 0, table[slot].low == hash.low64, table[slot].high == hash.high64 {
            return table[slot].number
        }
        pending.append(contentsOf: page)
        pendingCount += 1
        next += 1
        table[slot] = (hash.low64, hash.high64, next)
        return next
    }

    var isFull: Bool { pendingCount >= Self.pagesPerBlock }

    /// A block of the pages that are kept, nil if there are none.
    func takeBlock(count: UInt64, epoch: UInt32) -> Block? {
        guard pendingCount > 0 else { return nil }
        defer {
            pending = []
            pendingCount = 0
        }
        return Block(
            .pages, epoch: epoch, items: pendingCount, counts: count...count,
            firstItem: UInt64(next) - UInt64(pendingCount), [(1, pending)])
    }
}
