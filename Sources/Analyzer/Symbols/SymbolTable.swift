/// A name for an address of the guest.
package struct Symbol: Equatable {
    package var address: UInt64
    /// As nm prints it; `T` for what is not known better.
    package var type: UInt8
    package var name: String
    /// The loadable module that it belongs to; nil for the kernel itself.
    package var module: String?

    package init(address: UInt64, type: UInt8 = 0x54, name: String, module: String? = nil) {
        self.address = address
        self.type = type
        self.name = name
        self.module = module
    }
}

/// Symbols by address. Of several at one address the first that was given counts, as in the kernel.
package struct SymbolTable {
    /// Ascending, one for each address.
    package let symbols: [Symbol]
    private let addresses: [UInt64]
    /// Where each symbol's reach ends at the latest.
    private let limits: [UInt64]

    /// `regions` are where code can be; a symbol does not reach beyond the region that it lies in.
    package init(_ symbols: [Symbol], regions: [Range<UInt64>] = []) {
        var unique: [Symbol] = []
        unique.reserveCapacity(symbols.count)
        let order = symbols.indices.sorted { (symbols[$0].address, $0) < (symbols[$1].address, $1) }
        for index in order where unique.last?.address != symbols[index].address { unique.append(symbols[index]) }
        self.symbols = unique
        let addresses = unique.map(\.address)
        self.addresses = addresses
        limits = addresses.indices.map { index in
            let next = index + 1 < addresses.count ? addresses[index + 1] : .max
            return regions.first { $0.contains(addresses[index]) }.map { min($0.upperBound, next) } ?? next
        }
    }

    package var isEmpty: Bool { symbols.isEmpty }

    /// The number of the symbol that `address` belongs to.
    package func index(of address: UInt64) -> Int? {
        var (low, high) = (0, addresses.count)
        while low < high {
            let middle = (low + high) / 2
            if addresses[middle] <= address { low = middle + 1 } else { high = middle }
        }
        return low > 0 && address < limits[low - 1] ? low - 1 : nil
    }

    /// The symbol that `address` belongs to and how far it lies behind its beginning.
    package func lookup(_ address: UInt64) -> (symbol: Symbol, offset: UInt64)? {
        index(of: address).map { (symbols[$0], address - addresses[$0]) }
    }

    /// How many bytes symbol `index` reaches.
    package func size(_ index: Int) -> UInt64 { limits[index] == .max ? 0 : limits[index] - addresses[index] }
}
