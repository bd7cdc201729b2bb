/// The 8254 programmable interval timer: three channels, six modes, exact from virtual time (Intel 8254 datasheet).
///
/// Tick n of the 1.193182 MHz input is at n / 1193182 seconds of virtual time. A channel is brought up to date when it
/// is accessed; only channel 0, whose output is an interrupt line, keeps a timer.
package final class PIT: PortDevice, Archivable {
    /// The frequency of the channels' clock inputs.
    package static let hertz: UInt64 = 1_193_182
    private static let firstPort: UInt16 = 0x40
    private static let controlPort: UInt16 = 0x43
    /// The channel field of a control word that makes it a read-back command.
    private static let readBack = 3
    private enum ReadBack {
        static let noCount: UInt8 = 0x20
        static let noStatus: UInt8 = 0x10
    }

    @exclusivity(unchecked) private var channels = [PITChannel](repeating: PITChannel(), count: 3)
    private let clock: VirtualClock
    private let interrupt: InterruptLine
    private var timer: EventQueue.Timer!

    /// - Parameter interrupt: follows the output of channel 0 and is called when that changes.
    package init(clock: VirtualClock, queue: EventQueue, interrupt: InterruptLine) {
        self.clock = clock
        self.interrupt = interrupt
        timer = queue.makeTimer("pit.channel0") { [unowned self] in access(0) { _, _ in } }
        reset()
    }

    /// Claims ports 0x40 to 0x43.
    package func attach(to bus: PortBus) {
        bus.attach(self, PIT.firstPort...PIT.controlPort, width: 1)
    }

    /// What a PC's channels do before firmware programs them: square waves of the longest period, with the gates of
    /// channels 0 and 1 tied high.
    package func reset() {
        for index in 0..<3 {
            access(index) { channel, now in
                channel = PITChannel()
                channel.gate = index != 2
                channel.writeControl(0x36, now)
                channel.writeCount(0, now)
                channel.writeCount(0, now)
            }
        }
    }

    /// The output of `channel`, 0 to 2, now.
    package func output(_ channel: Int) -> Bool { access(channel) { channel, _ in channel.output } }

    /// Sets the gate input of channel 2.
    package func setGate2(_ level: Bool) { access(2) { $0.setGate(level, $1) } }

    /// The number of clock ticks since power-on.
    package var tick: UInt64 { VirtualClock.periods(PIT.hertz, in: clock.now) }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        let index = Int(port &- PIT.firstPort)
        guard index < 3 else { return 0xFF }
        return UInt32(access(index) { channel, _ in channel.read() })
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        guard port == PIT.controlPort else { return access(Int(port & 3)) { $0.writeCount(value, $1) } }
        let selected = Int(value >> 6)
        guard selected == PIT.readBack else { return access(selected) { $0.writeControl(value, $1) } }
        for index in 0..<3 where value & (2 << UInt8(index)) != 0 {
            access(index) { channel, _ in
                if value & ReadBack.noCount == 0 { channel.latchCount() }
                if value & ReadBack.noStatus == 0 { channel.latchStatus() }
            }
        }
    }

    package func archive(_ archive: StateArchive) {
        for index in 0..<3 { archive.section("channel\(index)") { channels[index].archive(archive) } }
    }

    /// Brings a channel up to date, lets `body` use it, and for channel 0 moves the interrupt line and the timer.
    @discardableResult
    private func access<R>(_ index: Int, _ body: (inout PITChannel, UInt64) -> R) -> R {
        let now = tick
        let before = channels[index].output
        // Every edge of channel 0 that has passed must be seen, so its line is moved event by event.
        while index == 0, let event = channels[0].nextEvent, event <= now {
            let level = channels[0].output
            channels[0].advance(to: event)
            if channels[0].output != level { interrupt.set(!level) }
        }
        channels[index].advance(to: now)
        let settled = index == 0 ? channels[0].output : before
        let result = body(&channels[index], now)
        if index == 0 {
            if channels[0].output != settled { interrupt.set(channels[0].output) }
            if let event = channels[0].nextEvent {
                timer.arm(at: PIT.nanoseconds(at: event))
            } else {
                timer.cancel()
            }
        }
        return result
    }

    /// The first nanosecond that lies in `tick`.
    private static func nanoseconds(at tick: UInt64) -> UInt64 {
        let product = tick.multipliedFullWidth(by: 1_000_000_000)
        guard product.high < hertz else { return .max }
        let (quotient, remainder) = hertz.dividingFullWidth(product)
        return remainder == 0 ? quotient : quotient &+ 1
    }
}

