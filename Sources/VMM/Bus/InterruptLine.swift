/// A wire from a device to an interrupt input. The device sets a level; edges are seen by the controller.
package struct InterruptLine {
    private let set: (Bool) -> Void

    /// A line that calls `set` with each level it is given, whether or not the level changed.
    package init(_ set: @escaping (Bool) -> Void) { self.set = set }

    /// A line that leads nowhere.
    package static let none = InterruptLine { _ in }

    package func set(_ level: Bool) { set(level) }

    /// A low-high-low pulse, for edge-triggered inputs.
    package func pulse() {
        set(true)
        set(false)
    }
}
