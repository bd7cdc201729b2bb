import CEngine
import VMM

/// Everything in which two machines at one position differ, as lines of text.
struct DifferenceReport {
    let interpreter: Machine
    let translator: Machine

    private static let linesShown = 40
    private static let bytesShown = 16
    /// Fields that are arrays: the size of an element in bytes, and the names of the elements if they have any.
    private static let arrays: [String: (size: Int, names: [String])] = [
        "processor.gpr": (8, BitFlip.registerNames),
        "processor.xmm": (16, []), "processor.fpr": (16, []), "processor.dr": (8, []), "processor.pdptr": (8, []),
        "processor.dataTLB": (16, []), "processor.fetchTLB": (16, []), "processor.mtrrFixed": (8, []),
        "processor.mtrrVariable": (8, []),
        "processor.eventCounts": (8, EventKind.allCases.map { "\($0)" }),
    ]

    var text: String {
        var lines = ["what differs (interpreter, then translator):"]
        lines += [position] + fields + pages
        let more = lines.count - Self.linesShown
        if more > 0 { lines = lines.prefix(Self.linesShown) + ["… and \(more) lines more"] }
        return lines.joined(separator: "\n")
    }

    private var position: String {
        func place(_ machine: Machine) -> String {
            "count \(machine.clock.count) rip 0x\(Hex.digits(machine.processor.cpu.pointee.rip, 1))"
        }
        return "  at \(place(interpreter)), \(place(translator))"
    }

    private var fields: [String] {
        interpreter.differences(from: translator).flatMap { field -> [String] in
            guard let array = Self.arrays[field.path] else { return [line(field.path, field.mine, field.other)] }
            return stride(from: 0, to: field.mine.count, by: array.size).compactMap { offset in
                let (mine, other) = (
                    field.mine[offset..<offset + array.size], field.other[offset..<offset + array.size]
                )
                let index = offset / array.size
                let name = index < array.names.count ? array.names[index] : "\(field.path)[\(index)]"
                return mine == other ? nil : line(name, Array(mine), Array(other))
            }
        }
    }

    /// A number of up to 16 bytes, or the bytes from the first difference on.
    private func line(_ name: String, _ mine: [UInt8], _ other: [UInt8]) -> String {
        if mine.count == other.count, mine.count <= Self.bytesShown {
            return "  \(name)  \(number(mine))  \(number(other))"
        }
        let first = zip(mine, other).enumerated().first { $1.0 != $1.1 }?.offset ?? min(mine.count, other.count)
        return "  \(name)+0x\(Hex.digits(UInt64(first), 1))  \(bytes(mine, first))  \(bytes(other, first))"
    }

    private func number(_ bytes: [UInt8]) -> String { bytes.reversed().map { Hex.digits($0, 2) }.joined() }

    private func bytes(_ bytes: [UInt8], _ start: Int) -> String {
        bytes.dropFirst(start).prefix(Self.bytesShown).map { Hex.digits($0, 2) }.joined()
    }

    private var pages: [String] {
        let (mine, others) = (interpreter.memory.ramBytes, translator.memory.ramBytes)
        return interpreter.differingPages(from: translator).map { page in
            func content(_ ram: UnsafeMutableRawBufferPointer) -> [UInt8] {
                Array(ram[Int(page)..<Int(page + pageSize)])
            }
            return line("page 0x\(Hex.digits(page, 1))", content(mine), content(others))
        }
    }
}

enum Hex {
    /// Hexadecimal digits, at least `count`.
    static func digits(_ value: some UnsignedInteger, _ count: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(count - text.count, 0)) + text
    }

    /// `text` with spaces after it, at least `width` characters.
    static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(width - text.count, 0))
    }
}
