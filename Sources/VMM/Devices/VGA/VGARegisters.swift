/// The register file of a VGA: what lies behind ports 0x3B4 to 0x3DA (IBM Personal System/2 Hardware Interface
/// Technical Reference, video subsystem).
struct VGARegisters {
    /// Port numbers; those of the CRT controller move with the misc output register.
    enum Port {
        static let monochromeCRTC: ClosedRange<UInt16> = 0x3B4...0x3B5
        static let monochromeStatus: UInt16 = 0x3BA
        static let attribute: UInt16 = 0x3C0
        static let attributeRead: UInt16 = 0x3C1
        static let misc: UInt16 = 0x3C2
        static let enable: UInt16 = 0x3C3
        static let sequencerIndex: UInt16 = 0x3C4
        static let sequencerData: UInt16 = 0x3C5
        static let dacMask: UInt16 = 0x3C6
        static let dacReadIndex: UInt16 = 0x3C7
        static let dacWriteIndex: UInt16 = 0x3C8
        static let dacData: UInt16 = 0x3C9
        static let featureRead: UInt16 = 0x3CA
        static let miscRead: UInt16 = 0x3CC
        static let graphicsIndex: UInt16 = 0x3CE
        static let graphicsData: UInt16 = 0x3CF
        static let fixed: ClosedRange<UInt16> = 0x3C0...0x3CF
        static let colourCRTC: ClosedRange<UInt16> = 0x3D4...0x3D5
        static let colourStatus: UInt16 = 0x3DA
    }

    enum Misc {
        static let colourPorts: UInt8 = 1 << 0
        static let memoryEnable: UInt8 = 1 << 1
    }

