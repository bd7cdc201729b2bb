import CEngine
import Tracer
import VMM

/// The first thing in which a replay is not like the recording.
package struct Divergence: Equatable {
    package enum Kind: String {
        /// An event is another one, or there is one too many or too few.
        case event
        /// The state is another one at a digest or at the end.
        case state
        /// The run came to another position, or ended in another way.
        case position
        /// The journal's input was not taken as it was.
        case journal
        /// A disk's contents could not be had.
        case disk
    }

    /// A value that differs.
    package struct Difference: Equatable {
        package var name: String
        package var recorded: String
        package var replayed: String

        package init(_ name: String, recorded: String, replayed: String) {
            self.name = name
            self.recorded = recorded
            self.replayed = replayed
        }
    }

    package var kind: Kind
    package var position: TracePosition
    /// The number of the event, and where in the guest it is.
    package var event: UInt64?
    package var site: UInt64?
    package var differences: [Difference]

    /// One sentence.
    package var sentence: String {
        let shown = differences.prefix(6).map { "\($0.name) was \($0.recorded), is \($0.replayed)" }
        let more = differences.count > 6 ? " and \(differences.count - 6) more" : ""
        var place = "at count \(position.count)"
        if let event { place = "event \(event) \(place)" }
        if let site { place += ", address \(hexadecimal(site))" }
        return "the replay differs, \(place): \(shown.joined(separator: "; "))\(more)"
    }
}

/// What an event is called, and its fields with names.
package enum EventText {
    package static func name(_ kind: UInt8) -> String { EventKind(rawValue: kind).map { "\($0)" } ?? "kind \(kind)" }

    /// The fields of two events that differ.
    static func differences(_ recorded: EventRecord, _ replayed: EventRecord) -> [Divergence.Difference] {
        var differences: [Divergence.Difference] = []
        func compare(_ name: String, _ left: UInt64, _ right: UInt64) {
            guard left != right else { return }
            differences.append(
                Divergence.Difference(name, recorded: hexadecimal(left), replayed: hexadecimal(right)))
        }
        if recorded.kind != replayed.kind {
            differences.append(
                Divergence.Difference("kind", recorded: name(recorded.kind), replayed: name(replayed.kind)))
        }
        if recorded.count != replayed.count {
            differences.append(
                Divergence.Difference("count", recorded: "\(recorded.count)", replayed: "\(replayed.count)"))
        }
        compare("address", recorded.address, replayed.address)
        compare("operand", recorded.operand, replayed.operand)
        compare("value", recorded.value, replayed.value)
        compare("detail", UInt64(recorded.detail), UInt64(replayed.detail))
        compare("ring", UInt64(recorded.ring), UInt64(replayed.ring))
        compare("size", UInt64(recorded.size), UInt64(replayed.size))
        compare("flags", UInt64(recorded.flags), UInt64(replayed.flags & EventRecord.keptFlags))
        return differences
    }
}
