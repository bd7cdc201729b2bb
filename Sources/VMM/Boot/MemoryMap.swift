/// The guest-physical memory map as a BIOS would report it (ACPI specification, 15.1).
package struct MemoryMap {
    /// Address range types.
    package enum Kind: UInt32 {
        case usable = 1
        case reserved = 2
    }

    package struct Entry: Equatable {
        package var range: Range<UInt64>
        package var kind: Kind
    }

    /// Where conventional memory ends and the extended BIOS data area begins.
    package static let ebda: UInt64 = 0x9_FC00
    package static let legacyHole: UInt64 = 0xA_0000
    /// The system BIOS segment, which holds the ACPI tables of a machine started without firmware.
    package static let biosSegment: UInt64 = 0xF_0000
    package static let highMemory: UInt64 = 0x10_0000
    /// I/O APIC, local APIC and firmware; RAM ends far below.
    package static let chipsetTop: Range<UInt64> = 0xFEC0_0000..<0x1_0000_0000

    /// Bytes of RAM, all of it from address 0 on.
    package let memorySize: UInt64

    package init(memorySize: UInt64) { self.memorySize = memorySize }

    package var entries: [Entry] {
        [
            Entry(range: 0..<Self.ebda, kind: .usable),
            Entry(range: Self.ebda..<Self.legacyHole, kind: .reserved),
            Entry(range: Self.biosSegment..<Self.highMemory, kind: .reserved),
            Entry(range: Self.highMemory..<memorySize, kind: .usable),
            Entry(range: Self.chipsetTop, kind: .reserved),
        ]
    }

    /// KB of conventional memory, as INT 12h gives it.
    package static let lowerKilobytes = ebda >> 10
    /// KB of memory from 1 MB on.
    package var upperKilobytes: UInt64 { (memorySize - Self.highMemory) >> 10 }
}
