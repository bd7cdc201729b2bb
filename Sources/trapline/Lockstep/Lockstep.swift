import VMM

/// What entered a machine from outside, and where, so that a part of a run can be run again.
struct InputEntry {
    /// The position: count and virtual nanoseconds.
    var count: UInt64
    var now: UInt64
    var bytes: [UInt8]
    /// Whether more was expected from there on.
    var expectsInput: Bool
}

/// Where a run stops to look around: at multiples of some intervals, and at its limit.
struct StopSchedule {
    var intervals: [UInt64]
    var limit = UInt64.max

    /// The next count at which something is due.
    func next(after count: UInt64) -> UInt64 {
        intervals.reduce(limit) { min($0, Self.multiple(of: $1, after: count)) }
    }

    private static func multiple(of interval: UInt64, after count: UInt64) -> UInt64 {
        let (product, overflow) = (count / interval + 1).multipliedReportingOverflow(by: interval)
        return overflow ? .max : product
    }
}

/// A second machine that does with the translator what the session's does with the interpreter. Both stop at the same
/// positions and get the same input; at each check their states are compared.
final class Lockstep {
    /// A place of the run up to which both machines were the same.
    struct Origin {
        var count: UInt64 = 0
        /// Nil for power-on.
        var snapshot: [UInt8]?
        /// How many entries of the journal lie before it.
        var entries = 0
    }

    private let configuration: MachineConfiguration
    private let schedule: StopSchedule
    private let checkInterval: UInt64
    private let flip: BitFlip?
    private let twin: Machine
    private var texts: ConsoleTexts
    private var journal: [InputEntry] = []
    private var origin = Origin()

    /// - Parameter texts: those that end the session's run, before anything was printed.
    init(
        _ configuration: MachineConfiguration, _ schedule: StopSchedule, checkInterval: UInt64, flip: BitFlip?,
        texts: ConsoleTexts
    ) throws(BootError) {
        var translated = configuration
        translated.engine = .translator
        self.configuration = configuration
        self.schedule = schedule
        self.checkInterval = checkInterval
        self.flip = flip
        self.texts = texts
        twin = try Machine(translated)
        twin.devices.onConsoleOutput = { [unowned self] byte in
            if let outcome = self.texts.feed(byte) { twin.end(outcome) }
        }
    }

    /// Gives both machines the same input.
    /// - Parameter take: gives `reference` its input; calls its argument with what was taken.
    func deliver(to reference: Machine, _ take: ((ArraySlice<UInt8>) -> Int) -> Bool) {
        var taken: [UInt8] = []
        let expects = take { bytes in
            let count = reference.devices.consoleInput(bytes)
            taken += bytes.prefix(count)
            return count
        }
        guard !taken.isEmpty || expects != reference.expectsInput else { return }
        reference.expectsInput = expects
        let entry = InputEntry(
            count: reference.clock.count, now: reference.clock.now, bytes: taken, expectsInput: expects)
        journal.append(entry)
        twin.take(entry)
    }

    /// Sets whether input may come, before the machines run.
    func begin(expectsInput: Bool) {
        journal.append(InputEntry(count: 0, now: 0, bytes: [], expectsInput: expectsInput))
        twin.expectsInput = expectsInput
    }

    /// Runs the second machine to where `reference` stopped on its way to `limit`, and compares them if that is due.
    /// - Returns: a report on the first difference, if there is one.
    func follow(_ reference: Machine, _ stop: Machine.Stop, limit: UInt64) -> String? {
        let twinStop = twin.run(until: limit, flip)
        let count = reference.clock.count
        let isAtSamePosition =
            stop == twinStop && count == twin.clock.count && reference.clock.now == twin.clock.now
        if isAtSamePosition, !isDue(count, stop) { return nil }
        if isAtSamePosition, reference.digest == twin.digest {
            origin = Origin(count: count, snapshot: reference.snapshot(), entries: journal.count)
            return nil
        }
        let search = DifferenceSearch(
            configuration: configuration, schedule: schedule, journal: journal, flip: flip)
        return search.report(after: origin, reference, stop, twin, twinStop)
    }

    private func isDue(_ count: UInt64, _ stop: Machine.Stop) -> Bool {
        if case .ended = stop { return true }
        return count % checkInterval == 0 || count == schedule.limit
    }
}

extension Machine {
    /// Puts in what came from outside at the present position.
    func take(_ entry: InputEntry) {
        _ = devices.consoleInput(entry.bytes[...])
        expectsInput = entry.expectsInput
    }

    /// `run`, with a bit flipped on the way, if this is the machine to do that to.
    func run(until limit: UInt64, _ flip: BitFlip?) -> Stop {
        if let flip, clock.count < flip.count, flip.count <= limit {
            let stop = run(until: flip.count)
            guard stop == .limit else { return stop }
            flip.apply(to: self)
        }
        return run(until: limit)
    }
}
