import CEngine
import VMM

/// A growing column of bytes. Owned by the encoder, which frees it.
private struct ColumnBuffer {
    private(set) var bytes: UnsafeMutablePointer<UInt8>
    private(set) var count = 0
    private var capacity = 1 << 16
    private static let longestVarint = 10

    init() { bytes = .allocate(capacity: capacity) }

    func deallocate() { bytes.deallocate() }

    @inline(__always) mutating func byte(_ value: UInt8) {
        if count == capacity { grow() }
        bytes[count] = value
        count &+= 1
    }

    @inline(__always) mutating func varint(_ value: UInt64) {
        if count &+ Self.longestVarint > capacity { grow() }
        var rest = value
        while rest >= 0x80 {
            bytes[count] = UInt8(truncatingIfNeeded: rest) | 0x80
            count &+= 1
            rest >>= 7
        }
        bytes[count] = UInt8(truncatingIfNeeded: rest)
        count &+= 1
    }

    @inline(never) private mutating func grow() {
        let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity * 2)
        larger.update(from: bytes, count: count)
        bytes.deallocate()
        bytes = larger
        capacity *= 2
    }

    mutating func take() -> [UInt8] {
        defer { count = 0 }
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }
}

/// Turns events into the columns of event blocks and the site dictionary into site blocks. Belongs to one thread.
final class EventEncoder {
    private static let mostEvents = 1 << 20
    private static let mostBytes = 8 << 20

    private let model: EventModel
    private var columns: [ColumnBuffer]
    // The site dictionary: an open-addressed table of site numbers, 0 for none, at most half full. Owned here.
    private var sites: [Site] = []
    private var table: UnsafeMutablePointer<UInt32>
    private var tableMask: Int
    private var written = 0

    private var run: UInt64 = 0
    private var events = 0
    private var firstCount: UInt64 = 0
    private var lastCount: UInt64 = 0
    private var kindCounts = [UInt64](repeating: 0, count: 256)
    /// Payload bytes that the last event still wants.
    private var payloadLeft: UInt64 = 0
    /// Events encoded so far.
    private(set) var eventNumber: UInt64
    private(set) var epoch: UInt32

    init(rate: UInt64, epoch: UInt32, firstEvent: UInt64) {
        model = EventModel(rate: rate)
        self.epoch = epoch
        eventNumber = firstEvent
        columns = EventColumn.names.map { _ in ColumnBuffer() }
        tableMask = (1 << 13) - 1
        table = .allocate(capacity: tableMask + 1)
        table.initialize(repeating: 0, count: tableMask + 1)
    }

    deinit {
        for column in columns { column.deallocate() }
        table.deallocate()
    }

    /// Takes a batch. Blocks that are full are given to `emit`.
    func append(_ batch: UnsafeBufferPointer<EventRecord>, emit: (Block) -> Void) {
        for index in 0..<batch.count {
            let record = batch.baseAddress! + index
            if record.pointee.kind == EventKind.payload.rawValue {
                appendPayload(record)
                continue
            }
            if events >= Self.mostEvents || columns[Int(EventColumn.payload) - 1].count > Self.mostBytes {
                finishBlock(emit)
            }
            append(record)
        }
    }

