/// The program headers of an ELF executable for x86, 32 or 64 bits (System V ABI, chapters 4 and 5).
package struct ELFImage {
    /// A segment to load: bytes of the file, then zeros up to `memorySize`.
    package struct Segment: Equatable {
        package var fileOffset: UInt64
        package var fileSize: UInt64
        package var virtualAddress: UInt64
        package var physicalAddress: UInt64
        package var memorySize: UInt64
    }

    /// Where the section headers are, for a loader that passes them on.
    package struct SectionTable: Equatable {
        package var offset: UInt64
        package var count: UInt32
        package var entrySize: UInt32
        package var nameSection: UInt32
    }

    private static let magic: UInt32 = 0x464C_457F
    private static let class32: UInt8 = 1
    private static let class64: UInt8 = 2
    private static let littleEndian: UInt8 = 1
    private static let machine386: UInt16 = 3
    private static let machineX8664: UInt16 = 62
    private static let loadable: UInt32 = 1

    package let entry: UInt64
    package let segments: [Segment]
    package let sections: SectionTable

    package static func isELF(_ image: ImageReader) -> Bool {
        (try? image.integer("the ELF header", at: 0) as UInt32) == magic
    }

    package init(_ image: ImageReader) throws(BootError) {
        let header = "the ELF header"
        guard Self.isELF(image) else { throw .notAKernel(reason: "no ELF header") }
        let fileClass: UInt8 = try image.integer(header, at: 4)
        guard fileClass == Self.class32 || fileClass == Self.class64 else {
            throw .badField("the ELF class", value: UInt64(fileClass), expected: "1 or 2")
        }
        let order: UInt8 = try image.integer(header, at: 5)
        guard order == Self.littleEndian else {
            throw .badField("the ELF byte order", value: UInt64(order), expected: "1 (little-endian)")
        }
        let machine: UInt16 = try image.integer(header, at: 18)
        guard machine == Self.machine386 || machine == Self.machineX8664 else {
            throw .badField("the ELF machine", value: UInt64(machine), expected: "3 (386) or 62 (x86-64)")
        }
        let is64 = fileClass == Self.class64
        entry = try Self.address(header, image, at: 24, is64)
        let tableOffset = try Self.address(header, image, at: is64 ? 32 : 28, is64)
        let sectionOffset = try Self.address(header, image, at: is64 ? 40 : 32, is64)
        let counts: UInt64 = is64 ? 54 : 42
        let entrySize: UInt16 = try image.integer(header, at: counts)
        let count: UInt16 = try image.integer(header, at: counts + 2)
        sections = SectionTable(
            offset: sectionOffset, count: UInt32(try image.integer(header, at: counts + 6) as UInt16),
            entrySize: UInt32(try image.integer(header, at: counts + 4) as UInt16),
            nameSection: UInt32(try image.integer(header, at: counts + 8) as UInt16))
        guard count == 0 || entrySize >= (is64 ? 56 : 32) else {
            throw .badField("the ELF program header size", value: UInt64(entrySize), expected: is64 ? "56" : "32")
        }
        var found: [Segment] = []
        for index in 0..<UInt64(count) {
            let (offset, overflow) = tableOffset.addingReportingOverflow(index * UInt64(entrySize))
            guard !overflow else { throw .truncated(part: "the ELF program header", needed: .max, size: image.size) }
            if let segment = try Self.segment(image, at: offset, is64) { found.append(segment) }
        }
        segments = found
    }

    private static func address(
        _ part: String, _ image: ImageReader, at offset: UInt64, _ is64: Bool
    ) throws(BootError) -> UInt64 {
        is64 ? try image.integer(part, at: offset) : UInt64(try image.integer(part, at: offset) as UInt32)
    }

    /// The segment of the program header at `offset`, nil if it is not one to load.
    private static func segment(
        _ image: ImageReader, at offset: UInt64, _ is64: Bool
    ) throws(BootError) -> Segment? {
        let part = "the ELF program header"
        let kind: UInt32 = try image.integer(part, at: offset)
        _ = try image.slice(part, at: offset, count: is64 ? 56 : 32)
        guard kind == loadable else { return nil }
        func field(_ offset32: UInt64, _ offset64: UInt64) throws(BootError) -> UInt64 {
            try address(part, image, at: offset + (is64 ? offset64 : offset32), is64)
        }
        let segment = Segment(
            fileOffset: try field(4, 8), fileSize: try field(16, 32), virtualAddress: try field(8, 16),
            physicalAddress: try field(12, 24), memorySize: try field(20, 40))
        guard segment.memorySize >= segment.fileSize else {
            throw .badField(
                "an ELF segment's size in memory", value: segment.memorySize,
                expected: "no less than its size in the file")
        }
        return segment.memorySize == 0 ? nil : segment
    }
}
