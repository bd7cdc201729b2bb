/// A PS/2 keyboard with 101 keys: its commands, its buffer of 16 codes and key repetition
/// (IBM PS/2 Hardware Interface Technical Reference, keyboard).
final class PS2Keyboard {
    private enum Command {
        static let setLEDs: UInt8 = 0xED
        static let echo: UInt8 = 0xEE
        static let scanCodeSet: UInt8 = 0xF0
        static let identify: UInt8 = 0xF2
        static let typematic: UInt8 = 0xF3
        static let enable: UInt8 = 0xF4
        static let disable: UInt8 = 0xF5
        static let defaults: UInt8 = 0xF6
        /// F7 to FA set the type of all keys, FB to FD of single ones, in set 3.
        static let allKeyTypes: ClosedRange<UInt8> = 0xF7...0xFA
        static let oneKeyType: ClosedRange<UInt8> = 0xFB...0xFD
        static let resend: UInt8 = 0xFE
        static let reset: UInt8 = 0xFF
        static let first: UInt8 = 0xED
    }
    private enum Reply {
        static let acknowledge: UInt8 = 0xFA
        static let resend: UInt8 = 0xFE
        static let selfTestPassed: UInt8 = 0xAA
        static let identity: [UInt8] = [0xAB, 0x83]
        /// The buffer overran, in sets 2 and 3, and in set 1.
        static let overrun: UInt8 = 0x00
        static let overrunSet1: UInt8 = 0xFF
    }
    private static let bufferSize = 16
    /// Room for replies behind a full buffer of keys.
    private static let queueLimit = 32
    /// 10.9 characters a second after 500 ms.
    private static let defaultTypematic: UInt8 = 0x2B

    /// Bytes to send, oldest first.
    private(set) var queue: [UInt8] = []
    /// The LEDs: bit 0 scroll lock, bit 1 num lock, bit 2 caps lock.
    private(set) var leds: UInt8 = 0
    private var scanCodeSet: UInt8 = 2
    private var isScanning = true
    private var typematic = PS2Keyboard.defaultTypematic
    /// The command whose parameter is expected, 0 if none.
    private var expecting: UInt8 = 0
    private var lastSent: UInt8 = 0
    /// The raw value of the key that repeats, 0 if none is held.
    private var held: UInt16 = 0

    private let clock: VirtualClock
    private var repeatTimer: EventQueue.Timer!
    private let onData: () -> Void

    init(clock: VirtualClock, queue: EventQueue, onData: @escaping () -> Void) {
        self.clock = clock
        self.onData = onData
        repeatTimer = queue.makeTimer("keyboard.repeat") { [unowned self] in repeatKey() }
    }

    func reset() {
        queue = []
        leds = 0
        scanCodeSet = 2
        expecting = 0
        setDefaults()
        isScanning = true
    }

    private func setDefaults() {
        typematic = Self.defaultTypematic
        held = 0
        repeatTimer.cancel()
    }

    /// The host takes the next byte.
    func takeByte() -> UInt8? {
        guard !queue.isEmpty else { return nil }
        lastSent = queue.removeFirst()
        return lastSent
    }

    private func reply(_ bytes: [UInt8]) {
        guard queue.count + bytes.count <= Self.queueLimit else { return }
        queue += bytes
    }

    /// A byte from the host.
    func receive(_ byte: UInt8) {
        if expecting != 0, byte < Command.first {
            receiveParameter(byte)
        } else {
            expecting = 0
            receiveCommand(byte)
        }
        onData()
    }

    private func receiveCommand(_ byte: UInt8) {
        switch byte {
        case Command.setLEDs, Command.scanCodeSet, Command.typematic, Command.oneKeyType:
            expecting = byte
            reply([Reply.acknowledge])
        case Command.echo: reply([Command.echo])
        case Command.identify: reply([Reply.acknowledge] + Reply.identity)
        case Command.enable:
            queue = []
            isScanning = true
            reply([Reply.acknowledge])
        case Command.disable, Command.defaults:
            queue = []
            setDefaults()
            isScanning = byte == Command.defaults
            reply([Reply.acknowledge])
        case Command.allKeyTypes: reply([Reply.acknowledge])
        case Command.resend: reply([lastSent])
        case Command.reset:
            reset()
            reply([Reply.acknowledge, Reply.selfTestPassed])
        default: reply([Reply.resend])
        }
    }

    private func receiveParameter(_ byte: UInt8) {
        let command = expecting
        if !Command.oneKeyType.contains(command) { expecting = 0 }
        switch command {
        case Command.setLEDs: leds = byte & 7
        case Command.typematic: typematic = byte & 0x7F
        case Command.scanCodeSet:
            guard byte <= 3 else { return reply([Reply.resend]) }
            guard byte != 0 else { return reply([Reply.acknowledge, scanCodeSet]) }
            scanCodeSet = byte
        default: break
        }
        reply([Reply.acknowledge])
    }

    /// A key goes down or up.
    func key(_ key: Key, down: Bool) {
        guard isScanning else { return }
        send(key, down: down)
        if down, key != .pause {
            held = key.rawValue
            // Bits 6 and 5: a quarter of a second each.
            repeatTimer.arm(at: clock.now &+ (UInt64(typematic >> 5) + 1) * 250_000_000)
        } else if held == key.rawValue {
            held = 0
            repeatTimer.cancel()
        }
        onData()
    }

    private func send(_ key: Key, down: Bool) {
        let bytes = ScanCodes.bytes(key, down: down, set: scanCodeSet)
        let overrun = scanCodeSet == 1 ? Reply.overrunSet1 : Reply.overrun
        if queue.count + bytes.count <= Self.bufferSize {
            queue += bytes
        } else if queue.count <= Self.bufferSize, queue.last != overrun {
            queue.append(overrun)
        }
    }

    private func repeatKey() {
        guard let key = Key(rawValue: held) else { return }
        send(key, down: true)
        // The period is (8 + A) * 2^B / 240 s, with A in bits 2 to 0 and B in bits 4 and 3.
        let units = (8 + UInt64(typematic & 7)) << UInt64(typematic >> 3 & 3)
        repeatTimer.arm(at: clock.now &+ units * 1_000_000_000 / 240)
        onData()
    }

    func archive(_ archive: StateArchive) {
        archive.variable("queue", &queue, limit: Self.queueLimit)
        archive.field("leds", &leds)
        archive.field("scanCodeSet", &scanCodeSet)
        archive.field("isScanning", &isScanning)
        archive.field("typematic", &typematic)
        archive.field("expecting", &expecting)
        archive.field("lastSent", &lastSent)
        archive.field("held", &held)
    }
}
