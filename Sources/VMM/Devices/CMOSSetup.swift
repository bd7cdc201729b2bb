/// What a PC's setup leaves in CMOS for its firmware: the AT's bytes and those that SeaBIOS reads on i440FX.
package struct CMOSSetup {
    /// A boot device in SeaBIOS's numbering.
    package enum BootDevice: UInt8 {
        case none = 0
        case floppy = 1
        case disk = 2
        case cdrom = 3
        case network = 4
    }

    private enum Address {
        static let floppyTypes = 0x10
        static let equipment = 0x14
        static let baseMemory = 0x15
        static let extendedMemory = 0x17
        static let checksum = 0x2E
        static let checksummed = 0x10...0x2D
        static let extendedMemoryCopy = 0x30
        static let memoryAbove16M = 0x34
        static let bootOrderHigh = 0x38
        static let diskTranslation = 0x39
        static let bootOrder = 0x3D
        static let memoryAbove4G = 0x5B
        static let processors = 0x5F
    }
    private enum Equipment {
        static let coprocessor: UInt8 = 0x02
        static let mouse: UInt8 = 0x04
    }
    /// Skips SeaBIOS's test for a boot signature on floppies.
    private static let noFloppySignature: UInt8 = 0x01
    /// LBA translation for each of four disks.
    private static let translateLBA: UInt8 = 0x55

    /// RAM below 4 GB, in bytes.
    package var memory: UInt64
    /// RAM above 4 GB, in bytes.
    package var memoryAbove4G: UInt64
    /// Up to three devices, tried in this order.
    package var bootOrder: [BootDevice]

    package init(memory: UInt64, memoryAbove4G: UInt64 = 0, bootOrder: [BootDevice] = [.disk, .cdrom]) {
        self.memory = memory
        self.memoryAbove4G = memoryAbove4G
        self.bootOrder = bootOrder
    }

    /// Stores it in `rtc`, with the checksum.
    package func apply(to rtc: RTC) {
        func word(_ address: Int, _ value: UInt64) {
            rtc.preset(address, UInt8(truncatingIfNeeded: value))
            rtc.preset(address + 1, UInt8(truncatingIfNeeded: value >> 8))
        }
        let kilobyte: UInt64 = 1 << 10
        let megabyte: UInt64 = 1 << 20
        let unit: UInt64 = 1 << 16
        let extended = min((memory > megabyte ? memory - megabyte : 0) / kilobyte, 0xFFFF)
        rtc.preset(Address.floppyTypes, 0)
        rtc.preset(Address.equipment, Equipment.coprocessor | Equipment.mouse)
        word(Address.baseMemory, 640)
        word(Address.extendedMemory, extended)
        word(Address.extendedMemoryCopy, extended)
        word(Address.memoryAbove16M, min((memory > 16 * megabyte ? memory - 16 * megabyte : 0) / unit, 0xFFFF))
        word(Address.memoryAbove4G, memoryAbove4G / unit)
        rtc.preset(Address.memoryAbove4G + 2, UInt8(truncatingIfNeeded: (memoryAbove4G / unit) >> 16))
        rtc.preset(Address.processors, 0)
        rtc.preset(Address.diskTranslation, Self.translateLBA)
        let order = (bootOrder + [.none, .none, .none]).prefix(3).map(\.rawValue)
        rtc.preset(Address.bootOrder, order[1] << 4 | order[0])
        rtc.preset(Address.bootOrderHigh, order[2] << 4 | Self.noFloppySignature)
        let sum = Address.checksummed.reduce(UInt64(0)) { $0 + UInt64(rtc.byte(at: $1)) }
        rtc.preset(Address.checksum, UInt8(truncatingIfNeeded: sum >> 8))
        rtc.preset(Address.checksum + 1, UInt8(truncatingIfNeeded: sum))
    }
}
