/// The classes that results are broken down by.
package enum EventClass: UInt8, CaseIterable {
    case interruptFlag, kernelEntry, kernelExit, addressSpace, controlRegister, descriptorTable, segment
    case tlb, msr, timestamp, cpuid, interruptController, device, pageTable, translation, firstTouch
    case exception, interrupt, idle, code, padding, other

    package var name: String { Self.names[Int(rawValue)] }

    package init?(name: String) {
        guard let index = Self.names.firstIndex(of: name) else { return nil }
        self = Self.allCases[index]
    }

    private static let names = allCases.map { "\($0)" }
}
