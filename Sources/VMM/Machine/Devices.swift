/// The devices of the PC and the wires between them.
package final class Devices: Archivable {
    /// Nanoseconds that a character takes on the serial line. Guests poll the transmitter for every byte they print, so
    /// a real line's time would be most of a boot.
    private static let characterTime: UInt64 = 1000

    private let configuration: MachineConfiguration
    private let memory: GuestMemory
    private let interrupts: InterruptWiring
    private let pic: PIC
    private let pit: PIT
    private let systemControl: SystemControlPortB
    private let serial: UART16550
    private let pci: PCIBus
    private let hostBridge: I440FX
    private let isaBridge: PIIX3
    private let ide: PIIX3IDE
    private let powerManagement: PIIX4PM
    private let firmwareConfiguration: FwCfg
    private let connections: Connections

    /// Takes each byte that the guest sends through its first serial port.
    package var onConsoleOutput: (UInt8) -> Void {
        get { connections.onConsoleOutput }
        set { connections.onConsoleOutput = newValue }
    }
    /// Takes the outcome when a device ends the run.
    var onOutcome: (Outcome) -> Void {
        get { connections.onOutcome }
        set { connections.onOutcome = newValue }
    }
    /// Called when the guest asks for a reset.
    var onReset: () -> Void {
        get { connections.onReset }
        set { connections.onReset = newValue }
    }

    /// What devices call outside; set after they are built.
    private final class Connections {
        var onConsoleOutput: (UInt8) -> Void = { _ in }
        var onOutcome: (Outcome) -> Void = { _ in }
        var onReset: () -> Void = {}
    }

    init(
        _ configuration: MachineConfiguration, processor: Processor, memory: GuestMemory, ports: PortBus,
        mmio: MMIOBus, clock: VirtualClock, queue: EventQueue
    ) {
        self.configuration = configuration
        self.memory = memory
        let connections = Connections()
        self.connections = connections
        let pic = PIC { [unowned processor] in processor.setInterruptLine($0) }
        processor.acknowledgeInterrupt = { pic.acknowledge() }
        let interrupts = InterruptWiring { pic.setLine(irq: $0, level: $1) }
        self.pic = pic
        self.interrupts = interrupts
        pit = PIT(clock: clock, queue: queue, interrupt: interrupts.line(0))
        systemControl = SystemControlPortB(pit: pit)
        serial = UART16550(
            characterTime: .fixed(nanoseconds: Self.characterTime), clock: clock, queue: queue,
            interrupt: interrupts.line(4), output: { connections.onConsoleOutput($0) })
        pci = PCIBus(ports: ports, mmio: mmio)
        hostBridge = I440FX(ramBytes: configuration.memorySize)
        isaBridge = PIIX3 { interrupts.set($0, .pci, $1) }
        ide = PIIX3IDE(
            units: Self.units(configuration), lines: [interrupts.line(14), interrupts.line(15)], clock: clock,
            queue: queue, ports: ports, memory: memory)
        powerManagement = PIIX4PM(
            clock: clock, queue: queue, ports: ports, sci: interrupts.line(9, .powerManagement), smmAvailable: false)
        firmwareConfiguration = FwCfg(ports: ports, memory: memory)
        powerManagement.onPowerOff = { connections.onOutcome(.powerOff) }
        pic.attach(to: ports)
        pit.attach(to: ports)
        systemControl.attach(to: ports)
        serial.attach(to: ports)
        plugIn(processor)
        describeMachine()
        reset()
    }

    private static func units(_ configuration: MachineConfiguration) -> [PIIX3IDE.Unit] {
        let disk = configuration.disk.map { PIIX3IDE.Unit.disk(CopyOnWriteDisk($0)) } ?? .empty
        return [disk, .empty, .cdrom(configuration.cdrom), .empty]
    }

    /// Puts the functions on the PCI bus and connects its interrupts.
    private func plugIn(_ processor: Processor) {
        hostBridge.connect(to: memory) { [unowned processor] in processor.cpu.pointee.inSMM }
        let isaBridge = self.isaBridge
        pci.onInterrupt = { isaBridge.setInterrupt(device: $0, pin: $1, level: $2) }
        pci.add(hostBridge.function, device: 0)
        pci.add(isaBridge.function, device: 1)
        pci.add(ide.function, device: 1, function: 1)
        pci.add(powerManagement.function, device: 1, function: 3)
    }

    /// What firmware asks about the machine.
    private func describeMachine() {
        firmwareConfiguration.addMachine(ramBytes: configuration.memorySize)
        firmwareConfiguration.add(acpiTables)
    }

    private var acpiTables: ACPITables {
        ACPITables(ACPITables.Configuration(hasAPIC: configuration.chipset == .apic))
    }

    // MARK: Inputs from outside

    /// Gives bytes to the guest's first serial port.
    /// - Returns: how many it took.
    package func consoleInput(_ bytes: ArraySlice<UInt8>) -> Int { serial.receive(bytes) }

    /// The lines of the VGA text screen, empty in graphics modes.
    package var screen: [String] { [] }

    /// The last bytes written to the POST ports 0x80 and 0x190.
    package var postCodes: (UInt8, UInt8) { (0, 0) }

    /// Whether something could raise a non-maskable interrupt by itself.
    var canRaiseNMI: Bool { false }

    // MARK: Reset

    /// What the system reset line does.
    func reset() {
        pic.reset()
        pit.reset()
        systemControl.reset()
        serial.reset()
        pci.reset()
    }

    // MARK: State

    package func archive(_ archive: StateArchive) {
        // The host bridge, the PIIX and their windows follow from the bus, so that comes first.
        let parts: [(String, any Archivable)] = [
            ("pci", pci), ("hostBridge", hostBridge), ("interrupts", interrupts), ("isaBridge", isaBridge), ("pic", pic),
            ("pit", pit), ("systemControl", systemControl), ("serial", serial), ("ide", ide),
            ("powerManagement", powerManagement), ("fwCfg", firmwareConfiguration),
        ]
        for (name, part) in parts { archive.section(name) { part.archive(archive) } }
    }
}

// MARK: Starting without firmware

extension Devices {
    /// Where the ACPI tables go; the root pointer follows them.
    private static let tablesAddress: UInt64 = MemoryMap.biosSegment
    private static let pciMemory: Range<UInt32> = 0xE000_0000..<0xFEB0_0000
    private static let pciPorts: Range<UInt16> = 0xC000..<0xF000
    private static let pirqInterrupts: [UInt32] = [10, 10, 11, 11]

    /// Leaves the devices as firmware would before it starts a kernel, and the ACPI tables in memory.
    /// - Returns: the guest-physical address of the ACPI root pointer.
    func prepareDirectBoot() -> UInt64 {
        hostBridge.shadowAll()
        powerManagement.openRegisters()
        ide.enableChannels()
        for (pirq, irq) in Self.pirqInterrupts.enumerated() {
            isaBridge.function.write(PIIX3.pirqRoute0 + pirq, irq, size: 1)
        }
        pci.assignResources(memory: Self.pciMemory, io: Self.pciPorts)
        return storeACPITables()
    }

    private func storeACPITables() -> UInt64 {
        let tables = acpiTables
        let base = UInt32(Self.tablesAddress)
        let root = (Self.tablesAddress + UInt64(tables.blockSize) + 15) & ~15
        memory.store(tables.block(at: base), at: Self.tablesAddress)
        memory.store(tables.rootPointer(forBlockAt: base), at: root)
        return root
    }
}