/// One counter of the 8254. `now` is the last clock tick that has passed; what a write causes "at the next clock
/// pulse" happens at now + 1.
private struct PITChannel {
    /// Bits 5 and 4 of the control word.
    private enum Access {
        static let latch: UInt8 = 0
        static let low: UInt8 = 1
        static let high: UInt8 = 2
        static let word: UInt8 = 3
    }
    private enum Mode {
        static let terminalCount: UInt8 = 0
        static let oneShot: UInt8 = 1
        static let rateGenerator: UInt8 = 2
        static let squareWave: UInt8 = 3
        static let softwareStrobe: UInt8 = 4
        static let hardwareStrobe: UInt8 = 5
    }

    /// Mode, access and BCD bits as last written, bits 5 to 0.
    private var control: UInt8 = 0
    /// The count register: the count to load next, 1 to `modulus`.
    private var count: UInt32 = 65536
    /// The count that was loaded last.
    private var loaded: UInt32 = 65536
    /// The counting element, 0 to `modulus` - 1.
    private var element: UInt32 = 0
    /// The tick that the fields describe.
    private var time: UInt64 = 0
    /// When the counting element takes the count register.
    private var loadTime: UInt64?
    /// A count was loaded since the control word.
    private var running = false
    /// A count was written since the control word.
    private var hasCount = false
    /// Between the two bytes of a count in mode 0.
    private var halted = false
    /// The end of the count has still to come, in modes 0, 1, 4 and 5.
    private var armed = false
    private(set) var output = false
    var gate = false
    private var nullCount = true
    private var lowByte: UInt8 = 0
    private var writesHigh = false
    private var readsHigh = false
    private var countLatch: UInt16?
    private var statusLatch: UInt8?

    private var mode: UInt8 {
        let field = control >> 1 & 7
        return field > Mode.hardwareStrobe ? field & 3 : field
    }
    private var accessMode: UInt8 { control >> 4 & 3 }
    private var isBCD: Bool { control & 1 != 0 }
    private var modulus: UInt32 { isBCD ? 10000 : 65536 }

    // MARK: Time

    /// Whether the counting element moves with each tick.
    private var isCounting: Bool {
        guard running, !halted else { return false }
        return mode == Mode.oneShot || mode == Mode.hardwareStrobe || gate
    }

    /// The output is low for one tick, after which it goes high whatever the gate does.
    private var isInPulse: Bool {
        switch mode {
        case Mode.rateGenerator, Mode.softwareStrobe, Mode.hardwareStrobe: running && !output
        default: false
        }
    }

    /// Ticks until the counting element reaches `target`, at least 1.
    private func ticks(to target: UInt32) -> UInt64 {
        let distance = (element &+ modulus &- target) % modulus
        return UInt64(distance == 0 ? modulus : distance)
    }

    /// When the output or the counting element next does something else than to count on.
    var nextEvent: UInt64? {
        guard let own = ticksToOwnEvent.map({ time &+ $0 }) else { return loadTime }
        return min(own, loadTime ?? own)
    }

    private var ticksToOwnEvent: UInt64? {
        if isInPulse { return 1 }
        guard isCounting else { return nil }
        switch mode {
        case Mode.rateGenerator:
            return ticks(to: 1)
        case Mode.squareWave:
            let isOdd = loaded & 1 != 0
            let rest = isOdd ? element / 2 &+ (output ? 1 : 0) : (element == 0 ? modulus : element) / 2
            return UInt64(max(rest, 1))
        default:
            return armed ? ticks(to: 0) : nil
        }
    }

    /// After how many ticks the channel is in the same state again, if nothing disturbs it.
    private var cycle: UInt64? {
        guard isCounting, loadTime == nil, !nullCount, count == loaded else { return nil }
        switch mode {
        case Mode.rateGenerator: return loaded > 1 ? UInt64(loaded) : nil
        case Mode.squareWave: return UInt64(max(loaded, 2))
        default: return nil
        }
    }

    mutating func advance(to now: UInt64) {
        guard now > time else { return }
        while true {
            if let cycle { time &+= (now &- time) / cycle &* cycle }
            guard let event = nextEvent, event <= now else { break }
            pass(event &- time)
            happen()
        }
        pass(now &- time)
    }

    private mutating func pass(_ ticks: UInt64) {
        if isCounting {
            let steps = UInt32(ticks % UInt64(modulus)) &* (mode == Mode.squareWave ? 2 : 1)
            element = (element &+ modulus &* 2 &- steps) % modulus
        }
        time &+= ticks
    }

    /// The event at the present tick.
    private mutating func happen() {
        if loadTime == time {
            loadTime = nil
            load()
            output = mode != Mode.terminalCount && mode != Mode.oneShot
            return
        }
        switch mode {
        case Mode.rateGenerator:
            if isInPulse { load() }
            output.toggle()
        case Mode.squareWave:
            load()
            output.toggle()
        case Mode.softwareStrobe, Mode.hardwareStrobe:
            output.toggle()
            armed = false
        default:
            output = true
            armed = false
        }
    }

    /// What the counting element gets when a count is loaded.
    private var initialElement: UInt32 { (mode == Mode.squareWave ? count & ~1 : count) % modulus }

