/// A PS/2 keyboard: its command set, and scan code sets 2 and 1.
package final class PS2Keyboard: Archivable {
    /// A byte on its way to the controller. Only scan codes are translated, not replies.
    struct Byte {
        var value: UInt8
        var isScanCode: Bool
    }

    private enum Command {
        static let setLEDs: UInt8 = 0xED, echo: UInt8 = 0xEE, scanCodeSet: UInt8 = 0xF0, identify: UInt8 = 0xF2
        static let typematic: UInt8 = 0xF3, enable: UInt8 = 0xF4, disable: UInt8 = 0xF5, defaults: UInt8 = 0xF6
        static let resend: UInt8 = 0xFE, reset: UInt8 = 0xFF
    }
    private enum Reply { static let acknowledge: UInt8 = 0xFA, resend: UInt8 = 0xFE, passed: UInt8 = 0xAA }
    private static let identity: [UInt8] = [0xAB, 0x83]
    /// Bytes that the keyboard holds; one that is full drops keys.
    private static let capacity = 256

    private var queue: [UInt8] = []
    /// For each byte in `queue`, 1 if it is a scan code.
    private var kinds: [UInt8] = []
    private var pendingCommand: UInt8 = 0
    private var isEnabled = true
    private var scanCodeSet: UInt8 = 2
    private var leds: UInt8 = 0
    private var typematic: UInt8 = 0x2B
    private var lastSent: UInt8 = 0

    func reset() {
        queue = []
        kinds = []
        pendingCommand = 0
        setDefaults()
    }

    private func setDefaults() {
        isEnabled = true
        scanCodeSet = 2
        leds = 0
        typematic = 0x2B
    }

    /// Takes a command or its argument from the controller.
    func receive(_ byte: UInt8) {
        let command = pendingCommand
        pendingCommand = 0
        switch command {
        case Command.setLEDs where byte < 0x80:
            leds = byte & 7
            reply(Reply.acknowledge)
        case Command.typematic where byte < 0x80:
            typematic = byte
            reply(Reply.acknowledge)
        case Command.scanCodeSet where byte < 4:
            reply(Reply.acknowledge)
            if byte == 0 { reply(scanCodeSet) } else { scanCodeSet = byte }
        default: self.command(byte)
        }
    }

    private func command(_ byte: UInt8) {
        switch byte {
        case Command.setLEDs, Command.typematic, Command.scanCodeSet:
            pendingCommand = byte
            reply(Reply.acknowledge)
        case Command.echo: reply(Command.echo)
        case Command.identify:
            reply(Reply.acknowledge)
            PS2Keyboard.identity.forEach(reply)
        case Command.enable:
            isEnabled = true
            reply(Reply.acknowledge)
        case Command.disable, Command.defaults:
            setDefaults()
            isEnabled = byte == Command.defaults
            reply(Reply.acknowledge)
        case Command.resend: reply(lastSent)
        case Command.reset:
            queue = []
            kinds = []
            setDefaults()
            reply(Reply.acknowledge)
            reply(Reply.passed)
        case 0xF7...0xFD: reply(Reply.acknowledge)
        default: reply(Reply.resend)
        }
    }

    /// The next byte for the controller.
    func transmit() -> Byte? {
        guard !queue.isEmpty else { return nil }
        let byte = Byte(value: queue.removeFirst(), isScanCode: kinds.removeFirst() != 0)
        lastSent = byte.value
        return byte
    }

    private func reply(_ byte: UInt8) { enqueue([byte], isScanCode: false) }

    private func enqueue(_ bytes: [UInt8], isScanCode: Bool) {
        guard queue.count + bytes.count <= PS2Keyboard.capacity else { return }
        queue += bytes
        kinds += bytes.map { _ in isScanCode ? 1 : 0 }
    }

    /// Presses and releases the keys for ASCII text.
    func type(_ text: String) {
        guard isEnabled else { return }
        for character in text {
            guard let key = ScanCode.key(for: character) else { continue }
            if key.shift { press(ScanCode.leftShift) }
            press(key.code)
            release(key.code)
            if key.shift { release(ScanCode.leftShift) }
        }
    }

    private func press(_ code: UInt8) {
        enqueue([scanCodeSet == 1 ? ScanCode.translate(code) : code], isScanCode: true)
    }

    private func release(_ code: UInt8) {
        enqueue(
            scanCodeSet == 1 ? [ScanCode.translate(code) | 0x80] : [ScanCode.breakPrefix, code], isScanCode: true)
    }

    package func archive(_ archive: StateArchive) {
        archive.variable("queue", &queue, limit: PS2Keyboard.capacity)
        archive.variable("kinds", &kinds, limit: PS2Keyboard.capacity)
        if archive.isRestoring, kinds.count != queue.count {
            archive.fail(.mismatch(field: "keyboard.kinds", expected: "\(queue.count)", found: "\(kinds.count)"))
            kinds = [UInt8](repeating: 0, count: queue.count)
        }
        archive.field("pendingCommand", &pendingCommand)
        archive.field("isEnabled", &isEnabled)
        archive.field("scanCodeSet", &scanCodeSet)
        archive.field("leds", &leds)
        archive.field("typematic", &typematic)
        archive.field("lastSent", &lastSent)
    }
}