    enum Sequencer {
        static let clockingMode = 1
        static let mapMask = 2
        static let memoryMode = 4
        static let masks: [UInt8] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0x00, 0x00, 0xFF]
        /// Clocking mode: 8 dots a character, dot clock halved.
        static let eightDots: UInt8 = 1 << 0
        static let halfClock: UInt8 = 1 << 3
        /// Memory mode.
        static let sequential: UInt8 = 1 << 2
        static let chain4: UInt8 = 1 << 3
    }

    enum Graphics {
        static let setReset = 0
        static let enableSetReset = 1
        static let colourCompare = 2
        static let rotate = 3
        static let readMap = 4
        static let mode = 5
        static let misc = 6
        static let colourDontCare = 7
        static let bitMask = 8
        static let masks: [UInt8] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF]
        static let readMode1: UInt8 = 1 << 3
        static let oddEvenRead: UInt8 = 1 << 4
        static let graphicsMode: UInt8 = 1 << 0
    }

    enum CRTC {
        static let horizontalTotal = 0x00
        static let horizontalDisplayEnd = 0x01
        static let verticalTotal = 0x06
        static let overflow = 0x07
        static let maximumScanLine = 0x09
        static let startHigh = 0x0C
        static let startLow = 0x0D
        static let cursorHigh = 0x0E
        static let cursorLow = 0x0F
        static let verticalRetraceStart = 0x10
        static let verticalRetraceEnd = 0x11
        static let verticalDisplayEnd = 0x12
        static let offset = 0x13
        static let underline = 0x14
        static let modeControl = 0x17
        static let lineCompare = 0x18
        static let count = 0x19
        /// Bit 7 of the vertical retrace end register makes registers 0 to 7 read-only, but for line compare bit 8.
        static let protect: UInt8 = 1 << 7
        static let lineCompareInOverflow: UInt8 = 1 << 4
        static let doubleWords: UInt8 = 1 << 6
        static let byteMode: UInt8 = 1 << 6
    }

    enum Attribute {
        static let modeControl = 0x10
        static let masks: [UInt8] = [UInt8](repeating: 0x3F, count: 16) + [0xEF, 0xFF, 0x3F, 0x0F, 0x0F]
        static let graphicsMode: UInt8 = 1 << 0
    }

    var misc: UInt8 = 0
    var feature: UInt8 = 0
    var enable: UInt8 = 1
    var sequencerIndex: UInt8 = 0
    var sequencer = [UInt8](repeating: 0, count: 8)
    var graphicsIndex: UInt8 = 0
    var graphics = [UInt8](repeating: 0, count: 9)
    var crtcIndex: UInt8 = 0
    var crtc = [UInt8](repeating: 0, count: CRTC.count)
    var attributeIndex: UInt8 = 0
    var attributeExpectsData = false
    var attribute = [UInt8](repeating: 0, count: 21)
    var dacMask: UInt8 = 0xFF
    var dacReadIndex: UInt8 = 0
    var dacWriteIndex: UInt8 = 0
    /// Which of red, green and blue comes next.
    var dacComponent: UInt8 = 0
    var dacIsReading = false
    /// Red, green, blue of 256 colours.
    var palette = [UInt8](repeating: 0, count: 768)

    /// Whether a port belongs to the CRT controller's address that is now in use.
    func decodes(_ port: UInt16) -> Bool {
        let isColour = misc & Misc.colourPorts != 0
        if Port.monochromeCRTC.contains(port) || port == Port.monochromeStatus { return !isColour }
        if Port.colourCRTC.contains(port) || port == Port.colourStatus { return isColour }
        return true
    }

    // MARK: Reading

    /// `inputStatus1` is what the beam says; reading it resets the attribute controller's flip-flop.
    mutating func read(_ port: UInt16, inputStatus1: UInt8) -> UInt8 {
        guard decodes(port) else { return 0xFF }
        switch port {
        case Port.attribute: return attributeIndex
        case Port.attributeRead:
            let index = Int(attributeIndex & 0x1F)
            return index < attribute.count ? attribute[index] : 0
        case Port.misc:
            let monitorPresent: UInt8 = 0x10
            return monitorPresent
        case Port.enable: return enable
        case Port.sequencerIndex: return sequencerIndex
        case Port.sequencerData: return sequencer[Int(sequencerIndex & 7)]
        case Port.dacMask: return dacMask
        case Port.dacReadIndex: return dacIsReading ? 3 : 0
        case Port.dacWriteIndex: return dacWriteIndex
        case Port.dacData: return readPalette()
        case Port.featureRead: return feature
        case Port.miscRead: return misc
        case Port.graphicsIndex: return graphicsIndex
        case Port.graphicsData:
            return Int(graphicsIndex) < graphics.count ? graphics[Int(graphicsIndex)] : 0
        case Port.monochromeCRTC.lowerBound, Port.colourCRTC.lowerBound: return crtcIndex
        case Port.monochromeCRTC.upperBound, Port.colourCRTC.upperBound:
            return Int(crtcIndex) < crtc.count ? crtc[Int(crtcIndex)] : 0
        case Port.monochromeStatus, Port.colourStatus:
            attributeExpectsData = false
            return inputStatus1
        default: return 0xFF
        }
    }

    private mutating func readPalette() -> UInt8 {
        let value = palette[Int(dacReadIndex) * 3 + Int(dacComponent)]
        dacComponent += 1
        if dacComponent == 3 {
            dacComponent = 0
            dacReadIndex &+= 1
        }
        return value
    }

    // MARK: Writing

    /// `dacBits` is 6, or 8 where the display extension has widened the palette.
    mutating func write(_ port: UInt16, _ value: UInt8, dacBits: Int) {
        guard decodes(port) else { return }
        switch port {
        case Port.attribute: writeAttribute(value)
        case Port.misc: misc = value
        case Port.enable: enable = value & 1
        case Port.sequencerIndex: sequencerIndex = value & 7
        case Port.sequencerData:
            sequencer[Int(sequencerIndex & 7)] = value & Sequencer.masks[Int(sequencerIndex & 7)]
        case Port.dacMask: dacMask = value
        case Port.dacReadIndex: (dacReadIndex, dacComponent, dacIsReading) = (value, 0, true)
        case Port.dacWriteIndex: (dacWriteIndex, dacComponent, dacIsReading) = (value, 0, false)
        case Port.dacData: writePalette(dacBits == 8 ? value : value & 0x3F)
        case Port.graphicsIndex: graphicsIndex = value & 0x0F
        case Port.graphicsData:
            guard Int(graphicsIndex) < graphics.count else { return }
            graphics[Int(graphicsIndex)] = value & Graphics.masks[Int(graphicsIndex)]
        case Port.monochromeCRTC.lowerBound, Port.colourCRTC.lowerBound: crtcIndex = value
        case Port.monochromeCRTC.upperBound, Port.colourCRTC.upperBound: writeCRTC(value)
        case Port.monochromeStatus, Port.colourStatus: feature = value & 0x10
        default: break
        }
    }

    private mutating func writeAttribute(_ value: UInt8) {
        if attributeExpectsData {
            let index = Int(attributeIndex & 0x1F)
            if index < attribute.count { attribute[index] = value & Attribute.masks[index] }
        } else {
            attributeIndex = value & 0x3F
        }
        attributeExpectsData.toggle()
    }

    private mutating func writePalette(_ value: UInt8) {
        palette[Int(dacWriteIndex) * 3 + Int(dacComponent)] = value
        dacComponent += 1
        if dacComponent == 3 {
            dacComponent = 0
            dacWriteIndex &+= 1
        }
    }

    private mutating func writeCRTC(_ value: UInt8) {
        let index = Int(crtcIndex)
        guard index < crtc.count else { return }
        if index <= CRTC.overflow, crtc[CRTC.verticalRetraceEnd] & CRTC.protect != 0 {
            guard index == CRTC.overflow else { return }
            let kept = crtc[index] & ~CRTC.lineCompareInOverflow
            crtc[index] = kept | value & CRTC.lineCompareInOverflow
        } else {
            crtc[index] = value
        }
    }

    // MARK: Timing and geometry

    /// A vertical value whose bits 8 and 9 lie in the overflow register.
    private func vertical(_ register: Int, bit8: UInt8, bit9: UInt8) -> Int {
        let overflow = crtc[CRTC.overflow]
        return Int(crtc[register]) | Int(overflow >> bit8 & 1) << 8 | Int(overflow >> bit9 & 1) << 9
    }

    /// Scan lines shown.
    var displayedLines: Int { vertical(CRTC.verticalDisplayEnd, bit8: 1, bit9: 6) + 1 }

    /// The scan line after which the picture starts again at address 0.
    var lineCompare: Int {
        Int(crtc[CRTC.lineCompare]) | Int(crtc[CRTC.overflow] >> 4 & 1) << 8
            | Int(crtc[CRTC.maximumScanLine] >> 6 & 1) << 9
    }

    /// Input status 1: bit 0 while nothing is displayed, bit 3 in vertical retrace, both from the virtual time.
    func inputStatus1(at nanoseconds: UInt64) -> UInt8 {
        let dotsPerCharacter: UInt64 = sequencer[Sequencer.clockingMode] & Sequencer.eightDots != 0 ? 8 : 9
        var dotClock: UInt64 = misc >> 2 & 3 == 1 ? 28_322_000 : 25_175_000
        if sequencer[Sequencer.clockingMode] & Sequencer.halfClock != 0 { dotClock /= 2 }
        let charactersPerLine = UInt64(crtc[CRTC.horizontalTotal]) + 5
        let lines = UInt64(vertical(CRTC.verticalTotal, bit8: 0, bit9: 5)) + 2

        let character = VirtualClock.periods(dotClock / dotsPerCharacter, in: nanoseconds)
        let line = character / charactersPerLine % lines
        let column = character % charactersPerLine

        // Values that make no picture still get a retrace, so that no guest waits for ever.
        var start = UInt64(vertical(CRTC.verticalRetraceStart, bit8: 2, bit9: 7))
        if start == 0 || start >= lines { start = lines - 1 }
        var end = start & ~15 | UInt64(crtc[CRTC.verticalRetraceEnd] & 15)
        if end <= start { end += 16 }
        let inRetrace = line >= start && line < end
        let isBlank = line >= UInt64(displayedLines) || column > UInt64(crtc[CRTC.horizontalDisplayEnd])
        return (inRetrace ? 0x08 : 0) | (inRetrace || isBlank ? 0x01 : 0)
    }

    mutating func archive(_ archive: StateArchive) {
        archive.field("misc", &misc)
        archive.field("feature", &feature)
        archive.field("enable", &enable)
        archive.field("sequencerIndex", &sequencerIndex)
        archive.fixed("sequencer", &sequencer)
        archive.field("graphicsIndex", &graphicsIndex)
        archive.fixed("graphics", &graphics)
        archive.field("crtcIndex", &crtcIndex)
        archive.fixed("crtc", &crtc)
        archive.field("attributeIndex", &attributeIndex)
        archive.field("attributeExpectsData", &attributeExpectsData)
        archive.fixed("attribute", &attribute)
        archive.field("dacMask", &dacMask)
        archive.field("dacReadIndex", &dacReadIndex)
        archive.field("dacWriteIndex", &dacWriteIndex)
        archive.field("dacComponent", &dacComponent)
        dacComponent %= 3
        archive.field("dacIsReading", &dacIsReading)
        archive.fixed("palette", &palette)
    }
}
