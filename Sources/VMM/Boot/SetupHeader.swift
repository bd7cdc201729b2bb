/// The Linux setup header, from byte 0x1F1 of the image on, with the defaults that older protocols imply.
struct SetupHeader {
    static let start: UInt64 = 0x1F1
    static let signatureOffset: UInt64 = 0x202
    /// "HdrS".
    private static let signature: UInt32 = 0x5372_6448
    private static let bootFlag: UInt16 = 0xAA55
    private static let oldestProtocol: UInt16 = 0x202
    /// Bits of loadflags and xloadflags.
    private static let loadedHigh: UInt8 = 1 << 0
    private static let kernel64: UInt16 = 1 << 0

    let version: UInt16
    /// Where the header ends in the image; what a loader copies ends there.
    let end: UInt64
    let setupSectors: UInt8
    /// Bytes of the protected-mode kernel, in whole units of 16; 0 where the header does not say reliably.
    let systemSize: UInt64
    let initrdAddressMax: UInt32
    let commandLineSize: UInt32
    let isRelocatable: Bool
    let alignment: UInt64
    let has64BitEntry: Bool
    let payloadEnd: UInt64
    let preferredAddress: UInt64
    let initSize: UInt64

    /// Whether the image carries the header's signature.
    static func isPresent(in image: ImageReader) -> Bool {
        (try? image.integer("the setup header", at: signatureOffset) as UInt32) == signature
    }

    init(_ image: ImageReader) throws(BootError) {
        guard Self.isPresent(in: image), try image.integer("the boot sector", at: 0x1FE) == Self.bootFlag else {
            throw .notAKernel(reason: "neither a Linux bzImage nor a multiboot kernel")
        }
        let version: UInt16 = try image.integer("the setup header", at: 0x206)
        guard version >= Self.oldestProtocol else {
            throw .protocolTooOld(version: version, oldest: Self.oldestProtocol)
        }
        let loadFlags: UInt8 = try image.integer("the setup header", at: 0x211)
        guard loadFlags & Self.loadedHigh != 0 else {
            throw .notAKernel(reason: "a zImage, which loads low; expected a bzImage")
        }
        self.version = version
        /// A field that exists from `since` on.
        func field<T: FixedWidthInteger & UnsignedInteger>(
            _ offset: UInt64, since: UInt16, else missing: T
        ) throws(BootError) -> T {
            version >= since ? try image.integer("the setup header", at: offset) : missing
        }
        // The jump at 0x200 leads past the header.
        end = Self.signatureOffset + UInt64(try image.integer("the setup header", at: 0x201) as UInt8)
        let sectors: UInt8 = try image.integer("the boot sector", at: Self.start)
        setupSectors = sectors == 0 ? 4 : sectors
        systemSize = UInt64(try field(0x1F4, since: 0x204, else: 0) as UInt32) * 16
        initrdAddressMax = try field(0x22C, since: 0x203, else: 0x37FF_FFFF)
        commandLineSize = try field(0x238, since: 0x206, else: 255)
        isRelocatable = try field(0x234, since: 0x205, else: 0 as UInt8) != 0
        alignment = UInt64(try field(0x230, since: 0x205, else: 0) as UInt32)
        has64BitEntry = try field(0x236, since: 0x20C, else: 0 as UInt16) & Self.kernel64 != 0
        let payloadOffset: UInt32 = try field(0x248, since: 0x208, else: 0)
        payloadEnd = UInt64(payloadOffset) + UInt64(try field(0x24C, since: 0x208, else: 0) as UInt32)
        preferredAddress = try field(0x258, since: 0x20A, else: 0)
        initSize = UInt64(try field(0x260, since: 0x20A, else: 0) as UInt32)
    }
}

/// The "zero page": what a loader tells a Linux kernel (the kernel's Documentation/arch/x86/zero-page.rst).
struct BootParameters {
    private static let size = 4096
    private static let e820Table = 0x2D0
    private static let e820EntrySize = 20
    private static let headerRoom = 0x1F1..<0x290
    private static let undefinedLoader: UInt8 = 0xFF
    private static let normalVideoMode: UInt16 = 0xFFFF

    private var page = GuestBlock(size: size)
    var bytes: [UInt8] { page.bytes }

    init(header: SetupHeader, image: ImageReader) throws(BootError) {
        let end = min(header.end, UInt64(Self.headerRoom.upperBound))
        guard end > SetupHeader.signatureOffset else {
            throw .badField("the setup header's end", value: header.end, expected: "an address past 0x202")
        }
        let bytes = try image.slice("the setup header", at: SetupHeader.start, count: end - SetupHeader.start)
        page.set(Int(SetupHeader.start), bytes: bytes)
        page.set(0x1FA, Self.normalVideoMode)
        page.set(0x210, Self.undefinedLoader)
        page.set(0x250, UInt64(0))  // setup_data: none
    }

    /// The e820 table, and the two older ways of telling the memory's size.
    mutating func setMemoryMap(_ map: MemoryMap) {
        page.set(0x002, UInt16(min(map.upperKilobytes, 0xFC00)))
        page.set(0x1E0, UInt32(map.upperKilobytes))
        page.set(0x1E8, UInt8(map.entries.count))
        for (index, entry) in map.entries.enumerated() {
            let offset = Self.e820Table + index * Self.e820EntrySize
            page.set(offset, entry.range.lowerBound)
            page.set(offset + 8, UInt64(entry.range.count))
            page.set(offset + 16, entry.kind.rawValue)
        }
    }

    /// VGA text mode 3: 80 columns, 25 lines of 16 scan lines, colour, 256 KB.
    mutating func setScreen() {
        page.set(0x006, UInt8(3))
        page.set(0x007, UInt8(80))
        page.set(0x00A, UInt16(3))
        page.set(0x00E, UInt8(25))
        page.set(0x00F, UInt8(1))
        page.set(0x010, UInt16(16))
    }

    mutating func setCommandLine(at address: UInt64) { page.set(0x228, UInt32(address)) }

    mutating func setInitrd(at address: UInt64, size: UInt64) {
        page.set(0x218, UInt32(address))
        page.set(0x21C, UInt32(size))
    }

    mutating func setRSDP(_ address: UInt64) { page.set(0x070, address) }
}
