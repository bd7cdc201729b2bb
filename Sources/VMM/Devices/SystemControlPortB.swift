/// Port 0x61: the gate of timer channel 2, the speaker and the causes of system errors (82371SB, section 2.5.4,
/// NMI Status and Control Register).
package final class SystemControlPortB: PortDevice, Archivable {
    private static let port: UInt16 = 0x61
    private enum Bit {
        static let gate2: UInt8 = 0x01
        static let writable: UInt8 = 0x0F
        static let refresh: UInt8 = 0x10
        static let output2: UInt8 = 0x20
    }
    /// Timer ticks between two memory refreshes, 15.085 µs.
    private static let ticksPerRefresh: UInt64 = 18

    private var value: UInt8 = 0
    private let pit: PIT

    package init(pit: PIT) { self.pit = pit }

    /// Claims port 0x61.
    package func attach(to bus: PortBus) { bus.attach(self, Self.port...Self.port, width: 1) }

    /// Back to the state after power-on: gate closed, speaker off.
    package func reset() { writePort(Self.port, 0, size: 1) }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        var read = value
        if pit.tick / Self.ticksPerRefresh & 1 != 0 { read |= Bit.refresh }
        if pit.output(2) { read |= Bit.output2 }
        return UInt32(read)
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        self.value = UInt8(truncatingIfNeeded: value) & Bit.writable
        pit.setGate2(self.value & Bit.gate2 != 0)
    }

    package func archive(_ archive: StateArchive) { archive.field("value", &value) }
}

extension SystemControlPortB: NamedRegisters {
    package var deviceName: String { "system" }

    package func registerName(port: UInt16) -> String? { "control port B" }
}
