import CEngine
import VMM

/// Events counted straight off the machine's buffer, by nothing that a model uses: what models' charges are checked
/// against.
package struct IndependentCounts {
    /// By kind, for the kernel and for user mode.
    private var kernel = [Int64](repeating: 0, count: 256)
    private var user = [Int64](repeating: 0, count: 256)
    /// Writes to CR3.
    package private(set) var addressSpaceSwitches: Int64 = 0
    /// Instructions decoded in the kernel, each once until it changes.
    package private(set) var decodedInstructions: Int64 = 0
    private var code = CodeCoverage()

    private var walkReferences: Int64 = 0

    init() {}

    mutating func take(_ batch: UnsafeBufferPointer<EventRecord>) {
        for index in 0..<batch.count {
            let kind = Int(batch[index].kind)
            if batch[index].ring == 3 { user[kind] &+= 1 } else { kernel[kind] &+= 1 }
            if batch[index].kind == EventKind.writeControl.rawValue, batch[index].operand == 3 {
                addressSpaceSwitches += 1
            }
            if batch[index].kind == EventKind.tlbFill.rawValue {
                walkReferences += Int64(batch[index].detail >> 8 & 0xff)
            }
            if batch[index].kind == EventKind.codeDecoded.rawValue, batch[index].ring != 3 {
                decodedInstructions += code.add(
                    batch[index].operand, bytes: batch[index].value & 0xffff, instructions: UInt64(batch[index].detail))
            }
            if batch[index].kind == EventKind.codeChanged.rawValue {
                code.remove(batch[index].operand, bytes: batch[index].value)
            }
        }
    }

    /// References of two-dimensional walks beyond the guest's own.
    func nestedReferences(hostLevels: Int64) -> Int64 {
        let fills = kernel[Int(EventKind.tlbFill.rawValue)] + user[Int(EventKind.tlbFill.rawValue)]
        return (walkReferences + fills) * hostLevels
    }

    package func count(_ kinds: [EventKind], _ rings: Strategy.Rings) -> Int64 {
        kinds.reduce(0) { sum, kind in
            let (inKernel, inUser) = (kernel[Int(kind.rawValue)], user[Int(kind.rawValue)])
            return sum + (rings != .user ? inKernel : 0) + (rings != .kernel ? inUser : 0)
        }
    }
}
