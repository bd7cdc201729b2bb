import Glibc

/// What the user types, or what a pipe or a file holds, on its way to the guest's first serial port.
final class ConsoleInput {
    private static let escape: UInt8 = 1  // Ctrl-A
    private static let chunk = 4096
    /// Seconds after which whoever waits looks around in any case.
    private static let longestWait = 3600.0

    private let source = FileDescriptor.standardInput
    let isTerminal: Bool
    /// Whether more may come from outside.
    private(set) var isOpen: Bool
    /// Ctrl-A X was typed.
    private(set) var quitRequested = false
    /// Read, but not yet taken by the guest.
    private var waiting: ArraySlice<UInt8> = []
    private var escaped = false

    /// With `isUsed` false nothing is read, as if the input had ended.
    init(isUsed: Bool) {
        isOpen = isUsed
        isTerminal = isUsed && Terminal.isTerminal(.standardInput)
        if isTerminal { Terminal.makeRaw() }
    }

    /// Gives the guest as much as `accept` takes, which returns how many bytes that was.
    /// - Returns: whether the guest took something, or may still get something to take.
    func deliver(_ accept: (ArraySlice<UInt8>) -> Int) -> Bool {
        fetch(within: 0)
        guard !waiting.isEmpty else { return isOpen }
        let taken = accept(waiting)
        waiting.removeFirst(taken)
        return taken > 0
    }

    /// Sleeps until there is something to deliver, or for `seconds` (nil: as long as that takes), or a signal comes.
    /// - Returns: whether there is something.
    func wait(seconds: Double?) -> Bool {
        fetch(within: seconds)
        return !waiting.isEmpty
    }

    /// Reads what there is, after waiting for it. Nothing is read ahead of what waits.
    private func fetch(within seconds: Double?) {
        guard isOpen, waiting.isEmpty else { return }
        var request = pollfd(fd: source.number, events: Int16(POLLIN), revents: 0)
        let limit = min(seconds ?? Self.longestWait, Self.longestWait)
        guard poll(&request, 1, Int32((limit * 1000).rounded(.up))) > 0 else { return }
        guard let bytes = source.read(upTo: Self.chunk) else {
            isOpen = errno == EAGAIN
            return
        }
        isOpen = !bytes.isEmpty
        waiting = isTerminal ? ArraySlice(unescape(bytes)) : bytes[...]
    }

    /// Takes Ctrl-A X out (it ends the run) and Ctrl-A Ctrl-A, which is one Ctrl-A.
    private func unescape(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        for byte in bytes {
            if escaped {
                escaped = false
                if byte == UInt8(ascii: "x") || byte == UInt8(ascii: "X") {
                    quitRequested = true
                } else if byte == Self.escape || byte == UInt8(ascii: "a") {
                    result.append(Self.escape)
                } else {
                    result += [Self.escape, byte]
                }
            } else if byte == Self.escape {
                escaped = true
            } else {
                result.append(byte)
            }
        }
        return result
    }
}
