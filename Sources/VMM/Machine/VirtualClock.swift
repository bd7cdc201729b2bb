/// Virtual time: an exact function of how much the guest has executed and how long it has been idle.
///
/// One count is one retired instruction, one iteration of a repeated string instruction, or one delivered
/// exception or interrupt. Nothing here reads a host clock.
package final class VirtualClock: Archivable {
    /// Counts per microsecond of virtual time; 1000 makes one count one nanosecond.
    package let instructionsPerMicrosecond: UInt64
    /// The frequency of the time-stamp counter.
    package static let tscHertz: UInt64 = 1_000_000_000

    /// Counts so far. The processor keeps it exact whenever a device can look at it.
    @exclusivity(unchecked) package var count: UInt64 = 0
    /// Nanoseconds skipped while the processor was halted.
    @exclusivity(unchecked) package private(set) var idleNanoseconds: UInt64 = 0

    package init(instructionsPerMicrosecond: UInt64 = 1000) {
        precondition(instructionsPerMicrosecond > 0)
        self.instructionsPerMicrosecond = instructionsPerMicrosecond
    }

    /// Nanoseconds since power-on, rounded down.
    package var now: UInt64 { nanoseconds(at: count) }

    /// The virtual time at a count, given the idle time so far.
    package func nanoseconds(at count: UInt64) -> UInt64 {
        if instructionsPerMicrosecond == 1000 { return count &+ idleNanoseconds }
        let product = count.multipliedFullWidth(by: 1000)
        return instructionsPerMicrosecond.dividingFullWidth(product).quotient &+ idleNanoseconds
    }

    /// The first count at which `now` is at least `nanoseconds`.
    package func count(reaching nanoseconds: UInt64) -> UInt64 {
        guard nanoseconds > idleNanoseconds else { return 0 }
        let product = (nanoseconds - idleNanoseconds).multipliedFullWidth(by: instructionsPerMicrosecond)
        guard product.high < 1000 else { return .max }
        let (quotient, remainder) = UInt64(1000).dividingFullWidth(product)
        return remainder == 0 ? quotient : quotient &+ 1
    }

    /// Moves virtual time forward to `nanoseconds` without executing anything.
    package func skip(to nanoseconds: UInt64) {
        let current = now
        if nanoseconds > current { idleNanoseconds += nanoseconds - current }
    }

    /// How many whole periods of a signal of `hertz`, at most 10^9, lie in `nanoseconds`.
    package static func periods(_ hertz: UInt64, in nanoseconds: UInt64) -> UInt64 {
        let (seconds, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        return seconds &* hertz &+ rest * hertz / 1_000_000_000
    }

    package func archive(_ archive: StateArchive) {
        archive.expect("instructionsPerMicrosecond", instructionsPerMicrosecond)
        archive.field("count", &count)
        archive.field("idleNanoseconds", &idleNanoseconds)
    }
}
