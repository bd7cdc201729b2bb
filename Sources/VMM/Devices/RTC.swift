/// The MC146818 real-time clock with 128 bytes of CMOS memory (Motorola MC146818A datasheet).
///
/// The divider chain runs at 32,768 Hz of virtual time; the clock follows when it is accessed, and keeps a timer only
/// while an interrupt is enabled.
package final class RTC: PortDevice, Archivable {
    /// 2025-01-01T00:00:00Z.
    package static let defaultStartDate: UInt64 = 1_735_689_600
    private static let indexPort: UInt16 = 0x70
    private static let dataPort: UInt16 = 0x71
    private static let ticksPerSecond: UInt64 = 32768
    /// UIP rises 244 µs before the update, which takes 1984 µs.
    private static let updateTicks: UInt64 = 73

    private enum Register {
        static let seconds = 0x00
        static let secondsAlarm = 0x01
        static let minutes = 0x02
        static let minutesAlarm = 0x03
        static let hours = 0x04
        static let hoursAlarm = 0x05
        static let weekday = 0x06
        static let day = 0x07
        static let month = 0x08
        static let year = 0x09
        static let a = 0x0A
        static let b = 0x0B
        static let c = 0x0C
        static let d = 0x0D
        static let century = 0x32
    }
    private enum A {
        static let updateInProgress: UInt8 = 0x80
        static let dividerReset: UInt8 = 0x60
        static let rate: UInt8 = 0x0F
        /// 32,768 Hz time base, periodic rate 1024 Hz.
        static let reset: UInt8 = 0x26
    }
    private enum B {
        static let set: UInt8 = 0x80
        static let periodic: UInt8 = 0x40
        static let alarm: UInt8 = 0x20
        static let updateEnded: UInt8 = 0x10
        static let squareWave: UInt8 = 0x08
        static let binary: UInt8 = 0x04
        static let hours24: UInt8 = 0x02
    }
    /// The flags of register C are at the places of their enable bits in register B.
    private static let interruptRequest: UInt8 = 0x80
    private static let validRAM: UInt8 = 0x80
    private static let afternoon: UInt8 = 0x80
    /// An alarm byte with these bits set matches anything.
    private static let alarmAny: UInt8 = 0xC0

    private var cmos = [UInt8](repeating: 0, count: 128)
    private var index: UInt8 = 0
    /// Bit 7 of the index port.
    package private(set) var masksNMI = false
    private var flags: UInt8 = 0
    /// Ticks of the divider chain until which registers and flags are up to date.
    private var settled: UInt64 = 0
    /// What to add to the ticks since power-on, since software can reset the divider.
    private var phase: UInt64 = 0

    private let clock: VirtualClock
    private let interrupt: InterruptLine
    private var timer: EventQueue.Timer!

    /// - Parameters:
    ///   - startDate: the date at power-on, in seconds since 1970-01-01T00:00:00Z.
    ///   - interrupt: input 8; called with the level after each access that may have changed it.
    package init(
        clock: VirtualClock, queue: EventQueue, startDate: UInt64 = defaultStartDate, interrupt: InterruptLine
    ) {
        self.clock = clock
        self.interrupt = interrupt
        timer = queue.makeTimer("rtc") { [unowned self] in
            settle()
            update()
        }
        cmos[Register.a] = A.reset
        cmos[Register.b] = B.hours24
        cmos[Register.d] = Self.validRAM
        setDate(startDate)
    }

    /// Claims ports 0x70 and 0x71.
    package func attach(to bus: PortBus) { bus.attach(self, Self.indexPort...Self.dataPort, width: 1) }

    /// What the RESET pin does: interrupts are disabled and their flags cleared. Time and memory are kept.
    package func reset() {
        settle()
        cmos[Register.b] &= ~(B.periodic | B.alarm | B.updateEnded | B.squareWave)
        flags = 0
        index = 0
        masksNMI = false
        update()
    }

    /// Stores `value` at CMOS address `address`, 0x0E to 0x7F, as firmware setup does.
    package func preset(_ address: Int, _ value: UInt8) {
        guard (Register.d + 1..<cmos.count).contains(address) else { return }
        cmos[address] = value
    }

    /// The byte at CMOS address `address`, 0 to 127, without side effects.
    package func byte(at address: Int) -> UInt8 { cmos[address & 0x7F] }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        guard port == Self.dataPort else { return 0xFF }
        settle()
        switch Int(index) {
        case Register.a:
            return UInt32(cmos[Register.a] | (isUpdateInProgress ? A.updateInProgress : 0))
        case Register.c:
            let value = flags | (isRequesting ? Self.interruptRequest : 0)
            flags = 0
            update()
            return UInt32(value)
        default:
            return UInt32(cmos[Int(index)])
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        guard port == Self.dataPort else {
            index = value & 0x7F
            masksNMI = value & 0x80 != 0
            return
        }
        settle()
        switch Int(index) {
        case Register.a: writeA(value & ~A.updateInProgress)
        case Register.b:
            cmos[Register.b] = value & B.set != 0 ? value & ~B.updateEnded : value
        case Register.c, Register.d: break
        default: cmos[Int(index)] = value
        }
        update()
    }

    private func writeA(_ value: UInt8) {
        let wasRunning = isRunning
        cmos[Register.a] = value
        // The first update comes half a second after the divider is released.
        guard !wasRunning, isRunning else { return }
        let ticks = ticksSincePowerOn
        phase = Self.ticksPerSecond - ticks % Self.ticksPerSecond + Self.ticksPerSecond / 2
        settled = ticks &+ phase
    }

    // MARK: The divider chain

    private var isRunning: Bool { cmos[Register.a] & A.dividerReset != A.dividerReset }

    private var ticksSincePowerOn: UInt64 {
        UInt64(1_000_000_000).dividingFullWidth(clock.now.multipliedFullWidth(by: Self.ticksPerSecond)).quotient
    }

    private var isUpdateInProgress: Bool {
        isRunning && cmos[Register.b] & B.set == 0
            && settled % Self.ticksPerSecond >= Self.ticksPerSecond - Self.updateTicks
    }

    /// The ticks between two periodic interrupts as a power of two; nil if there are none.
    private var periodShift: UInt64? {
        let rate = UInt64(cmos[Register.a] & A.rate)
        return rate == 0 ? nil : rate < 3 ? rate + 6 : rate - 1
    }

    /// Brings time and flags up to the present.
    private func settle() {
        guard isRunning else { return }
        let now = ticksSincePowerOn &+ phase
        guard now > settled else { return }
        if let shift = periodShift, now >> shift != settled >> shift { flags |= B.periodic }
        let seconds = now / Self.ticksPerSecond - settled / Self.ticksPerSecond
        settled = now
        guard cmos[Register.b] & B.set == 0 else { return }
        for _ in 0..<seconds {
            advanceOneSecond()
            flags |= B.updateEnded
            if alarmMatches { flags |= B.alarm }
        }
    }

    private var isRequesting: Bool {
        flags & cmos[Register.b] & (B.periodic | B.alarm | B.updateEnded) != 0
    }

    /// Moves the interrupt line, and arms the timer for the next tick that can raise it.
    private func update() {
        interrupt.set(isRequesting)
        var next: UInt64?
        if isRunning, cmos[Register.b] & B.periodic != 0, let shift = periodShift {
            next = ((settled >> shift) + 1) << shift
        }
        if isRunning, cmos[Register.b] & (B.alarm | B.updateEnded) != 0, cmos[Register.b] & B.set == 0 {
            let second = (settled / Self.ticksPerSecond + 1) * Self.ticksPerSecond
            next = min(next ?? second, second)
        }
        guard let next else { return timer.cancel() }
        let product = (next &- phase).multipliedFullWidth(by: 1_000_000_000)
        guard product.high < Self.ticksPerSecond else { return timer.cancel() }
        let (quotient, remainder) = Self.ticksPerSecond.dividingFullWidth(product)
        timer.arm(at: remainder == 0 ? quotient : quotient &+ 1)
    }

    // MARK: Calendar

    private func decode(_ value: UInt8) -> Int {
        cmos[Register.b] & B.binary != 0 ? Int(value) : Int(value >> 4) * 10 + Int(value & 15)
    }

    private func encode(_ value: Int) -> UInt8 {
        let value = UInt8(truncatingIfNeeded: value)
        return cmos[Register.b] & B.binary != 0 ? value : (value / 10) << 4 | value % 10
    }

    /// Counts `register` up from `first` to `last` and reports whether it went around.
    private func increment(_ register: Int, _ first: Int, _ last: Int) -> Bool {
        let value = decode(cmos[register])
        cmos[register] = encode(value >= last ? first : value + 1)
        return value >= last
    }

    private func advanceOneSecond() {
        guard increment(Register.seconds, 0, 59), increment(Register.minutes, 0, 59), incrementHours() else { return }
        _ = increment(Register.weekday, 1, 7)
        guard increment(Register.day, 1, daysInMonth), increment(Register.month, 1, 12),
            increment(Register.year, 0, 99)
        else { return }
        _ = increment(Register.century, 0, 99)
    }

    private func incrementHours() -> Bool {
        guard cmos[Register.b] & B.hours24 == 0 else { return increment(Register.hours, 0, 23) }
        let raw = cmos[Register.hours]
        var half = raw & Self.afternoon
        let hour = decode(raw & ~Self.afternoon) % 12
        if hour == 11 { half ^= Self.afternoon }
        // Twelve is the first hour of either half of the day.
        cmos[Register.hours] = encode(hour == 11 ? 12 : hour + 1) | half
        return hour == 11 && half == 0
    }

    private var daysInMonth: Int {
        switch decode(cmos[Register.month]) {
        case 4, 6, 9, 11: return 30
        case 2:
            let year = decode(cmos[Register.year])
            let century = decode(cmos[Register.century])
            return year % 4 == 0 && (year != 0 || century % 4 == 0) ? 29 : 28
        default: return 31
        }
    }

    private var alarmMatches: Bool {
        [Register.seconds, Register.minutes, Register.hours].allSatisfy {
            let alarm = cmos[$0 + 1]
            return alarm & Self.alarmAny == Self.alarmAny || alarm == cmos[$0]
        }
    }

    /// Sets the calendar to `seconds` since 1970, in the registers' present format. The days are counted from
    /// 0000-03-01, so that the leap day is the last of a year.
    private func setDate(_ seconds: UInt64) {
        let time = Int(seconds % 86400)
        let days = Int(seconds / 86400 % 3_000_000) + 719_468
        let era = days / 146_097
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)
        cmos[Register.seconds] = encode(time % 60)
        cmos[Register.minutes] = encode(time / 60 % 60)
        cmos[Register.hours] = encode(time / 3600)
        // 1970-01-01, day 719,468, was a Thursday, weekday 5.
        cmos[Register.weekday] = encode((days + 3) % 7 + 1)
        cmos[Register.day] = encode(dayOfYear - (153 * shifted + 2) / 5 + 1)
        cmos[Register.month] = encode(month)
        cmos[Register.year] = encode(year % 100)
        cmos[Register.century] = encode(year / 100 % 100)
    }

    package func archive(_ archive: StateArchive) {
        archive.fixed("cmos", &cmos)
        archive.field("index", &index)
        archive.field("masksNMI", &masksNMI)
        archive.field("flags", &flags)
        archive.field("settled", &settled)
        archive.field("phase", &phase)
        if archive.isRestoring { index &= 0x7F }
    }
}

extension RTC: NamedRegisters {
    package var deviceName: String { "RTC" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Self.indexPort: "index"
        case Self.dataPort: "data"
        default: nil
        }
    }
}