    private func append(_ record: UnsafePointer<EventRecord>) {
        if events == 0 {
            model.reset(count: record.pointee.count)
            firstCount = record.pointee.count
        }
        let site = number(of: record)
        let at = Int(site)
        var mask: UInt8 = 0
        let nextContext = model.nextContext
        if model.next[nextContext] != site { mask |= EventMask.site }
        let deltaContext = model.deltaContext(site)
        let delta = Int64(bitPattern: record.pointee.count &- model.count)
        if model.delta[deltaContext] != delta { mask |= EventMask.delta }
        if model.operand[at] != record.pointee.operand { mask |= EventMask.operand }
        let valueModel = EventModel.valueModel(record.pointee.kind)
        let expected =
            valueModel == .timestamp ? model.expectedTimestamp(at: record.pointee.count) : model.value[at]
        if expected != record.pointee.value { mask |= EventMask.value }
        if model.detail[at] != record.pointee.detail { mask |= EventMask.detail }
        if sites[at].isFree && model.address[at] != record.pointee.address { mask |= EventMask.address }
        if mask == 0 {
            run &+= 1
        } else {
            appendMiss(record, mask, site, delta, expected, valueModel)
            model.next[nextContext] = site
            model.delta[deltaContext] = delta
            model.operand[at] = record.pointee.operand
            model.value[at] = record.pointee.value
            model.detail[at] = record.pointee.detail
            model.address[at] = record.pointee.address
        }
        if valueModel == .timestamp {
            model.timestamp = record.pointee.value
            model.timestampCount = record.pointee.count
        }
        model.beforeLast = model.last
        model.last = site
        model.count = record.pointee.count
        events &+= 1
        eventNumber &+= 1
        kindCounts[Int(record.pointee.kind)] &+= 1
        lastCount = max(lastCount, record.pointee.count)
    }

    private func appendMiss(
        _ record: UnsafePointer<EventRecord>, _ mask: UInt8, _ site: UInt32, _ delta: Int64, _ expected: UInt64,
        _ valueModel: ValueModel
    ) {
        let at = Int(site)
        put(EventColumn.runs, run)
        run = 0
        columns[Int(EventColumn.masks) - 1].byte(mask)
        if mask & EventMask.site != 0 { put(EventColumn.sites, UInt64(site)) }
        if mask & EventMask.delta != 0 { put(EventColumn.deltas, zigzag(delta)) }
        if mask & EventMask.operand != 0 {
            put(EventColumn.operands, zigzag(Int64(bitPattern: record.pointee.operand &- model.operand[at])))
        }
        if mask & EventMask.value != 0 {
            if valueModel == .flags {
                put(EventColumn.flags, record.pointee.value ^ expected)
            } else {
                put(EventColumn.values, zigzag(Int64(bitPattern: record.pointee.value &- expected)))
            }
        }
        if mask & EventMask.detail != 0 { put(EventColumn.details, UInt64(record.pointee.detail ^ model.detail[at])) }
        if mask & EventMask.address != 0 {
            put(EventColumn.addresses, zigzag(Int64(bitPattern: record.pointee.address &- model.address[at])))
        }
    }

    @inline(__always) private func put(_ column: UInt8, _ value: UInt64) { columns[Int(column) - 1].varint(value) }

    private func appendPayload(_ record: UnsafePointer<EventRecord>) {
        var words = (record.pointee.operand.littleEndian, record.pointee.value.littleEndian)
        let count = min(Int(record.pointee.size), 16)
        withUnsafeBytes(of: &words) { for index in 0..<count { columns[Int(EventColumn.payload) - 1].byte($0[index]) } }
    }

    // MARK: Sites

    @inline(__always) private func number(of record: UnsafePointer<EventRecord>) -> UInt32 {
        let isFree = EventModel.isFree(record.pointee.kind)
        let address = isFree ? 0 : record.pointee.address
        var slot = Self.hash(record, address) & tableMask
        while table[slot] != 0 {
            let index = Int(table[slot]) - 1
            if Self.matches(sites[index], record, address, isFree) { return UInt32(index) }
            slot = (slot + 1) & tableMask
        }
        return addSite(record, isFree: isFree)
    }

    @inline(__always) private static func matches(
        _ site: Site, _ record: UnsafePointer<EventRecord>, _ address: UInt64, _ isFree: Bool
    ) -> Bool {
        site.address == address && site.kind == record.pointee.kind && site.ring == record.pointee.ring
            && site.size == record.pointee.size && site.flags == record.pointee.flags & EventFlags.recorded
            && site.isFree == isFree
    }

