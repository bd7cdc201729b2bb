/// A file for what the guest writes to the debug consoles. It is written as the run goes on, so that it is there
/// however the run ends.
final class DebugConsole {
    private static let flushSize = 4096

    private let descriptor: FileDescriptor
    private var buffer: [UInt8] = []

    /// Opens and empties the file at `path`.
    init(_ path: String) throws(CommandError) {
        let file = try OutputFile(path)
        descriptor = file.descriptor
        file.truncate()
    }

    deinit { descriptor.close() }

    func take(_ byte: UInt8) {
        buffer.append(byte)
        if buffer.count >= Self.flushSize { flush() }
    }

    func flush() {
        guard !buffer.isEmpty else { return }
        descriptor.writeAll(buffer)
        buffer.removeAll(keepingCapacity: true)
    }
}
