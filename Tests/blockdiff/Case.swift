import CBlockGuest
import VMM

/// Something that happens from outside at a count; both engines stop there and are compared.
struct Event: Equatable {
    enum Kind: Equatable {
        /// Nothing but the comparison.
        case check
        /// INTR with this vector, until it is taken.
        case interrupt(UInt8)
        case nmi
        /// A device writes to a guest-physical address.
        case dma(UInt64, [UInt8])
        /// A20 is masked, or passed again.
        case a20
    }

    var count: UInt64
    var kind: Kind
}

/// One instruction in the code area.
struct CodeLine {
    /// From the start of the code area.
    var offset: Int
    var bytes: [UInt8]
    /// The item of the program that it came from.
    var item = -1
}

/// A program ready to run, with everything that decides what it does: the same whether it was generated or read.
struct Case {
    var setting: Setting
    /// The code pages may be written in the program's windows.
    var codeIsWritable = false
    /// A sink is attached and calls are marked; what comes of it is compared too.
    var watchesEvents = false
    /// All floating-point exceptions are masked at the start, and none is pending.
    var masksExceptions = false
    /// Counts after which the run ends in any case.
    var limit: UInt64 = 3000
    /// How often a block is executed before it is translated.
    var threshold: UInt16 = 0
    /// Chooses what memory, XMM and x87 registers hold at the start.
    var stateSeed: UInt64 = 0
    /// RAX to R15.
    var registers = [UInt64](repeating: 0, count: 16)
    var rflags: UInt64 = 0x202
    /// Backward branches left.
    var fuel: UInt64 = 30
    var entry = 0
    /// In ascending order. The last is the INT3 that ends the program.
    var lines: [CodeLine] = []
    /// What the second page of code is exchanged for, where it differs from it.
    var alternates: [CodeLine] = []
    var events: [Event] = []

    /// Offsets where blocks start; only for statistics.
    var blockStarts: Set<Int> = []

    /// The code area. What holds no instruction is UD2.
    var code: [UInt8] {
        var bytes = [UInt8](repeating: 0x0f, count: Physical.codeBytes)
        for index in stride(from: 1, to: bytes.count, by: 2) { bytes[index] = 0x0b }
        for line in lines {
            for (index, byte) in line.bytes.enumerated() where line.offset + index < bytes.count {
                bytes[line.offset + index] = byte
            }
        }
        return bytes
    }

    /// For each byte of code, where to go on after a fault there: at the next instruction.
    var resume: [UInt16] {
        var table = [UInt16](repeating: 0, count: Physical.codeBytes)
        var offset = 0
        for (number, line) in lines.enumerated() {
            // Up to this line's first byte, this line is the next one.
            while offset < line.offset {
                table[offset] = UInt16(line.offset)
                offset += 1
            }
            let next = number + 1 < lines.count ? lines[number + 1].offset : line.offset
            while offset < line.offset + line.bytes.count, offset < table.count {
                table[offset] = UInt16(next)
                offset += 1
            }
        }
        let last = UInt16(lines.last?.offset ?? 0)
        while offset < table.count {
            table[offset] = last
            offset += 1
        }
        return table
    }
}
