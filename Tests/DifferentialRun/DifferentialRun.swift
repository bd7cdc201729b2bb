import Foundation

/// One run of a program that compares, `hostdiff` or `blockdiff`, as it was built beside the test's own executable.
package struct DifferentialRun {
    /// Its exit code, or a signal's number below zero.
    package let code: Int32
    package let lines: [String]
    private let name: String

    /// Runs the program once for each list of arguments, all at the same time.
    package static func all(_ name: String, _ arguments: [[String]]) throws -> [DifferentialRun] {
        let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        let started = try arguments.map { arguments -> (Process, Pipe) in
            let (process, output) = (Process(), Pipe())
            process.executableURL = folder.appendingPathComponent(name)
            process.arguments = arguments
            process.standardOutput = output
            process.standardError = output
            try process.run()
            return (process, output)
        }
        return started.map { DifferentialRun(name, $0, $1) }
    }

    package init(_ name: String, _ arguments: [String]) throws {
        self = try Self.all(name, [arguments])[0]
    }

    private init(_ name: String, _ process: Process, _ output: Pipe) {
        self.name = name
        let data = output.fileHandleForReading.readDataToEndOfFile()
        lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
        process.waitUntilExit()
        code = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    /// The numbers of the last line: forms or blocks, cases or programs, mismatches.
    package var totals: [Int] {
        let words = (lines.last ?? "").split(separator: " ")
        guard words.first == "\(name):" else { return [0, 0, 1] }
        return Array(words.compactMap { Int($0) }.prefix(3))
    }

    /// The seed of the run, given by TRAPLINE_SEED.
    package static var seed: String { ProcessInfo.processInfo.environment["TRAPLINE_SEED"] ?? "1" }

    /// Arguments that name the files of cases in a folder of Tests/cases, or there itself.
    package static func cases(_ folder: String = "") throws -> [String] {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("cases").appendingPathComponent(folder)
        let files = try FileManager.default.contentsOfDirectory(atPath: path.path).filter { $0.hasSuffix(".txt") }
        return files.sorted().flatMap { ["--file", path.appendingPathComponent($0).path] }
    }
}
