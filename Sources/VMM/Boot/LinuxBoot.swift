/// A Linux bzImage, checked, and how it is put into memory (the kernel's Documentation/arch/x86/boot.rst,
/// protocols 2.02 to 2.15, by its 32-bit or 64-bit entry).
package struct LinuxKernel {
    private let image: ImageReader
    /// Bytes of the real-mode part: boot sector and setup, which are not run.
    private let setupSize: UInt64
    private let header: SetupHeader

    /// The whole image as it was given.
    package var bytes: [UInt8] { image.bytes }

    /// How the kernel will be entered: 64-bit kernels that can be, at their 64-bit entry.
    package var entryMode: EntryState.Mode { header.has64BitEntry ? .long64 : .protected32 }
    /// The version of the boot protocol, 0x020f for 2.15.
    package var protocolVersion: UInt16 { header.version }

    /// Whether the image carries the signature of a Linux kernel at all.
    package static func isLinux(_ bytes: [UInt8]) -> Bool { SetupHeader.isPresent(in: ImageReader(bytes)) }

    /// Checks the headers and that the whole kernel is there.
    package init(_ bytes: [UInt8]) throws(BootError) {
        image = ImageReader(bytes)
        header = try SetupHeader(image)
        setupSize = (UInt64(header.setupSectors) + 1) * 512
        guard image.size > setupSize else {
            throw .truncated(part: "the real-mode setup", needed: setupSize + 1, size: image.size)
        }
        // The size in the header counts 16-byte units and may round up.
        let promised = setupSize + max(header.payloadEnd, header.systemSize > 15 ? header.systemSize - 15 : 0)
        guard promised <= image.size else {
            throw .truncated(part: "the protected-mode kernel", needed: promised, size: image.size)
        }
    }

    // MARK: Places in memory

    /// Old kernels look for their parameters here, whatever ESI says.
    private static let zeroPage: UInt64 = 0x9_0000
    private static let commandLineAddress: UInt64 = 0x2_0000
    private static let commandLineRoom = 0x1_0000
    /// Where a bzImage is loaded (the header's code32_start of an unpatched kernel).
    private static let loadAddress: UInt64 = 0x10_0000
    private static let entry64: UInt64 = 0x200
    private static let pageOffsetMask: UInt64 = 0xFFF

    private var codeSize: UInt64 { image.size - setupSize }

    /// The memory that the kernel needs before it knows the memory map.
    private var runtimeRange: Range<UInt64> {
        let loaded = Self.loadAddress..<Self.loadAddress + codeSize
        guard header.initSize > 0 else { return loaded }
        let alignment = max(header.isRelocatable ? header.alignment : 1, 1)
        let (rounded, overflow) = Self.loadAddress.addingReportingOverflow(alignment - 1)
        let aligned = overflow ? .max : rounded / alignment * alignment
        let start = max(aligned, header.preferredAddress, Self.loadAddress)
        let (end, tooFar) = start.addingReportingOverflow(header.initSize)
        return Self.loadAddress..<max(loaded.upperBound, tooFar ? .max : end)
    }

    // MARK: Loading

    /// Puts kernel, initrd, command line and parameters into memory.
    /// - Parameter rsdp: guest-physical address of the ACPI root pointer, 0 if it is to be searched for.
    /// - Returns: the state in which the kernel is to be entered.
    package func load(
        into memory: some DMAMemory, map: MemoryMap, initrd: [UInt8], commandLine: String, rsdp: UInt64
    ) throws(BootError) -> EntryState {
        let runtime = runtimeRange
        guard runtime.upperBound <= map.memorySize else {
            throw .doesNotFit(
                part: "the kernel", from: runtime.lowerBound, to: runtime.upperBound, memory: map.memorySize)
        }
        let initrdAddress = try place(initrd, above: runtime.upperBound, map: map)
        let line = try checkedCommandLine(commandLine)
        var parameters = try BootParameters(header: header, image: image)
        parameters.setMemoryMap(map)
        parameters.setScreen()
        parameters.setCommandLine(at: Self.commandLineAddress)
        parameters.setInitrd(at: initrdAddress, size: UInt64(initrd.count))
        parameters.setRSDP(rsdp)
        memory.store(image.bytes[Int(setupSize)...], at: Self.loadAddress)
        memory.store(initrd, at: initrdAddress)
        memory.store(line, at: Self.commandLineAddress)
        memory.store(parameters.bytes, at: Self.zeroPage)

        let offset = entryMode == .long64 ? Self.entry64 : 0
        var state = EntryState(mode: entryMode, rip: Self.loadAddress + offset)
        state.rsi = Self.zeroPage
        return state
    }

    /// The highest page-aligned place for the initrd that the kernel can reach.
    private func place(_ initrd: [UInt8], above bottom: UInt64, map: MemoryMap) throws(BootError) -> UInt64 {
        guard !initrd.isEmpty else { return 0 }
        let top = min(map.memorySize, UInt64(header.initrdAddressMax) + 1)
        let size = UInt64(initrd.count)
        guard top >= size, (top - size) & ~Self.pageOffsetMask >= bottom else {
            throw .initrdDoesNotFit(bytes: size, room: bottom..<max(bottom, top))
        }
        return (top - size) & ~Self.pageOffsetMask
    }

    private func checkedCommandLine(_ text: String) throws(BootError) -> [UInt8] {
        let line = Array(text.utf8)
        let limit = min(Int(header.commandLineSize), Self.commandLineRoom - 1)
        guard line.count <= limit else { throw .commandLineTooLong(bytes: line.count, limit: limit) }
        return line + [0]
    }
}
