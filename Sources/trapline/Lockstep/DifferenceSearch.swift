import VMM

/// Finds the first count after which the two engines' states differ, by running the part of the run in question again
/// and again in fresh machines.
struct DifferenceSearch {
    typealias Pair = (interpreter: Machine, translator: Machine)

    let configuration: MachineConfiguration
    let schedule: StopSchedule
    let journal: [InputEntry]
    let flip: BitFlip?

    /// Instructions shown before the difference.
    private static let instructionsShown: UInt64 = 24

    /// Describes the first difference, of which it is known only that it lies after `origin` and that the two machines
    /// of the session, stopped as said, have it.
    func report(
        after origin: Lockstep.Origin, _ reference: Machine, _ stop: Machine.Stop, _ twin: Machine,
        _ twinStop: Machine.Stop
    ) -> String {
        let end = max(reference.clock.count, twin.clock.count)
        StandardError.say(
            "the engines differ at count \(end), and did not at count \(origin.count); looking for where that begins")
        do {
            if let found = try first(from: origin, equalAt: origin.count, differentAt: end) { return found }
            // What the translator had cached is part of such a difference: the whole run has it.
            let powerOn = Lockstep.Origin()
            StandardError.say("after a restart at count \(origin.count) they do not; running again from power-on")
            if let found = try first(from: powerOn, equalAt: origin.count, differentAt: end) { return found }
        } catch {
            StandardError.say("the run cannot be repeated: \(error)")
        }
        let report = DifferenceReport(interpreter: reference, translator: twin)
        return "the difference did not recur; the interpreter \(text(stop)), the translator \(text(twinStop))\n"
            + report.text
    }

    private func text(_ stop: Machine.Stop) -> String {
        switch stop {
        case .limit: "reached its limit"
        case .idle: "is idle"
        case .reset: "was reset"
        case .paused: "paused"
        case .ended(let outcome): "ended (\(outcome.name))"
        }
    }

    /// Nil if two machines started at `origin` do not differ at `end`.
    private func first(from origin: Lockstep.Origin, equalAt start: UInt64, differentAt end: UInt64) throws -> String? {
        var (low, high) = (start, end)
        var found = try pair(from: origin, at: high)
        guard !isEqual(found) else { return nil }
        while high - low > 1 {
            let middle = low + (high - low) / 2
            let candidate = try pair(from: origin, at: middle)
            if isEqual(candidate) {
                low = middle
            } else {
                high = middle
                found = candidate
            }
        }
        // The translator runs whole blocks when it is not made to stop inside one.
        let heading = "equal after count \(low), different after count \(high), so in what ends there or its block\n"
        let instructions = try instructions(from: origin, before: high)
        let report = DifferenceReport(interpreter: found.interpreter, translator: found.translator)
        return heading + instructions + report.text
    }

    private func isEqual(_ pair: Pair) -> Bool {
        pair.interpreter.clock.count == pair.translator.clock.count
            && pair.interpreter.digest == pair.translator.digest
    }

    // MARK: Running again

    private func pair(from origin: Lockstep.Origin, at count: UInt64) throws -> Pair {
        let machines = (try machine(.interpreter, at: origin), try machine(.translator, at: origin))
        run(machines.0, to: count, from: origin, nil)
        run(machines.1, to: count, from: origin, flip)
        return machines
    }

    private func machine(_ engine: Engine, at origin: Lockstep.Origin) throws -> Machine {
        var configuration = configuration
        configuration.engine = engine
        let machine = try Machine(configuration)
        if let snapshot = origin.snapshot { try machine.restore(snapshot) }
        if origin.entries > 0 { machine.expectsInput = journal[origin.entries - 1].expectsInput }
        return machine
    }

    /// Runs to `count` as the session did: with its stops, and its input where it came.
    private func run(_ machine: Machine, to count: UInt64, from origin: Lockstep.Origin, _ flip: BitFlip?) {
        var entry = origin.entries
        func takeInput() -> Bool {
            let first = entry
            while entry < journal.count, journal[entry].count == machine.clock.count,
                journal[entry].now == machine.clock.now
            {
                machine.take(journal[entry])
                entry += 1
            }
            return entry > first
        }
        _ = takeInput()
        while machine.clock.count < count {
            let stop = machine.run(until: min(schedule.next(after: machine.clock.count), count), flip)
            if case .ended = stop { return }
            let tookInput = takeInput()
            if case .idle(nil) = stop, !tookInput { return }
        }
    }

    /// The last instructions before `count`, as the interpreter executes them.
    private func instructions(from origin: Lockstep.Origin, before count: UInt64) throws -> String {
        let machine = try machine(.interpreter, at: origin)
        let first = max(origin.count, count - min(count, Self.instructionsShown))
        run(machine, to: first, from: origin, nil)
        var text = "instructions up to there:\n"
        let disassembler = Disassembler()
        while machine.clock.count < count {
            let next = disassembler.next(machine.processor)
            let code = next.bytes.map { Hex.digits($0, 2) }.joined()
            text +=
                "  \(machine.clock.count)  \(Hex.digits(next.rip, 16))  "
                + "\(Hex.padded(code, 20))  \(next.text.isEmpty ? "(no instruction)" : next.text)\n"
            guard case .limit = machine.run(until: machine.clock.count + 1) else { break }
        }
        return text
    }
}
