/// The boot information that a multiboot kernel finds at EBX (Multiboot Specification 0.6.96, section 3.3), with all
/// that it points to.
struct MultibootInformation {
    // Bits of the flags field.
    private static let hasMemory: UInt32 = 1 << 0
    private static let hasCommandLine: UInt32 = 1 << 2
    private static let hasModules: UInt32 = 1 << 3
    private static let hasSections: UInt32 = 1 << 5
    private static let hasMemoryMap: UInt32 = 1 << 6
    private static let hasLoaderName: UInt32 = 1 << 9
    private static let hasFramebuffer: UInt32 = 1 << 12
    private static let size = 116
    private static let loaderName = "Trapline"
    private static let textFramebuffer: UInt64 = 0xB8000
    private static let textFramebufferType: UInt8 = 2
    private static let sectionHeaderBytes: UInt32 = 40

    /// Where the structure goes in conventional memory: above what a BIOS uses.
    private static let conventional: Range<UInt64> = 0x9000..<MemoryMap.ebda

    /// Memory that is handed out from its start on.
    private struct Arena {
        var next: UInt64
        let end: UInt64
    }

    /// Guest-physical address of the structure.
    let address: UInt64
    /// For what is small: conventional memory, because kernels take what follows them for their own.
    private var near: Arena
    /// For the rest: memory behind the kernel.
    private var far: Arena
    private var block = GuestBlock(size: size)
    private var flags: UInt32 = 0
    private var parts: [(address: UInt64, bytes: [UInt8])] = []

    /// Finds room around a kernel at these addresses. If it is in conventional memory itself, all goes behind it.
    init(kernel: [Range<UInt64>], map: MemoryMap) {
        let end = kernel.map(\.upperBound).max() ?? 0
        far = Arena(next: (max(end, MemoryMap.highMemory) + 4095) & ~4095, end: map.memorySize)
        near = Arena(next: Self.conventional.lowerBound, end: Self.conventional.upperBound)
        if kernel.contains(where: { $0.overlaps(Self.conventional) }) {
            let middle = min(far.next + Self.conventional.upperBound, far.end)
            near = Arena(next: far.next, end: middle)
            far = Arena(next: middle, end: far.end)
        }
        address = near.next
        near.next += UInt64(Self.size)
    }

    /// Reserves room for `bytes` and remembers to store them there.
    private mutating func add(
        _ bytes: [UInt8], _ part: String, alignment: UInt64 = 4, in arena: WritableKeyPath<Self, Arena> = \.near
    ) throws(BootError) -> UInt32 {
        let place = (self[keyPath: arena].next + alignment - 1) & ~(alignment - 1)
        let end = place + UInt64(bytes.count)
        guard end <= self[keyPath: arena].end else {
            throw .doesNotFit(part: part, from: place, to: end, memory: far.end)
        }
        parts.append((place, bytes))
        self[keyPath: arena].next = end
        return UInt32(truncatingIfNeeded: place)
    }

    private mutating func add(_ text: String, _ part: String) throws(BootError) -> UInt32 {
        try add(Array(text.utf8) + [0], part)
    }

    mutating func setMemoryMap(_ map: MemoryMap) throws(BootError) {
        let entrySize = 24
        var table = GuestBlock(size: map.entries.count * entrySize)
        for (index, entry) in map.entries.enumerated() {
            table.set(index * entrySize, UInt32(entrySize - 4))
            table.set(index * entrySize + 4, entry.range.lowerBound)
            table.set(index * entrySize + 12, UInt64(entry.range.count))
            table.set(index * entrySize + 20, entry.kind.rawValue)
        }
        block.set(4, UInt32(MemoryMap.lowerKilobytes))
        block.set(8, UInt32(map.upperKilobytes))
        block.set(44, UInt32(table.bytes.count))
        block.set(48, try add(table.bytes, "the memory map"))
        flags |= Self.hasMemory | Self.hasMemoryMap
    }

    mutating func setStrings(commandLine: String) throws(BootError) {
        block.set(16, try add(commandLine, "the command line"))
        block.set(64, try add(Self.loaderName, "the loader's name"))
        flags |= Self.hasCommandLine | Self.hasLoaderName
    }

    /// The display's text mode, for a kernel that asks for a video mode.
    mutating func setTextMode() {
        block.set(88, Self.textFramebuffer)
        block.set(96, UInt32(160))
        block.set(100, UInt32(80))
        block.set(104, UInt32(25))
        block.set(108, UInt8(16))
        block.set(109, Self.textFramebufferType)
        flags |= Self.hasFramebuffer
    }

    /// The section headers of a 32-bit ELF kernel and the contents of sections that were not loaded (its symbols).
    mutating func setSections(_ table: ELFImage.SectionTable, image: ImageReader) throws(BootError) {
        guard table.count > 0, table.entrySize == Self.sectionHeaderBytes,
            let bytes = try? image.slice(
                "the section headers", at: table.offset, count: UInt64(table.count) * UInt64(table.entrySize))
        else { return }
        var headers = GuestBlock(size: bytes.count)
        headers.set(0, bytes: bytes)
        for index in 0..<UInt64(table.count) {
            let header = table.offset + index * UInt64(table.entrySize)
            let address: UInt32 = try image.integer("a section header", at: header + 12)
            let offset: UInt32 = try image.integer("a section header", at: header + 16)
            let size: UInt32 = try image.integer("a section header", at: header + 20)
            guard address == 0, size > 0,
                let contents = try? image.slice("a section", at: UInt64(offset), count: UInt64(size))
            else { continue }
            let place = try add(Array(contents), "a section of the kernel", alignment: 16, in: \.far)
            headers.set(Int(index) * Int(table.entrySize) + 12, place)
        }
        block.set(28, table.count)
        block.set(32, table.entrySize)
        block.set(36, try add(headers.bytes, "the section headers", in: \.far))
        block.set(40, table.nameSection)
        flags |= Self.hasSections
    }

    mutating func setModules(_ modules: [MultibootKernel.Module]) throws(BootError) {
        let entrySize = 16
        var table = GuestBlock(size: modules.count * entrySize)
        for (index, module) in modules.enumerated() {
            table.set(index * entrySize + 8, try add(module.commandLine, "a module's command line"))
            let start = try add(module.bytes, "a module", alignment: 4096, in: \.far)
            table.set(index * entrySize, start)
            table.set(index * entrySize + 4, start &+ UInt32(truncatingIfNeeded: module.bytes.count))
        }
        block.set(20, UInt32(modules.count))
        block.set(24, modules.isEmpty ? 0 : try add(table.bytes, "the module table"))
        flags |= Self.hasModules
    }

    mutating func store(into memory: some DMAMemory) {
        block.set(0, flags)
        memory.store(block.bytes, at: address)
        for part in parts { memory.store(part.bytes, at: part.address) }
    }
}
