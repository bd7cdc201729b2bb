/// The I/O APIC: 24 interrupt inputs, each with a redirection entry (Intel 82093AA datasheet).
///
/// Inputs carry assertion, not voltage; the polarity bit is kept and has no effect.
package final class IOAPIC: MMIODevice, Archivable {
    /// Where a PC has its first I/O APIC.
    package static let defaultBase: UInt64 = 0xFEC0_0000
    /// The bytes that the registers take.
    package static let registerSpace: UInt64 = 0x1000
    /// The number of inputs.
    package static let pinCount = 24
    private static let version: UInt32 = 0x11

    private enum Window {
        static let select: UInt64 = 0x00
        static let data: UInt64 = 0x10
    }
    private enum Register {
        static let id: UInt8 = 0x00
        static let version: UInt8 = 0x01
        static let arbitration: UInt8 = 0x02
        static let firstRedirection: UInt8 = 0x10
    }
    private enum Entry {
        static let logical: UInt64 = 1 << 11
        static let remoteIRR: UInt64 = 1 << 14
        static let levelTriggered: UInt64 = 1 << 15
        static let masked: UInt64 = 1 << 16
        static let lowWritable: UInt64 = 0x0001_AFFF
        static let highWritable: UInt64 = 0xFF00_0000
    }

    private var select: UInt8 = 0
    private var id: UInt32 = 0
    /// Levels of the inputs.
    private var lines: UInt32 = 0
    private var entries = [UInt64](repeating: Entry.masked, count: pinCount)
    private let deliver: (InterruptMessage) -> Bool

    /// - Parameter deliver: sends a message to the local APICs and says whether one accepted it.
    package init(deliver: @escaping (InterruptMessage) -> Bool) { self.deliver = deliver }

    /// Back to the state after power-on. The levels of the inputs belong to the devices and stay.
    package func reset() {
        select = 0
        id = 0
        entries = [UInt64](repeating: Entry.masked, count: Self.pinCount)
    }

    /// Sets the level of input `pin`, 0 to 23; true is asserted.
    package func setLine(pin: Int, level: Bool) {
        guard (0..<Self.pinCount).contains(pin) else { return }
        let bit: UInt32 = 1 << UInt32(pin)
        let rises = level && lines & bit == 0
        if level { lines |= bit } else { lines &= ~bit }
        // An edge at a masked input is lost (82093AA, section 3.2.4).
        if rises { request(pin) }
    }

    /// A line to input `pin`, 0 to 23.
    package func line(_ pin: Int) -> InterruptLine {
        InterruptLine { [unowned self] in setLine(pin: pin, level: $0) }
    }

    /// A processor has ended a level-triggered interrupt with this vector.
    package func endOfInterrupt(vector: UInt8) {
        for pin in 0..<Self.pinCount
        where entries[pin] & Entry.remoteIRR != 0 && UInt8(truncatingIfNeeded: entries[pin]) == vector {
            entries[pin] &= ~Entry.remoteIRR
            requestIfLevel(pin)
        }
    }

    /// Whether an input is programmed to become an NMI.
    package var routesNMI: Bool {
        entries.contains {
            $0 & Entry.masked == 0
                && UInt8(truncatingIfNeeded: $0 >> 8) & 7 == InterruptMessage.DeliveryMode.nmi.rawValue
        }
    }

    private func requestIfLevel(_ pin: Int) {
        if entries[pin] & Entry.levelTriggered != 0, lines >> UInt32(pin) & 1 != 0 { request(pin) }
    }

    private func request(_ pin: Int) {
        let entry = entries[pin]
        guard entry & (Entry.masked | Entry.remoteIRR) == 0 else { return }
        let isLevel = entry & Entry.levelTriggered != 0
        let message = InterruptMessage(
            destination: UInt8(truncatingIfNeeded: entry >> 56), isLogical: entry & Entry.logical != 0,
            mode: InterruptMessage.DeliveryMode(rawValue: UInt8(truncatingIfNeeded: entry >> 8) & 7)!,
            vector: UInt8(truncatingIfNeeded: entry), isLevelTriggered: isLevel)
        let hasVector = message.mode == .fixed || message.mode == .lowestPriority
        if deliver(message), isLevel, hasVector { entries[pin] |= Entry.remoteIRR }
    }

    package func readMMIO(_ offset: UInt64, size: Int) -> UInt64 {
        let value: UInt32
        switch offset & ~3 {
        case Window.select: value = UInt32(select)
        case Window.data: value = readRegister()
        default: value = 0
        }
        return UInt64(value) >> (offset & 3 &* 8)
    }

    package func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int) {
        switch offset {
        case Window.select: select = UInt8(truncatingIfNeeded: value)
        case Window.data where size >= 4: writeRegister(value & 0xFFFF_FFFF)
        default: break
        }
    }

    /// The redirection entry that `select` names, if it does.
    private var selectedPin: Int? {
        guard select >= Register.firstRedirection else { return nil }
        let pin = Int(select - Register.firstRedirection) / 2
        return pin < Self.pinCount ? pin : nil
    }

    private func readRegister() -> UInt32 {
        if let pin = selectedPin {
            return UInt32(truncatingIfNeeded: select & 1 == 0 ? entries[pin] : entries[pin] >> 32)
        }
        return switch select {
        case Register.id, Register.arbitration: id
        case Register.version: UInt32(Self.pinCount - 1) << 16 | Self.version
        default: 0
        }
    }

    private func writeRegister(_ value: UInt64) {
        if select == Register.id { id = UInt32(value & 0x0F00_0000) }
        guard let pin = selectedPin else { return }
        if select & 1 == 0 {
            // Making an entry edge-triggered forgets the acceptance that it waited to be ended.
            let kept = value & Entry.levelTriggered != 0 ? Entry.remoteIRR | ~0xFFFF_FFFF : ~0xFFFF_FFFF
            entries[pin] = entries[pin] & kept | value & Entry.lowWritable
        } else {
            entries[pin] = entries[pin] & 0xFFFF_FFFF | (value & Entry.highWritable) << 32
        }
        requestIfLevel(pin)
    }

    package func archive(_ archive: StateArchive) {
        archive.field("select", &select)
        archive.field("id", &id)
        archive.field("lines", &lines)
        archive.fixed("entries", &entries)
    }
}

extension IOAPIC: NamedRegisters {
    package var deviceName: String { "I/O APIC" }

    package func registerName(offset: UInt64) -> String? {
        switch registerStart(offset) {
        case Window.select: "select"
        case Window.data: "data"
        default: nil
        }
    }

    package func registerStart(_ offset: UInt64) -> UInt64 { offset & ~0xF }
}
