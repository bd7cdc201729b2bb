import CEngine
import Replayer
import Testing
import Tracer
import VMM

/// Recordings of small guests are replayed from the file alone.
struct RecordReplayTests {
    private let folder: TraceFolder

    init() throws { folder = try TraceFolder() }

    private func replay(_ path: String, from count: UInt64? = nil, engine: Engine? = nil) throws -> (Replay, Replay.End)
    {
        var options = Replay.Options()
        options.engine = engine
        let replay = try Replay(TraceReader(path), options)
        try replay.begin(at: count)
        return (replay, try replay.run())
    }

    @Test(arguments: Engine.allCases, Engine.allCases)
    func aRecordingOfEitherEngineReplaysInEither(recorded: Engine, replayed: Engine) throws {
        var guest = RecordedGuest()
        guest.engine = recorded
        let result = try guest.record(folder.path + "/t.tline")
        #expect(result.outcome == .powerOff)
        for start in [nil, 0, 49_999, 50_000, 120_000, result.count] as [UInt64?] {
            let (replay, end) = try replay(result.path, from: start, engine: replayed)
            #expect(end == .outcome(.powerOff), "from \(start ?? 0)")
            #expect(replay.machine.digest == result.digest)
            let skipped = (start ?? 0) / 50_000 * 50_000 / 20_000
            #expect(replay.verifiedDigests == result.count / 20_000 - skipped)
        }
        let events = try TraceReader(result.path).eventCounts().reduce(0, +)
        #expect(try self.replay(result.path).0.verifier?.verified == events)
    }

    @Test(arguments: TraceDetail.allCases)
    func everyDetailReplays(detail: TraceDetail) throws {
        var guest = RecordedGuest()
        guest.detail = detail
        let result = try guest.record(folder.path + "/t.tline")
        for start in [nil, 60_000, 150_000] as [UInt64?] {
            let (replay, end) = try replay(result.path, from: start)
            #expect(end == .outcome(.powerOff), "from \(start ?? 0)")
            #expect(replay.machine.digest == result.digest)
        }
        let counts = try TraceReader(result.path).eventCounts()
        #expect((counts[Int(EventKind.cpuid.rawValue)] > 0) == (detail != .inputs))
        #expect((counts[Int(EventKind.tlbFill.rawValue)] > 0) == (detail == .paging))
        #expect((counts[Int(EventKind.pageTableWrite.rawValue)] > 0) == (detail == .paging))
    }

    /// Recorded paging events that are not compared may be the last before a digest.
    @Test func passedOverPagingEventsMayReachToADigest() throws {
        var guest = RecordedGuest()
        guest.detail = .paging
        guest.digestEvery = 997
        let result = try guest.record(folder.path + "/t.tline")
        for start in [0, 60_000, 150_000] as [UInt64] {
            let replay = try Replay(TraceReader(result.path))
            try replay.begin(at: start)
            let verifier = try #require(replay.verifier)
            verifier.skipPaging()
            #expect(try replay.run() == .outcome(.powerOff), "from \(start)")
            #expect(verifier.verified > 0 && replay.verifiedDigests > 0)
        }
    }

