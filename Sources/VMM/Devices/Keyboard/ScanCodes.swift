/// A key, named by its place on a US keyboard. The raw value is its scan code in set 2; 0xE000 is added for keys
/// whose code has the prefix 0xE0.
// swift-format-ignore: OneCasePerLine
package enum Key: UInt16, CaseIterable {
    case a = 0x1C, b = 0x32, c = 0x21, d = 0x23, e = 0x24, f = 0x2B, g = 0x34, h = 0x33, i = 0x43
    case j = 0x3B, k = 0x42, l = 0x4B, m = 0x3A, n = 0x31, o = 0x44, p = 0x4D, q = 0x15, r = 0x2D
    case s = 0x1B, t = 0x2C, u = 0x3C, v = 0x2A, w = 0x1D, x = 0x22, y = 0x35, z = 0x1A
    case digit0 = 0x45, digit1 = 0x16, digit2 = 0x1E, digit3 = 0x26, digit4 = 0x25
    case digit5 = 0x2E, digit6 = 0x36, digit7 = 0x3D, digit8 = 0x3E, digit9 = 0x46
    case grave = 0x0E, minus = 0x4E, equals = 0x55, backslash = 0x5D, backspace = 0x66, space = 0x29, tab = 0x0D
    case capsLock = 0x58, leftShift = 0x12, leftControl = 0x14, leftAlt = 0x11, rightShift = 0x59, enter = 0x5A
    case escape = 0x76, leftBracket = 0x54, rightBracket = 0x5B, semicolon = 0x4C, apostrophe = 0x52
    case comma = 0x41, period = 0x49, slash = 0x4A, nonUSBackslash = 0x61
    case f1 = 0x05, f2 = 0x06, f3 = 0x04, f4 = 0x0C, f5 = 0x03, f6 = 0x0B
    case f7 = 0x83, f8 = 0x0A, f9 = 0x01, f10 = 0x09, f11 = 0x78, f12 = 0x07
    case scrollLock = 0x7E, numLock = 0x77
    case keypadAsterisk = 0x7C, keypadMinus = 0x7B, keypadPlus = 0x79, keypadPeriod = 0x71
    case keypad0 = 0x70, keypad1 = 0x69, keypad2 = 0x72, keypad3 = 0x7A, keypad4 = 0x6B
    case keypad5 = 0x73, keypad6 = 0x74, keypad7 = 0x6C, keypad8 = 0x75, keypad9 = 0x7D
    case leftGUI = 0xE01F, rightControl = 0xE014, rightGUI = 0xE027, rightAlt = 0xE011, menu = 0xE02F
    case insert = 0xE070, home = 0xE06C, pageUp = 0xE07D, delete = 0xE071, end = 0xE069, pageDown = 0xE07A
    case up = 0xE075, left = 0xE06B, down = 0xE072, right = 0xE074
    case keypadSlash = 0xE04A, keypadEnter = 0xE05A
    case printScreen = 0xE07C
    /// Sends its make and break code together, when pressed.
    case pause = 0xE11D

    /// The key that types `character` on a US keyboard, and whether shift is held; nil if there is none.
    package static func typing(_ character: UInt8) -> (key: Key, shift: Bool)? {
        if let key = unshifted[character] { return (key, false) }
        guard let key = shifted[character] else { return nil }
        return (key, true)
    }

    private static let unshifted: [UInt8: Key] = table(
        "abcdefghijklmnopqrstuvwxyz0123456789`-=\\ []\u{3B}',./\n\t\u{08}\u{1B}",
        letters + digits
            + [.grave, .minus, .equals, .backslash, .space, .leftBracket, .rightBracket, .semicolon, .apostrophe]
            + [.comma, .period, .slash, .enter, .tab, .backspace, .escape])
    private static let shifted: [UInt8: Key] = table(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ)!@#$%^&*(~_+|{}:\"<>?",
        letters + digits
            + [.grave, .minus, .equals, .backslash, .leftBracket, .rightBracket, .semicolon, .apostrophe]
            + [.comma, .period, .slash])
    private static let letters: [Key] = [
        .a, .b, .c, .d, .e, .f, .g, .h, .i, .j, .k, .l, .m, .n, .o, .p, .q, .r, .s, .t, .u, .v, .w, .x, .y, .z,
    ]
    private static let digits: [Key] = [
        .digit0, .digit1, .digit2, .digit3, .digit4, .digit5, .digit6, .digit7, .digit8, .digit9,
    ]

    private static func table(_ characters: String, _ keys: [Key]) -> [UInt8: Key] {
        Dictionary(uniqueKeysWithValues: zip(characters.utf8, keys))
    }
}

