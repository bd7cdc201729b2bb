/// One bit for each interrupt vector, as in the ISR, TMR and IRR.
struct VectorSet {
    private var words = SIMD4<UInt64>()

    /// The highest vector in the set.
    var highest: UInt8? {
        for index in stride(from: 3, through: 0, by: -1) where words[index] != 0 {
            return UInt8(index * 64 + 63 - words[index].leadingZeroBitCount)
        }
        return nil
    }

    subscript(vector: UInt8) -> Bool {
        get { words[Int(vector >> 6)] >> UInt64(vector & 63) & 1 != 0 }
        set {
            let bit: UInt64 = 1 << UInt64(vector & 63)
            if newValue { words[Int(vector >> 6)] |= bit } else { words[Int(vector >> 6)] &= ~bit }
        }
    }

    /// The 32-bit register `index`, 0 to 7.
    func word(_ index: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: words[index >> 1] >> UInt64(index & 1 &* 32))
    }

    mutating func archive(_ archive: StateArchive) {
        for index in 0..<4 {
            var word = words[index]
            archive.field("vectors\(index * 64)", &word)
            words[index] = word
        }
    }
}

/// The local vector table (Intel SDM volume 3, section 11.5.1).
struct LocalVectorTable {
    /// The entries in the order of their registers.
    enum Entry: Int {
        case timer, thermal, performance, lint0, lint1, error
    }
    static let count: UInt64 = 6
    static let mask: UInt32 = 1 << 16
    private static let remoteIRR: UInt32 = 1 << 14
    private static let levelTriggered: UInt32 = 1 << 15
    private static let timerPeriodic: UInt32 = 1 << 17
    /// The bits that software can write, by entry.
    private static let writable: [UInt32] = [0x300FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF]
    /// LINT0 of the bootstrap processor passes the 8259A on (MultiProcessor specification, section 3.6.2.2, virtual
    /// wire mode), so that a system without firmware receives its interrupts. The rest is masked.
    private static let virtualWire: UInt32 = 7 << 8

    private var entries: [UInt32] = [mask, mask, mask, virtualWire, mask, mask]

    subscript(index: Int) -> UInt32 { entries[index] }

    func isMasked(_ entry: Entry) -> Bool { entries[entry.rawValue] & Self.mask != 0 }
    func vector(_ entry: Entry) -> UInt8 { UInt8(truncatingIfNeeded: entries[entry.rawValue]) }
    func isLevelTriggered(_ entry: Entry) -> Bool { entries[entry.rawValue] & Self.levelTriggered != 0 }
    func hasRemoteIRR(_ entry: Entry) -> Bool { entries[entry.rawValue] & Self.remoteIRR != 0 }
    var isPeriodic: Bool { entries[Entry.timer.rawValue] & Self.timerPeriodic != 0 }

    func mode(_ entry: Entry) -> InterruptMessage.DeliveryMode {
        InterruptMessage.DeliveryMode(rawValue: UInt8(entries[entry.rawValue] >> 8 & 7))!
    }

    mutating func write(_ entry: Entry, _ value: UInt32) {
        let kept = entries[entry.rawValue] & Self.remoteIRR
        entries[entry.rawValue] = value & Self.writable[entry.rawValue]
        if isLevelTriggered(entry) { entries[entry.rawValue] |= kept }
    }

    mutating func setRemoteIRR(_ entry: Entry, _ value: Bool) {
        if value {
            entries[entry.rawValue] |= Self.remoteIRR
        } else {
            entries[entry.rawValue] &= ~Self.remoteIRR
        }
    }

    mutating func maskAll() {
        for index in entries.indices { entries[index] |= Self.mask }
    }

    mutating func archive(_ archive: StateArchive) { archive.fixed("entries", &entries) }
}

/// The timer of the local APIC, a function of virtual time. One bus clock is one nanosecond.
struct APICTimer {
    private(set) var initial: UInt32 = 0
    private(set) var divideConfiguration: UInt32 = 0
    private var isPeriodic = false
    /// When the count began, as if it had run with today's divider all the time; nil while it stands at zero.
    private var start: UInt64?

    /// Bus clocks for each count: 2, 4 … 128, or 1.
    private var divider: UInt64 {
        let field = divideConfiguration & 3 | divideConfiguration >> 1 & 4
        return 1 << UInt64((field &+ 1) & 7)
    }
    private var period: UInt64 { UInt64(initial) &* divider }

    /// Accounts for what has expired until `now`.
    mutating func settle(_ now: UInt64) {
        guard let begun = start, initial != 0 else { return }
        let elapsed = now &- begun
        guard elapsed >= period else { return }
        start = isPeriodic ? now &- elapsed % period : nil
    }

    mutating func start(_ count: UInt32, _ now: UInt64) {
        initial = count
        start = count == 0 ? nil : now
    }

    mutating func setPeriodic(_ value: Bool, _ now: UInt64) {
        settle(now)
        isPeriodic = value
    }

    mutating func setDivide(_ value: UInt32, _ now: UInt64) {
        settle(now)
        let count = current(now)
        divideConfiguration = value
        if start != nil { start = now &- UInt64(initial &- count) &* divider }
    }

    func current(_ now: UInt64) -> UInt32 {
        guard let start, initial != 0 else { return 0 }
        let elapsed = now &- start
        if elapsed >= period, !isPeriodic { return 0 }
        return initial &- UInt32(truncatingIfNeeded: elapsed % period / divider)
    }

    /// When the count next reaches zero, after `now`; nil if it does not.
    func expiry(_ now: UInt64) -> UInt64? {
        guard let start, initial != 0 else { return nil }
        let elapsed = now &- start
        if isPeriodic { return now &+ (period &- elapsed % period) }
        // A deadline in the past is one that has come while the interrupt was masked.
        return elapsed < period ? start &+ period : nil
    }

    mutating func archive(_ archive: StateArchive) {
        archive.field("initial", &initial)
        archive.field("divideConfiguration", &divideConfiguration)
        archive.field("isPeriodic", &isPeriodic)
        archive.field("start", &start)
    }
}
