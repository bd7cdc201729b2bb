/// The Bochs display interface (DISPI): sixteen-bit registers that select resolutions beyond VGA's and the bank or
/// linear framebuffer through which the memory is seen.
struct BochsDisplay {
    static let indexPort: UInt16 = 0x1CE
    /// The data register answers at both ports after the index.
    static let dataPorts: ClosedRange<UInt16> = 0x1CF...0x1D0
    static let registerCount = 11

    private enum Register {
        static let identification = 0
        static let width = 1
        static let height = 2
        static let bitsPerPixel = 3
        static let enable = 4
        static let bank = 5
        static let virtualWidth = 6
        static let virtualHeight = 7
        static let xOffset = 8
        static let yOffset = 9
        static let memory64K = 10
    }
    private static let newestID: UInt16 = 0xB0C5
    private static let knownIDs: ClosedRange<UInt16> = 0xB0C0...0xB0C5
    private static let enabled: UInt16 = 1 << 0
    private static let capabilities: UInt16 = 1 << 1
    private static let wideDAC: UInt16 = 1 << 5
    private static let keepMemory: UInt16 = 1 << 7
    private static let limits: (width: UInt16, height: UInt16, bits: UInt16) = (2560, 1600, 32)

    private var index: UInt16 = 0
    private var values = [UInt16](repeating: 0, count: BochsDisplay.registerCount)
    private let memorySize: Int

    init(memorySize: Int) {
        self.memorySize = memorySize
        values[Register.identification] = Self.newestID
    }

    var isEnabled: Bool { values[Register.enable] & Self.enabled != 0 }
    /// Whether the memory window at 0xA0000 shows a bank of packed pixels instead of planes.
    var isPacked: Bool { isEnabled && values[Register.bitsPerPixel] > 4 }
    var bankOffset: Int { Int(values[Register.bank]) << 16 }
    var dacBits: Int { values[Register.enable] & Self.wideDAC != 0 ? 8 : 6 }

    // MARK: Ports

    func read(_ port: UInt16) -> UInt16 { port == Self.indexPort ? index : read(register: Int(index)) }

    /// - Returns: how many bytes of memory to clear, from its start.
    mutating func write(_ port: UInt16, _ value: UInt16) -> Int {
        if port == Self.indexPort {
            index = value
            return 0
        }
        return write(register: Int(index), value)
    }

    func read(register: Int) -> UInt16 {
        guard register < values.count else { return 0 }
        if values[Register.enable] & Self.capabilities != 0 {
            switch register {
            case Register.width: return Self.limits.width
            case Register.height: return Self.limits.height
            case Register.bitsPerPixel: return Self.limits.bits
            default: break
            }
        }
        return register == Register.memory64K ? UInt16(memorySize >> 16) : values[register]
    }

    mutating func write(register: Int, _ value: UInt16) -> Int {
        switch register {
        case Register.identification:
            if Self.knownIDs.contains(value) { values[register] = value }
        case Register.width:
            if value <= Self.limits.width { values[register] = value & ~7 }
        case Register.height:
            if value <= Self.limits.height { values[register] = value }
        case Register.bitsPerPixel:
            if [4, 8, 15, 16, 24, 32].contains(value) { values[register] = value }
        case Register.bank:
            values[register] = value & UInt16((memorySize >> 16) - 1)
        case Register.enable: return writeEnable(value)
        case Register.virtualWidth, Register.xOffset, Register.yOffset:
            values[register] = value
            fitVirtualScreen()
        default: break
        }
        return 0
    }

    private mutating func writeEnable(_ value: UInt16) -> Int {
        let wasEnabled = isEnabled
        values[Register.enable] = value & 0xE3
        guard isEnabled, !wasEnabled else { return 0 }
        values[Register.bank] = 0
        values[Register.virtualWidth] = values[Register.width]
        values[Register.xOffset] = 0
        values[Register.yOffset] = 0
        fitVirtualScreen()
        return value & Self.keepMemory != 0 ? 0 : lineSize * Int(values[Register.height])
    }

    /// Bytes in a line of the virtual screen. Four-bit modes have four planes of a bit each.
    private var lineSize: Int {
        let bits = Int(values[Register.bitsPerPixel])
        let bytes = bits == 15 ? 2 : bits / 8
        return bits <= 4 ? Int(values[Register.virtualWidth]) / 2 : Int(values[Register.virtualWidth]) * bytes
    }

    /// Keeps the virtual screen at least as wide as the visible one; its height is what the memory holds.
    private mutating func fitVirtualScreen() {
        values[Register.virtualWidth] = max(values[Register.virtualWidth], values[Register.width])
        let height = lineSize == 0 ? 0 : memorySize / lineSize
        values[Register.virtualHeight] = UInt16(min(height, 0xFFFF))
    }

    mutating func archive(_ archive: StateArchive) {
        archive.field("index", &index)
        archive.fixed("values", &values)
    }
}
