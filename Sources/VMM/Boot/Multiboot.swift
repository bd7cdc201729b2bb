/// A kernel with a multiboot header, checked (Multiboot Specification 0.6.96): ELF of 32 or 64 bits, or any image whose
/// header gives its addresses. It is entered in 32-bit protected mode.
package struct MultibootKernel {
    /// A file passed along with the kernel, and the words that go with it.
    package struct Module {
        package var bytes: [UInt8]
        package var commandLine: String

        package init(bytes: [UInt8], commandLine: String) {
            self.bytes = bytes
            self.commandLine = commandLine
        }
    }

    /// A part of the image and the physical memory it fills; what the file does not give is zero.
    private struct Segment {
        var fileOffset: UInt64
        var fileSize: UInt64
        var memory: Range<UInt64>
    }

    /// The whole image as it was given.
    package var bytes: [UInt8] { image.bytes }

    private static let magic: UInt32 = 0x1BAD_B002
    private static let bootMagic: UInt64 = 0x2BAD_B002
    /// The header lies within this much of the image.
    private static let searchLimit: UInt64 = 8192
    // Header flags. Modules are always page-aligned and the memory map is always given.
    private static let knownRequirements: UInt32 = 0b111
    private static let requirementBits: UInt32 = 0xFFFF
    private static let videoMode: UInt32 = 1 << 2
    private static let hasAddresses: UInt32 = 1 << 16

    private let image: ImageReader
    private let segments: [Segment]
    private let entry: UInt64
    private let sections: ELFImage.SectionTable?
    private let wantsVideoMode: Bool

    /// Where the header is in `bytes`, nil if there is none.
    private static func headerOffset(_ image: ImageReader) -> UInt64? {
        let last = min(searchLimit, image.size)
        guard last >= 12 else { return nil }
        return stride(from: 0, through: last - 12, by: 4).first { offset in
            guard let magic: UInt32 = try? image.integer("header", at: offset), magic == Self.magic,
                let flags: UInt32 = try? image.integer("header", at: offset + 4),
                let checksum: UInt32 = try? image.integer("header", at: offset + 8)
            else { return false }
            return magic &+ flags &+ checksum == 0
        }
    }

    /// Whether the image carries a multiboot header.
    package static func isMultiboot(_ bytes: [UInt8]) -> Bool { headerOffset(ImageReader(bytes)) != nil }

    /// Checks the headers and that the file holds what they promise.
    package init(_ bytes: [UInt8]) throws(BootError) {
        image = ImageReader(bytes)
        guard let header = Self.headerOffset(image) else { throw .notAKernel(reason: "no multiboot header") }
        let flags: UInt32 = try image.integer("the multiboot header", at: header + 4)
        let unknown = flags & Self.requirementBits & ~Self.knownRequirements
        guard unknown == 0 else {
            throw .unsupportedFeature("the multiboot requirement 0x\(String(unknown, radix: 16))")
        }
        wantsVideoMode = flags & Self.videoMode != 0
        if flags & Self.hasAddresses != 0 {
            (segments, entry) = try Self.addressed(image, header: header)
            sections = nil
        } else {
            let elf = try ELFImage(image)
            (segments, entry) = try Self.fromELF(elf, image)
            sections = elf.sections
        }
        guard !segments.isEmpty else { throw .notAKernel(reason: "nothing in it is to be loaded") }
    }

    /// What the address fields of the header say is loaded (section 3.1.3).
    private static func addressed(
        _ image: ImageReader, header: UInt64
    ) throws(BootError) -> ([Segment], entry: UInt64) {
        func field(_ offset: UInt64) throws(BootError) -> UInt64 {
            UInt64(try image.integer("the multiboot header", at: header + offset) as UInt32)
        }
        let headerAddress = try field(12)
        let load = try field(16)
        let loadEnd = try field(20)
        let bssEnd = try field(24)
        guard load <= headerAddress, headerAddress - load <= header else {
            throw .badField("the multiboot load address", value: load, expected: "an address within the image")
        }
        let offset = header - (headerAddress - load)
        guard loadEnd == 0 || loadEnd >= load else {
            throw .badField("the multiboot load end", value: loadEnd, expected: "an address past the load address")
        }
        let size = loadEnd == 0 ? image.size - offset : loadEnd - load
        _ = try image.slice("the kernel's text and data", at: offset, count: size)
        let end = max(load + size, bssEnd)
        return ([Segment(fileOffset: offset, fileSize: size, memory: load..<end)], try field(28))
    }

    /// The segments of an ELF image at their physical addresses. An entry point given as a virtual address is
    /// taken to where that address is loaded.
    private static func fromELF(
        _ elf: ELFImage, _ image: ImageReader
    ) throws(BootError) -> ([Segment], entry: UInt64) {
        var entry = elf.entry
        var segments: [Segment] = []
        for segment in elf.segments {
            _ = try image.slice("an ELF segment", at: segment.fileOffset, count: segment.fileSize)
            let (end, overflow) = segment.physicalAddress.addingReportingOverflow(segment.memorySize)
            guard !overflow else {
                throw .badField("an ELF segment's address", value: segment.physicalAddress, expected: "one below 4 GB")
            }
            segments.append(
                Segment(
                    fileOffset: segment.fileOffset, fileSize: segment.fileSize, memory: segment.physicalAddress..<end))
            if elf.entry >= segment.virtualAddress, elf.entry - segment.virtualAddress < segment.memorySize {
                entry = segment.physicalAddress + (elf.entry - segment.virtualAddress)
            }
        }
        return (segments, entry)
    }

    // MARK: Loading

    /// Puts kernel, modules and the boot information into memory.
    /// - Returns: the state in which the kernel is to be entered.
    package func load(
        into memory: some DMAMemory, map: MemoryMap, modules: [Module], commandLine: String
    ) throws(BootError) -> EntryState {
        var total: UInt64 = 0
        for segment in segments {
            let range = segment.memory
            let inConventional = range.upperBound <= MemoryMap.ebda
            guard inConventional || range.lowerBound >= MemoryMap.highMemory && range.upperBound <= map.memorySize
            else {
                throw .doesNotFit(
                    part: "a segment of the kernel", from: range.lowerBound, to: range.upperBound,
                    memory: map.memorySize)
            }
            total += UInt64(range.count)
        }
        // Segments that overlap could ask for any amount of work.
        guard total <= map.memorySize else {
            throw .badField("the size of all segments", value: total, expected: "no more than the RAM")
        }
        guard segments.contains(where: { $0.memory.contains(entry) }) else {
            throw .badField("the entry point", value: entry, expected: "an address inside the kernel")
        }
        for segment in segments { store(segment, into: memory) }

        var information = MultibootInformation(kernel: segments.map(\.memory), map: map)
        try information.setMemoryMap(map)
        try information.setStrings(commandLine: commandLine)
        if wantsVideoMode { information.setTextMode() }
        if let sections { try information.setSections(sections, image: image) }
        try information.setModules(modules)
        information.store(into: memory)

        var state = EntryState(mode: .protected32, rip: entry)
        state.loadsDescriptorTable = false
        state.rax = Self.bootMagic
        state.rbx = information.address
        return state
    }

    private func store(_ segment: Segment, into memory: some DMAMemory) {
        let start = Int(segment.fileOffset)
        memory.store(image.bytes[start..<start + Int(segment.fileSize)], at: segment.memory.lowerBound)
        memory.fill(segment.memory.lowerBound + segment.fileSize..<segment.memory.upperBound)
    }
}

extension DMAMemory {
    /// Zeroes a range of guest-physical memory.
    fileprivate func fill(_ range: Range<UInt64>) {
        let zeros = [UInt8](repeating: 0, count: 65536)
        for address in stride(from: range.lowerBound, to: range.upperBound, by: zeros.count) {
            store(zeros.prefix(Int(min(range.upperBound - address, UInt64(zeros.count)))), at: address)
        }
    }
}
