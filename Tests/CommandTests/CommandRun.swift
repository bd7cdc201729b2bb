import Foundation

/// One run of the built command.
struct CommandRun {
    var code: Int32
    var output: String
    var errors: String

    /// Runs `trapline` from the folder of the test's own executable, with nothing on standard input unless given.
    init(_ arguments: [String], input: String? = nil) throws {
        try self.init(Self.executable, arguments, input: input)
    }

    /// Runs a line of shell.
    init(shell line: String) throws {
        try self.init(URL(fileURLWithPath: "/bin/sh"), ["-c", line], input: nil)
    }

    /// The built command.
    static var executable: URL {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("trapline")
    }

    private init(_ executable: URL, _ arguments: [String], input: String?) throws {
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        let (output, errors, source) = (Pipe(), Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = source
        try process.run()
        if let input { try source.fileHandleForWriting.write(contentsOf: Data(input.utf8)) }
        try source.fileHandleForWriting.close()
        self.output = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        self.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        code = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}

/// A folder that is removed with its contents when the test is over.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "trapline-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
        return path + "/" + name
    }
}
