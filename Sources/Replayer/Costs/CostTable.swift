/// A cost with its range.
package struct CostRange: Equatable {
    package var low: Double
    package var typical: Double
    package var high: Double

    package init(_ low: Double, _ typical: Double, _ high: Double) {
        self.low = low
        self.typical = typical
        self.high = high
    }

    package static let zero = CostRange(0, 0, 0)
}

/// One row of a cost table.
package struct Cost {
    package enum Role: String {
        /// Published or measured.
        case input
        /// Nobody published it; every result that leans on it says so.
        case estimate
    }

    package var primitive: Primitive
    /// In the primitive's unit.
    package var value: CostRange
    package var role: Role
    package var source: String
}

/// A published figure that the models are held against and never fed with.
package struct CostCheck {
    /// The project's guest that isolates it.
    package var guest: String
    package var strategy: String
    /// Cycles.
    package var value: Double
    package var source: String
}

/// The costs of one CPU.
package struct CostTable {
    package var name: String
    /// One sentence: which CPU.
    package var title: String
    /// MHz.
    package var clock: Double
    /// By `Primitive.rawValue`: every primitive has its row.
    package var costs: [Cost]
    package var checks: [CostCheck]
    /// Strategies that never existed on this CPU, with why.
    package var hypothetical: [String: String]

    /// In cycles, whatever the row's unit.
    package func cycles(_ primitive: Primitive) -> CostRange {
        let value = costs[Int(primitive.rawValue)].value
        guard primitive.unit == .nanoseconds else { return value }
        let factor = clock / 1000
        return CostRange(value.low * factor, value.typical * factor, value.high * factor)
    }
}
