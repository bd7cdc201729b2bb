/// Bits and codes of the ATA and ATAPI command block (ATA/ATAPI-6, INCITS 361-2002).
enum ATAStatus {
    static let error: UInt8 = 1 << 0
    static let dataRequest: UInt8 = 1 << 3
    static let seekComplete: UInt8 = 1 << 4
    static let ready: UInt8 = 1 << 6
    static let busy: UInt8 = 1 << 7
    static let idle = ready | seekComplete
}

enum ATAError {
    static let aborted: UInt8 = 1 << 2
    static let idNotFound: UInt8 = 1 << 4
    /// What diagnostics leave in the error register when they pass.
    static let diagnosticsPassed: UInt8 = 0x01
}

enum ATADevice {
    static let headMask: UInt8 = 0x0F
    static let secondDrive: UInt8 = 1 << 4
    static let lba: UInt8 = 1 << 6
    /// Bits 7 and 5 read as ones.
    static let alwaysSet: UInt8 = 0xA0
}

enum ATAControl {
    static let interruptsOff: UInt8 = 1 << 1
    static let softwareReset: UInt8 = 1 << 2
    static let highOrderByte: UInt8 = 1 << 7
}

/// The interrupt reason that ATAPI puts into the sector count register.
enum ATAPIReason {
    static let isCommand: UInt8 = 1 << 0
    static let toHost: UInt8 = 1 << 1
}

enum ATACommand {
    static let nop: UInt8 = 0x00
    static let deviceReset: UInt8 = 0x08
    static let recalibrate: ClosedRange<UInt8> = 0x10...0x1F
    static let readSectors: ClosedRange<UInt8> = 0x20...0x21
    static let readSectorsExt: UInt8 = 0x24
    static let readDMAExt: UInt8 = 0x25
    static let readNativeMaxExt: UInt8 = 0x27
    static let readMultipleExt: UInt8 = 0x29
    static let writeSectors: ClosedRange<UInt8> = 0x30...0x31
    static let writeSectorsExt: UInt8 = 0x34
    static let writeDMAExt: UInt8 = 0x35
    static let writeMultipleExt: UInt8 = 0x39
    static let verify: ClosedRange<UInt8> = 0x40...0x41
    static let verifyExt: UInt8 = 0x42
    static let seek: ClosedRange<UInt8> = 0x70...0x7F
    static let executeDiagnostic: UInt8 = 0x90
    static let initializeParameters: UInt8 = 0x91
    /// Power commands of ATA-1 to ATA-3, the same as 0xE0 and up.
    static let oldPower: ClosedRange<UInt8> = 0x94...0x99
    static let packet: UInt8 = 0xA0
    static let identifyPacket: UInt8 = 0xA1
    static let readMultiple: UInt8 = 0xC4
    static let writeMultiple: UInt8 = 0xC5
    static let setMultiple: UInt8 = 0xC6
    static let readDMA: ClosedRange<UInt8> = 0xC8...0xC9
    static let writeDMA: ClosedRange<UInt8> = 0xCA...0xCB
    static let standbyImmediate: UInt8 = 0xE0
    static let idleImmediate: UInt8 = 0xE1
    static let standby: UInt8 = 0xE2
    static let idle: UInt8 = 0xE3
    static let checkPowerMode: UInt8 = 0xE5
    static let sleep: UInt8 = 0xE6
    static let flushCache: UInt8 = 0xE7
    static let flushCacheExt: UInt8 = 0xEA
    static let identify: UInt8 = 0xEC
    static let setFeatures: UInt8 = 0xEF
    static let readNativeMax: UInt8 = 0xF8
}

/// Builds the 256 words that IDENTIFY DEVICE and IDENTIFY PACKET DEVICE return.
struct ATAIdentity {
    private(set) var words = [UInt16](repeating: 0, count: 256)

    subscript(_ index: Int) -> UInt16 {
        get { words[index] }
        set { words[index] = newValue }
    }

    /// Text in ATA's order: the first character of each pair is the high byte; padded with blanks.
    mutating func setText(_ text: String, at first: Int, words count: Int) {
        var characters = Array(text.utf8.prefix(count * 2))
        characters += [UInt8](repeating: 0x20, count: count * 2 - characters.count)
        for index in 0..<count {
            words[first + index] = UInt16(characters[index * 2]) << 8 | UInt16(characters[index * 2 + 1])
        }
    }

    mutating func setNumber(_ value: UInt64, at first: Int, words count: Int) {
        for index in 0..<count { words[first + index] = UInt16(truncatingIfNeeded: value >> (index * 16)) }
    }

    /// What every drive here has: names, PIO 4, multiword DMA 2, Ultra DMA 5 and the mode now selected.
    mutating func setCommon(model: String, serial: String, transferMode: UInt8) {
        setText(serial, at: 10, words: 10)
        setText("1.0", at: 23, words: 4)
        setText(model, at: 27, words: 20)
        words[48] = 1
        let (lba, dma, ioReady): (UInt16, UInt16, UInt16) = (1 << 9, 1 << 8, 1 << 11)
        words[49] = lba | dma | ioReady
        words[53] = 0b111
        words[63] = 0x07 | Self.selected(transferMode, class: 0x20)
        words[64] = 0b11
        for index in 65...68 { words[index] = 120 }
        words[80] = 0x00F0
        words[88] = 0x3F | Self.selected(transferMode, class: 0x40)
        // An 80-conductor cable; this drive passed its diagnostics.
        words[93] = 1 << 14 | 1 << 13 | 1
    }

    /// The mode number's bit in the high byte, if the mode is of this class.
    private static func selected(_ mode: UInt8, class modeClass: UInt8) -> UInt16 {
        mode & 0xF8 == modeClass ? 1 << (8 + UInt16(mode & 7)) : 0
    }

    var bytes: [UInt8] { words.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] } }

    /// Whether SET FEATURES may select a transfer mode: PIO default, PIO 0 to 4, multiword DMA 0 to 2,
    /// Ultra DMA 0 to 5.
    static func isTransferMode(_ mode: UInt8) -> Bool {
        switch mode {
        case 0x00, 0x01, 0x08...0x0C, 0x20...0x22, 0x40...0x45: true
        default: false
        }
    }
}
