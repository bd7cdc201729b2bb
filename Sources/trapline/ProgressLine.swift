/// How far long work is, on standard error if that is a terminal, and gone when it is done.
final class ProgressLine {
    private static let interval = 0.5

    private let what: String
    private let isShown: Bool
    private var next = HostClock.seconds + ProgressLine.interval
    /// The characters that are there.
    private var width = 0

    /// `what` is being done. A guest's console on the same terminal is not written over.
    init(_ what: String, besideConsole: Bool = false) {
        self.what = what
        isShown =
            Terminal.isTerminal(.standardError) && !(besideConsole && Terminal.isTerminal(.standardOutput))
    }

    /// Shows a part of the whole, from 0 to 1, if it was not shown a moment ago.
    func show(_ done: Double) { show { "\(Int(done * 100))%" } }

    /// Shows how far it is in words, if that was not shown a moment ago.
    func show(_ text: () -> String) {
        guard isShown, HostClock.seconds > next else { return }
        next = HostClock.seconds + Self.interval
        let line = "\(what) \(text())"
        // Spaces cover what a longer line before left.
        StandardError.write("\r" + line + String(repeating: " ", count: max(width - line.count, 0)))
        width = line.count
    }

    /// Takes it away; after an error that happens by itself.
    func clear() {
        guard width > 0 else { return }
        StandardError.write("\r" + String(repeating: " ", count: width) + "\r")
        width = 0
    }

    deinit { clear() }
}
