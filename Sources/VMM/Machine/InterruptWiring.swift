/// The interrupt controllers and the sixteen ISA interrupt lines that reach them.
///
/// A line that several devices share is high while any of them asserts it. With APICs the 8259A's output is the local
/// APIC's LINT0, and line 0 is input 2 of the I/O APIC; the others are inputs of the same number.
package final class InterruptWiring: Archivable {
    /// What can drive a line; each has a wire of its own.
    package enum Source: Int, CaseIterable {
        case isa, pci, powerManagement
    }

    private static let timerPin = 2

    private let pic: PIC
    private let localAPIC: LocalAPIC?
    private let ioAPIC: IOAPIC?
    /// Asserted wires of each line, one bit a source.
    private var asserted = [UInt8](repeating: 0, count: 16)

    /// The controllers of `chipset`, connected to the processor and its buses.
    init(
        _ chipset: MachineConfiguration.Chipset, processor: Processor, ports: PortBus, mmio: MMIOBus,
        clock: VirtualClock, queue: EventQueue
    ) {
        let selection = Selection(processor)
        let pic = PIC { [unowned selection] in selection.picOutputChanged($0) }
        selection.pic = pic
        self.pic = pic
        pic.attach(to: ports)
        processor.acknowledgeInterrupt = { selection.acknowledge() }
        guard chipset == .apic else {
            localAPIC = nil
            ioAPIC = nil
            return
        }
        let apic = LocalAPIC(clock: clock, queue: queue, outputs: selection.outputs(mmio))
        let ioAPIC = IOAPIC { [unowned apic] in apic.receive($0) }
        selection.localAPIC = apic
        selection.ioAPIC = ioAPIC
        localAPIC = apic
        self.ioAPIC = ioAPIC
        mmio.map(ioAPIC, IOAPIC.defaultBase..<IOAPIC.defaultBase + IOAPIC.registerSpace)
        processor.readCR8 = { apic.cr8 }
        processor.writeCR8 = { apic.cr8 = $0 }
        let physicalBits = Int(processor.model.physicalAddressBits)
        processor.apicBaseChanged = { _ = apic.writeBaseMSR($0, physicalBits: physicalBits) }
        selection.relocate(mmio)
    }

    package func set(_ irq: Int, _ source: Source, _ level: Bool) {
        let before = asserted[irq] != 0
        let bit: UInt8 = 1 << UInt8(source.rawValue)
        if level { asserted[irq] |= bit } else { asserted[irq] &= ~bit }
        let after = asserted[irq] != 0
        guard before != after else { return }
        pic.setLine(irq: irq, level: after)
        ioAPIC?.setLine(pin: irq == 0 ? Self.timerPin : irq, level: after)
    }

    /// The wire of an ISA device, or of another `source`, to interrupt `irq`, 0 to 15.
    package func line(_ irq: Int, _ source: Source = .isa) -> InterruptLine {
        InterruptLine { [unowned self] in set(irq, source, $0) }
    }

    /// Whether an input of the APICs is programmed to become an NMI.
    var canRaiseNMI: Bool { localAPIC?.routesNMI == true || ioAPIC?.routesNMI == true }

    /// The controllers as RESET# leaves them. The levels of the lines belong to the devices.
    func reset() {
        pic.reset()
        localAPIC?.reset()
        ioAPIC?.reset()
    }

    /// Leaves the controllers as firmware does: everything masked at the 8259A, whose output passes the local APIC.
    func prepareDirectBoot(_ ports: PortBus) {
        for (command, data, base) in [(0x20, 0x21, 0x08), (0xA0, 0xA1, 0x70)] as [(UInt16, UInt16, UInt32)] {
            ports.write(command, 0x11, size: 1)
            ports.write(data, base, size: 1)
            ports.write(data, command == 0x20 ? 4 : 2, size: 1)
            ports.write(data, 1, size: 1)
            ports.write(data, 0xFF, size: 1)
        }
        guard let localAPIC else { return }
        let spuriousVector: UInt64 = 0xF0
        let lint0: UInt64 = 0x350
        let lint1: UInt64 = 0x360
        localAPIC.writeMMIO(spuriousVector, 0x1FF, size: 4)
        localAPIC.writeMMIO(lint0, 0x700, size: 4)  // ExtINT
        localAPIC.writeMMIO(lint1, 0x400, size: 4)  // NMI
    }

    package func archive(_ archive: StateArchive) {
        archive.fixed("asserted", &asserted)
        archive.section("pic") { pic.archive(archive) }
        archive.section("localAPIC") { localAPIC?.archive(archive) }
        archive.section("ioAPIC") { ioAPIC?.archive(archive) }
    }
}

/// Between controllers and processor: whether there is an interrupt to take, and which.
private final class Selection {
    private unowned let processor: Processor
    unowned var pic: PIC!
    var localAPIC: LocalAPIC?
    var ioAPIC: IOAPIC?

    init(_ processor: Processor) { self.processor = processor }

    /// What the local APIC reports to, once it is there.
    func outputs(_ mmio: MMIOBus) -> LocalAPICOutputs {
        var outputs = LocalAPICOutputs()
        outputs.onInterruptPending = { [unowned self] in update() }
        outputs.onNMI = { [unowned processor] in processor.raiseNMI() }
        outputs.onSMI = { [unowned processor] in processor.raiseSMI() }
        outputs.onINIT = { [unowned processor] in processor.reset() }
        outputs.onEOI = { [unowned self] in ioAPIC?.endOfInterrupt(vector: $0) }
        outputs.onRelocate = { [unowned self, unowned mmio] in relocate(mmio) }
        return outputs
    }

    /// Maps the local APIC where its base register says.
    func relocate(_ mmio: MMIOBus) {
        guard let localAPIC else { return }
        mmio.unmap(localAPIC)
        if let range = localAPIC.mmioRange { mmio.map(localAPIC, range) }
        update()
    }

    func picOutputChanged(_ level: Bool) {
        localAPIC?.setLINT0(level)
        update()
    }

    private func update() {
        guard let localAPIC else { return processor.setInterruptLine(pic.output) }
        processor.setInterruptLine(localAPIC.pendingVector() != nil || pic.output && localAPIC.acceptsPIC)
    }

    /// The vector of the interrupt that the processor takes.
    func acknowledge() -> UInt8 {
        defer { update() }
        guard let localAPIC else { return pic.acknowledge() }
        if localAPIC.pendingVector() == nil, pic.output, localAPIC.acceptsPIC {
            localAPIC.externalInterruptTaken()
            return pic.acknowledge()
        }
        return localAPIC.acknowledge()
    }
}
