/// The host bridge of the Intel 440FX chipset, 8086:1237 (82441FX datasheet, order number 290549).
///
/// It decides what reads and writes of 0xC0000 to 0xFFFFF reach (RAM or ROM) and who sees the SMM RAM at 0xA0000.
package final class I440FX: Archivable {
    /// One of the thirteen PAM segments: 0 to 11 are 16 KB each from 0xC0000 on, 12 is 0xF0000 to 0xFFFFF.
    package static let segmentCount = 13
    /// PAM0, the first of seven programmable attribute map registers.
    package static let pam0 = 0x59
    /// SMRAM control.
    package static let smram = 0x72
    private static let dramRowBoundary0 = 0x60
    private static let dramControl = 0x57
    private static let readEnable: UInt8 = 1 << 0
    private static let writeEnable: UInt8 = 1 << 1

    /// The SMRAM control register (section 3.2.21): who may see the RAM behind 0xA0000 to 0xBFFFF.
    package struct SMRAMState: Equatable {
        /// SMM RAM exists at all (G_SMRAME).
        package var enabled: Bool
        /// RAM is seen there outside SMM too (D_OPEN).
        package var open: Bool
        /// In SMM only code fetches see RAM, data goes to the display (D_CLS).
        package var closed: Bool
        /// D_OPEN is fixed at zero until reset (D_LCK).
        package var locked: Bool
    }
    private static let smramOpen: UInt8 = 1 << 6
    private static let smramClosed: UInt8 = 1 << 5
    private static let smramLocked: UInt8 = 1 << 4
    private static let smramEnabled: UInt8 = 1 << 3
    private static let smramBaseSegment: UInt8 = 0b010

    /// The configuration space, for device 0 of the bus.
    package let function = PCIFunction(vendor: 0x8086, device: 0x1237, classCode: 0x060000, revision: 2)
    /// Where reads and writes of a segment go: true is RAM, false is ROM or the bus.
    package var onPAMChange: (_ segment: Int, _ readRAM: Bool, _ writeRAM: Bool) -> Void = { _, _, _ in }
    /// Called when the SMRAM control register has been written.
    package var onSMRAMChange: (SMRAMState) -> Void = { _ in }

    /// `ramBytes` fills the DRAM row boundary registers, which count in units of 8 MB.
    package init(ramBytes: UInt64) {
        setResetValues(ramBytes: ramBytes)
        // Everything device-specific is read/write in the datasheet but for reserved bits, which hold what is written.
        function.allowWrites(PCIConfig.command, mask: 0x0100, size: 2)
        for offset in 0x50..<Self.smram { function.allowWrites(offset, mask: 0xFF, size: 1) }
        for offset in Self.pam0...Self.pam0 + 6 { function.allowWrites(offset, mask: 0x77, size: 1) }
        for offset in Self.smram + 1..<0x100 { function.allowWrites(offset, mask: 0xFF, size: 1) }
        allowSMRAMWrites()
        function.onWrite = { [unowned self] in self.configWritten($0) }
        function.onReset = { [unowned self] in self.announceAll() }
    }

    /// The registers as PCIRST# leaves them.
    private func setResetValues(ramBytes: UInt64) {
        function.preset(PCIConfig.command, 0x0006, size: 2)
        function.preset(PCIConfig.status, 0x0280, size: 2)
        let rows = UInt32(min(ramBytes >> 23, 0xFF))
        for row in 0..<8 { function.preset(Self.dramRowBoundary0 + row, rows, size: 1) }
        function.preset(Self.dramControl, 0x01, size: 1)
        function.preset(Self.smram, UInt32(Self.smramBaseSegment), size: 1)
    }

    /// Whether reads of a PAM segment reach RAM.
    package func readsRAM(segment: Int) -> Bool { attributes(segment) & Self.readEnable != 0 }
    /// Whether writes to a PAM segment reach RAM.
    package func writesRAM(segment: Int) -> Bool { attributes(segment) & Self.writeEnable != 0 }

    /// Sends every segment's reads and writes to RAM, for a kernel started without firmware.
    package func shadowAll() {
        function.write(Self.pam0, 0x30, size: 1)
        for index in 1..<7 { function.write(Self.pam0 + index, 0x33, size: 1) }
    }

    /// The SMRAM control register, decoded.
    package var smramState: SMRAMState {
        let value = function[Self.smram]
        return SMRAMState(
            enabled: value & Self.smramEnabled != 0, open: value & Self.smramOpen != 0,
            closed: value & Self.smramClosed != 0, locked: value & Self.smramLocked != 0)
    }

    /// The attribute nibble of a segment. Segment 12 has the high nibble of PAM0.
    private func attributes(_ segment: Int) -> UInt8 {
        if segment == 12 { return function[Self.pam0] >> 4 }
        return function[Self.pam0 + 1 + segment / 2] >> (segment % 2 * 4) & 0xF
    }

    private func configWritten(_ range: Range<Int>) {
        for offset in range {
            switch offset {
            case Self.pam0:
                announce(12)
            case Self.pam0 + 1...Self.pam0 + 6:
                let segment = (offset - Self.pam0 - 1) * 2
                announce(segment)
                announce(segment + 1)
            case Self.smram:
                if smramState.locked {
                    function.preset(Self.smram, UInt32(function[Self.smram] & ~Self.smramOpen), size: 1)
                }
                allowSMRAMWrites()
                onSMRAMChange(smramState)
            default:
                break
            }
        }
    }

    /// D_LCK makes itself and D_OPEN read-only.
    private func allowSMRAMWrites() {
        let always = Self.smramClosed | Self.smramEnabled
        let mask = smramState.locked ? always : always | Self.smramOpen | Self.smramLocked
        function.allowWrites(Self.smram, mask: UInt32(mask), size: 1)
    }

    private func announce(_ segment: Int) {
        onPAMChange(segment, readsRAM(segment: segment), writesRAM(segment: segment))
    }

    private func announceAll() {
        allowSMRAMWrites()
        for segment in 0..<Self.segmentCount { announce(segment) }
        onSMRAMChange(smramState)
    }

    /// The registers are archived with the bus; this puts what follows from them back, so it comes after the bus.
    package func archive(_ archive: StateArchive) {
        if archive.isRestoring { announceAll() }
    }
}
