import CEngine
import Foundation
import Replayer
import Testing
import Tracer
import VMM

/// A sink that keeps everything.
private final class Kept: EventSink {
    private(set) var records: [EventRecord] = []
    func receive(_ batch: UnsafeBufferPointer<EventRecord>) { records += batch }

    /// The records as a trace keeps them, without TLB fills, which come before the transfer in the middle of which
    /// they happen.
    var texts: [String] {
        records.map {
            "\($0.count) \($0.address) \($0.operand) \($0.value) \($0.kind) \($0.ring) \($0.size) \($0.detail)"
        }
    }
}

/// String I/O is reported alike wherever the run was stopped in between.
struct StringIOTests {
    private let folder: TraceFolder

    init() throws { folder = try TraceFolder() }

    /// With a timer interrupt every 100 µs or so: REP OUTSB of 5,000 bytes to the debug port and REP INSB of as many
    /// from it, one element at a time, none at all, and more than one event holds; then the end.
    private static let guest: [UInt8] = {
        func bytes(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }
        let prepare: [UInt8] = [0xFC, 0xBA] + bytes(0x80)  // cld; mov edx, 0x80
        func transfer(_ count: UInt32, _ opcode: UInt8) -> [UInt8] {
            // mov esi, 0x101000; mov edi, 0x102000; mov ecx, count; rep opcode
            [0xBE] + bytes(0x10_1000) + [0xBF] + bytes(0x10_2000) + [0xB9] + bytes(count) + [0xF3, opcode]
        }
        // A PIT that counts, so that device deadlines fall into the transfers: mode 2, 0x77 ticks, not delivered.
        let timer: [UInt8] = [0xB0, 0x34, 0xE6, 0x43, 0xB0, 0x77, 0xE6, 0x40, 0xB0, 0x00, 0xE6, 0x40]
        let end: [UInt8] = [0x6E, 0xB0, 0x01, 0xE6, 0xF4, 0xEB, 0xFE]  // outsb; out 0xf4, al
        return RecordedGuest.image(
            timer + prepare + transfer(5000, 0x6E) + transfer(5000, 0x6C) + transfer(0, 0x6E) + transfer(70_000, 0x6E)
                + end)
    }()

    private func run(_ slice: UInt64, _ engine: Engine, sink: Kept?) throws -> Machine {
        var guest = RecordedGuest()
        guest.kernel = Self.guest
        guest.engine = engine
        let machine = try Machine(guest.configuration())
        if let sink { machine.processor.attach(sink, watching: []) }
        while true {
            let count = machine.clock.count
            if case .ended = machine.run(until: (count / slice + 1) * slice) { break }
            try #require(machine.clock.count < 1_000_000)
        }
        machine.processor.flushEvents()
        return machine
    }

    @Test func stopsDoNotShow() throws {
        let whole = Kept()
        let expected = try run(1 << 40, .interpreter, sink: whole)
        let strings = whole.records.filter { $0.flags & EventFlags.hasPayload != 0 }
        #expect(strings.reduce(0) { $0 + $1.value } == 80_001)
        #expect(strings.contains { $0.value == 0 })
        #expect(strings.allSatisfy { $0.value <= StringTransfer.most })
        for engine in Engine.allCases {
            for slice in [1, 7, 100, 4096, 1 << 40] as [UInt64] {
                let kept = Kept()
                let machine = try run(slice, engine, sink: kept)
                #expect(kept.texts == whole.texts, "\(engine), \(slice)")
                let bare = try run(slice, engine, sink: nil)
                for kind in [EventKind.portIn, .portOut, .interruptAsserted] {
                    #expect(machine.processor.eventCount(kind) == expected.processor.eventCount(kind), "\(kind)")
                    #expect(bare.processor.eventCount(kind) == expected.processor.eventCount(kind), "\(kind)")
                }
                #expect(machine.digest == expected.digest && bare.digest == expected.digest)
            }
        }
    }

    /// Checkpoints and digests in the middle of a transfer.
    @Test(arguments: TraceDetail.allCases) func replaysFromTheMiddle(detail: TraceDetail) throws {
        var guest = RecordedGuest()
        guest.kernel = Self.guest
        guest.detail = detail
        guest.digestEvery = 777
        guest.checkpointEvery = 1001
        guest.slice = 333
        let result = try guest.record(folder.path + "/t.tline")
        let reader = try TraceReader(result.path)
        for from in [0, 1001, 3000, 4500, 6006, 9009, 20_020, 70_070, 79_999] as [UInt64] {
            let replay = try Replay(reader)
            try replay.begin(at: from)
            #expect(try replay.run() == .outcome(result.outcome!), "from \(from): \(replay.divergence?.sentence ?? "")")
            if from == 0, let verifier = replay.verifier { #expect(verifier.verified == reader.reach.events) }
        }
        // Recorded again, from the beginning and from the middle.
        for from in [0, 2500] as [UInt64] where detail != .inputs {
            let replay = try Replay(reader)
            try replay.begin(at: from)
            let path = folder.path + "/again.tline"
            var manifest = TraceManifest(replay.machine.configuration, writer: "test")
            let images = ImageContents.all(of: replay.machine.configuration, paths: ImagePaths(), embed: true)
            manifest.images = images.map(\.image)
            var options = Recorder.Options()
            options.detail = detail
            options.digestEvery = 500
            options.checkpointEvery = 1500
            let recorder = try Recorder(
                replay.machine, to: path, manifest, images: images, disks: [], options, tracker: replay.tracker)
            replay.machine.devices.onMarkOutput = { recorder.markByte($0) }
            replay.record(with: recorder)
            #expect(try replay.run() == .outcome(result.outcome!))
            _ = try recorder.finish(result.outcome, digest: replay.machine.digest)
            let again = try Replay(TraceReader(path))
            try again.begin()
            #expect(try again.run() == .outcome(result.outcome!), "\(again.divergence?.sentence ?? "")")
        }
    }
}
