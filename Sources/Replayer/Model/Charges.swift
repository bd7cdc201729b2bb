/// Multiples of primitives: what one use of a path costs.
package struct Charges: ExpressibleByDictionaryLiteral {
    package private(set) var items: [(primitive: Primitive, count: Int)]

    package init(dictionaryLiteral elements: (Primitive, Int)...) {
        items = elements.map { (primitive: $0.0, count: $0.1) }
    }

    package init(_ items: [(primitive: Primitive, count: Int)]) { self.items = items }

    package static let none: Charges = [:]

    package static func + (left: Charges, right: Charges) -> Charges {
        var sum = left
        for item in right.items { sum.add(item.primitive, item.count) }
        return sum
    }

    package static func - (left: Charges, right: Charges) -> Charges {
        var sum = left
        for item in right.items { sum.add(item.primitive, -item.count) }
        return sum
    }

    private mutating func add(_ primitive: Primitive, _ count: Int) {
        if let index = items.firstIndex(where: { $0.primitive == primitive }) {
            items[index].count += count
            if items[index].count == 0 { items.remove(at: index) }
        } else {
            items.append((primitive, count))
        }
    }
}

/// What a path does besides costing cycles.
package struct Tally {
    package var worldSwitches: Int
    package var hypercalls: Int
    package var hiddenFaults: Int
    package var ipcs: Int

    package init(worldSwitches: Int = 0, hypercalls: Int = 0, hiddenFaults: Int = 0, ipcs: Int = 0) {
        self.worldSwitches = worldSwitches
        self.hypercalls = hypercalls
        self.hiddenFaults = hiddenFaults
        self.ipcs = ipcs
    }

    package static let none = Tally()
    package static let worldSwitch = Tally(worldSwitches: 1)
    package static let hypercall = Tally(worldSwitches: 1, hypercalls: 1)
    package static let hiddenFault = Tally(worldSwitches: 1, hiddenFaults: 1)
    package static func ipc(_ count: Int) -> Tally { Tally(worldSwitches: count, ipcs: count) }
}

/// One way in which a strategy handles something: declared once, taken many times. What `trapline strategies` prints is
/// this and nothing else.
package struct Path {
    /// What is handled, in the instructions' or events' names.
    package let event: String
    package let eventClass: EventClass
    /// The mechanism, in a few words.
    package let mechanism: String
    /// What it costs, less what the bare machine would have paid for the same.
    package let charges: Charges
    package let tally: Tally

    package init(event: String, eventClass: EventClass, mechanism: String, charges: Charges, tally: Tally) {
        self.event = event
        self.eventClass = eventClass
        self.mechanism = mechanism
        self.charges = charges
        self.tally = tally
    }
}

/// The number of a path within its strategy.
package struct PathID: Equatable {
    let number: Int
}
