/// A PS/2 mouse with three buttons and no wheel (IBM PS/2 Hardware Interface Technical Reference, auxiliary device).
struct PS2Mouse {
    private enum Command {
        static let scale1: UInt8 = 0xE6
        static let scale2: UInt8 = 0xE7
        static let resolution: UInt8 = 0xE8
        static let status: UInt8 = 0xE9
        static let stream: UInt8 = 0xEA
        static let readData: UInt8 = 0xEB
        static let resetWrap: UInt8 = 0xEC
        static let wrap: UInt8 = 0xEE
        static let remote: UInt8 = 0xF0
        static let identify: UInt8 = 0xF2
        static let sampleRate: UInt8 = 0xF3
        static let enable: UInt8 = 0xF4
        static let disable: UInt8 = 0xF5
        static let defaults: UInt8 = 0xF6
        static let resend: UInt8 = 0xFE
        static let reset: UInt8 = 0xFF
    }
    private enum Reply {
        static let acknowledge: UInt8 = 0xFA
        static let resend: UInt8 = 0xFE
        static let selfTestPassed: UInt8 = 0xAA
        static let identity: UInt8 = 0x00
    }
    private enum Packet {
        static let always: UInt8 = 0x08
        static let xNegative: UInt8 = 0x10
        static let yNegative: UInt8 = 0x20
        static let xOverflow: UInt8 = 0x40
        static let yOverflow: UInt8 = 0x80
    }
    private static let queueLimit = 32
    private static let packetSize = 3
    private static let sampleRates: [UInt8] = [10, 20, 40, 60, 80, 100, 200]

    /// Bytes to send, oldest first.
    private(set) var queue: [UInt8] = []
    private var isReporting = false
    private var isRemote = false
    private var isWrapping = false
    private var doublesScale = false
    private var resolution: UInt8 = 2
    private var sampleRate: UInt8 = 100
    private var expecting: UInt8 = 0
    private var lastSent: UInt8 = 0
    private var buttons: UInt8 = 0
    /// Movement not reported yet, in counts; y grows upwards.
    private var deltaX: Int32 = 0
    private var deltaY: Int32 = 0
    private var buttonsChanged = false

    mutating func takeByte() -> UInt8? {
        guard !queue.isEmpty else { return nil }
        lastSent = queue.removeFirst()
        if queue.isEmpty { report() }
        return lastSent
    }

    private mutating func reply(_ bytes: [UInt8]) {
        guard queue.count + bytes.count <= Self.queueLimit else { return }
        queue += bytes
    }

    private mutating func setDefaults() {
        let kept = (queue, lastSent, buttons)
        self = PS2Mouse()
        (queue, lastSent, buttons) = kept
    }

    /// Movement and buttons (bit 0 left, 1 right, 2 middle) from the host.
    mutating func move(_ x: Int32, _ y: Int32, buttons: UInt8) {
        deltaX = min(max(deltaX &+ x, -10_000), 10_000)
        deltaY = min(max(deltaY &+ y, -10_000), 10_000)
        buttonsChanged = buttonsChanged || buttons & 7 != self.buttons
        self.buttons = buttons & 7
        report()
    }

    /// Sends what has not been reported, in stream mode.
    private mutating func report() {
        guard isReporting, !isRemote, !isWrapping, deltaX != 0 || deltaY != 0 || buttonsChanged,
            queue.count + Self.packetSize <= Self.queueLimit / 2
        else { return }
        sendPacket(scaled: doublesScale)
    }

    private mutating func sendPacket(scaled: Bool) {
        let x = min(max(deltaX, -255), 255)
        let y = min(max(deltaY, -255), 255)
        deltaX -= x
        deltaY -= y
        buttonsChanged = false
        let (sentX, overflowX) = scaled ? Self.scale(x) : (x, false)
        let (sentY, overflowY) = scaled ? Self.scale(y) : (y, false)
        var status = Packet.always | buttons
        if sentX < 0 { status |= Packet.xNegative }
        if sentY < 0 { status |= Packet.yNegative }
        if overflowX { status |= Packet.xOverflow }
        if overflowY { status |= Packet.yOverflow }
        reply([status, UInt8(truncatingIfNeeded: sentX), UInt8(truncatingIfNeeded: sentY)])
    }

    /// Scaling 2:1.
    private static func scale(_ value: Int32) -> (Int32, overflow: Bool) {
        let small: [Int32] = [0, 1, 1, 3, 6, 9]
        let magnitude = abs(value) < 6 ? small[Int(abs(value))] : abs(value) * 2
        return (value < 0 ? -min(magnitude, 255) : min(magnitude, 255), magnitude > 255)
    }

    /// A byte from the host.
    mutating func receive(_ byte: UInt8) {
        if isWrapping, byte != Command.reset, byte != Command.resetWrap { return reply([byte]) }
        // A command stops the stream and drops what was to be sent.
        queue = []
        if expecting != 0 {
            receiveParameter(byte)
        } else {
            receiveCommand(byte)
        }
    }

    private mutating func receiveParameter(_ byte: UInt8) {
        let command = expecting
        expecting = 0
        if command == Command.resolution, byte <= 3 {
            resolution = byte
        } else if command == Command.sampleRate, Self.sampleRates.contains(byte) {
            sampleRate = byte
        } else {
            return reply([Reply.resend])
        }
        reply([Reply.acknowledge])
    }

    private mutating func receiveCommand(_ byte: UInt8) {
        if byte != Command.resend { reply([Reply.acknowledge]) }
        switch byte {
        case Command.scale1: doublesScale = false
        case Command.scale2: doublesScale = true
        case Command.resolution, Command.sampleRate: expecting = byte
        case Command.status:
            // The status shows the left button in bit 2 and the right one in bit 0.
            let pressed = buttons >> 1 & 1 | buttons >> 1 & 2 | buttons << 2 & 4
            let mode: UInt8 = (isRemote ? 0x40 : 0) | (isReporting ? 0x20 : 0) | (doublesScale ? 0x10 : 0)
            reply([mode | pressed, resolution, sampleRate])
        case Command.stream: isRemote = false
        case Command.readData: sendPacket(scaled: false)
        case Command.resetWrap: isWrapping = false
        case Command.wrap: isWrapping = true
        case Command.remote: isRemote = true
        case Command.identify: reply([Reply.identity])
        case Command.enable: isReporting = true
        case Command.disable: isReporting = false
        case Command.defaults: setDefaults()
        case Command.resend: reply([lastSent])
        case Command.reset:
            setDefaults()
            reply([Reply.selfTestPassed, Reply.identity])
        default:
            queue = [Reply.resend]
        }
    }

    mutating func archive(_ archive: StateArchive) {
        archive.variable("queue", &queue, limit: Self.queueLimit)
        archive.field("isReporting", &isReporting)
        archive.field("isRemote", &isRemote)
        archive.field("isWrapping", &isWrapping)
        archive.field("doublesScale", &doublesScale)
        archive.field("resolution", &resolution)
        archive.field("sampleRate", &sampleRate)
        archive.field("expecting", &expecting)
        archive.field("lastSent", &lastSent)
        archive.field("buttons", &buttons)
        archive.field("deltaX", &deltaX)
        archive.field("deltaY", &deltaY)
        archive.field("buttonsChanged", &buttonsChanged)
        if archive.isRestoring {
            deltaX = min(max(deltaX, -10_000), 10_000)
            deltaY = min(max(deltaY, -10_000), 10_000)
        }
    }
}
