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
package struct Cost: Equatable {
    package enum Role: String, CaseIterable {
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

    package init(primitive: Primitive, value: CostRange, role: Role, source: String) {
        self.primitive = primitive
        self.value = value
        self.role = role
        self.source = source
    }
}

/// A published figure that the models are held against and never fed with.
package struct CostCheck: Equatable {
    package enum Unit: String, CaseIterable {
        case cycles, microseconds
    }

    /// What of a strategy's result is comparable with the figure.
    package enum Measure: String, CaseIterable {
        /// One operation, the guest's own work included.
        case total
        /// What the strategy adds to the bare machine; for figures of whole systems, whose kernels do more in one
        /// operation than the guest does.
        case added
    }

    /// The project's guest that isolates it.
    package var guest: String
    package var strategy: String
    package var measure: Measure
    /// As published, in `unit`.
    package var published: Double
    package var unit: Unit
    /// MHz of the machine that it was measured on.
    package var clock: Double
    package var source: String
    package var remark: String

    /// Cycles of the machine that it was measured on.
    package var value: Double { unit == .cycles ? published : published * clock }
}

/// The costs of one CPU.
package struct CostTable: Equatable {
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

    package subscript(primitive: Primitive) -> Cost {
        get { costs[Int(primitive.rawValue)] }
        set { costs[Int(primitive.rawValue)] = newValue }
    }

    /// In cycles, whatever the row's unit.
    package func cycles(_ primitive: Primitive) -> CostRange {
        let value = self[primitive].value
        guard primitive.unit == .nanoseconds else { return value }
        let factor = clock / 1000
        return CostRange(value.low * factor, value.typical * factor, value.high * factor)
    }
}
