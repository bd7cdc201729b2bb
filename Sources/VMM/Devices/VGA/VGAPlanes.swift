/// The data path between the processor and the four planes: latches, write modes and read modes.
struct VGAPlanes {
    private typealias Graphics = VGARegisters.Graphics
    private typealias Sequencer = VGARegisters.Sequencer

    /// The four planes as last read, plane 0 in the low byte.
    var latch: UInt32 = 0

    /// One byte of ones for each bit set in the low four.
    private static func expand(_ bits: UInt8) -> UInt32 {
        (0..<4).reduce(0) { $0 | (bits >> UInt8($1) & 1 != 0 ? 0xFF << (UInt32($1) * 8) : 0) }
    }

    /// `offset` from the start of the window that the guest sees.
    mutating func read(_ offset: Int, _ registers: VGARegisters, _ memory: VideoMemory) -> UInt8 {
        let graphics = registers.graphics
        var place = offset
        var plane = Int(graphics[Graphics.readMap])
        if registers.sequencer[Sequencer.memoryMode] & Sequencer.chain4 != 0 {
            plane = offset & 3
            place = offset & ~3
        } else if graphics[Graphics.mode] & Graphics.oddEvenRead != 0 {
            plane = plane & 2 | offset & 1
            place = offset & ~1
        }
        latch = memory.planes(place & 0xFFFF)
        guard graphics[Graphics.mode] & Graphics.readMode1 != 0 else {
            return UInt8(truncatingIfNeeded: latch >> (UInt32(plane) * 8))
        }
        let different =
            (latch ^ Self.expand(graphics[Graphics.colourCompare]))
            & Self.expand(graphics[Graphics.colourDontCare])
        let folded = different | different >> 16
        return ~UInt8(truncatingIfNeeded: folded | folded >> 8)
    }

    mutating func write(_ offset: Int, _ value: UInt8, _ registers: VGARegisters, _ memory: VideoMemory) {
        let mode = registers.sequencer[Sequencer.memoryMode]
        var mask = registers.sequencer[Sequencer.mapMask]
        var place = offset
        if mode & Sequencer.chain4 != 0 {
            mask &= 1 << UInt8(offset & 3)
            place = offset & ~3
        } else if mode & Sequencer.sequential == 0 {
            mask &= offset & 1 != 0 ? 0b1010 : 0b0101
            place = offset & ~1
        }
        memory.setPlanes(place & 0xFFFF, data(value, registers.graphics), mask: mask)
    }

    /// What the write modes make of a byte for the four planes.
    private func data(_ value: UInt8, _ graphics: [UInt8]) -> UInt32 {
        let count = graphics[Graphics.rotate] & 7
        let rotated = value >> count | value << (8 - count)
        let setReset = Self.expand(graphics[Graphics.setReset])
        var bits = UInt32(graphics[Graphics.bitMask]) &* 0x0101_0101
        var data: UInt32
        switch graphics[Graphics.mode] & 3 {
        case 0:
            let forced = Self.expand(graphics[Graphics.enableSetReset])
            data = (UInt32(rotated) &* 0x0101_0101) & ~forced | setReset & forced
        case 1:
            return latch
        case 2:
            data = Self.expand(value & 0xF)
        default:
            bits &= UInt32(rotated) &* 0x0101_0101
            data = setReset
        }
        switch graphics[Graphics.rotate] >> 3 & 3 {
        case 1: data &= latch
        case 2: data |= latch
        case 3: data ^= latch
        default: break
        }
        return data & bits | latch & ~bits
    }
}
