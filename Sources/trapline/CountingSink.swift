import CEngine
import VMM

/// An event sink that only counts, which is what reporting costs at least.
final class CountingSink: EventSink {
    private(set) var count: UInt64 = 0

    func receive(_ events: UnsafeBufferPointer<EventRecord>) { count += UInt64(events.count) }
}