/// The three scan code sets of PS/2 keyboards, and the 8042's translation of set 2 into set 1.
enum ScanCodes {
    private static let breakPrefix: UInt8 = 0xF0
    private static let extended: UInt8 = 0xE0

    /// What the keyboard sends when `key` goes down or up.
    static func bytes(_ key: Key, down: Bool, set: UInt8) -> [UInt8] {
        let code = UInt8(truncatingIfNeeded: key.rawValue)
        switch set {
        case 1: return set1(key, code, down)
        case 3: return set3(key, code, down)
        default: return set2(key, code, down)
        }
    }

    private static func set2(_ key: Key, _ code: UInt8, _ down: Bool) -> [UInt8] {
        switch key {
        case .pause: return down ? [0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77] : []
        case .printScreen: return down ? [0xE0, 0x12, 0xE0, 0x7C] : [0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12]
        default:
            let prefix = key.rawValue > 0xFF ? [extended] : []
            return prefix + (down ? [code] : [breakPrefix, code])
        }
    }

    private static func set1(_ key: Key, _ code: UInt8, _ down: Bool) -> [UInt8] {
        switch key {
        case .pause: return down ? [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5] : []
        case .printScreen: return down ? [0xE0, 0x2A, 0xE0, 0x37] : [0xE0, 0xB7, 0xE0, 0xAA]
        default:
            let prefix = key.rawValue > 0xFF ? [extended] : []
            return prefix + [translation[Int(code)] | (down ? 0 : 0x80)]
        }
    }

    /// Set 3 has one code a key. By default only the modifiers send break codes, which all keys do here, as after
    /// the command that makes all keys typematic and make/break.
    private static func set3(_ key: Key, _ code: UInt8, _ down: Bool) -> [UInt8] {
        let code = set3Codes[key] ?? code
        return down ? [code] : [breakPrefix, code]
    }

    /// Keys whose code in set 3 is not that of set 2.
    private static let set3Codes: [Key: UInt8] = [
        .f1: 0x07, .f2: 0x0F, .f3: 0x17, .f4: 0x1F, .f5: 0x27, .f6: 0x2F, .f7: 0x37, .f8: 0x3F, .f9: 0x47,
        .f10: 0x4F, .f11: 0x56, .f12: 0x5E, .escape: 0x08, .leftControl: 0x11, .leftAlt: 0x19, .capsLock: 0x14,
        .rightControl: 0x58, .rightAlt: 0x39, .leftGUI: 0x8B, .rightGUI: 0x8C, .menu: 0x8D, .backslash: 0x5C,
        .insert: 0x67, .home: 0x6E, .pageUp: 0x6F, .delete: 0x64, .end: 0x65, .pageDown: 0x6D, .up: 0x63,
        .left: 0x61, .down: 0x60, .right: 0x6A, .numLock: 0x76, .keypadSlash: 0x77, .keypadAsterisk: 0x7E,
        .keypadMinus: 0x84, .keypadPlus: 0x7C, .keypadEnter: 0x79, .printScreen: 0x57, .scrollLock: 0x5F,
        .pause: 0x62, .nonUSBackslash: 0x13,
    ]

    /// The 8042's table: the set 1 code for each set 2 code. Codes from 0x80 on pass unchanged but for two.
    static let translation: [UInt8] = lowTranslation + (0x80...0xFF).map { $0 == 0x83 ? 0x41 : $0 == 0x84 ? 0x54 : $0 }

    private static let lowTranslation: [UInt8] = [
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
