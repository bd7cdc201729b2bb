/// Plain values behind a pointer, for what strategies look up at every event: no reference counting, no exclusivity
/// checks. The memory belongs to it and goes with `deallocate`; indices below `count` are in bounds, and the caller
/// stays below.
struct GrowingBuffer<Element: BitwiseCopyable> {
    private(set) var base: UnsafeMutablePointer<Element>
    private(set) var count = 0
    private var capacity = 16
    private let initial: Element

    init(_ initial: Element) {
        self.initial = initial
        base = .allocate(capacity: capacity)
        base.initialize(repeating: initial, count: capacity)
    }

    /// Makes at least `count` elements, new ones with the initial value.
    mutating func grow(to count: Int) {
        guard count > self.count else { return }
        self.count = count
        guard count > capacity else { return }
        let larger = max(count, capacity * 2)
        let new = UnsafeMutablePointer<Element>.allocate(capacity: larger)
        new.update(from: base, count: capacity)
        (new + capacity).initialize(repeating: initial, count: larger - capacity)
        base.deallocate()
        base = new
        capacity = larger
    }

    @inline(__always) subscript(index: Int) -> Element {
        get { base[index] }
        nonmutating set { base[index] = newValue }
    }

    func deallocate() { base.deallocate() }
}
