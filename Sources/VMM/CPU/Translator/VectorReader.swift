import CEngine
import CZydis

/// Vector instructions that run on the host as they are: none of them can raise a floating-point exception. They are
/// SSE and SSE2 ones on XMM registers; what is not here is the interpreter's.
extension InstructionReader {
    private struct Encoding {
        let prefix: UInt8
        let opcode: UInt8
    }

    mutating func readVector() -> Bool {
        guard decoding.mode & ModeKey.sseUsable != 0 else { return false }
        return readVectorMove() || readVectorShift() || readVectorOperation()
    }

    private mutating func vector(_ form: Form, _ encoding: Encoding) -> Bool {
        result.form = form
        result.prefix = encoding.prefix
        result.code = encoding.opcode
        return true
    }

    /// xmm ← operation(xmm, xmm or aligned memory [, immediate])
    private mutating func readVectorOperation() -> Bool {
        guard let encoding = Self.operations[decoding.mnemonic], case .vector = result.destination else {
            if let encoding = Self.masks[decoding.mnemonic], case .vector = result.source,
                case .register = result.destination
            {
                return vector(.vectorToGeneral, encoding)
            }
            return false
        }
        switch result.source {
        case .vector, .memory: break
        default: return false
        }
        result.isAligned = true
        return vector(.vector, encoding)
    }

    private mutating func readVectorShift() -> Bool {
        guard let shift = Self.shifts[decoding.mnemonic], case .vector = result.destination,
            result.source == .immediate
        else { return false }
        result.sourceSize = Int(shift.extension)
        return vector(.vectorShift, Encoding(prefix: 0x66, opcode: shift.opcode))
    }

    private mutating func readVectorMove() -> Bool {
        switch decoding.mnemonic {
        case ZYDIS_MNEMONIC_MOVAPS, ZYDIS_MNEMONIC_MOVAPD, ZYDIS_MNEMONIC_MOVDQA, ZYDIS_MNEMONIC_MOVNTDQ,
            ZYDIS_MNEMONIC_MOVNTPS, ZYDIS_MNEMONIC_MOVNTPD:
            return wholeMove(aligned: true)
        case ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU, ZYDIS_MNEMONIC_LDDQU:
            return wholeMove(aligned: false)
        case ZYDIS_MNEMONIC_MOVD: return lowMove(size: 4)
        case ZYDIS_MNEMONIC_MOVQ: return lowMove(size: 8)
        case ZYDIS_MNEMONIC_MOVSS: return (result.hasMemory) && lowMove(size: 4)
        case ZYDIS_MNEMONIC_MOVSD: return (result.hasMemory) && lowMove(size: 8)
        default: return false
        }
    }

    private mutating func wholeMove(aligned: Bool) -> Bool {
        switch (result.destination, result.source) {
        case (.vector, .vector), (.vector, .memory), (.memory, .vector): break
        default: return false
        }
        result.isAligned = aligned
        result.form = .vectorMove
        return true
    }

    /// Between the low part of an XMM register and memory, a general register or (MOVQ) another one.
    private mutating func lowMove(size: Int) -> Bool {
        result.size = size
        switch (result.destination, result.source) {
        case (.vector, .memory), (.vector, .register): result.form = .vectorLoadLow
        case (.vector, .vector) where size == 8: result.form = .vectorLoadLow
        case (.memory, .vector), (.register, .vector): result.form = .vectorStoreLow
        default: return false
        }
        return true
    }

