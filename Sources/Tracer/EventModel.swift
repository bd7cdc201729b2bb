import CEngine
import VMM

/// A place that events come from, as the site dictionary keeps it.
package struct Site: Hashable {
    package var kind: UInt8
    package var ring: UInt8
    package var size: UInt8
    package var flags: UInt8
    /// Linear address of the instruction; zero if each event carries its own.
    package var address: UInt64
    /// Each event carries its own address, because that is where the guest happened to be.
    package var isFree: Bool

    package init(kind: UInt8, ring: UInt8, size: UInt8, flags: UInt8, address: UInt64, isFree: Bool) {
        self.kind = kind
        self.ring = ring
        self.size = size
        self.flags = flags
        self.address = address
        self.isFree = isFree
    }
}

/// How an event's value is predicted, by kind.
enum ValueModel: UInt8 {
    /// Like the last one of the site; the difference is coded.
    case plain
    /// The time-stamp counter: follows from the position.
    case timestamp
    /// RFLAGS: like the last one of the site; the bits that differ are coded.
    case flags
}

/// What encoder and decoder know of the events so far, so that an event that happens as expected needs no bits.
///
/// It begins anew with each block. The next site is expected to be the one that followed the last two sites before,
/// and to come as many counts later as it did then. All memory is owned here and of fixed size, but for three words a
/// site.
final class EventModel {
    static let contexts = 1 << 16
    private static let noSite: UInt32 = .max

    /// By the last two sites: the site that followed.
    let next: UnsafeMutablePointer<UInt32>
    /// By the last site and this one: the counts between them.
    let delta: UnsafeMutablePointer<Int64>
    /// By site: the last event there.
    private(set) var operand: UnsafeMutablePointer<UInt64>
    private(set) var value: UnsafeMutablePointer<UInt64>
    private(set) var address: UnsafeMutablePointer<UInt64>
    private(set) var detail: UnsafeMutablePointer<UInt32>
    private var capacity: Int
    private(set) var siteCount = 0

    var last = EventModel.noSite
    var beforeLast = EventModel.noSite
    var count: UInt64 = 0
    var timestamp: UInt64 = 0
    var timestampCount: UInt64 = 0
    private let rate: UInt64

    /// `rate` is the machine's counts per microsecond.
    init(rate: UInt64) {
        self.rate = max(rate, 1)
        next = .allocate(capacity: Self.contexts)
        delta = .allocate(capacity: Self.contexts)
        capacity = 1 << 12
        operand = .allocate(capacity: capacity)
        value = .allocate(capacity: capacity)
        address = .allocate(capacity: capacity)
        detail = .allocate(capacity: capacity)
        reset(count: 0)
    }

    deinit {
        next.deallocate()
        delta.deallocate()
        operand.deallocate()
        value.deallocate()
        address.deallocate()
        detail.deallocate()
    }

    /// Forgets everything; the next event comes at or after `count`.
    func reset(count: UInt64) {
        next.initialize(repeating: Self.noSite, count: Self.contexts)
        delta.initialize(repeating: 0, count: Self.contexts)
        operand.initialize(repeating: 0, count: siteCount)
        value.initialize(repeating: 0, count: siteCount)
        address.initialize(repeating: 0, count: siteCount)
        detail.initialize(repeating: 0, count: siteCount)
        last = Self.noSite
        beforeLast = Self.noSite
        self.count = count
        timestamp = 0
        timestampCount = 0
    }

    /// Makes room for `sites` sites, at most `TraceFormat.mostSites`.
    func grow(to sites: Int) {
        if sites > capacity {
            let larger = max(sites, capacity * 2)
            operand = Self.enlarge(operand, siteCount, larger)
            value = Self.enlarge(value, siteCount, larger)
            address = Self.enlarge(address, siteCount, larger)
            detail = Self.enlarge(detail, siteCount, larger)
            capacity = larger
        }
        guard sites > siteCount else { return }
        (operand + siteCount).initialize(repeating: 0, count: sites - siteCount)
        (value + siteCount).initialize(repeating: 0, count: sites - siteCount)
        (address + siteCount).initialize(repeating: 0, count: sites - siteCount)
        (detail + siteCount).initialize(repeating: 0, count: sites - siteCount)
        siteCount = sites
    }

    private static func enlarge<T>(_ old: UnsafeMutablePointer<T>, _ count: Int, _ size: Int) -> UnsafeMutablePointer<T>
    {
        let new = UnsafeMutablePointer<T>.allocate(capacity: size)
        new.update(from: old, count: count)
        old.deallocate()
        return new
    }

    @inline(__always) static func context(_ first: UInt32, _ second: UInt32) -> Int {
        Int(truncatingIfNeeded: (first &* 0x9E37_79B1 &+ second &* 0x85EB_CA77) >> 16)
    }

    /// Where `next` keeps the site that is expected now.
    @inline(__always) var nextContext: Int { Self.context(last, beforeLast) }

    /// Where `delta` keeps the counts that are expected before `site`.
    @inline(__always) func deltaContext(_ site: UInt32) -> Int { Self.context(site, last &+ 0x5bd1) }

    /// The time-stamp counter that the position and the last one lead to.
    @inline(__always) func expectedTimestamp(at count: UInt64) -> UInt64 {
        timestamp &+ nanoseconds(count) &- nanoseconds(timestampCount)
    }

    @inline(__always) private func nanoseconds(_ count: UInt64) -> UInt64 {
        if rate == 1000 { return count }
        let product = count.multipliedFullWidth(by: 1000)
        return product.high < rate ? rate.dividingFullWidth(product).quotient : 0
    }

    static func valueModel(_ kind: UInt8) -> ValueModel {
        switch EventKind(rawValue: kind) {
        case .rdtsc, .rdtscp: .timestamp
        case .pushf, .popf, .cli, .sti, .iret, .interruptDelivered: .flags
        default: .plain
        }
    }

    /// Whether events of a kind carry their own address.
    static func isFree(_ kind: UInt8) -> Bool {
        switch EventKind(rawValue: kind) {
        case .dma, .exception, .interruptAsserted, .interruptDelivered, .tlbFill, .firstTouch: true
        default: false
        }
    }
}

/// Bits of an event's mask: what is not as expected.
enum EventMask {
    static let site: UInt8 = 1 << 0, delta: UInt8 = 1 << 1, operand: UInt8 = 1 << 2, value: UInt8 = 1 << 3
    static let detail: UInt8 = 1 << 4, address: UInt8 = 1 << 5
    static let all: UInt8 = 0x3f
}

/// Columns of an event block.
package enum EventColumn {
    package static let runs: UInt8 = 1, masks: UInt8 = 2, sites: UInt8 = 3, deltas: UInt8 = 4, operands: UInt8 = 5
    package static let values: UInt8 = 6, flags: UInt8 = 7, details: UInt8 = 8, addresses: UInt8 = 9
    package static let payload: UInt8 = 10
    /// How many events of each kind there are, as pairs of varints; not needed to decode.
    package static let kinds: UInt8 = 11
    package static let names: [(UInt8, String)] = [
        (runs, "runs"), (masks, "masks"), (sites, "sites"), (deltas, "deltas"), (operands, "operands"),
        (values, "values"), (flags, "flags"), (details, "details"), (addresses, "addresses"), (payload, "payload"),
    ]
}
