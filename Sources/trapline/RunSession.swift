import VMM

/// One run from power-on to its outcome: slices of machine time, and between them everything from outside.
final class RunSession {
    /// Counts between two looks at the outside world. Input enters at multiples of it, and when the guest is idle.
    private static let slice: UInt64 = 1_000_000

    private let configuration: MachineConfiguration
    private let options: RunOptions
    private var machine: Machine
    private let input: ConsoleInput
    private let output: ConsoleOutput
    private let debugConsole: DebugConsole?
    private let trace: InstructionTrace?
    private let sink: CountingSink?
    private let schedule: StopSchedule
    /// With both engines, the machine that is compared with this session's.
    private let lockstep: Lockstep?
    private let started = HostClock.seconds

    init(_ configuration: MachineConfiguration, _ options: RunOptions) throws(CommandError) {
        self.configuration = configuration
        self.options = options
        let texts = ConsoleTexts(stopOn: options.stopOn, failOn: options.failOn)
        let checkInterval = options.engine == .both ? options.checkInterval : nil
        let schedule = StopSchedule(
            intervals: [Self.slice, options.digestEvery, options.checkSnapshots, checkInterval].compactMap { $0 },
            limit: options.maxInstructions ?? .max)
        self.schedule = schedule
        machine = try Self.building { () throws(BootError) in try Machine(configuration) }
        lockstep = try checkInterval.map { interval throws(CommandError) in
            try Self.building { () throws(BootError) in
                try Lockstep(configuration, schedule, checkInterval: interval, flip: options.debugFlip, texts: texts)
            }
        }
        input = ConsoleInput(isUsed: options.stdin == .console)
        output = ConsoleOutput(texts)
        debugConsole = try options.debugConsole.map { path throws(CommandError) in try DebugConsole(path) }
        trace = options.debugTrace.map { InstructionTrace($0.counts, output: StandardError.write) }
        sink = options.countEvents ? CountingSink() : nil
        connect()
    }

    private static func building<T>(_ make: () throws(BootError) -> T) throws(CommandError) -> T {
        do {
            return try make()
        } catch {
            throw .badCombination(error.description)
        }
    }

    private func connect() {
        machine.devices.onConsoleOutput = { [unowned self] byte in
            if let outcome = output.take(byte) { machine.end(outcome) }
        }
        if let debugConsole { machine.devices.onDebugOutput = { debugConsole.take($0) } }
        machine.trace = trace
        if let sink { machine.processor.attach(sink) }
    }

    func run() -> RunResult {
        EndingSignal.watch()
        let outcome = loop()
        Terminal.restore()
        output.flush()
        debugConsole?.flush()
        // However the guest ended, a run whose console is incomplete is no success.
        return RunResult(
            machine: machine, outcome: output.isBroken ? .interrupted : outcome, outputFailure: output.failure,
            reportedEvents: reportedEvents, options: options, seconds: HostClock.seconds - started)
    }

    /// What the sink received, if there is one.
    private var reportedEvents: UInt64? {
        machine.processor.flushEvents()
        return sink?.count
    }

    private func loop() -> Outcome {
        machine.expectsInput = input.isOpen
        lockstep?.begin(expectsInput: input.isOpen)
        while true {
            let limit = schedule.next(after: machine.clock.count)
            let stop = machine.run(until: limit, stopsWhenIdle: isPaced)
            output.flush()
            debugConsole?.flush()
            if let report = lockstep?.follow(machine, stop, limit: limit) {
                StandardError.say(report)
                return .divergence
            }
            if case .ended(let outcome) = stop { return outcome }
            if let outcome = checkOutside() ?? checkPosition() {
                machine.end(outcome)
                return outcome
            }
            if case .idle(let deadline) = stop { idle(until: deadline) }
            deliverInput()
        }
    }

    /// Whether idle time passes no faster than the user's.
    private var isPaced: Bool { input.isTerminal && lockstep == nil }

    private func deliverInput() {
        if let lockstep {
            lockstep.deliver(to: machine, input.deliver)
        } else {
            machine.expectsInput = input.deliver { machine.devices.consoleInput($0) }
        }
    }

    /// The guest is halted: on a terminal its time passes no faster than the user's; without a timer only input
    /// can wake it.
    private func idle(until deadline: UInt64?) {
        guard let deadline else {
            _ = input.wait(seconds: secondsLeft)
            return
        }
        guard isPaced else { return }
        let seconds = Double(deadline - min(deadline, machine.clock.now)) / 1e9
        if !input.wait(seconds: min(seconds, secondsLeft ?? seconds)) { machine.skipIdleTime() }
    }

    private var secondsLeft: Double? {
        options.timeout.map { max($0 - (HostClock.seconds - started), 0) }
    }

    /// What ends a run from outside the guest.
    private func checkOutside() -> Outcome? {
        if EndingSignal.wasReceived || input.quitRequested || output.isBroken { return .interrupted }
        return secondsLeft == 0 ? .timeout : nil
    }

    /// What is due at the machine's present count.
    private func checkPosition() -> Outcome? {
        let count = machine.clock.count
        if let text = options.stopOnScreen, machine.devices.screen.contains(where: { $0.contains(text) }) {
            return .stopText
        }
        if let interval = options.digestEvery, count % interval == 0, count > 0 {
            StandardError.write("digest \(count) \(machine.clock.now) \(machine.digest)\n")
        }
        if let interval = options.checkSnapshots, count % interval == 0, count > 0, !replaceMachine() {
            return .divergence
        }
        return count >= options.maxInstructions ?? .max ? .limit : nil
    }

    /// Goes on in a new machine with the state of the present one.
    /// - Returns: whether the new machine has that state; if not, the difference has been said.
    private func replaceMachine() -> Bool {
        let snapshot = machine.snapshot()
        do {
            let fresh = try Machine(configuration)
            try fresh.restore(snapshot)
            if let field = fresh.firstDifference(from: snapshot) {
                StandardError.say("the machine restored at count \(machine.clock.count) differs in \(field)")
                return false
            }
            machine = fresh
            connect()
            return true
        } catch {
            StandardError.say("the snapshot at count \(machine.clock.count) cannot be restored: \(error)")
            return false
        }
    }
}