    private mutating func load() {
        loaded = count
        element = initialElement
        running = true
        armed = true
        nullCount = false
    }

    // MARK: Inputs

    mutating func setGate(_ level: Bool, _ now: UInt64) {
        guard level != gate else { return }
        gate = level
        switch mode {
        case Mode.oneShot, Mode.hardwareStrobe:
            if level, hasCount { loadTime = now &+ 1 }
        case Mode.rateGenerator, Mode.squareWave:
            if !level {
                output = true
            } else if hasCount {
                loadTime = now &+ 1
            }
        default:
            break
        }
    }

    mutating func writeControl(_ value: UInt8, _ now: UInt64) {
        guard value >> 4 & 3 != Access.latch else { return latchCount() }
        control = value & 0x3F
        element %= modulus
        count = modulus
        loadTime = nil
        running = false
        hasCount = false
        halted = false
        armed = false
        nullCount = true
        writesHigh = false
        readsHigh = false
        countLatch = nil
        statusLatch = nil
        output = mode != Mode.terminalCount
    }

    mutating func writeCount(_ value: UInt8, _ now: UInt64) {
        switch accessMode {
        case Access.low: commit(UInt16(value), now)
        case Access.high: commit(UInt16(value) << 8, now)
        case Access.word where writesHigh:
            writesHigh = false
            commit(UInt16(value) << 8 | UInt16(lowByte), now)
        case Access.word:
            lowByte = value
            writesHigh = true
            if mode == Mode.terminalCount {
                halted = true
                output = false
                loadTime = nil
            }
        default: break
        }
    }

    private mutating func commit(_ written: UInt16, _ now: UInt64) {
        var number = UInt32(written)
        if isBCD {
            number = (0..<4).reduce(0) { $0 &* 10 &+ UInt32(written >> (12 &- UInt16($1) &* 4) & 15) } % modulus
        }
        count = number == 0 ? modulus : number
        nullCount = true
        let isFirst = !hasCount
        hasCount = true
        halted = false
        switch mode {
        case Mode.terminalCount:
            output = false
            loadTime = now &+ 1
        case Mode.softwareStrobe:
            loadTime = now &+ 1
        case Mode.rateGenerator, Mode.squareWave:
            if isFirst { loadTime = now &+ 1 }
        default:
            break
        }
    }

    // MARK: Reading

    private var visibleCount: UInt16 {
        // A bus cycle is longer than a clock period, so that a count just written is loaded before it can be read.
        // Here accesses take less time: what is due is read already.
        let element = loadTime == nil ? element : initialElement
        guard isBCD else { return UInt16(truncatingIfNeeded: element) }
        let digits = [element / 1000 % 10, element / 100 % 10, element / 10 % 10, element % 10]
        return digits.reduce(0) { $0 << 4 | UInt16(truncatingIfNeeded: $1) }
    }

    mutating func latchCount() {
        if countLatch == nil { countLatch = visibleCount }
    }

    mutating func latchStatus() {
        if statusLatch == nil { statusLatch = (output ? 0x80 : 0) | (nullCount ? 0x40 : 0) | control }
    }

    mutating func read() -> UInt8 {
        if let status = statusLatch {
            statusLatch = nil
            return status
        }
        let value = countLatch ?? visibleCount
        let high = accessMode == Access.high || (accessMode == Access.word && readsHigh)
        if accessMode == Access.word { readsHigh.toggle() }
        if !readsHigh { countLatch = nil }
        return UInt8(truncatingIfNeeded: high ? value >> 8 : value)
    }

    mutating func archive(_ archive: StateArchive) {
        archive.field("control", &control)
        archive.field("count", &count)
        archive.field("loaded", &loaded)
        archive.field("element", &element)
        archive.field("time", &time)
        archive.field("loadTime", &loadTime)
        archive.field("running", &running)
        archive.field("hasCount", &hasCount)
        archive.field("halted", &halted)
        archive.field("armed", &armed)
        archive.field("output", &output)
        archive.field("gate", &gate)
        archive.field("nullCount", &nullCount)
        archive.field("lowByte", &lowByte)
        archive.field("writesHigh", &writesHigh)
        archive.field("readsHigh", &readsHigh)
        archive.field("countLatch", &countLatch)
        archive.field("statusLatch", &statusLatch)
        if archive.isRestoring { sanitize() }
    }

    /// A damaged snapshot must not break the arithmetic above.
    private mutating func sanitize() {
        element %= modulus
        count = min(max(count, 1), modulus)
        loaded = min(max(loaded, 1), modulus)
        if let load = loadTime, load <= time { loadTime = time &+ 1 }
    }
}

extension PIT: NamedRegisters {
    package var deviceName: String { "PIT" }

    package func registerName(port: UInt16) -> String? {
        port == Self.controlPort ? "control" : "channel \(port &- Self.firstPort)"
    }
}
