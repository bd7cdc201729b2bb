/// A PC: processor, memory and devices, and the loop that runs them in virtual time.
package final class Machine {
    /// Why `run` returned.
    package enum Stop: Equatable {
        /// The count asked for is reached.
        case limit
        /// The processor is halted. Nothing happens before the deadline, in virtual nanoseconds, if there is one, but
        /// for input; the next `run` goes on there.
        case idle(until: UInt64?)
        /// The machine was reset and is at its first instruction again.
        case reset
        /// `pause` was called.
        case paused
        case ended(Outcome)
    }

    package let configuration: MachineConfiguration
    package let clock: VirtualClock
    package let memory: GuestMemory
    package let processor: Processor
    package let devices: Devices
    let events = EventQueue()

    /// How the run ended, once it has.
    package private(set) var outcome: Outcome?
    /// Takes a line for each instruction of a part of the run, while it is set.
    package var trace: InstructionTrace?
    /// Whether console input may still come, so that a guest halted without a timer is not at its end.
    package var expectsInput = false
    private var resetIsPending = false
    private var pauseIsPending = false
    /// Deadlines passed in a row while the processor stayed halted, after which the caller gets its turn.
    private static let idleDeadlinesPerRun = 1000

    /// A machine that is switched on and about to execute its first instruction.
    package init(_ configuration: MachineConfiguration) throws(BootError) {
        self.configuration = configuration
        clock = VirtualClock(instructionsPerMicrosecond: configuration.instructionsPerMicrosecond)
        memory = GuestMemory(size: configuration.memorySize)
        let ports = PortBus()
        let mmio = MMIOBus()
        processor = Processor(
            memory: memory, ports: ports, mmio: mmio, clock: clock, model: configuration.cpu,
            engine: configuration.engine)
        devices = Devices(
            configuration, processor: processor, memory: memory, ports: ports, mmio: mmio, clock: clock, queue: events)
        events.onChange = { [unowned self] in processor.stopSoon() }
        devices.onOutcome = { [unowned self] in end($0) }
        devices.onReset = { [unowned self] in
            resetIsPending = true
            processor.stopSoon()
        }
        if case .firmware(let image, _) = configuration.boot { image.install(in: memory) }
        try boot()
        // Loading is not something the guest did.
        processor.clearEventCounts()
    }

    /// Ends the run after the current instruction; the first outcome counts.
    package func end(_ outcome: Outcome) {
        if self.outcome == nil { self.outcome = outcome }
        processor.stopSoon()
    }

    /// Makes `run` return after the current instruction, so that the caller gets its turn there.
    package func pause() {
        pauseIsPending = true
        processor.stopSoon()
    }

    /// Executes until `limit` counts have passed since power-on, or something ends it earlier.
    ///
    /// With `stopsWhenIdle` it returns when the processor halts, before virtual time skips ahead.
    package func run(until limit: UInt64, stopsWhenIdle: Bool = false) -> Stop {
        var idleDeadlines = 0
        while true {
            events.run(now: clock.now)
            if resetIsPending {
                reset()
                // A guest that only ever resets must not keep the caller from its turn.
                return outcome.map { .ended($0) } ?? .reset
            }
            if let outcome { return .ended(outcome) }
            guard clock.count < limit else { return .limit }
            if pauseIsPending {
                pauseIsPending = false
                return .paused
            }
            let deadline = events.nextDeadline.map { clock.count(reaching: $0) } ?? .max
            let traced = trace?.step(processor) ?? .max
            switch processor.run(until: min(limit, deadline, traced)) {
            case .count, .stopped: break
            case .shutdown: shutDown()
            case .unsupported: end(.unsupported)
            case .halted:
                if let outcome { return .ended(outcome) }
                guard canWake else {
                    end(.halted)
                    continue
                }
                idleDeadlines += 1
                guard let deadline = events.nextDeadline, !stopsWhenIdle, idleDeadlines < Self.idleDeadlinesPerRun
                else { return .idle(until: events.nextDeadline) }
                clock.skip(to: deadline)
            }
        }
    }

    /// Lets the halted processor's virtual time pass up to the next deadline, after `run` returned `.idle`.
    package func skipIdleTime() {
        if let deadline = events.nextDeadline { clock.skip(to: deadline) }
    }

    /// Whether anything can end HLT: an interrupt if they are on, or an NMI.
    private var canWake: Bool {
        let takesInterrupts = processor.cpu.pointee.flags & RFlags.if != 0
        guard takesInterrupts || devices.canRaiseNMI else { return false }
        return events.nextDeadline != nil || expectsInput && takesInterrupts
    }

    /// A processor that shut down is reset by a PC's board; without `continuesAfterReset` it is the end.
    private func shutDown() {
        if configuration.continuesAfterReset { resetIsPending = true } else { end(.tripleFault) }
    }

    private func reset() {
        resetIsPending = false
        guard configuration.continuesAfterReset else { return end(.reset) }
        processor.reset()
        devices.reset()
        do {
            try boot()
        } catch {
            // The same image fitted into the same memory at power-on.
            preconditionFailure("\(error)")
        }
    }

    /// Puts what is to be booted into memory and the processor at its first instruction. Firmware is found at the reset
    /// vector, where the processor is already.
    private func boot() throws(BootError) {
        let map = MemoryMap(memorySize: configuration.memorySize)
        switch configuration.boot {
        case .firmware:
            break
        case .linux(let kernel, let initrd, let commandLine):
            guard kernel.entryMode == .protected32 || configuration.cpu.hasLongMode else {
                throw .needsLongMode(cpu: configuration.cpu.name)
            }
            processor.prepareMemoryTypes()
            let rsdp = devices.prepareDirectBoot()
            let entry = try kernel.load(
                into: memory, map: map, initrd: initrd, commandLine: commandLine, rsdp: rsdp)
            entry.apply(to: processor, memory: memory)
        case .multiboot(let kernel, let modules, let commandLine):
            processor.prepareMemoryTypes()
            _ = devices.prepareDirectBoot()
            let entry = try kernel.load(into: memory, map: map, modules: modules, commandLine: commandLine)
            entry.apply(to: processor, memory: memory)
        }
    }
}