    /// A recording of the inputs alone becomes one of everything.
    @Test func aSmallTraceIsExpandedAgain() throws {
        var guest = RecordedGuest()
        guest.detail = .paging
        let whole = try guest.record(folder.path + "/whole.tline")
        guest.detail = .inputs
        let small = try guest.record(folder.path + "/small.tline")
        let reader = try TraceReader(small.path)
        let replay = try Replay(reader)
        try replay.begin()
        var options = Recorder.Options()
        options.detail = .paging
        options.digestEvery = guest.digestEvery
        options.checkpointEvery = guest.checkpointEvery
        var manifest = TraceManifest(replay.machine.configuration, writer: "test")
        let images = ImageContents.all(of: replay.machine.configuration, paths: ImagePaths(), embed: true)
        manifest.images = images.map(\.image)
        let recorder = try Recorder(
            replay.machine, to: folder.path + "/again.tline", manifest, images: images, disks: [], options,
            tracker: replay.tracker)
        replay.record(with: recorder)
        let end = try replay.run()
        #expect(end == .outcome(.powerOff))
        _ = try recorder.finish(.powerOff, digest: replay.machine.digest)
        let (first, second) = (try TraceReader(whole.path), try TraceReader(folder.path + "/again.tline"))
        #expect(first.end == second.end)
        let (left, right) = (try EventCursor(first), try EventCursor(second))
        var events = 0
        while let record = try left.next() {
            guard let other = try right.next() else {
                Issue.record("the expanded trace ends after \(events) records")
                return
            }
            #expect(record.count == other.count && record.kind == other.kind && record.value == other.value)
            guard record.count == other.count else { return }
            events += 1
        }
        #expect(try right.next() == nil)
        #expect(events > 1000)
    }

    /// Input that comes at unplanned moments is given at the same ones again.
    @Test(arguments: Engine.allCases)
    func inputIsReplayed(engine: Engine) throws {
        var random = SeededRandom(SeededRandom.runSeed)
        for round in 0..<8 {
            var guest = RecordedGuest()
            guest.kernel = RecordedGuest.listener
            guest.engine = engine
            guest.slice = UInt64.random(in: 500...30_000, using: &random)
            var count: UInt64 = 0
            guest.input = (0..<12).map { index in
                count += UInt64.random(in: 0...60_000, using: &random)
                let size = Int.random(in: 1...24, using: &random)
                let bytes = (0..<size).map { _ in UInt8.random(in: 0x30...0x7A, using: &random) }
                return (count, index == 11 ? bytes + [0x2E] : bytes)
            }
            let result = try guest.record(folder.path + "/\(round).tline")
            guard case .debugExit = result.outcome else {
                Issue.record("\(String(describing: result.outcome))")
                continue
            }
            for start in [nil, result.count / 2] as [UInt64?] {
                let other: Engine = engine == .interpreter ? .translator : .interpreter
                let (replay, end) = try replay(result.path, from: start, engine: other)
                #expect(end == .outcome(result.outcome!), "slice \(guest.slice)")
                #expect(replay.machine.digest == result.digest)
            }
        }
    }

    @Test func marksAreFound() throws {
        var guest = RecordedGuest()
        guest.kernel = RecordedGuest.marker
        let result = try guest.record(folder.path + "/t.tline")
        #expect(result.outcome == .debugExit(1))
        let marks = try TraceReader(result.path).marks()
        #expect(marks.map(\.text) == ["first", "second"])
        #expect(marks[1].position.count - marks[0].position.count > 9_000)
        let (_, end) = try replay(result.path)
        #expect(end == .outcome(.debugExit(1)))
        // String I/O is one event with its bytes behind it.
        let cursor = try EventCursor(TraceReader(result.path))
        var payload: [UInt8] = []
        var outputs = 0
        while let record = try cursor.next() {
            if record.kind == EventKind.payload.rawValue {
                for index in 0..<Int(record.size) {
                    let word = index < 8 ? record.operand : record.value
                    payload.append(UInt8(truncatingIfNeeded: word >> UInt64(index % 8 * 8)))
                }
            } else if record.kind == EventKind.portOut.rawValue, record.operand == 0xE9 {
                outputs += 1
            }
        }
        #expect(String(decoding: payload, as: UTF8.self) == "first\nsecond\n")
        #expect(outputs == 2)
    }

