/// The IDE function of the PIIX3, 8086:7010 (82371SB datasheet): two channels at their legacy ports and a bus master.
///
/// The legacy ports answer whatever the decode enable bits of IDETIM say, so that a guest started without firmware
/// finds them.
package final class PIIX3IDE: PortDevice, Archivable {
    /// What is plugged in at one place on a cable.
    package enum Unit {
        case empty
        case disk(any BlockDevice)
        /// A CD-ROM drive, with a disc or without.
        case cdrom((any BlockSource)?)
    }

    /// Timing registers; bit 15 of each enables a channel's decoding.
    package static let timing = 0x40
    private static let decodeEnable: UInt32 = 0x8000
    private static let busMasterBAR = 4
    private static let busMasterSize: UInt32 = 16
    private static let legacyPorts: [(command: UInt16, control: UInt16)] = [(0x1F0, 0x3F6), (0x170, 0x376)]

    /// The configuration space; function 1 of the PIIX's device.
    package let function = PCIFunction(vendor: 0x8086, device: 0x7010, classCode: 0x010180)
    private var channels: [IDEChannel] = []

    /// `units` are primary 0, primary 1, secondary 0 and secondary 1; `lines` are ISA interrupts 14 and 15.
    package init(
        units: [Unit], lines: [InterruptLine], clock: VirtualClock, queue: EventQueue, ports: PortBus,
        memory: any DMAMemory
    ) {
        precondition(units.count == 4 && lines.count == 2)
        let drives = units.enumerated().map { index, unit in
            Self.commandSet(unit, index).map { IDEDrive(name: "ide\(index)", commands: $0, clock: clock, queue: queue) }
        }
        let function = self.function
        channels = (0..<2).map { index in
            let master = IDEBusMaster(memory: memory) { [unowned function] in
                function.command & PCIConfig.commandBusMaster != 0
            }
            return IDEChannel(
                commandBase: Self.legacyPorts[index].command, controlPort: Self.legacyPorts[index].control,
                drives: Array(drives[index * 2..<index * 2 + 2]), line: lines[index], master: master, ports: ports)
        }
        function.preset(PCIConfig.status, 0x0280, size: 2)
        function.allowWrites(PCIConfig.command, mask: 0x0005, size: 2)
        function.allowWrites(PCIConfig.interruptLine, mask: 0, size: 1)
        function.allowWrites(Self.timing, mask: 0xFFFF_FFFF, size: 4)
        function.allowWrites(Self.timing + 4, mask: 0xFF, size: 1)
        function.addBAR(
            Self.busMasterBAR, .io, size: Self.busMasterSize, target: .port(self, width: 4))
        function.onReset = { [unowned self] in
            for channel in self.channels { channel.reset() }
        }
    }

    private static func commandSet(_ unit: Unit, _ index: Int) -> (any IDECommandSet)? {
        switch unit {
        case .empty: nil
        case .disk(let disk): ATADisk(disk: disk, serial: "TL0000\(index + 1)")
        case .cdrom(let disc): ATAPIDrive(disc: disc, serial: "TL0000\(index + 1)")
        }
    }

    /// Enables both channels as firmware would, for a kernel started without firmware.
    package func enableChannels() {
        function.write(Self.timing, Self.decodeEnable << 16 | Self.decodeEnable, size: 4)
        function.write(PCIConfig.command, UInt32(function.command | PCIConfig.commandIO), size: 2)
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<size {
            let offset = (Int(port) + index) & 15
            value |= UInt32(channels[offset >> 3].master.readByte(offset & 7)) << (index * 8)
        }
        return value
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        for index in 0..<size {
            let offset = (Int(port) + index) & 15
            channels[offset >> 3].master.writeByte(offset & 7, UInt8(truncatingIfNeeded: value >> (index * 8)))
        }
    }

    /// The configuration registers are archived with the bus.
    package func archive(_ archive: StateArchive) {
        for (index, channel) in channels.enumerated() {
            archive.section("channel\(index)") { channel.archive(archive) }
        }
    }
}

extension PIIX3IDE: NamedRegisters {
    package var deviceName: String { "IDE bus master" }

    package func registerName(port: UInt16) -> String? {
        let channel = port & 8 == 0 ? "primary" : "secondary"
        switch port & 7 {
        case 0: return channel + " command"
        case 2: return channel + " status"
        case 4...7: return channel + " descriptor table"
        default: return channel + " register \(port & 7)"
        }
    }
}
