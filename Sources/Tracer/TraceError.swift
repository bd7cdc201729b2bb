import Glibc

/// Why a trace could not be read or written: one sentence that says where and what was expected.
package enum TraceError: Error, Equatable, CustomStringConvertible {
    case cannotRead(errno: Int32)
    case cannotWrite(errno: Int32)
    /// The file does not begin like a trace.
    case notATrace(found: String)
    /// A later Trapline wrote it.
    case newerVersion(found: UInt32, supported: UInt32)
    /// Bytes at `offset` that are not what the format says.
    case malformed(offset: UInt64, expected: String, found: String)
    /// What the trace describes cannot be built or run here.
    case unusable(String)

    package var description: String {
        switch self {
        case .cannotRead(let number): "cannot read: \(String(cString: strerror(number)))"
        case .cannotWrite(let number): "cannot write: \(String(cString: strerror(number)))"
        case .notATrace(let found):
            "not a trace: expected the magic bytes 89 54 4C 49 4E 45 0D 0A at byte 0, found \(found)"
        case .newerVersion(let found, let supported):
            "format version \(found) at byte 8 is newer than version \(supported), the last that this Trapline reads"
        case .malformed(let offset, let expected, let found):
            "damaged at byte \(offset): expected \(expected), found \(found)"
        case .unusable(let sentence): sentence
        }
    }
}
