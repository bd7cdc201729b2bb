/// The sixteen ISA interrupt lines: who drives them, and the inputs that they reach.
///
/// A line that several devices share is high while any of them asserts it.
package final class InterruptWiring: Archivable {
    /// What can drive a line; each has a wire of its own.
    package enum Source: Int, CaseIterable {
        case isa, pci, powerManagement
    }

    /// Asserted wires of each line, one bit a source.
    private var asserted = [UInt8](repeating: 0, count: 16)
    private let onChange: (_ irq: Int, _ level: Bool) -> Void

    /// - Parameter onChange: called with the new level of a line, 0 to 15.
    package init(onChange: @escaping (_ irq: Int, _ level: Bool) -> Void) { self.onChange = onChange }

    package func set(_ irq: Int, _ source: Source, _ level: Bool) {
        let before = asserted[irq] != 0
        let bit: UInt8 = 1 << UInt8(source.rawValue)
        if level { asserted[irq] |= bit } else { asserted[irq] &= ~bit }
        let after = asserted[irq] != 0
        if before != after { onChange(irq, after) }
    }

    /// The wire of an ISA device, or of another `source`, to interrupt `irq`, 0 to 15.
    package func line(_ irq: Int, _ source: Source = .isa) -> InterruptLine {
        InterruptLine { [unowned self] in set(irq, source, $0) }
    }

    package func archive(_ archive: StateArchive) { archive.fixed("asserted", &asserted) }
}
