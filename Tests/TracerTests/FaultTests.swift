import CEngine
import Replayer
import Testing
import Tracer
import VMM

/// The check can fail: single faults during replay are reported at the next check, with the right culprit.
struct FaultTests {
    private let folder: TraceFolder
    private let guest: RecordedGuest
    private let result: RecordedGuest.Result

    init() throws {
        folder = try TraceFolder()
        var guest = RecordedGuest()
        guest.kernel = RecordedGuest.listener
        guest.input = (0..<20).map { (UInt64($0) * 20_000, Array("input \($0)\($0 == 19 ? "." : "")".utf8)) }
        guest.digestEvery = 10_000
        self.guest = guest
        result = try guest.record(folder.path + "/t.tline")
    }

    private func replay() throws -> Replay { try Replay(TraceReader(result.path)) }

    private func divergence(_ replay: Replay) throws -> Divergence {
        if replay.verifier == nil { try replay.begin() }
        let end = try replay.run()
        guard case .diverged(let divergence) = end else {
            Issue.record("the replay ended with \(end)")
            throw TraceError.unusable("no divergence")
        }
        return divergence
    }

    @Test func withoutAFaultThereIsNoDivergence() throws {
        let replay = try replay()
        try replay.begin()
        #expect(try replay.run() == .outcome(result.outcome!))
    }

    /// One bit of a general register, of another register or of a device's field.
    @Test func fieldsOfTheState() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        var paths: Set<String> = []
        for round in 0..<80 {
            let digest = UInt64.random(in: 2..<result.count / guest.digestEvery, using: &random)
            let replay = try replay()
            try replay.begin()
            var culprit = ""
            replay.beforeDigest = { machine, record in
                guard record.progress.digests == digest else { return }
                culprit = Self.flip(machine, round, &random)
            }
            let found = try divergence(replay)
            #expect(found.kind == .state)
            #expect(found.position.count == (digest + 1) * guest.digestEvery)
            #expect(found.differences.first?.name == culprit, "\(found.sentence)")
            paths.insert(culprit)
        }
        #expect(paths.count > 30)
    }

    /// Flips one bit of one field by way of a snapshot, and says which field it was.
    private static func flip(_ machine: Machine, _ round: Int, _ random: inout SeededRandom) -> String {
        let layout = machine.stateLayout()
        while true {
            let field = layout.fields.randomElement(using: &random)!
            let isRegister = registers.contains { field.path.hasPrefix("processor." + $0) }
            guard !field.range.isEmpty, isFree(field.path), round % 2 == 1 || isRegister else { continue }
            var state = layout.bytes
            let bit = Int.random(in: 0..<field.range.count * 8, using: &random)
            state[field.range.lowerBound + bit / 8] ^= 1 << UInt8(bit % 8)
            // Some bits cannot be set: the machine's shape, or what follows from something else.
            let written = machine.processor.writtenPages()
            guard (try? machine.restoreWithoutRAM(state)) != nil, machine.snapshotWithoutRAM() != layout.bytes else {
                try? machine.restoreWithoutRAM(layout.bytes)
                machine.processor.restoreWritten(written)
                continue
            }
            machine.processor.restoreWritten(written)
            return field.path
        }
    }

    private static let registers = ["gpr", "segment", "cr", "xmm", "rip", "rflags", "fpr"]

    /// Fields whose change alters how many bytes follow, or that other fields are derived from, have other culprits.
    private static func isFree(_ path: String) -> Bool {
        !path.hasSuffix(".count") && !path.hasSuffix(".present") && !path.contains("signature")
            && !path.contains("events.") && !path.hasSuffix("written") && !path.contains("touched")
            && !path.hasPrefix("clock") && !path.hasSuffix(".size")
    }

    @Test func pagesOfMemory() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        for _ in 0..<40 {
            let digest = UInt64.random(in: 0..<result.count / guest.digestEvery, using: &random)
            let page = UInt64.random(in: 0..<guest.memory / 4096, using: &random)
            guard !(0xA0..<0x100).contains(page) else { continue }
            let replay = try replay()
            try replay.begin()
            replay.beforeDigest = { machine, record in
                guard record.progress.digests == digest else { return }
                let address = page * 4096 + UInt64.random(in: 0..<4096, using: &random)
                var byte: UInt8 = 0
                let place = machine.memory.writePage(address)! + Int(address % 4096)
                byte = place.load(as: UInt8.self) ^ (1 << UInt8.random(in: 0..<8, using: &random))
                place.storeBytes(of: byte, as: UInt8.self)
            }
            let found = try divergence(replay)
            #expect(found.kind == .state)
            #expect(found.position.count == (digest + 1) * guest.digestEvery)
            #expect(found.differences.map(\.name) == ["page " + hexadecimal(page * 4096)])
        }
    }

    @Test func valuesOfEvents() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        let events = try TraceReader(result.path).reach.events
        for round in 0..<50 {
            let number = UInt64.random(in: 0..<events, using: &random)
            let replay = try replay()
            try replay.begin()
            let bit = UInt64(1) << UInt64.random(in: 0..<64, using: &random)
            replay.verifier?.fault = { event, record in
                guard event == number else { return }
                switch round % 4 {
                case 0: record.value ^= bit
                case 1: record.operand ^= bit
                case 2: record.address ^= bit
                default: record.count ^= bit
                }
            }
            let found = try divergence(replay)
            let field = ["value", "operand", "address", "count"][round % 4]
            #expect(found.kind == .event && found.event == number)
            #expect(found.differences.map(\.name) == [field], "\(found.sentence)")
        }
    }

    /// A byte of the journal: the guest reads another one from its serial port.
    @Test func bytesOfTheJournal() throws {
        var random = SeededRandom(SeededRandom.runSeed)
        let (_, journal) = try TraceReader(result.path).journal()
        let inputs = journal.filter { $0.kind == JournalEntry.Kind.consoleInput.rawValue }
        try #require(inputs.count >= 20)
        for round in 0..<30 {
            let entry = inputs[Int.random(in: 0..<inputs.count, using: &random)]
            let index = Int.random(in: 0..<entry.bytes.count, using: &random)
            let flipped = entry.bytes[index] ^ (1 << UInt8.random(in: 0..<8, using: &random))
            let replay = try replay()
            replay.journalFault = { candidate in
                if candidate == entry { candidate.bytes[index] = flipped }
            }
            let found = try divergence(replay)
            #expect(found.kind == .event || found.kind == .state, "round \(round)")
            if found.kind == .event {
                #expect(
                    found.differences == [
                        Divergence.Difference(
                            "value", recorded: hexadecimal(UInt64(entry.bytes[index])),
                            replayed: hexadecimal(UInt64(flipped)))
                    ], "\(found.sentence)")
            } else {
                // A digest came before the guest read the byte.
                #expect(found.differences.first?.name.contains("serial") == true, "\(found.sentence)")
            }
        }
    }
}
