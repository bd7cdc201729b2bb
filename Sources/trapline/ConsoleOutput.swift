import Glibc
import VMM

/// The texts on the console that end a run.
struct ConsoleTexts {
    private var stop: TextMatcher?
    private var fail: TextMatcher?

    init(stopOn: String?, failOn: String?) {
        stop = stopOn.map(TextMatcher.init)
        fail = failOn.map(TextMatcher.init)
    }

    /// Takes a byte from the guest.
    /// - Returns: the outcome that it completes, if a text was waited for.
    mutating func feed(_ byte: UInt8) -> Outcome? {
        if fail?.feed(byte) == true { return .failText }
        return stop?.feed(byte) == true ? .stopText : nil
    }
}

/// The guest's first serial port on standard output, and the texts that are looked for in it.
final class ConsoleOutput {
    private static let flushSize = 4096

    private var buffer: [UInt8] = []
    private var texts: ConsoleTexts
    /// Why standard output can no longer be written: the first `errno`.
    private(set) var failure: Int32?
    var isBroken: Bool { failure != nil }

    init(_ texts: ConsoleTexts) { self.texts = texts }

    /// Takes a byte from the guest.
    /// - Returns: the outcome that it completes, if a text was waited for.
    func take(_ byte: UInt8) -> Outcome? {
        buffer.append(byte)
        if buffer.count >= Self.flushSize { flush() }
        return texts.feed(byte)
    }

    func flush() {
        guard !buffer.isEmpty else { return }
        if !isBroken && !FileDescriptor.standardOutput.writeAll(buffer) { failure = errno }
        buffer.removeAll(keepingCapacity: true)
    }
}