/// Scan codes of set 2, and their translation to set 1 by the controller (PS/2 Technical Reference, scan code tables).
enum ScanCode {
    static let breakPrefix: UInt8 = 0xF0
    static let leftShift: UInt8 = 0x12

    private static let unshifted: [Character: UInt8] = [
        "`": 0x0E, "1": 0x16, "2": 0x1E, "3": 0x26, "4": 0x25, "5": 0x2E, "6": 0x36, "7": 0x3D, "8": 0x3E, "9": 0x46,
        "0": 0x45, "-": 0x4E, "=": 0x55, "\u{8}": 0x66, "\t": 0x0D, "q": 0x15, "w": 0x1D, "e": 0x24, "r": 0x2D,
        "t": 0x2C, "y": 0x35, "u": 0x3C, "i": 0x43, "o": 0x44, "p": 0x4D, "[": 0x54, "]": 0x5B, "\\": 0x5D,
        "a": 0x1C, "s": 0x1B, "d": 0x23, "f": 0x2B, "g": 0x34, "h": 0x33, "j": 0x3B, "k": 0x42, "l": 0x4B,
        ";": 0x4C, "'": 0x52, "\n": 0x5A, "\r": 0x5A, "z": 0x1A, "x": 0x22, "c": 0x21, "v": 0x2A, "b": 0x32,
        "n": 0x31, "m": 0x3A, ",": 0x41, ".": 0x49, "/": 0x4A, " ": 0x29, "\u{1B}": 0x76,
    ]
    private static let shifted: [Character: Character] = [
        "~": "`", "!": "1", "@": "2", "#": "3", "$": "4", "%": "5", "^": "6", "&": "7", "*": "8", "(": "9", ")": "0",
        "_": "-", "+": "=", "{": "[", "}": "]", "|": "\\", ":": ";", "\"": "'", "<": ",", ">": ".", "?": "/",
    ]

    /// The key of a character on a US layout.
    static func key(for character: Character) -> (code: UInt8, shift: Bool)? {
        if let code = unshifted[character] { return (code, false) }
        if let base = shifted[character], let code = unshifted[base] { return (code, true) }
        if character.isUppercase, let lower = character.lowercased().first, let code = unshifted[lower] {
            return (code, true)
        }
        return nil
    }

    /// Set 2 to set 1; codes without a translation pass unchanged.
    static func translate(_ code: UInt8) -> UInt8 { code < table.count ? table[Int(code)] : code == 0x83 ? 0x41 : code }

    private static let table: [UInt8] = [
        0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,
        0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,
        0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,
        0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,
        0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,
        0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,
        0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,
        0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
    ]
}
