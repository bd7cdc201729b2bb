/// A module that a guest's kernel had loaded, found through the kernel's types.
struct KernelModule {
    private static let most = 4096
    private static let mostSymbols = 1 << 18
    private static let longestName = 64
    private static let longestSymbol = 512
    private static let mostSize: UInt64 = 256 << 20

    let name: String
    let regions: [Range<UInt64>]
    let symbols: [Symbol]

    /// The modules in the kernel's list, none if it has no types to find them by.
    static func all(_ kernel: GuestKernel) -> [KernelModule] {
        guard let head = kernel.address("modules"), let layout = Layout(kernel) else { return [] }
        var modules: [KernelModule] = []
        var (steps, symbols) = (0, 0)
        var link = kernel.pages.word(head) ?? head
        while link != head, steps < most, symbols < Self.mostSymbols {
            steps += 1
            if let module = KernelModule(kernel, at: link &- UInt64(layout.list), layout) {
                modules.append(module)
                symbols += module.symbols.count
            }
            guard let next = kernel.pages.word(link) else { break }
            link = next
        }
        return modules
    }

    /// Where `struct module` has what is needed.
    struct Layout {
        let list: Int
        let name: Int
        /// Base and size of each piece of its memory.
        let pieces: [(base: Int, size: Int)]
        let kallsyms: Int
        let symtab: Int
        let count: Int
        let strtab: Int

        init?(_ kernel: GuestKernel) {
            guard let btf = kernel.btf, let list = btf.offset(of: "list", in: "module"),
                let name = btf.offset(of: "name", in: "module"),
                let kallsyms = btf.offset(of: "kallsyms", in: "module"),
                let symtab = btf.offset(of: "symtab", in: "mod_kallsyms"),
                let count = btf.offset(of: "num_symtab", in: "mod_kallsyms"),
                let strtab = btf.offset(of: "strtab", in: "mod_kallsyms")
            else { return nil }
            self.list = list
            self.name = name
            self.kallsyms = kallsyms
            self.symtab = symtab
            self.count = count
            self.strtab = strtab
            pieces = Self.pieces(btf)
        }

        /// One piece and one for its beginning before Linux 6.4, an array by type since.
        private static func pieces(_ btf: BTF) -> [(base: Int, size: Int)] {
            if let array = btf.offset(of: "mem", in: "module"), let stride = btf.size(of: "module_memory"),
                let base = btf.offset(of: "base", in: "module_memory"),
                let size = btf.offset(of: "size", in: "module_memory")
            {
                return (0..<7).map { (array + $0 * stride + base, array + $0 * stride + size) }
            }
            return ["core_layout", "init_layout"].compactMap { piece in
                guard let base = btf.offset(of: piece + ".base", in: "module"),
                    let size = btf.offset(of: piece + ".size", in: "module")
                else { return nil }
                return (base, size)
            }
        }
    }

    private init?(_ kernel: GuestKernel, at place: UInt64, _ layout: Layout) {
        let pages = kernel.pages
        guard let name = pages.text(place &+ UInt64(layout.name), longest: Self.longestName), !name.isEmpty else {
            return nil
        }
        self.name = name
        regions = layout.pieces.compactMap { piece in
            guard let base = pages.word(place &+ UInt64(piece.base)), base != 0,
                let size = pages.number(place &+ UInt64(piece.size), size: 4), size > 0, size <= Self.mostSize,
                base <= .max - size
            else { return nil }
            return base..<base + size
        }
        symbols = Self.symbols(kernel, at: place, layout, module: name)
    }

    private static func symbols(
        _ kernel: GuestKernel, at place: UInt64, _ layout: Layout, module: String
    ) -> [Symbol] {
        let pages = kernel.pages
        guard let kallsyms = pages.word(place &+ UInt64(layout.kallsyms)), kallsyms != 0,
            let symtab = pages.word(kallsyms &+ UInt64(layout.symtab)),
            let count = pages.number(kallsyms &+ UInt64(layout.count), size: 4), count <= UInt64(mostSymbols),
            let strtab = pages.word(kallsyms &+ UInt64(layout.strtab))
        else { return [] }
        let is64 = kernel.kallsyms.wordSize == 8
        let entrySize = is64 ? 24 : 16
        let table = pages.bytes(symtab, count: Int(count) * entrySize)
        var symbols: [Symbol] = []
        for start in stride(from: 0, to: table.count - entrySize + 1, by: entrySize) {
            func number(_ offset: Int, _ size: Int) -> UInt64 {
                table[(start + offset)..<(start + offset + size)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
            }
            let section = number(is64 ? 6 : 14, 2)
            let value = is64 ? number(8, 8) : number(4, 4)
            guard section != 0, value != 0,
                let name = pages.text(strtab &+ number(0, 4), longest: longestSymbol), !name.isEmpty
            else { continue }
            symbols.append(Symbol(address: value, type: 0x74, name: name, module: module))
        }
        return symbols
    }
}