    @inline(__always) private static func hash(_ record: UnsafePointer<EventRecord>, _ address: UInt64) -> Int {
        let rest =
            UInt64(record.pointee.kind) | UInt64(record.pointee.ring) << 8 | UInt64(record.pointee.size) << 16
            | UInt64(record.pointee.flags & EventFlags.recorded) << 24
        let mixed = (address ^ rest &* 0xD6E8_FEB8_6659_FD93) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 33)
    }

    /// A new site. When the dictionary is full, events of new places share sites and carry their addresses.
    @inline(never) private func addSite(_ record: UnsafePointer<EventRecord>, isFree: Bool) -> UInt32 {
        let reserved = 1 << 12
        if !isFree, sites.count >= TraceFormat.mostSites - reserved { return sharedSite(record) }
        let site = Site(
            kind: record.pointee.kind, ring: record.pointee.ring, size: record.pointee.size,
            flags: record.pointee.flags & EventFlags.recorded, address: isFree ? 0 : record.pointee.address,
            isFree: isFree)
        return insert(site, Self.hash(record, site.address))
    }

    private func sharedSite(_ record: UnsafePointer<EventRecord>) -> UInt32 {
        var slot = Self.hash(record, 0) & tableMask
        while table[slot] != 0 {
            let index = Int(table[slot]) - 1
            if Self.matches(sites[index], record, 0, true) { return UInt32(index) }
            slot = (slot + 1) & tableMask
        }
        let site = Site(
            kind: record.pointee.kind, ring: record.pointee.ring, size: record.pointee.size,
            flags: record.pointee.flags & EventFlags.recorded, address: 0, isFree: true)
        return insert(site, Self.hash(record, 0))
    }

    private func insert(_ site: Site, _ hash: Int) -> UInt32 {
        precondition(sites.count < TraceFormat.mostSites)
        sites.append(site)
        model.grow(to: sites.count)
        if sites.count * 2 > tableMask { rehash() }
        var slot = hash & tableMask
        while table[slot] != 0 { slot = (slot + 1) & tableMask }
        if table[slot] == 0 { table[slot] = UInt32(sites.count) }
        return UInt32(sites.count - 1)
    }

    /// Doubles the table; the newest site is not in it yet.
    private func rehash() {
        table.deallocate()
        tableMask = tableMask * 2 + 1
        table = .allocate(capacity: tableMask + 1)
        table.initialize(repeating: 0, count: tableMask + 1)
        for (index, site) in sites.dropLast().enumerated() {
            var record = EventRecord()
            record.kind = site.kind
            record.ring = site.ring
            record.size = site.size
            record.flags = site.flags
            var slot = Self.hash(&record, site.address) & tableMask
            while table[slot] != 0 { slot = (slot + 1) & tableMask }
            table[slot] = UInt32(index + 1)
        }
    }

    // MARK: Blocks

    /// Gives what is there to `emit`: new sites first, so that a reader knows them.
    func finishBlock(_ emit: (Block) -> Void) {
        if written < sites.count { emit(siteBlock()) }
        guard events > 0 else { return }
        if run > 0 { put(EventColumn.runs, run) }
        run = 0
        var taken = columns.indices.map { (id: EventColumn.names[$0].0, bytes: columns[$0].take()) }
        taken.append((EventColumn.kinds, takeKindCounts()))
        emit(
            Block(
                .events, epoch: epoch, items: events, counts: firstCount...max(firstCount, lastCount),
                firstItem: eventNumber - UInt64(events), taken.filter { !$0.bytes.isEmpty }))
        events = 0
        lastCount = 0
    }

    private func takeKindCounts() -> [UInt8] {
        var writer = ByteWriter()
        for kind in kindCounts.indices where kindCounts[kind] > 0 {
            writer.varint(UInt64(kind))
            writer.varint(kindCounts[kind])
            kindCounts[kind] = 0
        }
        return writer.bytes
    }

    private func siteBlock() -> Block {
        var kinds = ByteWriter()
        var addresses = ByteWriter()
        var previous: UInt64 = 0
        for site in sites[written...] {
            kinds.raw([site.kind, site.ring | (site.isFree ? 0x80 : 0), site.size, site.flags])
            addresses.signed(Int64(bitPattern: site.address &- previous))
            previous = site.address
        }
        let first = written
        written = sites.count
        return Block(
            .sites, epoch: epoch, items: sites.count - first, counts: firstCount...firstCount,
            firstItem: UInt64(first), [(1, kinds.bytes), (2, addresses.bytes)])
    }
}
