import Testing
import VMM

/// A multiboot image that runs `code`, 32-bit code entered at 0x100020 with flat segments.
private func image(_ code: [UInt8]) -> [UInt8] {
    let words: [UInt32] = [
        0x1BAD_B002, 0x1_0000, 0 &- (0x1BAD_B002 &+ 0x1_0000), 0x10_0000, 0x10_0000, 0, 0x10_1000, 0x10_0020,
    ]
    return words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } } + code
}

private func makeMachine(
    _ kernel: [UInt8], chipset: MachineConfiguration.Chipset = .apic, memory: UInt64 = 16 << 20,
    continuing: Bool = false
) throws -> Machine {
    let boot = BootSource.multiboot(try MultibootKernel(kernel), modules: [], commandLine: "")
    var configuration = MachineConfiguration(cpu: CPUModel.named("x86-64", apic: chipset == .apic)!, boot: boot)
    configuration.chipset = chipset
    configuration.memorySize = memory
    configuration.continuesAfterReset = continuing
    return try Machine(configuration)
}

/// What a run shows: how and when it ended, what the guest printed, and the state it ended in.
private struct Ending: Equatable {
    var stop: Machine.Stop
    var count: UInt64
    var time: UInt64
    var text: String
    var digest: StateDigest
}

struct MachineTests {
    /// Runs to the end in slices that end at multiples of `slice`, in a machine restored from a snapshot at each one if
    /// `restoring`.
    private func run(
        _ kernel: [UInt8], chipset: MachineConfiguration.Chipset = .apic, slice: UInt64 = .max, restoring: Bool = false
    ) throws -> Ending {
        var text: [UInt8] = []
        func make() throws -> Machine {
            let made = try makeMachine(kernel, chipset: chipset)
            made.devices.onConsoleOutput = { text.append($0) }
            return made
        }
        var machine = try make()
        while true {
            let next = slice == .max ? slice : (machine.clock.count / slice + 1) * slice
            let stop = machine.run(until: min(next, 10_000_000))
            let isOver = if case .ended = stop { true } else { machine.clock.count >= 10_000_000 }
            if isOver {
                return Ending(
                    stop: stop, count: machine.clock.count, time: machine.clock.now,
                    text: String(decoding: text, as: UTF8.self), digest: machine.digest)
            }
            guard restoring else { continue }
            let fresh = try make()
            try fresh.restore(machine.snapshot())
            #expect(fresh.digest == machine.digest)
            machine = fresh
        }
    }

    @Test(arguments: MachineConfiguration.Chipset.allCases)
    func theBuiltinGuestPowersOff(chipset: MachineConfiguration.Chipset) throws {
        let ending = try run(BuiltinGuest.kernel, chipset: chipset)
        #expect(ending.stop == .ended(.powerOff))
        #expect(ending.text.hasSuffix("GUEST-DONE\r\n"))
        for line in [
            "timer interrupts           10", "system calls from ring 3   100", "rounds in long mode        1000",
        ] {
            #expect(ending.text.contains(line))
        }
    }

