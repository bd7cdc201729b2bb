import Glibc
import Tracer

/// Bad input to the command: one sentence about what, and what was expected.
enum CommandError: Error, CustomStringConvertible {
    case cannotRead(path: String, errno: Int32)
    case cannotWrite(path: String, errno: Int32)
    /// A file that was read and is not what it should be.
    case badFile(path: String, reason: String)
    case badCombination(String)
    /// A trace that cannot be read, written or replayed.
    case trace(path: String, TraceError)

    static let exitCode: Int32 = 2

    var description: String {
        switch self {
        case .cannotRead(let path, let number): "cannot read \(path): \(Self.text(number))"
        case .cannotWrite(let path, let number): "cannot write \(path): \(Self.text(number))"
        case .badFile(let path, let reason): "\(path): \(reason)"
        case .badCombination(let sentence): sentence
        case .trace(let path, .cannotRead(let number)): "cannot read \(path): \(Self.text(number))"
        case .trace(let path, .cannotWrite(let number)): "cannot write \(path): \(Self.text(number))"
        case .trace(let path, let error): "\(path): \(error.description)"
        }
    }

    /// What the system says to an `errno`.
    static func text(_ number: Int32) -> String { String(cString: strerror(number)) }
}

/// Trapline's own words go to standard error, so that standard output is the guest's alone.
enum StandardError {
    static func say(_ sentence: String) { write("trapline: \(sentence)\n") }

    static func write(_ text: String) { FileDescriptor.standardError.writeAll(Array(text.utf8)) }
}
