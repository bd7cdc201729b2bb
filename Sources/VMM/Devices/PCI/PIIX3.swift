/// The ISA bridge of the PIIX3, 8086:7000 (82371SB datasheet, order number 290550): routes the four PCI interrupt
/// lines to ISA interrupts. The ISA devices behind it are devices of their own.
package final class PIIX3: Archivable {
    /// PIRQRC[A:D], one byte each: bit 7 disables the routing, bits 3:0 are the ISA interrupt.
    package static let pirqRoute0 = 0x60
    private static let routingDisabled: UInt8 = 0x80
    /// Interrupts that the datasheet allows as a target: 3 to 7, 9 to 12, 14 and 15.
    private static let allowedIRQs: UInt16 = 0xDEF8

    /// The configuration space; function 0 of the PIIX3's device.
    package let function = PCIFunction(vendor: 0x8086, device: 0x7000, classCode: 0x060100)
    /// Drives ISA interrupt `irq` on behalf of PCI; levels of lines that share an interrupt are combined (OR).
    private let setIRQ: (_ irq: Int, _ level: Bool) -> Void
    /// The interrupt pins now asserted on each PIRQ line; bit = device number, one set a pin.
    private var asserted = [UInt32](repeating: 0, count: 16)
    /// Levels last given to `setIRQ`, one bit an interrupt.
    private var levels: UInt16 = 0

    /// An ISA bridge that drives ISA interrupts through `setIRQ`, called when a level changes.
    package init(setIRQ: @escaping (_ irq: Int, _ level: Bool) -> Void) {
        self.setIRQ = setIRQ
        function.preset(PCIConfig.command, 0x0007, size: 2)
        function.preset(PCIConfig.status, 0x0200, size: 2)
        function.preset(PCIConfig.headerType, UInt32(PCIConfig.multifunction), size: 1)
        function.allowWrites(PCIConfig.command, mask: 0x0100, size: 2)
        function.allowWrites(PCIConfig.interruptLine, mask: 0, size: 1)
        for offset in 0x40..<0x100 { function.allowWrites(offset, mask: 0xFF, size: 1) }
        for offset in 0..<4 { function.allowWrites(Self.pirqRoute0 + offset, mask: 0x8F, size: 1) }
        setResetValues()
        function.onWrite = { [unowned self] range in
            if range.overlaps(Self.pirqRoute0..<Self.pirqRoute0 + 4) { self.updateLines() }
        }
        function.onReset = { [unowned self] in
            for index in self.asserted.indices { self.asserted[index] = 0 }
            self.updateLines()
        }
    }

    /// The registers that are not zero after PCIRST#.
    private func setResetValues() {
        for (offset, value): (Int, UInt32) in [
            (0x4C, 0x4D), (0x4E, 0x03), (0x69, 0x02), (0x70, 0x80), (0x76, 0x0C), (0x77, 0x0C), (0x78, 0x02),
            (0xA0, 0x08), (0xA8, 0x0F),
        ] {
            function.preset(offset, value, size: 1)
        }
        for offset in 0..<4 { function.preset(Self.pirqRoute0 + offset, UInt32(Self.routingDisabled), size: 1) }
    }

    /// The PIRQ line (0 is A) that pin `pin` (1 is INTA#) of PCI device `device` is wired to.
    package static func pirq(device: Int, pin: Int) -> Int { (pin - 1 + device - 1) & 3 }

    /// Takes the level of a PCI interrupt pin; connect it to `PCIBus.onInterrupt`.
    package func setInterrupt(device: Int, pin: Int, level: Bool) {
        let bit: UInt32 = 1 << UInt32(device & 31)
        let index = Self.pirq(device: device, pin: pin) << 2 | (pin - 1) & 3
        if level { asserted[index] |= bit } else { asserted[index] &= ~bit }
        updateLines()
    }

    /// The ISA interrupt that a PIRQ line is routed to, if any.
    package func route(ofPIRQ pirq: Int) -> Int? {
        let register = function[Self.pirqRoute0 + pirq & 3]
        guard register & Self.routingDisabled == 0, Self.allowedIRQs >> UInt16(register & 0xF) & 1 != 0 else {
            return nil
        }
        return Int(register & 0xF)
    }

    private func updateLines() {
        var new: UInt16 = 0
        for pirq in 0..<4 where asserted[pirq << 2..<pirq << 2 + 4].contains(where: { $0 != 0 }) {
            if let irq = route(ofPIRQ: pirq) { new |= 1 << UInt16(irq) }
        }
        let changed = new ^ levels
        levels = new
        for irq in 0..<16 where changed >> UInt16(irq) & 1 != 0 { setIRQ(irq, new >> UInt16(irq) & 1 != 0) }
    }

    /// The configuration registers are archived with the bus.
    package func archive(_ archive: StateArchive) {
        archive.fixed("asserted", &asserted)
        archive.field("levels", &levels)
    }
}
