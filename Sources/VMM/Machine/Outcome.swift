/// How a run ended.
package enum Outcome: Equatable {
    /// The guest switched the machine off through ACPI.
    case powerOff
    /// The guest asked for a reset, and resets end the run.
    case reset
    /// HLT that nothing can end.
    case halted
    /// The guest wrote this byte to the isa-debug-exit port.
    case debugExit(UInt8)
    case tripleFault
    /// An instruction that Trapline does not implement.
    case unsupported
    /// The limit on the instruction count.
    case limit
    /// The limit on host time.
    case timeout
    case stopText
    case failText
    /// The user ended the run.
    case interrupted
    /// A repetition met another state than what it repeats.
    case divergence

    /// The name on the command line and in summaries.
    package var name: String {
        switch self {
        case .powerOff: "power-off"
        case .reset: "reset"
        case .halted: "halted"
        case .debugExit: "debug-exit"
        case .tripleFault: "triple-fault"
        case .unsupported: "unsupported"
        case .limit: "limit"
        case .timeout: "timeout"
        case .stopText: "stop-text"
        case .failText: "fail-text"
        case .interrupted: "interrupted"
        case .divergence: "divergence"
        }
    }

    /// Names of the outcomes that a run can be expected to have.
    package static let names = [
        "power-off", "reset", "halted", "debug-exit", "triple-fault", "unsupported", "limit", "timeout", "stop-text",
        "fail-text",
    ]

    /// The exit code of a command that had this outcome: odd ones are the guest's own, as under QEMU.
    package var exitCode: Int32 {
        switch self {
        case .powerOff, .stopText: 0
        case .debugExit(let value): Int32(value) << 1 & 0xFF | 1
        case .reset: 10
        case .halted: 12
        case .tripleFault: 14
        case .unsupported: 16
        case .limit: 18
        case .timeout: 20
        case .failText: 22
        case .divergence: 24
        case .interrupted: 28
        }
    }
}
