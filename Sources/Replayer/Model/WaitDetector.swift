import CEngine
import VMM

/// Tells delay loops from work. A delay loop is bounded by time and not by its count: under a strategy that makes its
/// iterations dearer there would be fewer of them, so its cycles say nothing about the strategy.
///
/// It is a run of polls (RDTSC, PAUSE, reads of a timer, or reads of a register that answers the same each time) at few
/// sites with nothing else between. Events are held back until it is clear what they are.
struct WaitDetector {
    /// A run is a delay loop from this many polls on.
    static let shortest = 16
    /// Sites that one loop polls at most.
    static let mostSites = 4

    private struct Poll {
        var site: UInt32
        /// The port or register.
        var operand: UInt64
        var value: UInt64
        var times: Int64
    }

    /// What the run so far consists of, by site.
    private var polls: [Poll] = []
    /// Records of a run that may not be one, in order.
    private(set) var held: [(record: EventRecord, site: UInt32)] = []
    private(set) var isWaiting = false
    private var firstCount: UInt64 = 0
    private var lastCount: UInt64 = 0
    /// Sites of RDTSC and PAUSE that were part of a delay loop, by site.
    private var waitSites: [Bool] = []

    /// What became of a poll.
    enum Verdict {
        /// It belongs to a delay loop.
        case waits
        /// It is held back.
        case held
        /// It ends the run, and may begin another.
        case breaks
    }

    /// Whether events of a kind may be part of a delay loop.
    @inline(__always) static func isPoll(_ kind: UInt8) -> Bool { isPollTable[Int(kind)] }
    /// Whether events of a kind may come in the middle of one without ending it.
    @inline(__always) static func isTransparent(_ kind: UInt8) -> Bool { isTransparentTable[Int(kind)] }

    private static let isPollTable = table([.rdtsc, .rdtscp, .pause, .portIn, .mmioRead, .portOut])
    private static let isTransparentTable = table([
        .tlbFill, .tlbReuse, .firstTouch, .codeDecoded, .codeChanged, .interruptAsserted, .dma, .pageTableBegin,
        .pageTableEntry,
    ])

    private static func table(_ kinds: [EventKind]) -> [Bool] {
        (0...UInt8.max).map { raw in kinds.contains { $0.rawValue == raw } }
    }

    mutating func take(_ record: EventRecord, site: UInt32) -> Verdict {
        guard record.flags & EventFlags.hasPayload == 0 else { return .breaks }
        guard let index = polls.firstIndex(where: { $0.site == site }) else {
            guard polls.count < Self.mostSites else { return .breaks }
            polls.append(Poll(site: site, operand: record.operand, value: record.value, times: 0))
            return join(record, at: polls.count - 1)
        }
        guard isFree(record) || polls[index].value == record.value else { return .breaks }
        return join(record, at: index)
    }

    /// Whether a poll's value may differ from the last: it reads a clock.
    private func isFree(_ record: EventRecord) -> Bool {
        switch EventKind(rawValue: record.kind) {
        case .rdtsc, .rdtscp, .pause: true
        case .portIn: (0x40...0x42).contains(record.operand) || record.operand & 0xff == 0x08 && record.detail == 4
        case .mmioRead: record.operand == 0xfee0_0390
        default: false
        }
    }

    private mutating func join(_ record: EventRecord, at index: Int) -> Verdict {
        if polls.allSatisfy({ $0.times == 0 }) { firstCount = record.count }
        polls[index].times += 1
        lastCount = record.count
        if isWaiting { return .waits }
        let site = polls[index].site
        held.append((record, site))
        let isKnown = Int(site) < waitSites.count && waitSites[Int(site)]
        guard held.count >= Self.shortest || isKnown else { return .held }
        isWaiting = true
        held.removeAll(keepingCapacity: true)
        return .waits
    }

    /// Ends the run. `body` gets each site of a delay loop with the port or register that it polls, and how often.
    /// - Returns: the counts that the loop took.
    mutating func end(_ body: (_ site: UInt32, _ operand: UInt64, _ times: Int64) -> Void) -> UInt64 {
        defer {
            polls.removeAll(keepingCapacity: true)
            held.removeAll(keepingCapacity: true)
            isWaiting = false
        }
        guard isWaiting else { return 0 }
        for poll in polls { body(poll.site, poll.operand, poll.times) }
        return lastCount - firstCount
    }

    /// From now on RDTSC or PAUSE at `site` is part of a delay loop wherever it comes.
    mutating func learn(_ site: UInt32) {
        if Int(site) >= waitSites.count {
            waitSites.append(contentsOf: repeatElement(false, count: Int(site) + 1 - waitSites.count))
        }
        waitSites[Int(site)] = true
    }
}
