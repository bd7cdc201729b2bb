/// The MC146818A real-time clock with 128 bytes of CMOS RAM (Motorola MC146818A datasheet; 82371SB, section 2.6).
///
/// Its date starts at a given second and advances with virtual time, so reading it never depends on the host.
package final class RTC: PortDevice, Archivable {
    /// 2025-01-01T00:00:00Z, the date at power-on unless another is given.
    package static let defaultStartDate: UInt64 = 1_735_689_600

    package enum Index {
        package static let seconds = 0x00, secondsAlarm = 0x01, minutes = 0x02, minutesAlarm = 0x03
        package static let hours = 0x04, hoursAlarm = 0x05, weekday = 0x06, day = 0x07, month = 0x08, year = 0x09
        package static let statusA = 0x0A, statusB = 0x0B, statusC = 0x0C, statusD = 0x0D
        package static let century = 0x32
    }
    private enum StatusA { static let updateInProgress: UInt8 = 0x80, rate: UInt8 = 0x0F, divider: UInt8 = 0x70 }
    private enum StatusB {
        static let hold: UInt8 = 0x80, periodic: UInt8 = 0x40, alarm: UInt8 = 0x20, update: UInt8 = 0x10
        static let binary: UInt8 = 0x04, hours24: UInt8 = 0x02
    }
    private enum StatusC {
        static let irq: UInt8 = 0x80, periodic: UInt8 = 0x40, alarm: UInt8 = 0x20, update: UInt8 = 0x10
    }
    /// StatusD: RAM and time are valid.
    private static let valid: UInt8 = 0x80
    private static let indexPort: UInt16 = 0x70
    private static let dataPort: UInt16 = 0x71
    private static let second: UInt64 = 1_000_000_000
    /// How long before an update UIP is set (datasheet table 6).
    private static let updateWarning: UInt64 = 244_000
    /// Divider bits of a running 32,768-Hz time base.
    private static let runningDivider: UInt8 = 0x20

    private var cmos = [UInt8](repeating: 0, count: 128)
    private var index: UInt8 = 0
    /// Bit 7 of port 0x70: NMI is masked.
    package private(set) var masksNMI = false
    /// Seconds since 1970 at virtual time `baseTime`; the clock counts on from there.
    private var baseSeconds: UInt64
    private var baseTime: UInt64 = 0
    /// When the current period of the periodic interrupt began.
    private var periodicStart: UInt64 = 0

    private let clock: VirtualClock
    private let interrupt: InterruptLine
    private var periodicTimer: EventQueue.Timer?
    private var updateTimer: EventQueue.Timer?

    /// - Parameters:
    ///   - startDate: seconds since 1970-01-01T00:00:00Z at power-on.
    ///   - interrupt: IRQ 8.
    package init(
        clock: VirtualClock, queue: EventQueue, startDate: UInt64 = RTC.defaultStartDate, interrupt: InterruptLine
    ) {
        self.clock = clock
        self.interrupt = interrupt
        baseSeconds = startDate
        cmos[Index.statusA] = RTC.runningDivider | 6
        cmos[Index.statusB] = StatusB.hours24
        cmos[Index.statusD] = RTC.valid
        periodicTimer = queue.makeTimer("rtc.periodic") { [unowned self] in periodicTick() }
        updateTimer = queue.makeTimer("rtc.update") { [unowned self] in updateTick() }
    }

    /// Claims ports 0x70 and 0x71.
    package func attach(to bus: PortBus) { bus.attach(self, RTC.indexPort...RTC.dataPort, width: 1) }

    /// RESET# clears the interrupt enables and flags; the time goes on.
    package func reset() {
        cmos[Index.statusB] &= StatusB.binary | StatusB.hours24
        cmos[Index.statusC] = 0
        index = 0
        masksNMI = false
        interrupt.set(false)
        rearm()
    }

    /// Presets bytes of the CMOS RAM, as firmware finds them at power-on. Clock registers are not affected.
    package func preset(_ bytes: [UInt8: UInt8]) {
        for (place, value) in bytes where place > Index.statusD && place < 128 { cmos[Int(place)] = value }
    }

    /// Presets what firmware reads about the size of RAM on an i440FX (SeaBIOS's and QEMU's layout).
    package func presetMemorySize(_ bytes: UInt64) {
        let extended = min((bytes - (1 << 20)) >> 10, 0xFFFF)
        let above16M = bytes > 16 << 20 ? min((bytes - (16 << 20)) >> 16, 0xFFFF) : 0
        preset([
            0x15: 0x80, 0x16: 0x02, // 640 KB of base memory
            0x17: UInt8(extended & 0xFF), 0x18: UInt8(extended >> 8),
            0x30: UInt8(extended & 0xFF), 0x31: UInt8(extended >> 8),
            0x34: UInt8(above16M & 0xFF), 0x35: UInt8(above16M >> 8),
        ])
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        guard port == RTC.dataPort else { return 0xFF }
        return UInt32(read(Int(index)))
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        if port == RTC.indexPort {
            index = UInt8(value & 0x7F)
            masksNMI = value & 0x80 != 0
        } else {
            write(Int(index), UInt8(value & 0xFF))
        }
    }

    private func read(_ place: Int) -> UInt8 {
        switch place {
        case Index.seconds, Index.minutes, Index.hours, Index.weekday...Index.year, Index.century:
            return timeRegister(place)
        case Index.statusA:
            return cmos[place] & ~StatusA.updateInProgress | (isUpdating ? StatusA.updateInProgress : 0)
        case Index.statusC:
            let flags = cmos[place]
            cmos[place] = 0
            interrupt.set(false)
            rearm()
            return flags
        default:
            return cmos[place]
        }
    }

    private func write(_ place: Int, _ value: UInt8) {
        switch place {
        case Index.seconds, Index.minutes, Index.hours, Index.weekday...Index.year, Index.century:
            setTime(place, value)
        case Index.statusA:
            cmos[place] = value & ~StatusA.updateInProgress
            periodicStart = clock.now
            rearm()
        case Index.statusB:
            if (value ^ cmos[place]) & StatusB.hold != 0 { holdChanged() }
            cmos[place] = value & StatusB.hold != 0 ? value & ~StatusB.update : value
            updateInterrupt()
            rearm()
        case Index.statusC, Index.statusD: break
        default: cmos[place] = value
        }
    }

    // MARK: Time

    private var isHeld: Bool { cmos[Index.statusB] & StatusB.hold != 0 }

    private var isUpdating: Bool {
        guard !isHeld else { return false }
        let phase = (clock.now &- baseTime) % RTC.second
        return phase >= RTC.second - RTC.updateWarning
    }

    /// Seconds since 1970 now.
    private var seconds: UInt64 {
        isHeld ? baseSeconds : baseSeconds &+ (clock.now &- baseTime) / RTC.second
    }

    /// SET stops the clock; clearing it starts a new second.
    private func holdChanged() {
        baseSeconds = seconds
        baseTime = clock.now
    }

    private func encode(_ value: Int) -> UInt8 {
        cmos[Index.statusB] & StatusB.binary != 0 ? UInt8(value) : UInt8(value / 10 << 4 | value % 10)
    }

    private func decode(_ value: UInt8) -> Int {
        cmos[Index.statusB] & StatusB.binary != 0 ? Int(value) : Int(value >> 4) * 10 + Int(value & 15)
    }

    private func encodeHour(_ hour: Int) -> UInt8 {
        guard cmos[Index.statusB] & StatusB.hours24 == 0 else { return encode(hour) }
        let twelve = encode(hour % 12 == 0 ? 12 : hour % 12)
        return hour >= 12 ? twelve | 0x80 : twelve
    }

    private func decodeHour(_ value: UInt8) -> Int {
        guard cmos[Index.statusB] & StatusB.hours24 == 0 else { return decode(value) }
        let twelve = decode(value & 0x7F) % 12
        return value & 0x80 != 0 ? twelve + 12 : twelve
    }

    private func timeRegister(_ place: Int) -> UInt8 {
        let date = CalendarDate(secondsSince1970: seconds)
        switch place {
        case Index.seconds: return encode(date.second)
        case Index.minutes: return encode(date.minute)
        case Index.hours: return encodeHour(date.hour)
        case Index.weekday: return encode(date.weekday)
        case Index.day: return encode(date.day)
        case Index.month: return encode(date.month)
        case Index.year: return encode(date.year % 100)
        default: return encode(date.year / 100 % 100)
        }
    }

    private func setTime(_ place: Int, _ value: UInt8) {
        var date = CalendarDate(secondsSince1970: seconds)
        let number = decode(value)
        switch place {
        case Index.seconds: date.second = number
        case Index.minutes: date.minute = number
        case Index.hours: date.hour = decodeHour(value)
        case Index.day: date.day = number
        case Index.month: date.month = number
        case Index.year: date.year = date.year / 100 * 100 + number % 100
        case Index.century: date.year = number % 100 * 100 + date.year % 100
        default: break
        }
        let phase = isHeld ? 0 : (clock.now &- baseTime) % RTC.second
        baseSeconds = date.secondsSince1970
        baseTime = clock.now &- phase
        rearm()
    }

    // MARK: Interrupts

    /// Nanoseconds of the periodic interrupt, nil if the rate selects none (datasheet table 5).
    private var period: UInt64? {
        let rate = cmos[Index.statusA] & StatusA.rate
        guard rate != 0, cmos[Index.statusA] & StatusA.divider == RTC.runningDivider else { return nil }
        let cycles = UInt64(1) << UInt64(rate < 3 ? rate + 6 : rate - 1)
        return cycles * RTC.second / 32768
    }

    private func rearm() {
        if let period, cmos[Index.statusB] & StatusB.periodic != 0, cmos[Index.statusC] & StatusC.periodic == 0 {
            let elapsed = (clock.now &- periodicStart) / period
            periodicTimer?.arm(at: periodicStart &+ (elapsed + 1) * period)
        } else {
            periodicTimer?.cancel()
        }
        let wantsUpdates = cmos[Index.statusB] & (StatusB.update | StatusB.alarm) != 0
        if wantsUpdates && !isHeld {
            let elapsed = (clock.now &- baseTime) / RTC.second
            updateTimer?.arm(at: baseTime &+ (elapsed + 1) * RTC.second)
        } else {
            updateTimer?.cancel()
        }
    }

    private func periodicTick() {
        cmos[Index.statusC] |= StatusC.periodic
        updateInterrupt()
        rearm()
    }

    private func updateTick() {
        cmos[Index.statusC] |= StatusC.update
        if alarmMatches { cmos[Index.statusC] |= StatusC.alarm }
        updateInterrupt()
        rearm()
    }

    /// An alarm byte from 0xC0 up matches anything.
    private var alarmMatches: Bool {
        func matches(_ alarm: Int, _ place: Int) -> Bool {
            cmos[alarm] >= 0xC0 || cmos[alarm] == timeRegister(place)
        }
        return matches(Index.secondsAlarm, Index.seconds) && matches(Index.minutesAlarm, Index.minutes)
            && matches(Index.hoursAlarm, Index.hours)
    }

    /// IRQF follows the enabled flags, and drives the line.
    private func updateInterrupt() {
        let sources = StatusC.periodic | StatusC.alarm | StatusC.update
        let active = cmos[Index.statusB] & cmos[Index.statusC] & sources != 0
        cmos[Index.statusC] = cmos[Index.statusC] & sources | (active ? StatusC.irq : 0)
        interrupt.set(active)
    }

    // MARK: State

    package func archive(_ archive: StateArchive) {
        archive.fixed("cmos", &cmos)
        archive.field("index", &index)
        archive.field("masksNMI", &masksNMI)
        archive.field("baseSeconds", &baseSeconds)
        archive.field("baseTime", &baseTime)
        archive.field("periodicStart", &periodicStart)
    }
}

/// A date of the proleptic Gregorian calendar, in UTC. Fields out of range carry over.
struct CalendarDate {
    var year: Int
    var month: Int
    var day: Int
    var hour: Int
    var minute: Int
    var second: Int

    /// Days of the era computation count from 0000-03-01, so that leap days end a year.
    init(secondsSince1970 seconds: UInt64) {
        let time = Int(seconds % 86400)
        (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60)
        let days = Int(seconds / 86400) + 719_468
        let era = days / 146_097
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    var secondsSince1970: UInt64 {
        let fromMarch = month > 2 ? year : year - 1
        let era = fromMarch / 400
        let yearOfEra = fromMarch % 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let days = era * 146_097 + dayOfEra - 719_468
        let total = days * 86400 + hour * 3600 + minute * 60 + second
        return UInt64(max(total, 0))
    }

    /// 1 for Sunday to 7 for Saturday.
    var weekday: Int { Int((secondsSince1970 / 86400 + 4) % 7) + 1 }
}
