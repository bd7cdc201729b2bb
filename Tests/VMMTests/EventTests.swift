import CEngine
import Testing
import VMM

/// A sink that keeps everything.
private final class Recorder: EventSink {
    private(set) var events: [EventRecord] = []

    func receive(_ batch: UnsafeBufferPointer<EventRecord>) { events += batch }

    func all(_ kind: EventKind) -> [EventRecord] { events.filter { $0.kind == kind.rawValue } }
}

/// Runs the built-in guest to its end, with or without a sink.
private func run(_ sink: Recorder?) throws -> Machine {
    let configuration = MachineConfiguration(
        cpu: CPUModel.named("x86-64", apic: true)!,
        boot: .multiboot(try MultibootKernel(BuiltinGuest.kernel), modules: [], commandLine: ""))
    let machine = try Machine(configuration)
    machine.processor.attach(sink)
    guard case .ended(.powerOff) = machine.run(until: 50_000_000) else {
        Issue.record("the built-in guest did not power off")
        return machine
    }
    machine.processor.flushEvents()
    return machine
}

struct EventTests {
    @Test func aSinkSeesEveryEventThatIsCounted() throws {
        let recorder = Recorder()
        let machine = try run(recorder)
        let onlyReported: [EventKind] = [.none, .pageTableWrite, .descriptorWrite, .firstTouch]
        for kind in EventKind.recorded where !onlyReported.contains(kind) {
            #expect(UInt64(recorder.all(kind).count) == machine.processor.eventCount(kind), "\(kind)")
        }
        for kind: EventKind in [
            .cli, .sti, .pushf, .popf, .cpuid, .iret, .interruptDelivered, .portOut, .tlbFill, .pageTableWrite,
            .writeControl, .lidt, .hlt, .modeSwitch, .firstTouch, .descriptorWrite,
        ] {
            #expect(!recorder.all(kind).isEmpty, "\(kind)")
        }
    }

    @Test func positionsNeverGoBack() throws {
        let recorder = Recorder()
        _ = try run(recorder)
        var last: UInt64 = 0
        for (index, event) in recorder.events.enumerated() {
            #expect(event.count >= last, "event \(index), kind \(event.kind)")
            guard event.count >= last else { break }
            last = event.count
        }
    }

    /// Watching page tables takes stores off the fast path; the guest must not notice.
    @Test func aSinkChangesNothing() throws {
        let (bare, watched) = (try run(nil), try run(Recorder()))
        #expect(bare.clock.count == watched.clock.count)
        #expect(bare.digest == watched.digest)
    }

    @Test func anEventNamesItsInstruction() throws {
        let recorder = Recorder()
        _ = try run(recorder)
        let debugExit = recorder.all(.portOut)
        #expect(debugExit.allSatisfy { $0.ring == 0 && $0.address != 0 && $0.size >= 1 })
        let userSide = recorder.events.filter { $0.ring == 3 }
        #expect(!userSide.isEmpty)
    }
}
