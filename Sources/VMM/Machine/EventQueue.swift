/// The machine's timers. Each device registers its timers once, at construction, in a fixed order; equal
/// deadlines fire in that order, so nothing depends on hashing or on when a timer was armed.
package final class EventQueue: Archivable {
    /// One registered timer. Deadlines are virtual nanoseconds since power-on.
    package final class Timer {
        package let name: String
        /// When the timer fires next; nil while it is not armed.
        package fileprivate(set) var deadline: UInt64?
        fileprivate let action: () -> Void
        private unowned let queue: EventQueue

        fileprivate init(name: String, queue: EventQueue, action: @escaping () -> Void) {
            self.name = name
            self.queue = queue
            self.action = action
        }

        /// Fires at `nanoseconds` of virtual time, instead of at any earlier arrangement.
        package func arm(at nanoseconds: UInt64) {
            deadline = nanoseconds
            queue.changed()
        }

        package func cancel() {
            guard deadline != nil else { return }
            deadline = nil
            queue.changed()
        }
    }

    private var timers: [Timer] = []
    /// The earliest deadline, nil if no timer is armed.
    package private(set) var nextDeadline: UInt64?
    /// Called whenever the earliest deadline may have moved, so that the processor stops in time.
    package var onChange: () -> Void = {}

    package init() {}

    /// Registers a timer. `action` runs at or after its deadline, outside any instruction; it may arm timers again.
    package func makeTimer(_ name: String, _ action: @escaping () -> Void) -> Timer {
        let timer = Timer(name: name, queue: self, action: action)
        timers.append(timer)
        return timer
    }

    /// Fires every timer due at `now`, earliest first.
    package func run(now: UInt64) {
        while let due = nextDeadline, due <= now {
            guard let timer = timers.first(where: { $0.deadline == due }) else { break }
            timer.deadline = nil
            changed()
            timer.action()
        }
    }

    fileprivate func changed() {
        var earliest: UInt64?
        for timer in timers {
            if let deadline = timer.deadline, deadline < earliest ?? .max { earliest = deadline }
        }
        nextDeadline = earliest
        onChange()
    }

    package func archive(_ archive: StateArchive) {
        for timer in timers { archive.field(timer.name, &timer.deadline) }
        if archive.isRestoring { changed() }
    }
}
