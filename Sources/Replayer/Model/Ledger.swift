/// What a strategy has charged: how often each path was taken, in all and at each site. The boot phase and waits are
/// kept apart. Prices come later.
package final class Ledger {
    /// The parts of a run that are never added up with each other.
    package enum Part: Int, CaseIterable {
        /// Before the kernel proper.
        case boot
        case kernel
        /// Delay loops.
        case wait
    }

    package private(set) var paths: [Path] = []
    /// Times by part and path. Owned here.
    private var times: [[Int64]] = Part.allCases.map { _ in [] }
    private var sites = SiteCounts()
    /// What charges are told apart by besides their site; `RunDivisions` says what that is.
    var division: UInt32 = 0
    /// Times by part and path at each moment that was asked for.
    private(set) var snapshots: [[[Int64]]] = []

    func add(_ path: Path) -> PathID {
        precondition(paths.count < 254, "more paths than a key has room for")
        paths.append(path)
        for part in times.indices { times[part].append(0) }
        return PathID(number: paths.count - 1)
    }

    @inline(__always) func charge(_ path: PathID, site: UInt32, part: Part, times count: Int64) {
        times[part.rawValue][path.number] &+= count
        if part != .wait { sites.add(SiteCounts.key(division, site, part, path.number), count) }
    }

    func takeSnapshot() { snapshots.append(times) }

    package func times(_ path: Int, in part: Part) -> Int64 { times[part.rawValue][path] }

    /// How often a path was taken at each site in each division of a part that is not `wait`, in no order.
    package func forEachSite(
        in part: Part, _ body: (_ division: UInt32, _ site: UInt32, _ path: Int, _ times: Int64) -> Void
    ) {
        sites.visit { key, times in
            guard SiteCounts.part(key) == part else { return }
            body(SiteCounts.division(key), SiteCounts.site(key), SiteCounts.path(key), times)
        }
    }

    /// A run that never had a kernel proper was all kernel.
    func countBootAsKernel() {
        for path in paths.indices {
            times[Part.kernel.rawValue][path] += times[Part.boot.rawValue][path]
            times[Part.boot.rawValue][path] = 0
        }
        for index in snapshots.indices { snapshots[index].swapAt(Part.boot.rawValue, Part.kernel.rawValue) }
        sites.countBootAsKernel()
    }
}

/// Counts by division, site, part and path: an open hash table, since few paths are taken at any one site.
private struct SiteCounts {
    private static let siteShift: UInt64 = 9
    private static let divisionShift: UInt64 = 41
    private static let kernelBit: UInt64 = 1 << 8

    private var keys: [UInt64]
    private var values: [Int64]
    private var used = 0

    init() {
        keys = [UInt64](repeating: 0, count: 1 << 12)
        values = [Int64](repeating: 0, count: 1 << 12)
    }

    /// Never zero. `path` is below 255, `division` below 2²³.
    @inline(__always) static func key(_ division: UInt32, _ site: UInt32, _ part: Ledger.Part, _ path: Int) -> UInt64 {
        UInt64(division) << divisionShift | UInt64(site) << siteShift | (part == .kernel ? kernelBit : 0)
            | UInt64(truncatingIfNeeded: path &+ 1)
    }

    static func division(_ key: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: key >> divisionShift) }
    static func site(_ key: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: key >> siteShift) }
    static func part(_ key: UInt64) -> Ledger.Part { key & kernelBit != 0 ? .kernel : .boot }
    static func path(_ key: UInt64) -> Int { Int(key & 0xff) - 1 }

    /// Only for a run without a kernel part.
    mutating func countBootAsKernel() {
        let old = self
        self = SiteCounts()
        old.visit { key, times in add(key | Self.kernelBit, times) }
    }

    @inline(__always) mutating func add(_ key: UInt64, _ count: Int64) {
        let mask = keys.count - 1
        var slot = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
        while keys[slot] != key {
            if keys[slot] == 0 { return insert(key, count, at: slot) }
            slot = (slot &+ 1) & mask
        }
        values[slot] &+= count
    }

    @inline(never) private mutating func insert(_ key: UInt64, _ count: Int64, at slot: Int) {
        keys[slot] = key
        values[slot] = count
        used += 1
        guard used * 2 > keys.count else { return }
        let (oldKeys, oldValues) = (keys, values)
        keys = [UInt64](repeating: 0, count: oldKeys.count * 2)
        values = [Int64](repeating: 0, count: oldKeys.count * 2)
        let mask = keys.count - 1
        for (index, key) in oldKeys.enumerated() where key != 0 {
            var slot = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
            while keys[slot] != 0 { slot = (slot &+ 1) & mask }
            keys[slot] = key
            values[slot] = oldValues[index]
        }
    }

    func visit(_ body: (_ key: UInt64, _ times: Int64) -> Void) {
        for (index, key) in keys.enumerated() where key != 0 { body(key, values[index]) }
    }
}

/// A multiple of each primitive.
package struct PrimitiveCounts {
    package private(set) var counts = [Int64](repeating: 0, count: Primitive.allCases.count)

    package init() {}

    package mutating func add(_ charges: Charges, times: Int64) {
        guard times != 0 else { return }
        for item in charges.items { counts[Int(item.primitive.rawValue)] += Int64(item.count) * times }
    }

    package mutating func add(_ primitive: Primitive, _ count: Int64) { counts[Int(primitive.rawValue)] += count }

    package static func + (left: PrimitiveCounts, right: PrimitiveCounts) -> PrimitiveCounts {
        var sum = left
        for index in sum.counts.indices { sum.counts[index] += right.counts[index] }
        return sum
    }

    package static func - (left: PrimitiveCounts, right: PrimitiveCounts) -> PrimitiveCounts {
        var difference = left
        for index in difference.counts.indices { difference.counts[index] -= right.counts[index] }
        return difference
    }

    package subscript(primitive: Primitive) -> Int64 { counts[Int(primitive.rawValue)] }

    /// Its price in cycles: low is the least that any values within the table's ranges give, high the most.
    package func cycles(_ table: CostTable) -> CostRange {
        var sum = CostRange.zero
        for primitive in Primitive.allCases {
            let count = Double(self[primitive])
            guard count != 0 else { continue }
            let cost = table.cycles(primitive)
            sum.low += count * (count > 0 ? cost.low : cost.high)
            sum.typical += count * cost.typical
            sum.high += count * (count > 0 ? cost.high : cost.low)
        }
        return sum
    }

    /// The share of its typical cycles, sign aside, that lean on estimates: 0 to 1.
    package func estimatedShare(_ table: CostTable) -> Double {
        var (all, estimated) = (0.0, 0.0)
        for primitive in Primitive.allCases where self[primitive] != 0 {
            let cycles = abs(Double(self[primitive])) * table.cycles(primitive).typical
            all += cycles
            if table.costs[Int(primitive.rawValue)].role == .estimate { estimated += cycles }
        }
        return all > 0 ? estimated / all : 0
    }
}