    private static let operations: [ZydisMnemonic: Encoding] = {
        var table: [ZydisMnemonic: Encoding] = [:]
        func add(_ prefix: UInt8, _ rows: [(ZydisMnemonic, UInt8)]) {
            for (mnemonic, opcode) in rows { table[mnemonic] = Encoding(prefix: prefix, opcode: opcode) }
        }
        add(
            0x66,
            [
                (ZYDIS_MNEMONIC_PUNPCKLBW, 0x60), (ZYDIS_MNEMONIC_PUNPCKLWD, 0x61), (ZYDIS_MNEMONIC_PUNPCKLDQ, 0x62),
                (ZYDIS_MNEMONIC_PACKSSWB, 0x63), (ZYDIS_MNEMONIC_PCMPGTB, 0x64), (ZYDIS_MNEMONIC_PCMPGTW, 0x65),
                (ZYDIS_MNEMONIC_PCMPGTD, 0x66), (ZYDIS_MNEMONIC_PACKUSWB, 0x67), (ZYDIS_MNEMONIC_PUNPCKHBW, 0x68),
                (ZYDIS_MNEMONIC_PUNPCKHWD, 0x69), (ZYDIS_MNEMONIC_PUNPCKHDQ, 0x6a), (ZYDIS_MNEMONIC_PACKSSDW, 0x6b),
                (ZYDIS_MNEMONIC_PUNPCKLQDQ, 0x6c), (ZYDIS_MNEMONIC_PUNPCKHQDQ, 0x6d), (ZYDIS_MNEMONIC_PSHUFD, 0x70),
                (ZYDIS_MNEMONIC_PCMPEQB, 0x74), (ZYDIS_MNEMONIC_PCMPEQW, 0x75), (ZYDIS_MNEMONIC_PCMPEQD, 0x76),
                (ZYDIS_MNEMONIC_PSRLW, 0xd1), (ZYDIS_MNEMONIC_PSRLD, 0xd2), (ZYDIS_MNEMONIC_PSRLQ, 0xd3),
                (ZYDIS_MNEMONIC_PADDQ, 0xd4), (ZYDIS_MNEMONIC_PMULLW, 0xd5), (ZYDIS_MNEMONIC_PSUBUSB, 0xd8),
                (ZYDIS_MNEMONIC_PSUBUSW, 0xd9), (ZYDIS_MNEMONIC_PMINUB, 0xda), (ZYDIS_MNEMONIC_PAND, 0xdb),
                (ZYDIS_MNEMONIC_PADDUSB, 0xdc), (ZYDIS_MNEMONIC_PADDUSW, 0xdd), (ZYDIS_MNEMONIC_PMAXUB, 0xde),
                (ZYDIS_MNEMONIC_PANDN, 0xdf), (ZYDIS_MNEMONIC_PAVGB, 0xe0), (ZYDIS_MNEMONIC_PSRAW, 0xe1),
                (ZYDIS_MNEMONIC_PSRAD, 0xe2), (ZYDIS_MNEMONIC_PAVGW, 0xe3), (ZYDIS_MNEMONIC_PMULHUW, 0xe4),
                (ZYDIS_MNEMONIC_PMULHW, 0xe5), (ZYDIS_MNEMONIC_PSUBSB, 0xe8), (ZYDIS_MNEMONIC_PSUBSW, 0xe9),
                (ZYDIS_MNEMONIC_PMINSW, 0xea), (ZYDIS_MNEMONIC_POR, 0xeb), (ZYDIS_MNEMONIC_PADDSB, 0xec),
                (ZYDIS_MNEMONIC_PADDSW, 0xed), (ZYDIS_MNEMONIC_PMAXSW, 0xee), (ZYDIS_MNEMONIC_PXOR, 0xef),
                (ZYDIS_MNEMONIC_PSLLW, 0xf1), (ZYDIS_MNEMONIC_PSLLD, 0xf2), (ZYDIS_MNEMONIC_PSLLQ, 0xf3),
                (ZYDIS_MNEMONIC_PMULUDQ, 0xf4), (ZYDIS_MNEMONIC_PMADDWD, 0xf5), (ZYDIS_MNEMONIC_PSADBW, 0xf6),
                (ZYDIS_MNEMONIC_PSUBB, 0xf8), (ZYDIS_MNEMONIC_PSUBW, 0xf9), (ZYDIS_MNEMONIC_PSUBD, 0xfa),
                (ZYDIS_MNEMONIC_PSUBQ, 0xfb), (ZYDIS_MNEMONIC_PADDB, 0xfc), (ZYDIS_MNEMONIC_PADDW, 0xfd),
                (ZYDIS_MNEMONIC_PADDD, 0xfe), (ZYDIS_MNEMONIC_ANDPD, 0x54), (ZYDIS_MNEMONIC_ANDNPD, 0x55),
                (ZYDIS_MNEMONIC_ORPD, 0x56), (ZYDIS_MNEMONIC_XORPD, 0x57), (ZYDIS_MNEMONIC_UNPCKLPD, 0x14),
                (ZYDIS_MNEMONIC_UNPCKHPD, 0x15), (ZYDIS_MNEMONIC_SHUFPD, 0xc6),
            ])
        add(
            0,
            [
                (ZYDIS_MNEMONIC_ANDPS, 0x54), (ZYDIS_MNEMONIC_ANDNPS, 0x55), (ZYDIS_MNEMONIC_ORPS, 0x56),
                (ZYDIS_MNEMONIC_XORPS, 0x57), (ZYDIS_MNEMONIC_UNPCKLPS, 0x14), (ZYDIS_MNEMONIC_UNPCKHPS, 0x15),
                (ZYDIS_MNEMONIC_SHUFPS, 0xc6),
            ])
        add(0xf3, [(ZYDIS_MNEMONIC_PSHUFHW, 0x70)])
        add(0xf2, [(ZYDIS_MNEMONIC_PSHUFLW, 0x70)])
        return table
    }()

    private static let masks: [ZydisMnemonic: Encoding] = [
        ZYDIS_MNEMONIC_PMOVMSKB: Encoding(prefix: 0x66, opcode: 0xd7),
        ZYDIS_MNEMONIC_MOVMSKPS: Encoding(prefix: 0, opcode: 0x50),
        ZYDIS_MNEMONIC_MOVMSKPD: Encoding(prefix: 0x66, opcode: 0x50),
    ]

    private static let shifts: [ZydisMnemonic: (opcode: UInt8, extension: UInt8)] = [
        ZYDIS_MNEMONIC_PSRLW: (0x71, 2), ZYDIS_MNEMONIC_PSRAW: (0x71, 4), ZYDIS_MNEMONIC_PSLLW: (0x71, 6),
        ZYDIS_MNEMONIC_PSRLD: (0x72, 2), ZYDIS_MNEMONIC_PSRAD: (0x72, 4), ZYDIS_MNEMONIC_PSLLD: (0x72, 6),
        ZYDIS_MNEMONIC_PSRLQ: (0x73, 2), ZYDIS_MNEMONIC_PSLLQ: (0x73, 6), ZYDIS_MNEMONIC_PSRLDQ: (0x73, 3),
        ZYDIS_MNEMONIC_PSLLDQ: (0x73, 7),
    ]

    /// Whether a vector operation has an immediate after its operands.
    static func hasImmediate(opcode: UInt8) -> Bool { opcode == 0x70 || opcode == 0xc6 }
}
