import Glibc
import VMM

/// The guest's first serial port on standard output, and the texts that are looked for in it.
final class ConsoleOutput {
    private static let flushSize = 4096

    private var buffer: [UInt8] = []
    private var stopMatcher: TextMatcher?
    private var failMatcher: TextMatcher?
    /// Why standard output can no longer be written: the first `errno`.
    private(set) var failure: Int32?
    var isBroken: Bool { failure != nil }

    init(stopOn: String?, failOn: String?) {
        stopMatcher = stopOn.map(TextMatcher.init)
        failMatcher = failOn.map(TextMatcher.init)
    }

    /// Takes a byte from the guest.
    /// - Returns: the outcome that it completes, if a text was waited for.
    func take(_ byte: UInt8) -> Outcome? {
        buffer.append(byte)
        if buffer.count >= Self.flushSize { flush() }
        if failMatcher?.feed(byte) == true { return .failText }
        return stopMatcher?.feed(byte) == true ? .stopText : nil
    }

    func flush() {
        guard !buffer.isEmpty else { return }
        if !isBroken && !FileDescriptor.standardOutput.writeAll(buffer) { failure = errno }
        buffer.removeAll(keepingCapacity: true)
    }
}
