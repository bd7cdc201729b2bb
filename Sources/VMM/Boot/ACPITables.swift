/// The ACPI tables of this machine, in the two forms that they reach a guest in: placed in memory for a kernel
/// started directly, or as files with a loader script for firmware.
package struct ACPITables {
    /// What differs between machines.
    package struct Configuration {
        /// Whether there are a local APIC and an I/O APIC to describe.
        package var hasAPIC: Bool
        /// The port base of the PIIX4's power management registers.
        package var powerManagementBase: UInt16 = PIIX4PM.usualBase

        /// The description of a machine with or without APICs.
        package init(hasAPIC: Bool) { self.hasAPIC = hasAPIC }
    }

    /// A place in the table block that holds the address of another place in it.
    private struct Pointer {
        var offset: Int
        var size: Int
        var target: Int
    }

    /// A checksum byte and the range that must sum to zero.
    private struct Checksum {
        var offset: Int
        var range: Range<Int>
    }

    private static let headerSize = 36
    /// The length of a revision 2 root pointer; its first 20 bytes are the revision 0 structure.
    package static let rootPointerSize = 36
    /// The alignment in bytes that the table block needs, for the FACS.
    package static let alignment = 64
    /// The system control interrupt, an ISA interrupt number.
    package static let sciInterrupt = 9

    private var bytes: [UInt8] = []
    private var pointers: [Pointer] = []
    private var checksums: [Checksum] = []
    private var rsdt = 0
    private var xsdt = 0

    /// Builds FACS, DSDT, FADT, MADT (with APICs only), RSDT and XSDT.
    package init(_ configuration: Configuration) {
        let facs = appendFACS()
        let dsdt = append("DSDT", revision: 1, DSDT.definitionBlock())
        var tables = [appendFADT(configuration, facs: facs, dsdt: dsdt)]
        if configuration.hasAPIC { tables.append(append("APIC", revision: 1, Self.madtBody())) }
        rsdt = appendRoot("RSDT", tables, pointerSize: 4)
        xsdt = appendRoot("XSDT", tables, pointerSize: 8)
    }

    /// The number of bytes of all tables without the root pointer.
    package var blockSize: Int { bytes.count }

    // MARK: Placed in memory

    /// The table block for guest-physical address `base` (a multiple of `alignment`), addresses and checksums done.
    package func block(at base: UInt32) -> [UInt8] {
        var block = linkedBlock(base: UInt64(base))
        for checksum in checksums { block[checksum.offset] = Self.balance(block[checksum.range]) }
        return block
    }

    /// The root pointer for tables at `base`; a guest finds it on a 16-byte boundary in 0xE0000 to 0xFFFFF.
    package func rootPointer(forBlockAt base: UInt32) -> [UInt8] {
        var root = linkedRootPointer(base: UInt64(base))
        root[8] = Self.balance(root[0..<20])
        root[32] = Self.balance(root[0..<36])
        return root
    }

    private func linkedBlock(base: UInt64) -> [UInt8] {
        var block = bytes
        for pointer in pointers {
            let address = AML.little(base + UInt64(pointer.target), pointer.size)
            block.replaceSubrange(pointer.offset..<pointer.offset + pointer.size, with: address)
        }
        return block
    }

    private func linkedRootPointer(base: UInt64) -> [UInt8] {
        Array("RSD PTR ".utf8) + [0] + Self.oemID + [2] + AML.little(base + UInt64(rsdt), 4)
            + AML.little(UInt64(Self.rootPointerSize), 4) + AML.little(base + UInt64(xsdt), 8) + [0, 0, 0, 0]
    }

    /// The byte that makes a sum zero; the range's own checksum byte must be zero.
    private static func balance(_ bytes: ArraySlice<UInt8>) -> UInt8 { 0 &- bytes.reduce(0, &+) }

    // MARK: For firmware

    private static let tablesFile = "etc/acpi/tables"
    private static let rootFile = "etc/acpi/rsdp"

    /// The files that firmware loads: the tables and the root pointer, with offsets where addresses belong (the
    /// loader adds the place of the block), and the script that links them.
    package var firmwareFiles: [(name: String, bytes: [UInt8])] {
        [
            (Self.tablesFile, linkedBlock(base: 0)), (Self.rootFile, linkedRootPointer(base: 0)),
            ("etc/table-loader", loaderScript),
        ]
    }

    /// 128-byte commands: allocate, add pointer, add checksum (QEMU's linker/loader interface for firmware).
    private var loaderScript: [UInt8] {
        func command(_ code: UInt64, _ fields: [UInt8]...) -> [UInt8] {
            let body = AML.little(code, 4) + fields.flatMap { $0 }
            return body + [UInt8](repeating: 0, count: 128 - body.count)
        }
        func file(_ name: String) -> [UInt8] {
            Array(name.utf8) + [UInt8](repeating: 0, count: 56 - name.utf8.count)
        }
        func number(_ value: Int) -> [UInt8] { AML.little(UInt64(value), 4) }
        let (allocate, addPointer, addChecksum): (UInt64, UInt64, UInt64) = (1, 2, 3)
        let (highZone, firmwareSegment): ([UInt8], [UInt8]) = ([1], [2])
        let (tables, root) = (file(Self.tablesFile), file(Self.rootFile))

        var script = command(allocate, tables, number(Self.alignment), highZone)
        script += command(allocate, root, number(16), firmwareSegment)
        for pointer in pointers {
            script += command(addPointer, tables, tables, number(pointer.offset), [UInt8(pointer.size)])
        }
        script += command(addPointer, root, tables, number(16), [4])
        script += command(addPointer, root, tables, number(24), [8])
        for checksum in checksums {
            let range = checksum.range
            script += command(
                addChecksum, tables, number(checksum.offset), number(range.lowerBound), number(range.count))
        }
        script += command(addChecksum, root, number(8), number(0), number(20))
        script += command(addChecksum, root, number(32), number(0), number(36))
        return script
    }

    // MARK: Tables

    private static let oemID = Array("TRAPLN".utf8)

    /// Appends a table with its header on an 8-byte boundary.
    /// - Returns: the table's offset in the block.
    private mutating func append(_ signature: String, revision: UInt8, _ body: [UInt8]) -> Int {
        bytes += [UInt8](repeating: 0, count: -bytes.count & 7)
        let start = bytes.count
        bytes += Array(signature.utf8) + AML.little(UInt64(Self.headerSize + body.count), 4) + [revision, 0]
        bytes += Self.oemID + Array("TRAPLINE".utf8) + AML.little(1, 4) + Array("TRPL".utf8) + AML.little(1, 4)
        bytes += body
        checksums.append(Checksum(offset: start + 9, range: start..<bytes.count))
        return start
    }

    private mutating func appendRoot(_ signature: String, _ tables: [Int], pointerSize: Int) -> Int {
        let body = [UInt8](repeating: 0, count: tables.count * pointerSize)
        let start = append(signature, revision: 1, body)
        for (index, table) in tables.enumerated() {
            let offset = start + Self.headerSize + index * pointerSize
            pointers.append(Pointer(offset: offset, size: pointerSize, target: table))
        }
        return start
    }

    /// The firmware control structure: first in the block for its alignment; it has no checksum.
    private mutating func appendFACS() -> Int {
        let start = bytes.count
        let length = 64
        bytes += Array("FACS".utf8) + AML.little(UInt64(length), 4)
        bytes += [UInt8](repeating: 0, count: start + length - bytes.count)
        return start
    }

    /// The fixed description table, revision 3 (ACPI 2.0): the PIIX4's registers.
    private mutating func appendFADT(_ configuration: Configuration, facs: Int, dsdt: Int) -> Int {
        let body = FADTBody(configuration)
        let start = append("FACP", revision: 3, body.bytes)
        pointers.append(Pointer(offset: start + 36, size: 4, target: facs))
        pointers.append(Pointer(offset: start + 40, size: 4, target: dsdt))
        pointers.append(Pointer(offset: start + 140, size: 8, target: dsdt))
        return start
    }

    /// The multiple APIC description: local APIC 0, I/O APIC 0, the PIT on input 2, PCI interrupts and the SCI
    /// level-triggered, NMI on LINT1.
    private static func madtBody() -> [UInt8] {
        let (localAPIC, ioAPIC) = (AML.little(0xFEE0_0000, 4), AML.little(0xFEC0_0000, 4))
        let hasLegacyPICs = AML.little(1, 4)
        var body = localAPIC + hasLegacyPICs
        body += [0, 8, 0, 0] + AML.little(1, 4)
        body += [1, 12, 0, 0] + ioAPIC + AML.little(0, 4)
        body += [2, 10, 0, 0] + AML.little(2, 4) + AML.little(0, 2)
        let activeHighLevel = AML.little(0b1101, 2)
        for irq: UInt8 in [5, 9, 10, 11] {
            body += [2, 10, 0, irq] + AML.little(UInt64(irq), 4) + activeHighLevel
        }
        let allProcessors: UInt8 = 0xFF
        body += [4, 6, allProcessors] + AML.little(0, 2) + [1]
        return body
    }
}

