/// Builds the kallsyms tables of a kernel as they lie in its memory, in any of the layouts that there have been.
struct SymbolTables {
    enum Coding {
        case absolute, relative, relativePerCPU
    }

    var symbols: [(address: UInt64, text: String)]
    var wordSize = 8
    var coding = Coding.relativePerCPU
    var base: UInt64 = 0xFFFF_FFFF_8100_0000
    /// Since Linux 6.4 the addresses come behind the tokens.
    var addressesLast = false
    /// Since 6.2 each name's place in alphabetical order lies before the tokens, 3 bytes each.
    var hasSequence = false
    /// Bytes of a marker: a word before Linux 4.20.
    var markerSize = 4

    /// Tokens that stand for more than one character.
    private static let pieces: [(byte: UInt8, text: String)] = [
        (0x01, "sys_"), (0x02, "__x64_"), (0x03, "Tsys_"), (0x80, "interrupt"), (0xFE, "tnative_"),
    ]

    private struct Image {
        var bytes: [UInt8] = []

        mutating func align(_ size: Int) { while bytes.count % size != 0 { bytes.append(0) } }

        mutating func number(_ value: UInt64, _ size: Int) {
            for index in 0..<size { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(index * 8))) }
        }
    }

    /// The tables behind `before` bytes of something else.
    func bytes(before: Int = 4096) -> [UInt8] {
        var image = Image(bytes: (0..<before).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) })
        image.align(4096)
        if !addressesLast { writeAddresses(&image) }
        image.align(wordSize)
        image.number(UInt64(symbols.count), 4)
        image.align(wordSize)
        var markers: [Int] = []
        let start = image.bytes.count
        for (index, symbol) in symbols.enumerated() {
            if index % 256 == 0 { markers.append(image.bytes.count - start) }
            let name = Self.compressed(symbol.text)
            if name.count > 127 {
                image.bytes += [UInt8(name.count & 0x7F) | 0x80, UInt8(name.count >> 7)]
            } else {
                image.bytes.append(UInt8(name.count))
            }
            image.bytes += name
        }
        image.align(wordSize)
        for marker in markers { image.number(UInt64(marker), markerSize) }
        image.align(wordSize)
        if hasSequence {
            for index in symbols.indices { image.number(UInt64(index), 3) }
            image.align(wordSize)
        }
        writeTokens(&image)
        if addressesLast { writeAddresses(&image) }
        image.align(4096)
        return image.bytes
    }

    private func writeAddresses(_ image: inout Image) {
        image.align(wordSize)
        guard coding != .absolute else {
            for symbol in symbols { image.number(symbol.address, wordSize) }
            return
        }
        for symbol in symbols {
            if coding == .relativePerCPU, symbol.address >= base {
                image.number(UInt64(bitPattern: -1 - Int64(symbol.address - base)), 4)
            } else {
                image.number(coding == .relative ? symbol.address &- base : symbol.address, 4)
            }
        }
        image.align(wordSize)
        image.number(base, wordSize)
    }

    private func writeTokens(_ image: inout Image) {
        var places: [Int] = []
        let start = image.bytes.count
        for byte in 0...255 {
            places.append(image.bytes.count - start)
            image.bytes += Self.token(byte) + [0]
        }
        image.align(wordSize)
        for place in places { image.number(UInt64(place), 2) }
    }

    private static func token(_ byte: Int) -> [UInt8] {
        if let piece = pieces.first(where: { $0.byte == byte }) { return Array(piece.text.utf8) }
        return [(0x21...0x7E).contains(byte) ? UInt8(byte) : 0x5F]
    }

    /// The name in the longest tokens that fit.
    private static func compressed(_ text: String) -> [UInt8] {
        var rest = text[...]
        var bytes: [UInt8] = []
        while let first = rest.utf8.first {
            if let piece = pieces.sorted(by: { $0.text.count > $1.text.count }).first(where: { rest.hasPrefix($0.text) }
            ) {
                bytes.append(piece.byte)
                rest = rest.dropFirst(piece.text.count)
            } else {
                bytes.append(first)
                rest = rest.dropFirst()
            }
        }
        return bytes
    }

    /// `count` symbols of a kernel at `base`, behind per-CPU ones if `perCPU`.
    static func sample(_ count: Int, base: UInt64, perCPU: Bool) -> [(address: UInt64, text: String)] {
        var symbols: [(address: UInt64, text: String)] = []
        if perCPU {
            for index in 0..<20 { symbols.append((UInt64(index) * 64, "Apcpu_\(index)")) }
        }
        symbols.append((base, "T_text"))
        symbols.append((base, "T_stext"))
        for index in 1..<count {
            let name =
                switch index % 4 {
                case 0: "Tsys_call_\(index)"
                case 1: "t__x64_sys_\(index)"
                case 2: "tnative_interrupt_\(index)"
                // Longer than one byte of length can say.
                default:
                    index % 97 == 3 ? "t" + String(repeating: "long.", count: 30) + "\(index)" : "dvariable\(index)"
                }
            symbols.append((base + UInt64(index) * 48, name))
        }
        return symbols
    }
}
