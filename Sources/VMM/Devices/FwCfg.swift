/// The firmware configuration device (QEMU's "fw_cfg" specification): numbered items and named files that firmware
/// reads through a selector and a data port, or by DMA. Its contents are configuration and never change.
package final class FwCfg: PortDevice, Archivable {
    package static let selectorPort: UInt16 = 0x510
    package static let dataPort: UInt16 = 0x511
    package static let dmaPorts: ClosedRange<UInt16> = 0x514...0x51B

    /// Selector values with a fixed meaning. Numbers in items are little-endian, in the directory big-endian.
    package enum Key {
        package static let signature: UInt16 = 0x00
        package static let identification: UInt16 = 0x01
        package static let ramSize: UInt16 = 0x03
        package static let noGraphic: UInt16 = 0x04
        package static let processorCount: UInt16 = 0x05
        package static let kernelAddress: UInt16 = 0x07
        package static let kernelSize: UInt16 = 0x08
        package static let initrdAddress: UInt16 = 0x0A
        package static let initrdSize: UInt16 = 0x0B
        package static let bootMenu: UInt16 = 0x0E
        package static let maximumProcessors: UInt16 = 0x0F
        package static let kernelEntry: UInt16 = 0x10
        package static let kernelData: UInt16 = 0x11
        package static let initrdData: UInt16 = 0x12
        package static let commandLineAddress: UInt16 = 0x13
        package static let commandLineSize: UInt16 = 0x14
        package static let commandLineData: UInt16 = 0x15
        package static let setupAddress: UInt16 = 0x16
        package static let setupSize: UInt16 = 0x17
        package static let setupData: UInt16 = 0x18
        package static let fileDirectory: UInt16 = 0x19
        /// The first file's key; the others follow.
        package static let firstFile: UInt16 = 0x20
    }
    private static let hasPortInterface: UInt32 = 1 << 0
    private static let hasDMA: UInt32 = 1 << 1
    private static let fileNameSize = 56
    /// What the DMA address register reads as: "QEMU CFG".
    private static let dmaSignature = Array("QEMU CFG".utf8)

    /// Bits of the control word of a DMA request.
    private enum DMAControl {
        static let error: UInt32 = 1 << 0
        static let read: UInt32 = 1 << 1
        static let skip: UInt32 = 1 << 2
        static let select: UInt32 = 1 << 3
        static let write: UInt32 = 1 << 4
    }

    private let memory: any DMAMemory
    /// Sorted by key.
    private var items: [(key: UInt16, bytes: [UInt8])] = []
    private var files: [(name: String, key: UInt16, size: Int)] = []

    private var selected: UInt16 = 0
    private var offset: UInt32 = 0
    private var dmaAddressHigh: UInt32 = 0

    /// An empty configuration: signature, identification and an empty file directory.
    package init(ports: PortBus, memory: any DMAMemory) {
        self.memory = memory
        add(key: Key.signature, bytes: Array("QEMU".utf8))
        add(key: Key.identification, Self.hasPortInterface | Self.hasDMA)
        rebuildDirectory()
        ports.attach(self, Self.selectorPort...Self.dataPort, width: 2)
        ports.attach(self, Self.dmaPorts, width: 4)
    }

    // MARK: Contents

    /// Sets the item `key`, replacing what it held.
    package func add(key: UInt16, bytes: [UInt8]) {
        if let index = items.firstIndex(where: { $0.key >= key }) {
            if items[index].key == key { items.remove(at: index) }
            items.insert((key, bytes), at: index)
        } else {
            items.append((key, bytes))
        }
    }

    /// Sets the item `key` to a little-endian number of the type's size.
    package func add<T: FixedWidthInteger>(key: UInt16, _ number: T) {
        add(key: key, bytes: withUnsafeBytes(of: number.littleEndian, Array.init))
    }

    /// Adds a file, or replaces the one of that name. Names have at most 55 bytes.
    package func add(file name: String, bytes: [UInt8]) {
        precondition(name.utf8.count < Self.fileNameSize)
        if let index = files.firstIndex(where: { $0.name == name }) {
            files[index].size = bytes.count
            add(key: files[index].key, bytes: bytes)
        } else {
            let key = Key.firstFile + UInt16(files.count)
            files.append((name, key, bytes.count))
            add(key: key, bytes: bytes)
        }
        rebuildDirectory()
    }

    /// What firmware asks of every machine: RAM in bytes, one processor, whether there is a display to talk on,
    /// and whether to offer a boot menu.
    package func addMachine(ramBytes: UInt64, hasDisplay: Bool = true, bootMenu: Bool = false) {
        add(key: Key.ramSize, ramBytes)
        add(key: Key.noGraphic, UInt16(hasDisplay ? 0 : 1))
        add(key: Key.processorCount, UInt16(1))
        add(key: Key.maximumProcessors, UInt16(1))
        add(key: Key.bootMenu, UInt16(bootMenu ? 1 : 0))
    }

    /// The `etc/e820` file: entries of 64-bit base, 64-bit length, 32-bit type (1 is RAM, 2 reserved).
    package func addMemoryMap(_ entries: [(base: UInt64, length: UInt64, type: UInt32)]) {
        add(
            file: "etc/e820",
            bytes: entries.flatMap { entry in
                AML.little(entry.base, 8) + AML.little(entry.length, 8) + AML.little(UInt64(entry.type), 4)
            })
    }

    /// The ACPI tables with their loader script.
    package func add(_ tables: ACPITables) {
        for file in tables.firmwareFiles { add(file: file.name, bytes: file.bytes) }
    }

    /// The `bootorder` file: device paths, most wanted first.
    package func addBootOrder(_ paths: [String]) {
        add(file: "bootorder", bytes: Array(paths.joined(separator: "\n").utf8) + [0])
    }

    /// The items of a kernel for the option ROM that starts it. The addresses are where the ROM puts the parts.
    package func addKernel(_ kernel: DirectKernel) {
        add(key: Key.setupAddress, kernel.setupAddress)
        add(key: Key.setupSize, UInt32(kernel.setup.count))
        add(key: Key.setupData, bytes: kernel.setup)
        add(key: Key.kernelAddress, kernel.kernelAddress)
        add(key: Key.kernelSize, UInt32(kernel.kernel.count))
        add(key: Key.kernelData, bytes: kernel.kernel)
        add(key: Key.initrdAddress, kernel.initrdAddress)
        add(key: Key.initrdSize, UInt32(kernel.initrd.count))
        add(key: Key.initrdData, bytes: kernel.initrd)
        add(key: Key.commandLineAddress, kernel.commandLineAddress)
        add(key: Key.commandLineSize, UInt32(kernel.commandLine.count))
        add(key: Key.commandLineData, bytes: kernel.commandLine)
    }

    /// A Linux kernel cut up as its boot protocol says; addresses are guest-physical.
    package struct DirectKernel {
        package var setup: [UInt8]
        package var setupAddress: UInt32
        package var kernel: [UInt8]
        package var kernelAddress: UInt32
        package var initrd: [UInt8]
        package var initrdAddress: UInt32
        /// With its terminating zero.
        package var commandLine: [UInt8]
        package var commandLineAddress: UInt32

        /// A kernel without initrd and command line, at the addresses that the option ROM expects for a bzImage.
        package init(setup: [UInt8], kernel: [UInt8]) {
            self.setup = setup
            setupAddress = 0x1_0000
            self.kernel = kernel
            kernelAddress = 0x10_0000
            initrd = []
            initrdAddress = 0
            commandLine = [0]
            commandLineAddress = 0x2_0000
        }
    }

    private func rebuildDirectory() {
        func big(_ value: Int, _ size: Int) -> [UInt8] { AML.little(UInt64(value), size).reversed() }
        var bytes = big(files.count, 4)
        for file in files {
            let name = Array(file.name.utf8)
            bytes += big(file.size, 4) + big(Int(file.key), 2) + [0, 0]
            bytes += name + [UInt8](repeating: 0, count: Self.fileNameSize - name.count)
        }
        add(key: Key.fileDirectory, bytes: bytes)
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        switch port {
        case Self.dataPort:
            return UInt32(nextByte()) | (size == 2 ? 0xFF00 : 0)
        case Self.dmaPorts:
            var value: UInt32 = 0
            for index in 0..<size {
                let place = Int(port - Self.dmaPorts.lowerBound) + index
                if place < Self.dmaSignature.count { value |= UInt32(Self.dmaSignature[place]) << (index * 8) }
            }
            return value
        default:
            return ~0 >> (32 - size * 8)
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        switch (port, size) {
        case (Self.selectorPort, 2):
            select(UInt16(truncatingIfNeeded: value))
        case (Self.dmaPorts.lowerBound, 4):
            dmaAddressHigh = value.byteSwapped
        case (Self.dmaPorts.lowerBound + 4, 4):
            let address = UInt64(dmaAddressHigh) << 32 | UInt64(value.byteSwapped)
            dmaAddressHigh = 0
            runDMA(at: address)
        default:
            break
        }
    }

    private func select(_ key: UInt16) {
        selected = key
        offset = 0
    }

    /// The selected item's bytes; nil if there is no such item.
    private var selectedBytes: [UInt8]? { items.first { $0.key == selected }?.bytes }

    /// Reads past an item's end, and all of an absent one, give zeros.
    private func nextByte() -> UInt8 {
        guard let bytes = selectedBytes, Int(offset) < bytes.count else { return 0 }
        offset += 1
        return bytes[Int(offset) - 1]
    }

    // MARK: DMA

    private func runDMA(at address: UInt64) {
        var request = [UInt8](repeating: 0, count: 16)
        request.withUnsafeMutableBytes { memory.read(address, into: $0) }
        func big(_ range: Range<Int>) -> UInt64 { request[range].reduce(0) { $0 << 8 | UInt64($1) } }
        let control = UInt32(big(0..<4))
        let length = UInt32(big(4..<8))
        let target = big(8..<16)

        if control & DMAControl.select != 0 { select(UInt16(control >> 16)) }
        var result: UInt32 = 0
        if control & DMAControl.read != 0 {
            transfer(length, to: target)
        } else if control & DMAControl.write != 0 {
            result = DMAControl.error
        } else if control & DMAControl.skip != 0 {
            advance(length)
        }
        var status = result.bigEndian
        withUnsafeBytes(of: &status) { memory.write(address, from: $0) }
    }

    private func advance(_ length: UInt32) {
        let count = UInt64(selectedBytes?.count ?? 0)
        offset = UInt32(min(UInt64(offset) + UInt64(length), count))
    }

    /// Copies from the selected item and fills what is left of `length` with zeros.
    private func transfer(_ length: UInt32, to target: UInt64) {
        let bytes = selectedBytes ?? []
        let available = min(Int(length), bytes.count - min(Int(offset), bytes.count))
        bytes.withUnsafeBytes { source in
            let start = min(Int(offset), source.count)
            memory.write(target, from: UnsafeRawBufferPointer(rebasing: source[start..<start + available]))
        }
        offset += UInt32(available)
        let zeros = [UInt8](repeating: 0, count: 1 << 16)
        var place = target &+ UInt64(available)
        var left = Int(length) - available
        while left > 0 {
            let count = min(left, zeros.count)
            zeros.withUnsafeBytes { memory.write(place, from: UnsafeRawBufferPointer(rebasing: $0[0..<count])) }
            place &+= UInt64(count)
            left -= count
        }
    }

    package func archive(_ archive: StateArchive) {
        archive.field("selected", &selected)
        archive.field("offset", &offset)
        archive.field("dmaAddressHigh", &dmaAddressHigh)
    }
}

extension FwCfg: NamedRegisters {
    package var deviceName: String { "fw_cfg" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Self.selectorPort: "selector"
        case Self.dataPort: "data"
        case Self.dmaPorts: "DMA address"
        default: nil
        }
    }
}
