import VMM

/// What the ports and addresses of a machine's devices are called, as the buses were at the trace's end.
package final class RegisterMap {
    private static let pageMask: UInt64 = ~0xFFF
    private let machine: Machine?
    private var last: Range<UInt64> = 0..<0
    /// Where registers in memory begin, ascending, if that was found out before.
    private let starts: [UInt64]

    /// Without a machine nothing has a name.
    package init(_ machine: Machine?) {
        self.machine = machine
        starts = []
    }

    /// Knows nothing but where those registers in memory begin that there are events of.
    init(starts: [UInt64]) {
        machine = nil
        self.starts = starts.sorted()
    }

    /// Where the register begins that a physical address belongs to; its page if no device is there.
    func canonical(memory address: UInt64) -> UInt64 {
        guard let machine else { return starts.last { $0 <= address } ?? address & Self.pageMask }
        if !last.contains(address) {
            guard let (_, range) = machine.register(memory: address) else { return address & Self.pageMask }
            last = range
        }
        return machine.registerStart(memory: address, in: last)
    }

    package func register(port: UInt64) -> NamedRegister? { machine?.register(port: UInt16(truncatingIfNeeded: port)) }

    package func register(memory address: UInt64) -> NamedRegister? { machine?.register(memory: address)?.register }
}