    @Test func theEndDoesNotDependOnSlicesOrSnapshots() throws {
        let whole = try run(BuiltinGuest.kernel)
        #expect(try run(BuiltinGuest.kernel) == whole)
        for slice: UInt64 in [997, 10_007] { #expect(try run(BuiltinGuest.kernel, slice: slice) == whole) }
        for slice: UInt64 in [9_973, 50_021] {
            #expect(try run(BuiltinGuest.kernel, slice: slice, restoring: true) == whole)
        }
    }

    @Test func outcomes() throws {
        let haltsForGood: [UInt8] = [0xFA, 0xF4]
        let debugExit: [UInt8] = [0xB0, 0x15, 0xE6, 0xF4, 0xEB, 0xFE]
        let tripleFault: [UInt8] = [0x0F, 0x01, 0x1D, 0x30, 0x00, 0x10, 0x00, 0xCC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let reset: [UInt8] = [0xBA, 0xF9, 0x0C, 0x00, 0x00, 0xB0, 0x06, 0xEE, 0xEB, 0xFE]
        let loops: [UInt8] = [0xEB, 0xFE]
        for (code, stop): ([UInt8], Machine.Stop) in [
            (haltsForGood, .ended(.halted)), (debugExit, .ended(.debugExit(0x15))),
            (tripleFault, .ended(.tripleFault)), (reset, .ended(.reset)), (loops, .limit),
        ] {
            #expect(try makeMachine(image(code)).run(until: 10_000) == stop)
        }
    }

    @Test func aResetCanBeSurvived() throws {
        // Counts its starts in CMOS byte 0x40, which a reset leaves alone, and resets until the third one.
        let code: [UInt8] = [
            0xB0, 0x40, 0xE6, 0x70, 0xE4, 0x71, 0xFE, 0xC0, 0x88, 0xC3, 0xB0, 0x40, 0xE6, 0x70, 0x88, 0xD8, 0xE6, 0x71,
            0x80, 0xFB, 0x03, 0x75, 0x06, 0x88, 0xD8, 0xE6, 0xF4, 0xEB, 0xFE,
            0xBA, 0xF9, 0x0C, 0x00, 0x00, 0xB0, 0x06, 0xEE, 0xEB, 0xFE,
        ]
        #expect(try makeMachine(image(code)).run(until: 10_000) == .ended(.reset))
        let machine = try makeMachine(image(code), continuing: true)
        #expect((0..<3).map { _ in machine.run(until: 10_000) } == [.reset, .reset, .ended(.debugExit(3))])
    }

    @Test func anIdleGuestWaitsForInput() throws {
        // STI; HLT in a loop, with every interrupt masked.
        let waiting = try makeMachine(image([0xFB, 0xF4, 0xEB, 0xFC]), chipset: .xtpic)
        waiting.expectsInput = true
        guard case .idle = waiting.run(until: 1_000_000) else {
            Issue.record("expected the machine to be idle")
            return
        }
        #expect(waiting.clock.count < 10)
        let before = waiting.clock.now
        waiting.skipIdleTime()
        #expect(waiting.clock.now > before)
    }

    @Test func inputWaitsUntilTheGuestListens() throws {
        // Resets the FIFOs in a loop for a while, then polls for three bytes and ends with their sum.
        let code: [UInt8] = [
            0xBA, 0xFA, 0x03, 0x00, 0x00, 0xB9, 0x00, 0x10, 0x00, 0x00, 0xB0, 0x07, 0xEE, 0xE2, 0xFD,
            0xB1, 0x03, 0x30, 0xDB, 0xBA, 0xFD, 0x03, 0x00, 0x00, 0xEC, 0xA8, 0x01, 0x74, 0xFB,
            0xBA, 0xF8, 0x03, 0x00, 0x00, 0xEC, 0x00, 0xC3, 0xFE, 0xC9, 0x75, 0xEA,
            0x88, 0xD8, 0xE6, 0xF4, 0xEB, 0xFE,
        ]
        let machine = try makeMachine(image(code))
        var input: ArraySlice<UInt8> = [1, 2, 4]
        var accepted: [UInt64] = []
        while !input.isEmpty, case .limit = machine.run(until: machine.clock.count + 1000) {
            let taken = machine.devices.consoleInput(input)
            input.removeFirst(taken)
            if taken > 0 { accepted.append(machine.clock.count) }
        }
        #expect(accepted.first ?? 0 > 8000)
        #expect(machine.run(until: 1_000_000) == .ended(.debugExit(7)))
    }

    @Test func unusableSnapshotsAreErrors() throws {
        let source = try makeMachine(image([0xEB, 0xFE]))
        _ = source.run(until: 1000)
        let snapshot = source.snapshot()
        for length in [0, 1, 8, 100, snapshot.count / 2, snapshot.count - 1] {
            #expect(throws: SnapshotError.self) {
                try makeMachine(image([0xEB, 0xFE])).restore(Array(snapshot[..<length]))
            }
        }
        #expect(throws: SnapshotError.self) { try makeMachine(image([0xEB, 0xFE])).restore(snapshot + [0]) }
        #expect(throws: SnapshotError.self) { try makeMachine(image([0xEB, 0xFE]), chipset: .xtpic).restore(snapshot) }
        #expect(throws: SnapshotError.self) {
            try makeMachine(image([0xEB, 0xFE]), memory: 17 << 20).restore(snapshot)
        }
    }

