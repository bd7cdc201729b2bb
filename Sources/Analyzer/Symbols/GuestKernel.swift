import VMM

/// A Linux kernel as it lies in a guest's memory: its symbols, where it was put, and its types.
package struct GuestKernel {
    package let kallsyms: Kallsyms
    /// Memory as the kernel's own page tables show it, whatever the processor runs.
    package private(set) var pages: GuestPages
    /// Whether those are the kernel's own, and not the ones of the process that happened to run.
    private let hasOwnTables: Bool
    /// Linear minus physical addresses of the kernel's image.
    package let imageDelta: UInt64
    /// The image's linear addresses.
    package let image: Range<UInt64>
    package let btf: BTF?
    private let addresses: [String: UInt64]

    /// Symbols that are looked up by name: not a dictionary of all.
    private static let known: Set<String> = [
        "_text", "_stext", "_end", "kallsyms_token_table", "kallsyms_names", "init_top_pgt", "init_level4_pgt",
        "swapper_pg_dir", "__start_BTF", "__stop_BTF", "__per_cpu_offset", "current_task", "pcpu_hot", "init_task",
        "modules", "linux_banner", "__do_sys_getpid", "sys_getpid", "__start_notes", "__stop_notes",
    ]
    private static let largestBTF: UInt64 = 64 << 20
    private static let largestImage: UInt64 = 1 << 30

    /// Finds the kernel of `machine`; nil if none with a symbol table runs there.
    package init?(_ machine: Machine) {
        self.init(GuestPages(machine))
    }

    package init?(_ pages: GuestPages) {
        for table in Kallsyms.all(in: pages.ram) {
            if let kernel = GuestKernel(table, pages) {
                self = kernel
                return
            }
        }
        return nil
    }

    /// Nil if `table` is not where the page tables have it: a copy that was left behind.
    private init?(_ table: Kallsyms, _ pages: GuestPages) {
        var addresses: [String: UInt64] = [:]
        for entry in table.entries where Self.known.contains(entry.name) && addresses[entry.name] == nil {
            addresses[entry.name] = entry.address
        }
        guard let text = addresses["_text"] ?? addresses["_stext"] else { return nil }
        let mask: UInt64 = table.wordSize == 8 ? .max : 0xFFFF_FFFF
        let delta: UInt64
        if let place = addresses["kallsyms_token_table"] {
            delta = (place &- UInt64(table.tokenPlace)) & mask
            if let names = addresses["kallsyms_names"], names &- delta & mask != UInt64(table.namesPlace) { return nil }
        } else if let physical = pages.translate(text) {
            delta = (text &- physical) & mask
        } else {
            return nil
        }
        let end = addresses["_end"] ?? table.entries.last { $0.address >= text }?.address ?? text
        guard delta & 0xFFF == 0, end > text, end - text <= Self.largestImage else { return nil }
        var own = pages
        own.paging = table.wordSize == 8 ? .long : pages.paging == .legacy ? .legacy : .pae
        let top = addresses["init_top_pgt"] ?? addresses["init_level4_pgt"] ?? addresses["swapper_pg_dir"]
        if let top { own.root = (top &- delta) & mask }
        let hasOwnTables = top != nil && own.translate(text) != nil
        if !hasOwnTables { own = pages }
        guard own.translate(text) == (text &- delta) & mask else { return nil }
        kallsyms = table
        self.pages = own
        self.hasOwnTables = hasOwnTables
        imageDelta = delta
        image = text..<end
        self.addresses = addresses
        btf = Self.types(own, addresses, physical: (text &- delta) & mask, size: end - text)
    }

    /// The kernel's types: between two symbols or, where the table names functions alone, by how they begin.
    private static func types(
        _ pages: GuestPages, _ addresses: [String: UInt64], physical: UInt64, size: UInt64
    ) -> BTF? {
        if let start = addresses["__start_BTF"], let stop = addresses["__stop_BTF"] {
            return start < stop && stop - start <= largestBTF ? BTF(pages.bytes(start, count: Int(stop - start))) : nil
        }
        let first = min(physical, UInt64(pages.ram.count))
        let image = UnsafeRawBufferPointer(
            rebasing: pages.ram[Int(first)..<Int(min(first + size, UInt64(pages.ram.count)))])
        let header = UInt64(BTF.magic) | 1 << 16 | 24 << 32
        for place in stride(from: 0, to: image.count - 24, by: 4)
        where image.loadUnaligned(fromByteOffset: place, as: UInt64.self) == header {
            let rest = UnsafeRawBufferPointer(rebasing: image[place..<min(place + Int(largestBTF), image.count)])
            if let types = BTF(Array(rest)), types.size(of: "task_struct") != nil { return types }
        }
        return nil
    }

    /// The same kernel in another machine's memory.
    func moved(to pages: GuestPages) -> GuestKernel {
        var kernel = self
        kernel.pages = GuestPages(
            ram: pages.ram, paging: self.pages.paging, root: hasOwnTables ? self.pages.root : pages.root)
        return kernel
    }

    /// The address of one of the kernel's own symbols that analysis needs.
    func address(_ name: String) -> UInt64? { addresses[name] }

    /// Where the image lies in RAM.
    package var physicalImage: Range<UInt64> {
        let mask: UInt64 = kallsyms.wordSize == 8 ? .max : 0xFFFF_FFFF
        let start = (image.lowerBound &- imageDelta) & mask
        return start..<start + (image.upperBound - image.lowerBound)
    }

    /// How far the image lies from where it was linked, which `preferred`, the physical load address in the boot
    /// image's header, tells.
    package func slide(preferred: UInt64) -> Int64 {
        let linked = kallsyms.wordSize == 8 ? 0xFFFF_FFFF_8000_0000 &+ preferred : imageDelta &+ preferred
        return Int64(bitPattern: image.lowerBound &- linked)
    }

    /// What the kernel says it is: the line that it prints first.
    package var banner: String? {
        let start = "Linux version "
        if let place = addresses["linux_banner"], let text = pages.text(place, longest: 512), text.hasPrefix(start) {
            return String(text.prefix { $0 != "\n" })
        }
        // A table of functions alone does not name it.
        let image = physicalImage.clamped(to: 0..<UInt64(pages.ram.count))
        let bytes = UnsafeRawBufferPointer(rebasing: pages.ram[Int(image.lowerBound)..<Int(image.upperBound)])
        guard let place = bytes.firstRange(of: Array(start.utf8))?.lowerBound else { return nil }
        return String(decoding: bytes[place...].prefix { $0 != 0 && $0 != 0x0A }.prefix(512), as: UTF8.self)
    }

    /// The kernel's build ID, from its notes.
    package var buildID: [UInt8]? {
        guard let start = addresses["__start_notes"], let stop = addresses["__stop_notes"], start < stop,
            stop - start <= 65536
        else { return nil }
        return ELFSymbols.buildID(pages.bytes(start, count: Int(stop - start)))
    }

    /// The kernel's symbols and its modules', by address.
    package var symbols: SymbolTable {
        // The per-CPU area has addresses of its own, which mean nothing to an instruction.
        var symbols = kallsyms.entries.filter { $0.address >= image.lowerBound || kallsyms.coding == .absolute }
            .map { Symbol(address: $0.address, type: $0.type, name: $0.name) }
        var regions = [image]
        for module in KernelModule.all(self) {
            symbols += module.symbols
            regions += module.regions
        }
        symbols.removeAll { symbol in !regions.contains { $0.contains(symbol.address) } }
        return SymbolTable(symbols, regions: regions)
    }
}
