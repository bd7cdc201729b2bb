import CEngine
import VMM

/// An event as strategies see it.
package struct ModelEvent {
    package var kind: EventKind
    /// The ring that it happened in, and the one that it leaves behind. For deliveries both are what they interrupt.
    package var ring: UInt8
    package var ringAfter: UInt8
    /// RFLAGS.IF as the event leaves it; for deliveries, as they find it.
    package var interruptsEnabled: Bool
    /// RFLAGS.IF as it was before.
    package var wereEnabled: Bool
    /// As in `EventRecord`.
    package var size: UInt8
    package var detail: UInt32
    package var address: UInt64
    package var operand: UInt64
    package var value: UInt64
    package var count: UInt64
    /// The place in the guest's code, numbered from 1; 0 if the event has none.
    package var site: UInt32
    package var part: Ledger.Part
    /// How many events it stands for: 1, but for the events of a delay loop.
    package var times: Int64
    /// Long mode is active.
    package var isLong: Bool
    /// INS or OUTS, whose `value` is the number of elements.
    package var isString: Bool

    package var isUser: Bool { ring == 3 }
}

/// A place in the guest's code that events come from.
package struct EventSite: Hashable {
    package var address: UInt64
    package var kind: UInt8
    package var ring: UInt8

    package init(address: UInt64, kind: UInt8, ring: UInt8) {
        self.address = address
        self.kind = kind
        self.ring = ring
    }
}
