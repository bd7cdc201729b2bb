/// The power management function of the PIIX4, 8086:7113 (82371AB datasheet, order number 290562, chapter 7):
/// the ACPI fixed registers, their timer, the SMI command port and the SMBus host controller.
///
/// ACPI_ENABLE and ACPI_DISABLE written to the command port switch SCI_EN at once, as firmware's SMI handler
/// would do; every write is also offered as an SMI if the guest's firmware has enabled that.
package final class PIIX4PM: PortDevice, Archivable {
    /// Configuration registers.
    package static let pmBase = 0x40
    package static let deviceActivityB = 0x58
    package static let pmMisc = 0x80
    package static let smbusBase = 0x90
    package static let smbusConfig = 0xD2
    private static let apmcEnable: UInt32 = 1 << 25
    /// The four GPE bytes that the ACPI tables name, apart from the relocatable block.
    package static let gpePorts: ClosedRange<UInt16> = 0xAFE0...0xAFE3
    package static let apmPorts: ClosedRange<UInt16> = 0xB2...0xB3
    package static let acpiEnable: UInt8 = 0xF1
    package static let acpiDisable: UInt8 = 0xF0
    /// Where SeaBIOS and the ACPI tables put the fixed registers.
    package static let usualBase: UInt16 = 0x600
    /// The power management timer (ACPI 1.0, section 4.7.3.3).
    package static let timerHertz: UInt64 = 3_579_545
    private static let timerMask: UInt64 = 0xFF_FFFF
    /// TMROF_STS is set whenever bit 23 of the timer changes.
    private static let timerHalf: UInt64 = 1 << 23

    /// Offsets from PMBASE.
    enum Register {
        static let pm1Status = 0x00
        static let pm1Enable = 0x02
        static let pm1Control = 0x04
        static let timer = 0x08
        static let levels = 0x14...0x15
        static let globalStatus = 0x18
        static let deviceStatus = 0x1C
        static let globalControl = 0x28
        static let inputs = 0x30...0x32
        static let blockSize: UInt64 = 0x40
    }

    enum PM1 {
        static let timerOverflow: UInt16 = 1 << 0
        static let globalLock: UInt16 = 1 << 5
        static let powerButton: UInt16 = 1 << 8
        static let rtc: UInt16 = 1 << 10
        static let statusMask: UInt16 = 0x8D31
        static let enableMask: UInt16 = 0x0521
        static let sciEnable: UInt16 = 1 << 0
        static let sleepEnable: UInt16 = 1 << 13
        static let controlMask: UInt16 = 0x1C03
        /// SUS_TYP 0 is soft-off.
        static let softOff: UInt16 = 0
    }
    private static let smiEnable: UInt8 = 1 << 0

    /// The configuration space; function 3 of the PIIX's device.
    package let function = PCIFunction(vendor: 0x8086, device: 0x7113, classCode: 0x068000, revision: 3)
    /// Called when the guest switches the machine off (SLP_EN with SLP_TYP 0).
    package var onPowerOff: () -> Void = {}
    /// Called with each command written to port 0xB2 while the guest has SMIs from it enabled.
    package var onSMI: (_ command: UInt8) -> Void = { _ in }

    private let clock: VirtualClock
    private let sci: InterruptLine
    private var overflowTimer: EventQueue.Timer!
    private let smbus = PIIX4SMBus()

    private var pm1Status: UInt16 = 0
    private var pm1Enable: UInt16 = 0
    private var pm1Control: UInt16 = 0
    /// The tick, counted from power-on, at which bit 23 next changes with TMROF_STS clear.
    private var overflowTick = PIIX4PM.timerHalf
    /// Registers of the block that hold what is written and do nothing else.
    private var storage = [UInt8](repeating: 0, count: Int(Register.blockSize))
    private var gpe = [UInt8](repeating: 0, count: 4)
    private var apmCommand: UInt8 = 0
    private var apmStatus: UInt8 = 0
    private var sciLevel = false

    /// `sci` is ISA interrupt 9. With `smmAvailable` false the SMI of port 0xB2 reads as enabled already, which
    /// tells firmware that system-management mode has been taken care of.
    package init(clock: VirtualClock, queue: EventQueue, ports: PortBus, sci: InterruptLine, smmAvailable: Bool) {
        self.clock = clock
        self.sci = sci
        overflowTimer = queue.makeTimer("pm.timer") { [unowned self] in self.update() }
        setUpConfiguration(smmAvailable: smmAvailable)
        function.addWindow(.port(self, width: 4)) { [unowned self] in self.registerWindow }
        function.addWindow(.port(smbus, width: 4)) { [unowned self] in self.smbusWindow }
        smbus.onChange = { [unowned self] in self.update() }
        function.onReset = { [unowned self] in self.reset() }
        ports.attach(self, Self.gpePorts, width: 4)
        ports.attach(self, Self.apmPorts, width: 1)
    }

    private func setUpConfiguration(smmAvailable: Bool) {
        function.preset(PCIConfig.status, 0x0280, size: 2)
        function.preset(PCIConfig.interruptPin, 1, size: 1)
        function.preset(PCIConfig.interruptLine, 9, size: 1)
        for offset in 0x40..<0x100 { function.allowWrites(offset, mask: 0xFF, size: 1) }
        function.preset(Self.pmBase, 1, size: 4)
        function.allowWrites(Self.pmBase, mask: 0xFFC0, size: 4)
        function.preset(Self.smbusBase, 1, size: 4)
        function.allowWrites(Self.smbusBase, mask: 0xFFF0, size: 4)
        if !smmAvailable { function.preset(Self.deviceActivityB, Self.apmcEnable, size: 4) }
    }

    /// Opens the register block at `base` as firmware would, for a kernel started without firmware.
    package func openRegisters(at base: UInt16 = PIIX4PM.usualBase) {
        function.write(Self.pmBase, UInt32(base) | 1, size: 4)
        function.write(Self.pmMisc, 1, size: 1)
        function.write(PCIConfig.command, UInt32(PCIConfig.commandIO), size: 2)
    }

    private func reset() {
        pm1Status = 0
        pm1Enable = 0
        pm1Control = 0
        for index in storage.indices { storage[index] = 0 }
        for index in gpe.indices { gpe[index] = 0 }
        apmCommand = 0
        apmStatus = 0
        smbus.reset()
        update()
    }

    // MARK: Windows

    private var registerWindow: Range<UInt64>? {
        guard function[Self.pmMisc] & 1 != 0 else { return nil }
        let base = UInt64(function.word(Self.pmBase) & 0xFFC0)
        return base == 0 ? nil : base..<base + Register.blockSize
    }

    private var smbusWindow: Range<UInt64>? {
        guard function[Self.smbusConfig] & 1 != 0 else { return nil }
        let base = UInt64(function.word(Self.smbusBase) & 0xFFF0)
        return base == 0 ? nil : base..<base + 16
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<size { value |= UInt32(readByte(port &+ UInt16(index))) << (index * 8) }
        return value
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        for index in 0..<size {
            writeByte(port &+ UInt16(index), UInt8(truncatingIfNeeded: value >> (index * 8)))
        }
        update()
    }

    private func readByte(_ port: UInt16) -> UInt8 {
        if Self.apmPorts.contains(port) { return port == Self.apmPorts.lowerBound ? apmCommand : apmStatus }
        if Self.gpePorts.contains(port) { return gpe[Int(port & 3)] }
        guard let window = registerWindow, window.contains(UInt64(port)) else { return 0xFF }
        let offset = Int(UInt64(port) - window.lowerBound)
        let shift = (offset & 1) * 8
        switch offset & ~1 {
        case Register.pm1Status: return UInt8(truncatingIfNeeded: currentPM1Status >> shift)
        case Register.pm1Enable: return UInt8(truncatingIfNeeded: pm1Enable >> shift)
        case Register.pm1Control: return UInt8(truncatingIfNeeded: pm1Control >> shift)
        case Register.timer, Register.timer + 2:
            return UInt8(truncatingIfNeeded: (ticks & Self.timerMask) >> UInt64((offset & 3) * 8))
        // Reading P_LVL2 or P_LVL3 asks for a power state that the processor does not have.
        case Register.levels.lowerBound: return 0
        default: return storage[offset]
        }
    }

    private func writeByte(_ port: UInt16, _ value: UInt8) {
        if Self.apmPorts.contains(port) {
            if port == Self.apmPorts.lowerBound { apmCommandWritten(value) } else { apmStatus = value }
            return
        }
        if Self.gpePorts.contains(port) {
            // Two status bytes, cleared by writing ones, then two enable bytes.
            let index = Int(port & 3)
            gpe[index] = index < 2 ? gpe[index] & ~value : value
            return
        }
        guard let window = registerWindow, window.contains(UInt64(port)) else { return }
        let offset = Int(UInt64(port) - window.lowerBound)
        let shift = (offset & 1) * 8
        let word = UInt16(value) << shift
        let keep = ~(UInt16(0xFF) << shift)
        switch offset & ~1 {
        case Register.pm1Status:
            clearPM1Status(word)
        case Register.pm1Enable:
            pm1Enable = (pm1Enable & keep | word) & PM1.enableMask
        case Register.pm1Control:
            pm1Control = (pm1Control & keep | word) & PM1.controlMask
            if word & PM1.sleepEnable != 0 { sleep() }
        case Register.timer, Register.timer + 2, Register.levels.lowerBound:
            break
        case Register.globalStatus, Register.deviceStatus, Register.deviceStatus + 2:
            storage[offset] &= ~value
        case 0x30, 0x32:
            if !Register.inputs.contains(offset) { storage[offset] = value }
        default:
            storage[offset] = value
        }
    }

    private func apmCommandWritten(_ value: UInt8) {
        apmCommand = value
        if value == Self.acpiEnable { pm1Control |= PM1.sciEnable }
        if value == Self.acpiDisable { pm1Control &= ~PM1.sciEnable }
        if function.dword(Self.deviceActivityB) & Self.apmcEnable != 0,
            storage[Register.globalControl] & Self.smiEnable != 0
        {
            onSMI(value)
        }
    }

    private func sleep() {
        if pm1Control >> 10 & 7 == PM1.softOff { onPowerOff() }
    }

    // MARK: Timer and SCI

    private var ticks: UInt64 { VirtualClock.periods(Self.timerHertz, in: clock.now) }

    /// The first nanosecond at which the timer has counted `ticks`.
    private static func nanoseconds(reaching ticks: UInt64) -> UInt64 {
        let product = ticks.multipliedFullWidth(by: 1_000_000_000)
        guard product.high < timerHertz else { return .max }
        let (quotient, remainder) = timerHertz.dividingFullWidth(product)
        return remainder == 0 ? quotient : quotient &+ 1
    }

    private var currentPM1Status: UInt16 {
        ticks >= overflowTick ? pm1Status | PM1.timerOverflow : pm1Status
    }

    private func clearPM1Status(_ ones: UInt16) {
        if ones & PM1.timerOverflow != 0 { overflowTick = (ticks | (Self.timerHalf - 1)) &+ 1 }
        pm1Status &= ~(ones & PM1.statusMask)
    }

    /// Presses the power button: an SCI if the guest has enabled it.
    package func pressPowerButton() {
        pm1Status |= PM1.powerButton
        update()
    }

    /// Drives the SCI from the status and enable registers and arms the overflow timer if it can cause one.
    private func update() {
        let pm1 = currentPM1Status & pm1Enable & (PM1.timerOverflow | PM1.globalLock | PM1.powerButton | PM1.rtc)
        let general = (gpe[0] & gpe[2]) | (gpe[1] & gpe[3])
        let acpi = pm1Control & PM1.sciEnable != 0 && (pm1 != 0 || general != 0)
        // SMBHSTCFG bits 3:1 = 100: the SMBus controller interrupts through IRQ 9.
        let bus = smbus.interruptPending && function[Self.smbusConfig] >> 1 & 7 == 4
        if (acpi || bus) != sciLevel {
            sciLevel = acpi || bus
            sci.set(sciLevel)
        }
        if pm1Enable & PM1.timerOverflow != 0, ticks < overflowTick {
            overflowTimer.arm(at: Self.nanoseconds(reaching: overflowTick))
        } else {
            overflowTimer.cancel()
        }
    }

    /// The configuration registers are archived with the bus.
    package func archive(_ archive: StateArchive) {
        archive.field("pm1Status", &pm1Status)
        archive.field("pm1Enable", &pm1Enable)
        archive.field("pm1Control", &pm1Control)
        archive.field("overflowTick", &overflowTick)
        archive.fixed("storage", &storage)
        archive.fixed("gpe", &gpe)
        archive.field("apmCommand", &apmCommand)
        archive.field("apmStatus", &apmStatus)
        archive.field("sciLevel", &sciLevel)
        archive.section("smbus") { smbus.archive(archive) }
    }
}

extension PIIX4PM: NamedRegisters {
    package var deviceName: String { "ACPI PM" }

    package func registerName(port: UInt16) -> String? {
        if Self.gpePorts.contains(port) { return "GPE \(port - Self.gpePorts.lowerBound)" }
        if Self.apmPorts.contains(port) { return port == Self.apmPorts.lowerBound ? "APM control" : "APM status" }
        switch port & 0x3F {
        case 0...1: return "PM1 status"
        case 2...3: return "PM1 enable"
        case 4...5: return "PM1 control"
        case 8...11: return "timer"
        default: return "register \(port & 0x3F)"
        }
    }
}
