/// A raw firmware image, as a ROM chip would hold it.
package struct FirmwareImage {
    /// Images are whole blocks of this size.
    package static let granularity = 64 << 10
    package static let largest = 16 << 20
    /// The end of the image that is also seen below 1 MB.
    private static let legacyWindow = 128 << 10
    private static let top: UInt64 = 1 << 32

    package let bytes: [UInt8]

    package init(_ bytes: [UInt8]) throws(BootError) {
        guard !bytes.isEmpty, bytes.count % Self.granularity == 0, bytes.count <= Self.largest else {
            throw .firmwareSize(bytes.count)
        }
        self.bytes = bytes
    }

    /// Puts the image at the top of 4 GB and its last 128 KB below 1 MB. The reset vector is in both.
    package func install(in memory: GuestMemory) {
        memory.addROM(bytes, at: Self.top - UInt64(bytes.count))
        let window = Array(bytes.suffix(Self.legacyWindow))
        memory.setLegacyROM(window, at: MemoryMap.highMemory - UInt64(window.count))
    }
}
