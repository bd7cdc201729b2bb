import Tracer

/// Tells which part of a run an address belongs to.
package struct PhaseMap {
    private let isFirmware: Bool
    /// The kernel's image where it runs, and in RAM, where it runs before its page tables.
    private let image: Range<UInt64>?
    private let physical: Range<UInt64>?
    /// The lowest address of the kernel's half.
    private let kernelHalf: UInt64
    private let hasDecompressor: Bool
    private(set) var kernelHasRun = false

    package init(boot: TraceManifest.Boot, kernel: GuestKernel?) {
        isFirmware = boot == .firmware
        hasDecompressor = boot == .linux
        image = kernel?.image
        physical = kernel?.physicalImage
        kernelHalf = kernel.map { $0.kallsyms.wordSize == 8 ? 1 << 63 : $0.image.lowerBound & ~0x3FFF_FFFF } ?? .max
    }

    /// The phase of an event at `address`, which from the first of the kernel's on is no longer the decompressor's.
    mutating func phase(_ address: UInt64, ring: UInt8) -> Phase {
        if ring == 3 { return .user }
        guard image != nil else { return isFirmware ? .firmware : .kernel }
        if address >= kernelHalf || physical?.contains(address) ?? false {
            kernelHasRun = true
            return .kernel
        }
        if kernelHasRun { return .kernel }
        return hasDecompressor ? .decompressor : .firmware
    }
}
