/// One IDE channel: the command block and control ports of up to two drives, and their interrupt.
final class IDEChannel: PortDevice, Archivable {
    private enum Register {
        static let data = 0
        static let errorFeatures = 1
        static let count = 2
        static let lbaLow = 3
        static let lbaMiddle = 4
        static let lbaHigh = 5
        static let device = 6
        static let statusCommand = 7
    }

    private let commandBase: UInt16
    private let controlPort: UInt16
    private let line: InterruptLine
    let master: IDEBusMaster
    private let drives: [IDEDrive?]
    private var selected = 0
    private var control: UInt8 = 0
    private var lineLevel = false

    /// `drives` are drive 0 and drive 1.
    init(
        commandBase: UInt16, controlPort: UInt16, drives: [IDEDrive?], line: InterruptLine, master: IDEBusMaster,
        ports: PortBus
    ) {
        self.commandBase = commandBase
        self.controlPort = controlPort
        self.drives = drives
        self.line = line
        self.master = master
        ports.attach(self, commandBase...commandBase, width: 4)
        ports.attach(self, commandBase + 1...commandBase + 7, width: 1)
        ports.attach(self, controlPort...controlPort, width: 1)
        for drive in drives {
            drive?.onInterrupt = { [unowned self] in self.updateLine() }
            drive?.activeMaster = { [unowned self] in self.master.isActive ? self.master : nil }
        }
        master.onStart = { [unowned self] in
            for drive in self.drives { drive?.armTransfer() }
        }
    }

    func reset() {
        selected = 0
        control = 0
        for drive in drives { drive?.reset() }
        master.reset()
        updateLine()
    }

    /// The drive that commands go to; nil if it does not exist.
    private var current: IDEDrive? { drives[selected] }
    /// The drive whose registers are read: drive 0 answers for a missing drive 1, and the other way round.
    private var answering: IDEDrive? { drives[selected] ?? drives[1 - selected] }

    private func updateLine() {
        let level = current?.interruptPending == true && control & ATAControl.interruptsOff == 0
        guard level != lineLevel else { return }
        lineLevel = level
        if level { master.interruptAsserted() }
        line.set(level)
    }

    // MARK: Ports

    func readPort(_ port: UInt16, size: Int) -> UInt32 {
        if port == controlPort { return UInt32(current?.status ?? 0) }
        if port == commandBase { return current?.readData(size: size) ?? ~0 >> (32 - size * 8) }
        guard let drive = answering else { return 0 }
        let previous = control & ATAControl.highOrderByte != 0
        func value(_ register: IDEDrive.Deep) -> UInt32 {
            UInt32(previous ? register.previous : register.current)
        }
        switch Int(port - commandBase) {
        case Register.errorFeatures: return UInt32(drive.error)
        case Register.count: return value(drive.count)
        case Register.lbaLow: return value(drive.lbaLow)
        case Register.lbaMiddle: return value(drive.lbaMiddle)
        case Register.lbaHigh: return value(drive.lbaHigh)
        case Register.device:
            return UInt32(drive.device | ATADevice.alwaysSet | (selected == 1 ? ATADevice.secondDrive : 0))
        default:
            guard let drive = current else { return 0 }
            drive.acknowledgeInterrupt()
            return UInt32(drive.status)
        }
    }

    func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let byte = UInt8(truncatingIfNeeded: value)
        if port == controlPort { return writeControl(byte) }
        if port == commandBase {
            current?.writeData(value, size: size)
            return
        }
        control &= ~ATAControl.highOrderByte
        switch Int(port - commandBase) {
        case Register.statusCommand: return writeCommand(byte)
        case Register.device: selected = byte & ATADevice.secondDrive != 0 ? 1 : 0
        default: break
        }
        for drive in drives {
            if let drive, !drive.isBusy { Self.write(drive, Int(port - commandBase), byte) }
        }
        updateLine()
    }

    /// Both drives take what is written to the command block.
    private static func write(_ drive: IDEDrive, _ register: Int, _ value: UInt8) {
        switch register {
        case Register.errorFeatures: drive.features.push(value)
        case Register.count: drive.count.push(value)
        case Register.lbaLow: drive.lbaLow.push(value)
        case Register.lbaMiddle: drive.lbaMiddle.push(value)
        case Register.lbaHigh: drive.lbaHigh.push(value)
        case Register.device: drive.device = value & ~(ATADevice.secondDrive | ATADevice.alwaysSet)
        default: break
        }
    }

    private func writeCommand(_ command: UInt8) {
        guard command == ATACommand.executeDiagnostic else {
            current?.start(command)
            return
        }
        // Both drives run their diagnostics; drive 0 reports for both.
        guard answering != nil else { return }
        selected = 0
        for drive in drives { drive?.reset() }
        drives[0]?.diagnosticsDone()
    }

    private func writeControl(_ value: UInt8) {
        let changed = control ^ value
        control = value
        if changed & ATAControl.softwareReset != 0 {
            if value & ATAControl.softwareReset != 0 {
                for drive in drives { drive?.holdInReset() }
            } else {
                for drive in drives { drive?.reset() }
                selected = 0
            }
        }
        updateLine()
    }

    func archive(_ archive: StateArchive) {
        archive.field("selected", &selected)
        selected &= 1
        archive.field("control", &control)
        archive.field("lineLevel", &lineLevel)
        archive.section("master") { master.archive(archive) }
        for (index, drive) in drives.enumerated() {
            archive.expect("hasDrive\(index)", drive == nil ? UInt8(0) : 1)
            archive.section("drive\(index)") { drive?.archive(archive) }
        }
    }
}

extension IDEChannel: NamedRegisters {
    var deviceName: String { "IDE" }

    func registerName(port: UInt16) -> String? {
        guard port >= commandBase, port <= commandBase + 7 else { return "device control/alternate status" }
        switch Int(port - commandBase) {
        case Register.data: return "data"
        case Register.errorFeatures: return "error/features"
        case Register.count: return "sector count"
        case Register.lbaLow: return "LBA low"
        case Register.lbaMiddle: return "LBA middle"
        case Register.lbaHigh: return "LBA high"
        case Register.device: return "device"
        default: return "status/command"
        }
    }
}