    /// A flight recorder keeps at least what was asked for, and little more than twice of it.
    @Test func theLastPartIsKept() throws {
        var guest = RecordedGuest()
        guest.kernel = RecordedGuest.image([0x0F, 0xA2, 0xFF, 0x05, 0x00, 0x60, 0x10, 0x00, 0xEB, 0xF6])
        guest.limit = 1_230_000
        guest.keepLast = 200_000
        guest.digestEvery = 10_000
        let result = try guest.record(folder.path + "/t.tline")
        let reader = try TraceReader(result.path)
        let kept = result.count - reader.manifest.start.count
        #expect((200_000...450_000).contains(kept))
        _ = try TraceCheck(reader)
        for start in [nil, result.count - 100_000, reader.manifest.start.count + 70_000] as [UInt64?] {
            let (replay, end) = try replay(result.path, from: start)
            #expect(end == .outcome(.limit))
            #expect(replay.machine.digest == result.digest)
        }
        #expect(try contentsOfFolder() == ["t.tline"])
    }

    private func contentsOfFolder() throws -> [String] { try folderContents(folder.path) }

    @Test func aRecordingCanBeginInTheMiddle() throws {
        var guest = RecordedGuest()
        guest.startAt = 77_777
        let result = try guest.record(folder.path + "/t.tline")
        let (replay, end) = try replay(result.path)
        #expect(end == .outcome(.powerOff))
        #expect(replay.machine.digest == result.digest)
        #expect(throws: TraceError.self) {
            try TraceStrip(images: false, events: false, checkpoints: true).copy(
                TraceReader(result.path), to: folder.path + "/s.tline")
        }
    }

    @Test func strippedTracesReplay() throws {
        let result = try RecordedGuest().record(folder.path + "/t.tline")
        let reader = try TraceReader(result.path)
        for (events, checkpoints) in [(true, false), (false, true), (true, true)] {
            let path = folder.path + "/s.tline"
            let size = try TraceStrip(images: false, events: events, checkpoints: checkpoints).copy(reader, to: path)
            #expect(size < reader.fileSize)
            let stripped = try TraceReader(path)
            _ = try TraceCheck(stripped)
            #expect(stripped.blocks(.events).isEmpty == events)
            #expect(stripped.blocks(.checkpoints).isEmpty == checkpoints)
            let (replay, end) = try replay(path, from: 150_000)
            #expect(end == .outcome(.powerOff))
            #expect(replay.machine.digest == result.digest)
        }
    }

    /// Recordings that were not closed replay to their last whole block.
    @Test func anIncompleteRecordingReplaysAsFarAsItGoes() throws {
        var guest = RecordedGuest()
        guest.closes = false
        let result = try guest.record(folder.path + "/t.tline")
        let (replay, end) = try replay(result.path)
        #expect(end == .cutOff)
        #expect(replay.position.count == result.count)
        #expect(replay.verifiedDigests == result.count / 20_000)
    }

    @Test func twoRecordingsHoldTheSame() throws {
        let first = try TraceReader(RecordedGuest().record(folder.path + "/1.tline").path)
        let second = try TraceReader(RecordedGuest().record(folder.path + "/2.tline").path)
        let streams: [TraceStream] = [
            .manifest, .images, .sites, .events, .journal, .digests, .pages, .checkpoints, .end,
        ]
        for stream in streams {
            let (left, right) = (first.blocks(stream), second.blocks(stream))
            #expect(left.count == right.count)
            for (one, other) in zip(left, right) {
                #expect(one.header == other.header)
                #expect(try first.payload(one) == second.payload(other), "\(stream)")
            }
        }
    }

    @Test func anotherHostIsRefusedByName() throws {
        let result = try RecordedGuest().record(folder.path + "/t.tline")
        let reader = try TraceReader(result.path)
        let path = folder.path + "/other.tline"
        try rewrite(reader, to: path) { block in
            guard block.header.stream == TraceStream.manifest.rawValue else { return }
            let text = String(decoding: block.columns[0].bytes, as: UTF8.self)
            block.columns[0].bytes = Array(
                text.replacing("host-x87 \(reader.manifest.host.x87)", with: "host-x87 1").utf8)
        }
        let error = #expect(throws: TraceError.self) { try Replay(TraceReader(path)) }
        #expect(error?.description.contains("x87") == true)
    }
}
