import Foundation

/// One run of the built command.
struct CommandRun {
    var code: Int32
    var output: String
    var errors: String

    /// Runs `trapline` from the folder of the test's own executable, with nothing on standard input unless given.
    /// With `outputPath` standard output goes to that file instead of `output`.
    init(_ arguments: [String], input: String? = nil, outputPath: String? = nil) throws {
        try self.init(Self.executable, arguments, input: input, outputPath: outputPath)
    }

    /// Runs a line of shell.
    init(shell line: String) throws {
        try self.init(URL(fileURLWithPath: "/bin/sh"), ["-c", line], input: nil, outputPath: nil)
    }

    /// The built command.
    static var executable: URL {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("trapline")
    }

    private init(_ executable: URL, _ arguments: [String], input: String?, outputPath: String?) throws {
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        let (output, errors, source) = (Pipe(), Pipe(), Pipe())
        process.standardOutput = outputPath.map { FileHandle(forWritingAtPath: $0)! } ?? output
        process.standardError = errors
        process.standardInput = source
        try process.run()
        if let input { try source.fileHandleForWriting.write(contentsOf: Data(input.utf8)) }
        try source.fileHandleForWriting.close()
        if outputPath != nil { try output.fileHandleForWriting.close() }
        self.output = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        self.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        code = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    /// Runs `trapline` for a second or more; its exit code, and its peak resident memory in bytes, as last seen.
    static func peakMemory(_ arguments: [String]) throws -> (code: Int32, bytes: Int) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent("trapline")
        process.arguments = arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        var peak = 0
        while process.isRunning {
            let path = "/proc/\(process.processIdentifier)/status"
            let status = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            if let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
                let kilobytes = line.split(whereSeparator: \.isWhitespace).compactMap({ Int($0) }).first
            {
                peak = max(peak, kilobytes << 10)
            }
            Thread.sleep(forTimeInterval: 0.02)
        }
        process.waitUntilExit()
        return (process.terminationStatus, peak)
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
