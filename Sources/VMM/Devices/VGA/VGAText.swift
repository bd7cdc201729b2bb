// What a text mode shows.
extension VGA {
    private typealias CRTC = VGARegisters.CRTC

    /// Whether the display shows characters.
    package var isTextMode: Bool {
        !display.isEnabled
            && registers.graphics[VGARegisters.Graphics.misc] & VGARegisters.Graphics.graphicsMode == 0
            && registers.attribute[VGARegisters.Attribute.modeControl] & VGARegisters.Attribute.graphicsMode == 0
    }

    /// The lines of the screen from the top, without the blanks at their ends; empty in graphics modes.
    package func screenText() -> [String] {
        guard isTextMode else { return [] }
        let crtc = registers.crtc
        let columns = Int(crtc[CRTC.horizontalDisplayEnd]) + 1
        let scanDoubling = 1 + Int(crtc[CRTC.maximumScanLine] >> 7)
        let cellHeight = (Int(crtc[CRTC.maximumScanLine] & 0x1F) + 1) * scanDoubling
        let rows = registers.displayedLines / cellHeight
        let start = Int(crtc[CRTC.startHigh]) << 8 | Int(crtc[CRTC.startLow])
        let charactersPerRow = Int(crtc[CRTC.offset]) * 2
        // Rows below the line compare value come from the start of the memory.
        let split = min(rows, registers.lineCompare / cellHeight + 1)
        return (0..<rows).map { row in
            let first = row < split ? start + row * charactersPerRow : (row - split) * charactersPerRow
            return line(first, columns)
        }
    }

    private func line(_ first: Int, _ columns: Int) -> String {
        var codes = (0..<columns).map { UInt8(truncatingIfNeeded: memory.planes(address(first + $0))) }
        while let last = codes.last, Self.glyphs[Int(last)] == " " { codes.removeLast() }
        return String(String.UnicodeScalarView(codes.map { Self.glyphs[Int($0)] }))
    }

    /// The plane offset that the CRT controller makes of its character counter.
    private func address(_ counter: Int) -> Int {
        let shift =
            if registers.crtc[CRTC.underline] & CRTC.doubleWords != 0 {
                2
            } else if registers.crtc[CRTC.modeControl] & CRTC.byteMode != 0 {
                0
            } else {
                1
            }
        return counter << shift & 0xFFFF
    }

    /// Code page 437, the characters of the display's own font. Blank-looking codes are blanks.
    private static let glyphs: [Unicode.Scalar] = Array(
        (" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼" + " !\"#$%&'()*+,-./0123456789:;<=>?"
            + "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_" + "`abcdefghijklmnopqrstuvwxyz{|}~⌂"
            + "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ" + "áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
            + "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" + "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ").unicodeScalars)
}
