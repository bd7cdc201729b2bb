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

    init(kind: UInt8) {
        switch EventKind(rawValue: kind) {
        case .rdtsc, .rdtscp: self = .timestamp
        case .pushf, .popf, .cli, .sti, .iret, .interruptDelivered: self = .flags
        default: self = .plain
        }
    }
}

/// What of an event a trace keeps.
extension EventRecord {
    /// `EventFlags.hasPayload`, as a constant. All other flags are for sinks in memory: no trace holds them, and none
    /// is compared.
    package static var keptFlags: UInt8 { 1 << 0 }

    /// Kind, ring, size, flags and detail in one word, without what is not kept: kind in the lowest byte, flags in bits
    /// 24 to 31, detail above.
    @inline(__always) static func tail(_ record: UnsafePointer<EventRecord>) -> UInt64 {
        (UnsafeRawPointer(record) + 32).load(as: UInt64.self) & tailMask
    }
    private static var tailMask: UInt64 { ~(UInt64(~keptFlags) << 24) }

    /// Sets what `tail` gives.
    @inline(__always) static func setTail(_ record: UnsafeMutablePointer<EventRecord>, _ key: UInt32, _ detail: UInt32)
    {
        (UnsafeMutableRawPointer(record) + 32).storeBytes(of: UInt64(key) | UInt64(detail) << 32, as: UInt64.self)
    }

    /// Kind, ring, size and flags of `tail`.
    @inline(__always) static func key(_ record: UnsafePointer<EventRecord>) -> UInt32 {
        UInt32(truncatingIfNeeded: tail(record))
    }

    /// The two records are the same in all that is kept.
    @inline(__always) static func isSame(
        _ left: UnsafePointer<EventRecord>, _ right: UnsafePointer<EventRecord>
    ) -> Bool {
        (left.pointee.count ^ right.pointee.count) | (left.pointee.address ^ right.pointee.address)
            | (left.pointee.operand ^ right.pointee.operand) | (left.pointee.value ^ right.pointee.value)
            | (tail(left) ^ tail(right)) == 0
    }
}

/// A site with the last event there.
struct SiteState {
    /// The site's own address, or with `isFree` that of the last event.
    var address: UInt64
    var operand: UInt64 = 0
    var value: UInt64 = 0
    var detail: UInt32 = 0
    /// Kind, ring, size and flags, as `EventRecord.key` has them.
    let key: UInt32
    let model: ValueModel
    let isFree: Bool

    init(_ site: Site) {
        address = site.isFree ? 0 : site.address
        key = UInt32(site.kind) | UInt32(site.ring) << 8 | UInt32(site.size) << 16 | UInt32(site.flags) << 24
        model = ValueModel(kind: site.kind)
        isFree = site.isFree
    }
}

/// What encoder and decoder know of the events so far, so that an event that happens as expected needs no bits.
///
/// It begins anew with each block. The next site is expected to be the one that followed the last two sites before,
/// and to come as many counts later as it did then. Its owner frees it with `deallocate`; copies share the tables, so
/// that a loop can keep one in registers.
struct EventModel {
    static let contexts = 1 << 16
    static let noSite: UInt32 = .max

    /// By the last two sites: the site that followed.
    let next: UnsafeMutablePointer<UInt32>
    /// By the last site and this one: the counts between them.
    let delta: UnsafeMutablePointer<Int64>
    private(set) var sites: UnsafeMutablePointer<SiteState>
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
        sites = .allocate(capacity: capacity)
        reset(count: 0)
    }

    func deallocate() {
        next.deallocate()
        delta.deallocate()
        sites.deallocate()
    }

    /// Forgets everything but the sites; the next event comes at or after `count`.
    mutating func reset(count: UInt64) {
        next.update(repeating: Self.noSite, count: Self.contexts)
        delta.update(repeating: 0, count: Self.contexts)
        for site in 0..<siteCount {
            sites[site].operand = 0
            sites[site].value = 0
            sites[site].detail = 0
            if sites[site].isFree { sites[site].address = 0 }
        }
        last = Self.noSite
        beforeLast = Self.noSite
        self.count = count
        timestamp = 0
        timestampCount = 0
    }

    /// Takes in the next site of the dictionary, which has at most `TraceFormat.mostSites`.
    mutating func add(_ site: Site) {
        if siteCount == capacity {
            let larger = UnsafeMutablePointer<SiteState>.allocate(capacity: capacity * 2)
            larger.update(from: sites, count: siteCount)
            sites.deallocate()
            sites = larger
            capacity *= 2
        }
        sites[siteCount] = SiteState(site)
        siteCount += 1
    }

    /// Forgets the sites, for those of another epoch.
    mutating func removeSites() { siteCount = 0 }

    @inline(__always) static func context(_ first: UInt32, _ second: UInt32) -> Int {
        Int(truncatingIfNeeded: (first &* 0x9E37_79B1 &+ second &* 0x85EB_CA77) >> 16)
    }

    /// Where `next` keeps the site that is expected now.
    @inline(__always) var nextContext: Int { Self.context(last, beforeLast) }

    /// Where `delta` keeps the counts that are expected before `site`.
    @inline(__always) func deltaContext(_ site: UInt32) -> Int { Self.context(site, last &+ 0x5bd1) }

    /// The time-stamp counter that the position and the last one lead to.
    @inline(__always) func expectedTimestamp(at count: UInt64) -> UInt64 {
        if countsNanoseconds { return timestamp &+ count &- timestampCount }
        return timestamp &+ nanoseconds(count) &- nanoseconds(timestampCount)
    }

    /// A count is a nanosecond.
    var countsNanoseconds: Bool { rate == 1000 }

    @inline(never) private func nanoseconds(_ count: UInt64) -> UInt64 {
        let product = count.multipliedFullWidth(by: 1000)
        return product.high < rate ? rate.dividingFullWidth(product).quotient : 0
    }

    /// Moves on behind an event.
    @inline(__always) mutating func step(_ site: UInt32, _ count: UInt64) {
        beforeLast = last
        last = site
        self.count = count
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
