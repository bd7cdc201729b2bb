import VMM

/// What a run leaves to be reported.
struct RunResult {
    let outcome: Outcome
    /// What is on the VGA text screen, one string a line.
    let screen: [String]
    /// The machine's registers and the bytes at RIP, after outcomes that need explaining.
    let faultReport: String?
    let digest: StateDigest
    private let instructions: UInt64
    private let virtualNanoseconds: UInt64
    private let seconds: Double
    private let address: UInt64
    /// The `errno` of standard output, if it could not be written.
    private let outputFailure: Int32?
    private let post: (UInt8, UInt8)
    private let eventCounts: [(String, UInt64)]
    private let engine: String
    private let configuration: MachineConfiguration
    private let reportedEvents: UInt64?

    init(
        machine: Machine, outcome: Outcome, outputFailure: Int32? = nil, digest: StateDigest? = nil,
        reportedEvents: UInt64? = nil, engine: String, seconds: Double
    ) {
        self.outcome = outcome
        self.outputFailure = outputFailure
        self.reportedEvents = reportedEvents
        self.seconds = seconds
        self.engine = engine
        screen = machine.devices.screen
        self.digest = digest ?? machine.digest
        instructions = machine.clock.count
        virtualNanoseconds = machine.clock.now
        address = machine.processor.cpu.pointee.rip
        post = machine.devices.postCodes
        configuration = machine.configuration
        eventCounts = EventKind.recorded.map {
            ("\($0)", machine.processor.eventCount($0))
        }
        switch outcome {
        case .tripleFault, .unsupported, .halted: faultReport = FaultReport(machine.processor).text
        default: faultReport = nil
        }
    }

    private var millionsPerSecond: Double { seconds > 0 ? Double(instructions) / seconds / 1e6 : 0 }

    /// How the run ended, in one sentence.
    var sentence: String {
        let virtual = Self.decimal(Double(virtualNanoseconds) / 1e9)
        return "\(explanation) after \(instructions) instructions (\(virtual) s of virtual time) in "
            + "\(Self.decimal(seconds)) s, \(Self.decimal(millionsPerSecond)) MIPS"
    }

    private var explanation: String {
        let place = "0x" + String(address, radix: 16)
        if let outputFailure {
            return "standard output could not be written (\(CommandError.text(outputFailure))) by \(place)"
        }
        return switch outcome {
        case .powerOff: "the guest powered off"
        case .reset: "the guest asked for a reset at \(place)"
        case .halted: "the guest halted for good at \(place)"
        case .debugExit(let value): "the guest ended with the debug exit value \(value)"
        case .tripleFault: "the guest triple-faulted at \(place)"
        case .unsupported: "the guest ran an unsupported instruction at \(place)"
        case .limit: "the instruction limit was reached at \(place)"
        case .timeout: "the time limit was reached at \(place)"
        case .stopText: "the awaited text appeared"
        case .failText: "the text that means failure appeared"
        case .interrupted: "the run was interrupted at \(place)"
        case .divergence: "the run diverged at \(place)"
        }
    }

    /// Two digits after the point.
    static func decimal(_ value: Double) -> String {
        let hundredths = UInt64(min(abs(value) * 100, 1e18))
        let fraction = hundredths % 100
        return "\(value < 0 && hundredths > 0 ? "-" : "")\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }

    /// The summary that `--json-summary` writes.
    var summary: JSON { .object(members) }

    /// What is in the summary, for other documents that have it too.
    var members: [(String, JSON)] {
        var exitValue = JSON.null
        if case .debugExit(let value) = outcome { exitValue = .integer(UInt64(value)) }
        return [
            ("outcome", .string(outcome.name)),
            ("exit_value", exitValue),
            ("post", .object([("0x80", .integer(UInt64(post.0))), ("0x190", .integer(UInt64(post.1)))])),
            ("instructions", .integer(instructions)),
            ("virtual_ns", .integer(virtualNanoseconds)),
            ("digest", .string(digest.description)),
            ("events", .object(eventCounts.map { ($0, .integer($1)) })),
            ("reported_events", reportedEvents.map { .integer($0) } ?? .null),
            ("wall_s", .number(seconds)),
            ("mips", .number(millionsPerSecond)),
            ("engine", .string(engine)),
            ("machine", machine),
        ]
    }

    private var machine: JSON {
        .object([
            ("cpu", .string(configuration.cpu.name)),
            ("chipset", .string(configuration.chipset.rawValue)),
            ("memory_bytes", .integer(configuration.memorySize)),
            ("instructions_per_us", .integer(configuration.instructionsPerMicrosecond)),
        ])
    }
}
