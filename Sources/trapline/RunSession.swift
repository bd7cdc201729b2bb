import Tracer
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
    private let recording: Recording?
    private let progress: ProgressLine?
    private let started = HostClock.seconds

    /// A run of a machine; with `recording`, whose disks the configuration has, it leaves a trace.
    init(
        _ configuration: MachineConfiguration, _ options: RunOptions, recording: Recording? = nil
    ) throws(CommandError) {
        self.configuration = configuration
        self.options = options
        self.recording = recording
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
        progress = recording == nil ? nil : ProgressLine("recording", besideConsole: true)
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
            if recording?.consoleByte(byte) == true { machine.pause() }
        }
        machine.devices.onMarkOutput = { [unowned self] byte in
            if recording?.markByte(byte) == true { machine.pause() }
        }
        if let debugConsole { machine.devices.onDebugOutput = { debugConsole.take($0) } }
        machine.trace = trace
        if let sink { machine.processor.attach(sink, watching: []) }
    }

    /// The engine that does the work: the interpreter where the translator gets no memory for code.
    private var engineName: String {
        let isReplaced = options.engine == .translator && !machine.processor.translates
        return isReplaced ? Engine.interpreter.rawValue : options.engine.rawValue
    }

    func run() throws(CommandError) -> RunResult {
        EndingSignal.watch()
        if engineName != options.engine.rawValue {
            StandardError.say("this host gives no executable memory, so the guest is interpreted")
        }
        machine.expectsInput = input.isOpen
        lockstep?.begin(expectsInput: input.isOpen)
        try recording?.begin(machine)
        let outcome = try loop()
        progress?.clear()
        Terminal.restore()
        output.flush()
        debugConsole?.flush()
        let seconds = HostClock.seconds - started
        let digest = machine.digest
        try recording?.finish(outcome, digest)
        // However the guest ended, a run whose console is incomplete is no success.
        return RunResult(
            machine: machine, outcome: output.isBroken ? .interrupted : outcome, outputFailure: output.failure,
            digest: digest, reportedEvents: reportedEvents, engine: engineName, seconds: seconds)
    }

    /// What the sink received, if there is one.
    private var reportedEvents: UInt64? {
        machine.processor.flushEvents()
        return sink?.count
    }

    private func loop() throws(CommandError) -> Outcome {
        while true {
            let count = machine.clock.count
            let limit = min(schedule.next(after: count), recording?.recorder?.nextStop(after: count) ?? .max)
            let stop = machine.run(until: limit, stopsWhenIdle: isPaced)
            output.flush()
            debugConsole?.flush()
            progress?.show(position)
            if let report = lockstep?.follow(machine, stop, limit: limit) {
                StandardError.say(report)
                return .divergence
            }
            if case .ended(let outcome) = stop { return outcome }
            try recording?.stopped(machine, atLimit: stop == .limit)
            if let outcome = checkOutside() ?? checkPosition() {
                machine.end(outcome)
                return outcome
            }
            if case .idle(let deadline) = stop {
                recording?.recorder?.sync()
                // Time that passed first brings what is due then; input is looked for after that.
                if idle(until: deadline) { continue }
            }
            deliverInput()
        }
    }

    /// How far the run is, in words.
    private func position() -> String {
        let (count, seconds) = (machine.clock.count, HostClock.seconds - started)
        let rate = Int(Double(count) / 1e6 / max(seconds, 0.001))
        return "\(count / 1_000_000) million instructions, \(rate) MIPS, \(Int(seconds)) s"
    }

    /// Whether idle time passes no faster than the user's.
    private var isPaced: Bool { input.isTerminal && lockstep == nil }

    /// Gives the guest what there is for it.
    private func deliverInput() {
        if let lockstep { return lockstep.deliver(to: machine, input.deliver) }
        let expects = input.deliver { bytes in
            let taken = machine.devices.consoleInput(bytes)
            recording?.recorder?.input(bytes.prefix(taken))
            return taken
        }
        guard expects != machine.expectsInput else { return }
        machine.expectsInput = expects
        recording?.recorder?.expectsInput(expects)
    }

    /// The guest is halted: on a terminal its time passes no faster than the user's; without a timer only input
    /// can wake it.
    /// - Returns: whether virtual time has passed.
    private func idle(until deadline: UInt64?) -> Bool {
        guard let deadline else {
            _ = input.wait(seconds: secondsLeft)
            return false
        }
        guard isPaced else { return false }
        let seconds = Double(deadline - min(deadline, machine.clock.now)) / 1e9
        if input.wait(seconds: min(seconds, secondsLeft ?? seconds)) { return false }
        machine.skipIdleTime()
        return true
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
