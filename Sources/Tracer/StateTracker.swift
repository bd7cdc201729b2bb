import CXXHash
import VMM

/// Knows the hash of every RAM page of a machine, and keeps it up to date from the pages that were written to.
///
/// Recorder and replayer both have one, so that a digest costs what changed and not what there is.
package final class StateTracker {
    private unowned let machine: Machine
    /// XXH3 of each page, 64 bits, which are also the low ones of the 128.
    package private(set) var hashes: [UInt64]
    /// The high 64 of the 128 bits.
    private var highs: [UInt64]
    private var written: [UInt32] = []
    /// For each consumer, the pages whose contents changed since it took them, in any order; and for each page one bit
    /// for each consumer that has it in its list.
    private var changed: [[UInt32]] = []
    private var isChanged: [UInt8]
    private static let mostConsumers = 8

    private static let zero: XXH128_hash_t = {
        let zeros = [UInt8](repeating: 0, count: 4096)
        return XXH3_128bits(zeros, zeros.count)
    }()

    /// Looks at all of RAM once, and has the machine note what is written from now on.
    package init(_ machine: Machine) {
        self.machine = machine
        let count = Int(machine.configuration.memorySize / 4096)
        hashes = [UInt64](repeating: Self.zero.low64, count: count)
        highs = [UInt64](repeating: Self.zero.high64, count: count)
        isChanged = [UInt8](repeating: 0, count: count)
        let touched = HostMemory.touchedPages(UnsafeRawBufferPointer(machine.memory.ramBytes))
        for page in 0..<count where touched?[page] ?? true {
            let hash = Self.hash(machine.memory.ramPage(UInt32(page)))
            hashes[page] = hash.low64
            highs[page] = hash.high64
        }
        machine.processor.beginWriteTracking()
    }

    private static func hash(_ page: UnsafeRawBufferPointer) -> XXH128_hash_t {
        XXH3_128bits(page.baseAddress, page.count)
    }

    /// Somebody who wants to know which pages change from now on.
    package func addConsumer() -> Int {
        precondition(changed.count < Self.mostConsumers)
        update()
        changed.append([])
        return changed.count - 1
    }

    /// Follows what was written since the last call. Everything else here is as of then.
    package func update() {
        written.removeAll(keepingCapacity: true)
        machine.processor.takeWrittenPages(&written)
        let consumers = UInt8(truncatingIfNeeded: (1 << changed.count) - 1)
        for number in written {
            let page = Int(number)
            let hash = Self.hash(machine.memory.ramPage(number))
            guard hash.low64 != hashes[page] || hash.high64 != highs[page] else { continue }
            hashes[page] = hash.low64
            highs[page] = hash.high64
            guard isChanged[page] != consumers else { continue }
            for consumer in changed.indices where isChanged[page] & (1 << consumer) == 0 {
                changed[consumer].append(number)
            }
            isChanged[page] = consumers
        }
    }

    /// The pages whose contents changed since the consumer's last call, in ascending order.
    package func take(_ consumer: Int) -> [UInt32] {
        let pages = changed[consumer].sorted()
        changed[consumer].removeAll(keepingCapacity: true)
        for page in pages { isChanged[Int(page)] &= ~(1 << UInt8(consumer)) }
        return pages
    }

    /// The hash of a page's contents, 128 bits.
    func contentHash(_ page: UInt32) -> (low: UInt64, high: UInt64) { (hashes[Int(page)], highs[Int(page)]) }

    func isZero(_ page: UInt32) -> Bool { contentHash(page) == (Self.zero.low64, Self.zero.high64) }

    /// Every page that is not zero, as of the last `update`.
    func nonzeroPages() -> [UInt32] { hashes.indices.map { UInt32($0) }.filter { !isZero($0) } }

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

    /// The number plus one of the contents of `page`, which are not all zero and have this hash; new ones are kept for
    /// `takeBlock`.
    func content(_ page: UnsafeRawBufferPointer, hash: (low: UInt64, high: UInt64)) -> UInt32 {
        let slot = Int(truncatingIfNeeded: hash.low & UInt64(Self.slots - 1))
        if table[slot].number != 0, table[slot].low == hash.low, table[slot].high == hash.high {
            return table[slot].number
        }
        if pendingCount == 0 { pending.reserveCapacity(Self.pagesPerBlock * page.count) }
        pending.append(contentsOf: page)
        pendingCount += 1
        next += 1
        table[slot] = (hash.low, hash.high, next)
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
