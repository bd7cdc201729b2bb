import Testing
import VMM

/// A seeded generator (SplitMix64), so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// One device with a clock, an event queue and buses of its own. What the device does to the outside is logged.
final class DeviceBench {
    let clock = VirtualClock()
    let queue = EventQueue()
    let ports = PortBus()
    let mmio = MMIOBus()
    private(set) var log: [String] = []
    private var parts: [any Archivable] = []
    /// What the host does to the device, for the fuzzer: a number picks the action.
    var hostAction: (UInt64) -> Void = { _ in }

    func note(_ text: String) { log.append("\(clock.now): \(text)") }
    func clearLog() { log = [] }
    /// A line that logs the levels it is given.
    func line(_ name: String) -> InterruptLine { InterruptLine { [unowned self] in note("\(name)=\($0)") } }

    @discardableResult
    func add<T: Archivable>(_ part: T) -> T {
        parts.append(part)
        return part
    }

    /// Lets virtual time pass, firing each timer at its deadline.
    func advance(_ nanoseconds: UInt64) {
        let end = clock.now + nanoseconds
        while let due = queue.nextDeadline, due <= end {
            if due > clock.now { clock.count += due - clock.now }
            queue.run(now: clock.now)
        }
        clock.count += end - clock.now
    }

    func read(_ port: UInt16) -> UInt8 { UInt8(ports.read(port, size: 1)) }
    func write(_ port: UInt16, _ value: UInt8) { ports.write(port, UInt32(value), size: 1) }

    func archive(_ archive: StateArchive) {
        clock.archive(archive)
        for (index, part) in parts.enumerated() { archive.section("part\(index)") { part.archive(archive) } }
        queue.archive(archive)
    }

    func snapshot() -> [UInt8] {
        let archive = StateArchive()
        self.archive(archive)
        return archive.bytes
    }

    func restore(_ bytes: [UInt8]) -> SnapshotError? {
        let archive = StateArchive(restoring: bytes)
        self.archive(archive)
        return archive.failure
    }
}

/// Restores a snapshot of `bench` into the fresh `other`: it must hold the same state, and neither saving nor
/// restoring may have changed anything.
func checkArchiveIdentity(
    _ bench: DeviceBench, restoredInto other: DeviceBench, sourceLocation: SourceLocation = #_sourceLocation
) {
    let saved = bench.snapshot()
    #expect(bench.snapshot() == saved, sourceLocation: sourceLocation)
    #expect(other.restore(saved) == nil, sourceLocation: sourceLocation)
    #expect(other.snapshot() == saved, sourceLocation: sourceLocation)
    #expect(other.restore(Array(saved.dropLast())) != nil, sourceLocation: sourceLocation)
    #expect(other.restore(saved) == nil, sourceLocation: sourceLocation)
}

/// Random accesses to a device's ports and registers: none may trap, and a device restored from a snapshot taken on
/// the way must answer like the original from there on.
func fuzzDevice(
    seed: UInt64, steps: Int = 3000, ports: [UInt16], mmio: [Range<UInt64>] = [], hot: [UInt64] = [],
    sourceLocation: SourceLocation = #_sourceLocation, make: () -> DeviceBench
) {
    let original = make()
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<steps {
        _ = fuzzStep(original, &generator, ports, mmio, hot)
    }
    let copy = make()
    checkArchiveIdentity(original, restoredInto: copy, sourceLocation: sourceLocation)
    original.clearLog()
    copy.clearLog()
    var twin = generator
    for step in 0..<steps {
        let answer = fuzzStep(original, &generator, ports, mmio, hot)
        let copied = fuzzStep(copy, &twin, ports, mmio, hot)
        guard answer == copied else {
            Issue.record("seed \(seed), step \(step): \(answer) and \(copied)", sourceLocation: sourceLocation)
            return
        }
    }
    #expect(original.log == copy.log, "seed \(seed)", sourceLocation: sourceLocation)
    #expect(original.snapshot() == copy.snapshot(), "seed \(seed)", sourceLocation: sourceLocation)
}

private func fuzzStep(
    _ bench: DeviceBench, _ generator: inout SeededGenerator, _ ports: [UInt16], _ mmio: [Range<UInt64>],
    _ hot: [UInt64]
) -> UInt64 {
    let choice = generator.next()
    let place = generator.next()
    let random = generator.next()
    let size = 1 << Int(choice >> 8 & 3)
    let value = hot.isEmpty || choice & 0x1_0000 != 0 ? random : hot[Int(random % UInt64(hot.count))]
    switch choice & 15 {
    case 0: bench.advance(random % 1_000)
    case 1: bench.advance(random % 100_000)
    case 2: if random % 20 == 0 { bench.advance(place % 50_000_000) }
    case 3: bench.hostAction(random)
    case 4...8:
        guard mmio.isEmpty || choice & 0x20 != 0 && !ports.isEmpty else {
            let range = mmio[Int(place % UInt64(mmio.count))]
            let offset = choice & 0x40 == 0 ? random % UInt64(range.count) : random % UInt64(range.count) & ~15
            return bench.mmio.read(range.lowerBound + offset, size: size)
        }
        return UInt64(bench.ports.read(ports[Int(place % UInt64(ports.count))], size: min(size, 4)))
    default:
        guard mmio.isEmpty || choice & 0x20 != 0 && !ports.isEmpty else {
            let range = mmio[Int(place % UInt64(mmio.count))]
            let offset = choice & 0x40 == 0 ? place / 7 % UInt64(range.count) : place / 7 % UInt64(range.count) & ~15
            bench.mmio.write(range.lowerBound + offset, value, size: size)
            return 0
        }
        bench.ports.write(
            ports[Int(place % UInt64(ports.count))], UInt32(truncatingIfNeeded: value), size: min(size, 4))
    }
    return 0
}
