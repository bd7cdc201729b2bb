import CXXHash

/// Symbols from a file: a System.map, the output of nm or of /proc/kallsyms, or an ELF file with a symbol table.
package struct SymbolFile {
    /// What the file is called in complaints.
    package let path: String
    package let digest: String
    private let found: [Symbol]
    private let buildID: [UInt8]?

    package init(_ bytes: [UInt8], path: String) throws(AnalysisError) {
        self.path = path
        digest = String(XXH3_64bits(bytes, bytes.count), radix: 16)
        if bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) {
            guard let elf = ELFSymbols(bytes) else { throw AnalysisError("\(path): a damaged ELF file") }
            guard !elf.symbols.isEmpty else { throw AnalysisError("\(path): an ELF file without a symbol table") }
            found = elf.symbols
            buildID = elf.buildID
        } else {
            found = try Self.map(bytes, path)
            buildID = nil
        }
    }

    /// Lines of address, type and name.
    private static func map(_ bytes: [UInt8], _ path: String) throws(AnalysisError) -> [Symbol] {
        var symbols: [Symbol] = []
        for (number, line) in bytes.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }).enumerated() {
            let parts = line.split(separator: 0x20, maxSplits: 2)
            guard parts.count == 3, parts[1].count == 1, let type = parts[1].first,
                let address = UInt64(String(decoding: parts[0], as: UTF8.self), radix: 16)
            else {
                throw AnalysisError(
                    "\(path): line \(number + 1) is no symbol; expected an address, a type and a name, or an ELF file")
            }
            let fields = parts[2].split(whereSeparator: { $0 == 0x09 || $0 == 0x20 })
            guard let name = fields.first else { continue }
            symbols.append(Symbol(address: address, type: type, name: String(decoding: name, as: UTF8.self)))
        }
        guard !symbols.isEmpty else { throw AnalysisError("\(path): no symbols") }
        return symbols
    }

    /// The symbols where the guest has them. A kernel's are moved by as much as its own table says; one that is another
    /// build than the guest's is refused.
    package func symbols(for kernel: GuestKernel?) throws(AnalysisError) -> [Symbol] {
        guard let kernel, let linked = found.first(where: { $0.name == "_text" })?.address else { return found }
        if let buildID, let guest = kernel.buildID, buildID != guest {
            throw AnalysisError(
                "\(path) has build ID \(Self.hex(buildID)), the recorded kernel \(Self.hex(guest)): another build")
        }
        let slide = kernel.image.lowerBound &- linked
        // Below the kernel are per-CPU addresses, which do not move.
        return found.filter { $0.address >= linked }.map {
            Symbol(address: $0.address &+ slide, type: $0.type, name: $0.name)
        }
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