    @Test func a64BitKernelNeedsALongModeProcessor() {
        var kernel = [UInt8](repeating: 0, count: 2048)
        for (offset, byte) in [
            (0x1F1, 1), (0x1FE, 0x55), (0x1FF, 0xAA), (0x201, 0x66), (0x202, 0x48), (0x203, 0x64), (0x204, 0x72),
            (0x205, 0x53), (0x206, 0x0C), (0x207, 0x02), (0x211, 1), (0x236, 1),
        ] as [(Int, UInt8)] {
            kernel[offset] = byte
        }
        #expect(throws: BootError.needsLongMode(cpu: "pentium4")) {
            let boot = BootSource.linux(try LinuxKernel(kernel), initrd: [], commandLine: "")
            _ = try Machine(MachineConfiguration(cpu: CPUModel.named("pentium4")!, boot: boot))
        }
    }

    /// Machines come and go in one process, in replays and comparisons.
    @Test func aMachineGivesItsMemoryBack() throws {
        weak var memory: GuestMemory?
        weak var devices: Devices?
        weak var ports: PortBus?
        weak var mmio: MMIOBus?
        do {
            let machine = try makeMachine(BuiltinGuest.kernel)
            _ = machine.run(until: 100_000)
            (memory, devices) = (machine.memory, machine.devices)
            (ports, mmio) = (machine.processor.ports, machine.processor.mmio)
            #expect(memory != nil && devices != nil && ports != nil && mmio != nil)
        }
        #expect(memory == nil)
        #expect(devices == nil)
        #expect(ports == nil)
        #expect(mmio == nil)
    }
}

/// Marks of return addresses that are still on the stack.
struct CallMarksTests {
    /// Calls and returns 200 times, so that it is translated; then calls what does not come back, directly and through
    /// a register. The slots of the calls that returned are used for other data.
    private static let kernel = image([
        0xBC, 0x00, 0x80, 0x10, 0x00,  // mov esp, 0x108000
        0xB9, 0xC8, 0x00, 0x00, 0x00,  // mov ecx, 200
        0xE8, 0x0B, 0x00, 0x00, 0x00,  // loop: call outer
        0x49, 0x75, 0xF8,  // dec ecx; jnz loop
        0xE8, 0x0B, 0x00, 0x00, 0x00,  // call last
        0xEB, 0xFE, 0x90,
        0xBA, 0x4B, 0x00, 0x10, 0x00,  // outer: mov edx, inner
        0xFF, 0xD2, 0xC3,  // call edx; ret
        0x50, 0x50,  // last: push eax, twice
        0xBA, 0x4C, 0x00, 0x10, 0x00,  // mov edx, end
        0xFF, 0xD2,  // call edx
        0xC3,  // inner: ret
        0x6A, 0x01,  // end: push 1
        0x31, 0xC0, 0xE6, 0xF4, 0xEB, 0xFE,  // xor eax, eax; out 0xF4, al
    ])

    @Test(arguments: Engine.allCases)
    func theyAreThoseOfCallsWithoutReturn(engine: Engine) throws {
        let boot = BootSource.multiboot(try MultibootKernel(Self.kernel), modules: [], commandLine: "")
        var configuration = MachineConfiguration(cpu: try #require(CPUModel.named("x86-64")), boot: boot)
        configuration.memorySize = 16 << 20
        configuration.engine = engine
        let machine = try Machine(configuration)
        let marks = try #require(CallMarks(machine.memory))
        machine.processor.keep(marks)
        #expect(machine.run(until: 100_000) == .ended(.debugExit(0)))
        let slots: [UInt64] = (1...8).map { 0x10_8000 - 4 * $0 }
        #expect(slots.filter(marks.isMarked) == [0x10_7FFC, 0x10_7FF0])
    }
}
