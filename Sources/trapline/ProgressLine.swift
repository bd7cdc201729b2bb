/// How far long work is, on standard error if that is a terminal, and gone when it is done.
final class ProgressLine {
    private static let interval = 0.5

    private let what: String
    private let isShown = Terminal.isTerminal(.standardError)
    private var next = HostClock.seconds + ProgressLine.interval
    private var isThere = false

    /// `what` is being done.
    init(_ what: String) { self.what = what }

    /// Shows a part of the whole, from 0 to 1, if it was not shown a moment ago.
    func show(_ done: Double) {
        guard isShown, HostClock.seconds > next else { return }
        next = HostClock.seconds + Self.interval
        isThere = true
        StandardError.write("\r\(what) \(Int(done * 100))%")
    }

    /// Takes it away; after an error that happens by itself.
    func clear() {
        guard isThere else { return }
        isThere = false
        StandardError.write("\r\u{1B}[K")
    }

    deinit { clear() }
}
