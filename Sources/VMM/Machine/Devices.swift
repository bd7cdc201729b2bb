/// The devices of the PC and the wires between them.
package final class Devices: Archivable {
    /// Nanoseconds that a character takes on the serial line. Guests poll the transmitter for every byte they print, so
    /// a real line's time would be most of a boot.
    private static let characterTime: UInt64 = 1000

    let configuration: MachineConfiguration
    let memory: GuestMemory
    let ports: PortBus
    let interrupts: InterruptWiring
    let hostBridge: I440FX
    let isaBridge: PIIX3
    let ide: PIIX3IDE
    let powerManagement: PIIX4PM
    let vga: VGA
    let pci: PCIBus
    let rtc: RTC
    private let pit: PIT
    private let systemControl: SystemControlPortB
    private let serial: UART16550
    private let a20: A20Gate
    private let systemPorts: SystemPorts
    private let keyboard: KeyboardController
    private let dma = DMAController()
    private let firmwareConfiguration: FwCfg

    /// Takes each byte that the guest sends through its first serial port.
    package var onConsoleOutput: (UInt8) -> Void {
        get { console.output }
        set { console.output = newValue }
    }
    /// Takes each byte written to the debug consoles, ports 0xE9 and 0x402.
    package var onDebugOutput: (UInt8) -> Void = { _ in }
    /// Takes each byte written to port 0xE9, where guests set marks.
    package var onMarkOutput: (UInt8) -> Void = { _ in }
    /// Takes the outcome when a device ends the run.
    var onOutcome: (Outcome) -> Void = { _ in }
    /// Called when the guest asks for a reset.
    var onReset: () -> Void = {}

    private let console: Console
    /// Where the serial port's bytes go; the port is built before anyone wants them.
    private final class Console { var output: (UInt8) -> Void = { _ in } }

    init(
        _ configuration: MachineConfiguration, processor: Processor, memory: GuestMemory, ports: PortBus,
        mmio: MMIOBus, clock: VirtualClock, queue: EventQueue
    ) {
        self.configuration = configuration
        self.memory = memory
        self.ports = ports
        let interrupts = InterruptWiring(
            configuration.chipset, processor: processor, ports: ports, mmio: mmio, clock: clock, queue: queue)
        let console = Console()
        self.interrupts = interrupts
        self.console = console
        pit = PIT(clock: clock, queue: queue, interrupt: interrupts.line(0))
        systemControl = SystemControlPortB(pit: pit)
        rtc = RTC(clock: clock, queue: queue, startDate: configuration.startDate, interrupt: interrupts.line(8))
        serial = UART16550(
            characterTime: .fixed(nanoseconds: Self.characterTime), clock: clock, queue: queue,
            interrupt: interrupts.line(4), output: { console.output($0) })
        a20 = A20Gate { [unowned processor] in processor.setA20($0) }
        systemPorts = SystemPorts(a20: a20)
        keyboard = KeyboardController(
            clock: clock, queue: queue, keyboardInterrupt: interrupts.line(1), mouseInterrupt: interrupts.line(12),
            a20: a20)
        pci = PCIBus(ports: ports, mmio: mmio)
        hostBridge = I440FX(ramBytes: configuration.memorySize)
        isaBridge = PIIX3 { interrupts.set($0, .pci, $1) }
        ide = PIIX3IDE(
            units: Self.units(configuration), lines: [interrupts.line(14), interrupts.line(15)], clock: clock,
            queue: queue, ports: ports, memory: memory)
        powerManagement = PIIX4PM(
            clock: clock, queue: queue, ports: ports, sci: interrupts.line(9, .powerManagement), smmAvailable: true)
        vga = VGA(clock: clock, ports: ports, mmio: mmio, rom: Self.vgaROM(configuration))
        firmwareConfiguration = FwCfg(ports: ports, memory: memory)
        attach()
        connect(processor)
        describeMachine()
        reset()
    }

    private static func units(_ configuration: MachineConfiguration) -> [PIIX3IDE.Unit] {
        let disk = configuration.disk.map { PIIX3IDE.Unit.disk(CopyOnWriteDisk($0)) } ?? .empty
        return [disk, .empty, .cdrom(configuration.cdrom), .empty]
    }

    private static func vgaROM(_ configuration: MachineConfiguration) -> [UInt8] {
        if case .firmware(_, let rom) = configuration.boot { rom } else { [] }
    }

    /// Gives the ISA devices their ports and puts the functions on the PCI bus.
    private func attach() {
        pit.attach(to: ports)
        systemControl.attach(to: ports)
        rtc.attach(to: ports)
        serial.attach(to: ports)
        systemPorts.attach(to: ports)
        keyboard.attach(to: ports)
        dma.attach(to: ports)
        pci.add(hostBridge.function, device: 0)
        pci.add(isaBridge.function, device: 1)
        pci.add(ide.function, device: 1, function: 1)
        pci.add(powerManagement.function, device: 1, function: 3)
        pci.add(vga.function, device: 2)
    }

    /// Wires between devices, and from devices to the processor and to the outside.
    private func connect(_ processor: Processor) {
        let (hostBridge, isaBridge, memory, interrupts) = (hostBridge, isaBridge, memory, interrupts)
        hostBridge.connect(to: memory) { [unowned processor] in processor.cpu.pointee.inSMM }
        processor.smmChanged = { hostBridge.smmChanged($0, memory: memory) }
        processor.assertFERR = { interrupts.set(13, .isa, true) }
        pci.onInterrupt = { isaBridge.setInterrupt(device: $0, pin: $1, level: $2) }
        systemPorts.onClearFERR = { interrupts.set(13, .isa, false) }
        systemPorts.onReset = { [unowned self] _ in onReset() }
        systemPorts.onDebugByte = { [unowned self] in onDebugOutput($0) }
        systemPorts.onMarkByte = { [unowned self] in onMarkOutput($0) }
        systemPorts.onDebugExit = { [unowned self] in onOutcome(.debugExit($0)) }
        keyboard.onReset = { [unowned self] _ in onReset() }
        powerManagement.onPowerOff = { [unowned self] in onOutcome(.powerOff) }
        powerManagement.onSMI = { [unowned processor] _ in processor.raiseSMI() }
    }

    /// What firmware finds out about the machine: in CMOS and by the firmware configuration device.
    private func describeMachine() {
        CMOSSetup(memory: configuration.memorySize).apply(to: rtc)
        firmwareConfiguration.addMachine(ramBytes: configuration.memorySize)
        firmwareConfiguration.addMemoryMap([(base: 0, length: configuration.memorySize, type: 1)])
        // All ones: without anything to boot, firmware says so and does not try again.
        firmwareConfiguration.add(file: "etc/boot-fail-wait", bytes: [0xFF, 0xFF, 0xFF, 0xFF])
        firmwareConfiguration.add(acpiTables)
    }

    var acpiTables: ACPITables {
        ACPITables(ACPITables.Configuration(hasAPIC: configuration.chipset == .apic))
    }

    // MARK: Inputs and outputs

    /// Gives bytes to the guest's first serial port, if the guest listens there.
    /// - Returns: how many it took.
    package func consoleInput(_ bytes: ArraySlice<UInt8>) -> Int { serial.isListening ? serial.receive(bytes) : 0 }

    /// The lines of the VGA text screen, empty in graphics modes.
    package var screen: [String] { vga.screenText() }

    /// The last bytes written to the POST ports 0x80 and 0x190.
    package var postCodes: (UInt8, UInt8) { systemPorts.post }

    /// Whether a device could still raise a non-maskable interrupt by itself.
    var canRaiseNMI: Bool { interrupts.canRaiseNMI && !rtc.masksNMI }

    // MARK: Reset

    /// What the system reset line does.
    func reset() {
        interrupts.reset()
        pit.reset()
        systemControl.reset()
        rtc.reset()
        serial.reset()
        a20.reset()
        systemPorts.reset()
        keyboard.reset()
        dma.reset()
        pci.reset()
    }

    // MARK: State

    package func archive(_ archive: StateArchive) {
        // The bridges' registers are the bus's; what follows from them is put back after it.
        let parts: [(String, any Archivable)] = [
            ("pci", pci), ("hostBridge", hostBridge), ("isaBridge", isaBridge), ("interrupts", interrupts),
            ("pit", pit),
            ("systemControl", systemControl), ("rtc", rtc), ("serial", serial), ("a20", a20),
            ("systemPorts", systemPorts), ("keyboard", keyboard), ("dma", dma), ("ide", ide),
            ("powerManagement", powerManagement), ("vga", vga), ("fwCfg", firmwareConfiguration),
        ]
        for (name, part) in parts { archive.section(name) { part.archive(archive) } }
    }
}
