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

    private var model: EventModel
    /// By column; owned here.
    private let columns: UnsafeMutablePointer<ColumnBuffer>
    // The site dictionary: an open-addressed table of site numbers, 0 for none, at most half full. Owned here.
    private var sites: [Site] = []
    private var table: UnsafeMutablePointer<UInt32>
    private var tableMask: Int
    private var written = 0

    private var run: UInt64 = 0
    private var events = 0
    private var firstCount: UInt64 = 0
    private var lastCount: UInt64 = 0
    private let kindCounts: UnsafeMutablePointer<UInt64>
    private let payload = EventKind.payload.rawValue
    /// Events encoded so far.
    private(set) var eventNumber: UInt64
    private(set) var epoch: UInt32

    init(rate: UInt64, epoch: UInt32, firstEvent: UInt64) {
        model = EventModel(rate: rate)
        self.epoch = epoch
        eventNumber = firstEvent
        columns = .allocate(capacity: EventColumn.names.count)
        for column in EventColumn.names.indices { (columns + column).initialize(to: ColumnBuffer()) }
        kindCounts = .allocate(capacity: 256)
        kindCounts.initialize(repeating: 0, count: 256)
        tableMask = (1 << 13) - 1
        table = .allocate(capacity: tableMask + 1)
        table.initialize(repeating: 0, count: tableMask + 1)
    }

    deinit {
        for column in EventColumn.names.indices { columns[column].deallocate() }
        columns.deallocate()
        kindCounts.deallocate()
        table.deallocate()
        model.deallocate()
    }

    /// Takes a buffer that an `EventPacker` filled. Blocks that are full are given to `emit`.
    func append(_ batch: UnsafeBufferPointer<EventRecord>, emit: (Block) -> Void) {
        guard let base = batch.baseAddress else { return }
        for record in base..<base + batch.count {
            switch record.pointee.kind {
            case payload: appendPayload(record)
            case EventRepeat.kind: appendRepeat(record, emit)
            default:
                makeRoom(emit)
                append(record)
            }
        }
    }

    /// Finishes the block if it is full.
    @inline(__always) private func makeRoom(_ emit: (Block) -> Void) {
        if events >= Self.mostEvents || column(EventColumn.payload).pointee.count > Self.mostBytes { finishBlock(emit) }
    }

    @inline(__always) private func column(_ number: UInt8) -> UnsafeMutablePointer<ColumnBuffer> {
        columns + (Int(number) - 1)
    }

    /// Encodes an event.
    /// - Returns: whether it was as expected.
    @discardableResult
    @inline(__always) private func append(_ record: UnsafePointer<EventRecord>) -> Bool {
        let count = record.pointee.count
        if events == 0 {
            model.reset(count: count)
            firstCount = count
        }
        let key = EventRecord.key(record)
        let nextContext = model.nextContext
        var site = model.next[nextContext]
        var mask: UInt8 = 0
        if site == EventModel.noSite || model.sites[Int(site)].key != key
            || model.sites[Int(site)].address != record.pointee.address && !model.sites[Int(site)].isFree
        {
            site = number(of: record, key)
            mask = EventMask.site
        }
        let state = model.sites + Int(site)
        let deltaContext = model.deltaContext(site)
        let delta = Int64(bitPattern: count &- model.count)
        if model.delta[deltaContext] != delta { mask |= EventMask.delta }
        if state.pointee.operand != record.pointee.operand { mask |= EventMask.operand }
        let isTimestamp = state.pointee.model == .timestamp
        let expected = isTimestamp ? model.expectedTimestamp(at: count) : state.pointee.value
        if expected != record.pointee.value { mask |= EventMask.value }
        if state.pointee.detail != record.pointee.detail { mask |= EventMask.detail }
        if state.pointee.isFree, state.pointee.address != record.pointee.address { mask |= EventMask.address }
        if mask == 0 {
            run &+= 1
        } else {
            appendMiss(record, mask, site, delta, expected)
            model.next[nextContext] = site
            model.delta[deltaContext] = delta
            state.pointee.operand = record.pointee.operand
            state.pointee.value = record.pointee.value
            state.pointee.detail = record.pointee.detail
            state.pointee.address = record.pointee.address
        }
        if isTimestamp {
            model.timestamp = record.pointee.value
            model.timestampCount = count
        }
        model.step(site, count)
        events &+= 1
        eventNumber &+= 1
        kindCounts[Int(record.pointee.kind)] &+= 1
        lastCount = max(lastCount, count)
        return mask == 0
    }

    @inline(never) private func appendMiss(
        _ record: UnsafePointer<EventRecord>, _ mask: UInt8, _ site: UInt32, _ delta: Int64, _ expected: UInt64
    ) {
        let state = model.sites + Int(site)
        put(EventColumn.runs, run)
        run = 0
        column(EventColumn.masks).pointee.byte(mask)
        if mask & EventMask.site != 0 { put(EventColumn.sites, UInt64(site)) }
        if mask & EventMask.delta != 0 { put(EventColumn.deltas, zigzag(delta)) }
        if mask & EventMask.operand != 0 {
            put(EventColumn.operands, zigzag(Int64(bitPattern: record.pointee.operand &- state.pointee.operand)))
        }
        if mask & EventMask.value != 0 {
            if state.pointee.model == .flags {
                put(EventColumn.flags, record.pointee.value ^ expected)
            } else {
                put(EventColumn.values, zigzag(Int64(bitPattern: record.pointee.value &- expected)))
            }
        }
        if mask & EventMask.detail != 0 {
            put(EventColumn.details, UInt64(record.pointee.detail ^ state.pointee.detail))
        }
        if mask & EventMask.address != 0 {
            put(EventColumn.addresses, zigzag(Int64(bitPattern: record.pointee.address &- state.pointee.address)))
        }
    }

    @inline(__always) private func put(_ number: UInt8, _ value: UInt64) { column(number).pointee.varint(value) }

    private func appendPayload(_ record: UnsafePointer<EventRecord>) {
        var words = (record.pointee.operand.littleEndian, record.pointee.value.littleEndian)
        let count = min(Int(record.pointee.size), 16)
        withUnsafeBytes(of: &words) {
            for index in 0..<count { column(EventColumn.payload).pointee.byte($0[index]) }
        }
    }

    // MARK: Repeats

    /// Encodes the events that a repeat stands for: one by one until two in a row were as expected, and then, if their
    /// values grow as expected too, all that are left at once, because what is expected does not change any more.
    private func appendRepeat(_ record: UnsafePointer<EventRecord>, _ emit: (Block) -> Void) {
        let step = record.pointee.operand
        var (even, odd) = (record[-2], record[-1])
        var (evenStep, oddStep) = (record.pointee.value, record.pointee.address)
        var left = record.pointee.count
        var expected = 0
        let isPredictable = grows(even, evenStep, step) && grows(odd, oddStep, step)
        while left > 0 {
            makeRoom(emit)
            if events == 0 { expected = 0 }
            if expected >= 2, isPredictable {
                let taken = min(left, UInt64(Self.mostEvents - events))
                Self.grow(&even, evenStep, step, times: (taken + 1) / 2)
                Self.grow(&odd, oddStep, step, times: taken / 2)
                skip(taken, even, odd)
                if taken & 1 == 1 {
                    swap(&even, &odd)
                    swap(&evenStep, &oddStep)
                }
                left -= taken
                continue
            }
            Self.grow(&even, evenStep, step, times: 1)
            expected = append(&even) ? expected + 1 : 0
            swap(&even, &odd)
            swap(&evenStep, &oddStep)
            left -= 1
        }
    }

    /// Whether an event like `record` stays as expected when its value grows by `valueStep` in `step` counts.
    private func grows(_ record: EventRecord, _ valueStep: UInt64, _ step: UInt64) -> Bool {
        if ValueModel(kind: record.kind) == .timestamp { return model.countsNanoseconds && valueStep == step }
        return valueStep == 0
    }

    private static func grow(_ record: inout EventRecord, _ valueStep: UInt64, _ step: UInt64, times: UInt64) {
        record.count &+= step &* times
        record.value &+= valueStep &* times
    }

    /// Counts `taken` expected events, which alternate; the last ones of each sort are `even`, which came first, and
    /// `odd`.
    private func skip(_ taken: UInt64, _ even: EventRecord, _ odd: EventRecord) {
        run &+= taken
        events &+= Int(taken)
        eventNumber &+= taken
        kindCounts[Int(even.kind)] &+= (taken + 1) / 2
        kindCounts[Int(odd.kind)] &+= taken / 2
        if taken & 1 == 1 { swap(&model.last, &model.beforeLast) }
        // The one that came last says what the time is.
        if taken & 1 == 0 { pass(even) }
        pass(odd)
        if taken & 1 == 1 { pass(even) }
    }

    private func pass(_ record: EventRecord) {
        model.count = record.count
        lastCount = max(lastCount, record.count)
        guard ValueModel(kind: record.kind) == .timestamp else { return }
        model.timestamp = record.value
        model.timestampCount = record.count
    }

    // MARK: Sites

    @inline(never) private func number(of record: UnsafePointer<EventRecord>, _ key: UInt32) -> UInt32 {
        let isFree = EventModel.isFree(record.pointee.kind)
        let address = isFree ? 0 : record.pointee.address
        if let index = find(key, address, isFree) { return index }
        let reserved = 1 << 12
        guard !isFree, sites.count >= TraceFormat.mostSites - reserved else {
            return insert(record, key, address, isFree)
        }
        // When the dictionary is full, events of new places share sites and carry their addresses.
        return find(key, 0, true) ?? insert(record, key, 0, true)
    }

    private func find(_ key: UInt32, _ address: UInt64, _ isFree: Bool) -> UInt32? {
        var slot = Self.hash(key, address) & tableMask
        while table[slot] != 0 {
            let index = Int(table[slot]) - 1
            let state = model.sites + index
            if state.pointee.key == key, state.pointee.isFree == isFree, isFree || state.pointee.address == address {
                return UInt32(index)
            }
            slot = (slot + 1) & tableMask
        }
        return nil
    }

    @inline(__always) private static func hash(_ key: UInt32, _ address: UInt64) -> Int {
        let mixed = (address ^ UInt64(key) &* 0xD6E8_FEB8_6659_FD93) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 33)
    }

    private func insert(
        _ record: UnsafePointer<EventRecord>, _ key: UInt32, _ address: UInt64, _ isFree: Bool
    ) -> UInt32 {
        precondition(sites.count < TraceFormat.mostSites)
        let site = Site(
            kind: record.pointee.kind, ring: record.pointee.ring, size: record.pointee.size,
            flags: record.pointee.flags & EventRecord.keptFlags, address: address, isFree: isFree)
        sites.append(site)
        model.add(site)
        if sites.count * 2 > tableMask {
            rehash()
        } else {
            enter(UInt32(sites.count), key, address)
        }
        return UInt32(sites.count - 1)
    }

    private func enter(_ number: UInt32, _ key: UInt32, _ address: UInt64) {
        var slot = Self.hash(key, address) & tableMask
        while table[slot] != 0 { slot = (slot + 1) & tableMask }
        table[slot] = number
    }

    /// Doubles the table and enters all sites.
    private func rehash() {
        table.deallocate()
        tableMask = tableMask * 2 + 1
        table = .allocate(capacity: tableMask + 1)
        table.initialize(repeating: 0, count: tableMask + 1)
        for (index, site) in sites.enumerated() { enter(UInt32(index + 1), model.sites[index].key, site.address) }
    }

    // MARK: Blocks

    /// Gives what is there to `emit`: new sites first, so that a reader knows them.
    func finishBlock(_ emit: (Block) -> Void) {
        if written < sites.count { emit(siteBlock()) }
        guard events > 0 else { return }
        if run > 0 { put(EventColumn.runs, run) }
        run = 0
        var taken = EventColumn.names.indices.map { (id: EventColumn.names[$0].0, bytes: columns[$0].take()) }
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
        for kind in 0..<256 where kindCounts[kind] > 0 {
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