/// The fields of the FADT after its header, revision 3 (ACPI 2.0, section 5.2.8); table addresses stay zero.
private struct FADTBody {
    let bytes: [UInt8]

    private static let bootLegacyDevicesAnd8042: UInt64 = 0b11
    /// WBINVD works, every processor has C1, no sleep button, no RTC wake status, the reset register exists.
    private static let flags: UInt64 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10
    private static let resetPort: UInt64 = 0xCF9
    private static let fullReset: UInt8 = 0x06
    /// A latency that says that the processor has no C2 or C3.
    private static let noSuchState: UInt64 = 0x0FFF
    private static let centuryRegister: UInt8 = 0x32

    init(_ configuration: ACPITables.Configuration) {
        let base = UInt64(configuration.powerManagementBase)
        let (event, control, timer) = (base, base + 4, base + 8)
        let gpe = UInt64(PIIX4PM.gpePorts.lowerBound)
        func long(_ value: UInt64) -> [UInt8] { AML.little(value, 4) }
        func short(_ value: UInt64) -> [UInt8] { AML.little(value, 2) }

        var body = long(0) + long(0)
        // INT_MODEL (reserved since ACPI 2.0), then the preferred profile: desktop.
        body += [1, 1] + short(UInt64(ACPITables.sciInterrupt))
        body += long(UInt64(PIIX4PM.apmPorts.lowerBound)) + [PIIX4PM.acpiEnable, PIIX4PM.acpiDisable, 0, 0]
        body += long(event) + long(0) + long(control) + long(0) + long(0) + long(timer) + long(gpe) + long(0)
        // Lengths of PM1 event, PM1 control, PM2 control, timer, GPE0, GPE1; GPE1 base; no C-state control.
        body += [4, 2, 0, 4, 4, 0, 0, 0]
        body += short(Self.noSuchState) + short(Self.noSuchState) + short(0) + short(0)
        // Duty offset and width, day and month alarm.
        body += [0, 0, 0, 0, Self.centuryRegister]
        body += short(Self.bootLegacyDevicesAnd8042) + [0] + long(Self.flags)
        body += Self.address(Self.resetPort, bits: 8) + [Self.fullReset, 0, 0, 0]
        // X_FIRMWARE_CTRL stays zero because FIRMWARE_CTRL is used; X_DSDT is filled in.
        body += AML.little(0, 8) + AML.little(0, 8)
        body += Self.address(event, bits: 32) + Self.address(0, bits: 0)
        body += Self.address(control, bits: 16) + Self.address(0, bits: 0) + Self.address(0, bits: 0)
        body += Self.address(timer, bits: 32) + Self.address(gpe, bits: 32) + Self.address(0, bits: 0)
        bytes = body
    }

    /// A generic address structure in port space; zero bits means that the block does not exist.
    private static func address(_ port: UInt64, bits: UInt8) -> [UInt8] {
        [bits == 0 ? 0 : 1, bits, 0, 0] + AML.little(port, 8)
    }
}
