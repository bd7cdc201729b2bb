/// The two cascaded 8259A interrupt controllers of a PC with the edge/level control registers of the PIIX
/// (Intel 8259A datasheet; 82371SB, section 2.5.3).
///
/// The slave's output drives the master's input 2. As in the PIIX, the trigger of each input comes from ELCR, the bit
/// in ICW1 is ignored, and the cascade is wired, so that ICW3 is accepted and has no effect.
package final class PIC: PortDevice, Archivable {
    private enum Port {
        static let masterCommand: UInt16 = 0x20
        static let masterData: UInt16 = 0x21
        static let slaveCommand: UInt16 = 0xA0
        static let slaveData: UInt16 = 0xA1
        static let masterELCR: UInt16 = 0x4D0
        static let slaveELCR: UInt16 = 0x4D1
    }
    /// Inputs that can be level-triggered: not the timer, the keyboard, the cascade, the clock and the coprocessor.
    private static let masterLevelCapable: UInt8 = 0xF8
    private static let slaveLevelCapable: UInt8 = 0xDE
    private static let cascadeInput = 2

    private var master = PIC8259(isMaster: true)
    private var slave = PIC8259(isMaster: false)
    /// The level of the master's INTR output.
    package private(set) var output = false
    private let onOutput: (Bool) -> Void

    /// - Parameter onOutput: called with the new level whenever INTR changes.
    package init(onOutput: @escaping (Bool) -> Void) { self.onOutput = onOutput }

    /// Claims the controllers' ports.
    package func attach(to bus: PortBus) {
        bus.attach(self, Port.masterCommand...Port.masterData, width: 1)
        bus.attach(self, Port.slaveCommand...Port.slaveData, width: 1)
        bus.attach(self, Port.masterELCR...Port.slaveELCR, width: 1)
    }

    /// Sets the level of input `irq`, 0 to 15; true is asserted. Input 2 is the cascade and cannot be driven.
    /// An edge-triggered request is withdrawn when its line falls before it is acknowledged.
    package func setLine(irq: Int, level: Bool) {
        guard (0..<16).contains(irq), irq != PIC.cascadeInput else { return }
        if irq < 8 {
            master.setInput(irq, level)
        } else {
            slave.setInput(irq - 8, level)
        }
        update()
    }

    /// A line to input `irq`, 0 to 15.
    package func line(_ irq: Int) -> InterruptLine {
        InterruptLine { [unowned self] in setLine(irq: irq, level: $0) }
    }

    /// The interrupt acknowledge cycle: the vector of the most urgent request, which becomes in service. Without a
    /// request it is the vector of input 7 of the controller that was asked, and nothing becomes in service.
    package func acknowledge() -> UInt8 {
        let input = master.acknowledge()
        guard input == PIC.cascadeInput, !master.isSingle else {
            update()
            return master.vectorBase | UInt8(input ?? 7)
        }
        let slaveInput = slave.acknowledge()
        // The slave drops INT during the acknowledge cycle, so that a further request is a new edge.
        master.setInput(PIC.cascadeInput, false)
        update()
        return slave.vectorBase | UInt8(slaveInput ?? 7)
    }

    /// Back to the state after power-on. The levels of the inputs belong to the devices and stay.
    package func reset() {
        master.reset()
        slave.reset()
        update()
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        defer { update() }
        return switch port {
        case Port.masterCommand: UInt32(master.read(data: false))
        case Port.masterData: UInt32(master.read(data: true))
        case Port.slaveCommand: UInt32(slave.read(data: false))
        case Port.slaveData: UInt32(slave.read(data: true))
        case Port.masterELCR: UInt32(master.elcr)
        case Port.slaveELCR: UInt32(slave.elcr)
        default: 0xFF
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        switch port {
        case Port.masterCommand: master.writeCommand(value)
        case Port.masterData: master.writeData(value)
        case Port.slaveCommand: slave.writeCommand(value)
        case Port.slaveData: slave.writeData(value)
        case Port.masterELCR: master.elcr = value & PIC.masterLevelCapable
        case Port.slaveELCR: slave.elcr = value & PIC.slaveLevelCapable
        default: break
        }
        update()
    }

    package func archive(_ archive: StateArchive) {
        archive.section("master") { master.archive(archive) }
        archive.section("slave") { slave.archive(archive) }
        archive.field("output", &output)
    }

    private func update() {
        master.setInput(PIC.cascadeInput, slave.requestedInput != nil)
        let level = master.requestedInput != nil
        guard level != output else { return }
        output = level
        onOutput(level)
    }
}

/// One 8259A.
private struct PIC8259 {
    private enum ICW1 {
        static let needsICW4: UInt8 = 0x01
        static let single: UInt8 = 0x02
        static let select: UInt8 = 0x10
    }
    private enum ICW4 {
        static let automaticEOI: UInt8 = 0x02
        static let specialFullyNested: UInt8 = 0x10
    }
    private enum OCW3 {
        static let select: UInt8 = 0x08
        static let readISR: UInt8 = 0x01
        static let readRegister: UInt8 = 0x02
        static let poll: UInt8 = 0x04
        static let specialMask: UInt8 = 0x20
        static let enableSpecialMask: UInt8 = 0x40
    }
    /// OCW2 bits 7 to 5.
    private enum EOI {
        static let clearRotateInAEOI: UInt8 = 0
        static let nonSpecific: UInt8 = 1
        static let specific: UInt8 = 3
        static let setRotateInAEOI: UInt8 = 4
        static let rotateNonSpecific: UInt8 = 5
        static let setPriority: UInt8 = 6
        static let rotateSpecific: UInt8 = 7
    }
    /// What the next write to the data port is.
    private enum Expected: UInt8 {
        case mask, icw2, icw3, icw4
    }

    let isMaster: Bool
    /// Levels of the eight inputs.
    private var lines: UInt8 = 0
    /// Rising edges not yet acknowledged.
    private var edges: UInt8 = 0
    private var isr: UInt8 = 0
    private var imr: UInt8 = 0
    var elcr: UInt8 = 0
    private(set) var vectorBase: UInt8 = 0
    /// The input of lowest priority; the next one has the highest.
    private var lowestPriority: UInt8 = 7
    private var expected = Expected.mask
    private(set) var isSingle = false
    private var needsICW4 = false
    private var automaticEOI = false
    private var rotatesInAEOI = false
    private var specialFullyNested = false
    private var specialMask = false
    private var readsISR = false
    private var polls = false

    init(isMaster: Bool) { self.isMaster = isMaster }

    private var irr: UInt8 { (lines & elcr) | (lines & edges & ~elcr) }

    mutating func setInput(_ input: Int, _ level: Bool) {
        let bit: UInt8 = 1 << UInt8(input)
        if level {
            edges |= ~lines & bit
            lines |= bit
        } else {
            lines &= ~bit
            edges &= ~bit
        }
    }

    mutating func reset() {
        let kept = lines
        self = PIC8259(isMaster: isMaster)
        lines = kept
    }

    /// The rank of the most urgent input in `inputs`: 0 is the most urgent, 8 means none.
    private func rank(_ inputs: UInt8) -> Int {
        let shift = (lowestPriority &+ 1) & 7
        return ((inputs >> shift) | (inputs << ((8 &- shift) & 7))).trailingZeroBitCount
    }

    private func input(ofRank rank: Int) -> Int { (rank + Int(lowestPriority) + 1) & 7 }

    /// Inputs in service that hold others off. In special mask mode a masked one does not.
    private var inhibiting: UInt8 { specialMask ? isr & ~imr : isr }

    /// The input that requests an interrupt now.
    var requestedInput: Int? {
        let request = rank(irr & ~imr)
        guard request < 8 else { return nil }
        let service = rank(inhibiting)
        let input = input(ofRank: request)
        let nests = specialFullyNested && isMaster && input == 2
        return request < service || (nests && request == service) ? input : nil
    }

    mutating func acknowledge() -> Int? {
        guard let input = requestedInput else { return nil }
        let bit: UInt8 = 1 << UInt8(input)
        edges &= ~bit
        if !automaticEOI {
            isr |= bit
        } else if rotatesInAEOI {
            lowestPriority = UInt8(input)
        }
        return input
    }

    mutating func read(data: Bool) -> UInt8 {
        if polls {
            polls = false
            return acknowledge().map { 0x80 | UInt8($0) } ?? 0
        }
        return data ? imr : readsISR ? isr : irr
    }

    mutating func writeCommand(_ value: UInt8) {
        if value & ICW1.select != 0 {
            initialize(value)
        } else if value & OCW3.select != 0 {
            if value & OCW3.enableSpecialMask != 0 { specialMask = value & OCW3.specialMask != 0 }
            if value & OCW3.poll != 0 {
                polls = true
            } else if value & OCW3.readRegister != 0 {
                readsISR = value & OCW3.readISR != 0
            }
        } else {
            endOfInterrupt(command: value >> 5, level: value & 7)
        }
    }

    private mutating func initialize(_ icw1: UInt8) {
        edges = 0
        isr = 0
        imr = 0
        lowestPriority = 7
        specialMask = false
        readsISR = false
        polls = false
        automaticEOI = false
        rotatesInAEOI = false
        specialFullyNested = false
        isSingle = icw1 & ICW1.single != 0
        needsICW4 = icw1 & ICW1.needsICW4 != 0
        expected = .icw2
    }

    private mutating func endOfInterrupt(command: UInt8, level: UInt8) {
        switch command {
        case EOI.clearRotateInAEOI, EOI.setRotateInAEOI:
            rotatesInAEOI = command == EOI.setRotateInAEOI
        case EOI.nonSpecific, EOI.rotateNonSpecific:
            let rank = rank(inhibiting)
            guard rank < 8 else { return }
            let input = input(ofRank: rank)
            isr &= ~(1 << UInt8(input))
            if command == EOI.rotateNonSpecific { lowestPriority = UInt8(input) }
        case EOI.specific, EOI.rotateSpecific:
            isr &= ~(1 << level)
            if command == EOI.rotateSpecific { lowestPriority = level }
        case EOI.setPriority:
            lowestPriority = level
        default:
            break
        }
    }

    mutating func writeData(_ value: UInt8) {
        switch expected {
        case .mask:
            imr = value
        case .icw2:
            vectorBase = value & 0xF8
            expected = isSingle ? (needsICW4 ? .icw4 : .mask) : .icw3
        case .icw3:
            expected = needsICW4 ? .icw4 : .mask
        case .icw4:
            automaticEOI = value & ICW4.automaticEOI != 0
            specialFullyNested = value & ICW4.specialFullyNested != 0
            expected = .mask
        }
    }

    mutating func archive(_ archive: StateArchive) {
        archive.field("lines", &lines)
        archive.field("edges", &edges)
        archive.field("isr", &isr)
        archive.field("imr", &imr)
        archive.field("elcr", &elcr)
        archive.field("vectorBase", &vectorBase)
        archive.field("lowestPriority", &lowestPriority)
        archive.field("expected", &expected)
        archive.field("isSingle", &isSingle)
        archive.field("needsICW4", &needsICW4)
        archive.field("automaticEOI", &automaticEOI)
        archive.field("rotatesInAEOI", &rotatesInAEOI)
        archive.field("specialFullyNested", &specialFullyNested)
        archive.field("specialMask", &specialMask)
        archive.field("readsISR", &readsISR)
        archive.field("polls", &polls)
    }
}

extension PIC: NamedRegisters {
    package var deviceName: String { "PIC" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Port.masterCommand: "master command"
        case Port.masterData: "master data"
        case Port.slaveCommand: "slave command"
        case Port.slaveData: "slave data"
        case Port.masterELCR: "master edge/level"
        case Port.slaveELCR: "slave edge/level"
        default: nil
        }
    }
}
