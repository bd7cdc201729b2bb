import CXXHash

/// Why a snapshot could not be restored.
package enum SnapshotError: Error, Equatable, CustomStringConvertible {
    case truncated(field: String, offset: Int)
    case mismatch(field: String, expected: String, found: String)
    case tooLong(bytes: Int)

    package var description: String {
        switch self {
        case .truncated(let field, let offset):
            "the snapshot ends at byte \(offset), inside \(field)"
        case .mismatch(let field, let expected, let found):
            "the snapshot holds \(found) for \(field), expected \(expected)"
        case .tooLong(let bytes):
            "the snapshot has \(bytes) bytes more than the machine's state"
        }
    }
}

/// XXH3 of a machine's state, 128 bits.
package struct StateDigest: Equatable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// 32 hexadecimal digits.
    package var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

/// Visits every field of a part of the machine once, in a fixed order.
///
/// The same visit writes a snapshot and reads it back, so the two cannot disagree. Integers are
/// little-endian. A restore that meets bad data keeps the first error in `failure` and leaves the remaining
/// fields as they were; whoever started the restore checks it at the end.
package final class StateArchive {
    /// One field as written: its dotted path and where its bytes lie. Kept only when `recordsLayout`.
    package struct Field {
        package var path: String
        package var range: Range<Int>
    }

    package private(set) var bytes: [UInt8]
    package let isRestoring: Bool
    package private(set) var failure: SnapshotError?
    package private(set) var layout: [Field] = []
    private let recordsLayout: Bool
    /// The hash that takes the state instead of `bytes`; owned by `digest(of:)` while it runs.
    private var hash: OpaquePointer?
    private var cursor = 0
    private var sections: [String] = []
    /// The contents of RAM are kept elsewhere and not visited.
    package let omitsRAM: Bool
    /// Long fields are taken as their XXH3.
    private let abbreviates: Bool
    private static let longestWhole = 256

    /// An archive that collects state; `recordsLayout` keeps each field's name and place for comparing two archives.
    package init(recordsLayout: Bool = false, omitsRAM: Bool = false, abbreviates: Bool = false) {
        bytes = []
        isRestoring = false
        self.recordsLayout = recordsLayout
        self.omitsRAM = omitsRAM
        self.abbreviates = abbreviates
    }

    /// An archive that puts the state held in `bytes` back.
    package init(restoring bytes: [UInt8], omitsRAM: Bool = false) {
        self.bytes = bytes
        isRestoring = true
        recordsLayout = false
        self.omitsRAM = omitsRAM
        abbreviates = false
    }

    /// The digest of the state that `visit` visits, without collecting it.
    package static func digest(of visit: (StateArchive) -> Void) -> StateDigest {
        let archive = StateArchive()
        guard let hash = XXH3_createState() else { fatalError("no memory for a digest") }
        defer { XXH3_freeState(hash) }
        XXH3_128bits_reset(hash)
        archive.hash = hash
        visit(archive)
        let value = XXH3_128bits_digest(hash)
        return StateDigest(high: value.high64, low: value.low64)
    }

    package func fail(_ error: SnapshotError) {
        if failure == nil { failure = error }
    }

    /// Groups the fields visited in `body` under `name`.
    package func section(_ name: String, _ body: () -> Void) {
        sections.append(name)
        body()
        sections.removeLast()
    }

    package func field<T: FixedWidthInteger>(_ name: String, _ value: inout T) {
        withUnsafeMutableBytes(of: &value) { raw(name, $0) }
    }

    package func field(_ name: String, _ value: inout Bool) {
        var byte: UInt8 = value ? 1 : 0
        field(name, &byte)
        if isRestoring { value = byte != 0 }
    }

    /// An enumeration with an integer raw value; an unknown raw value is an error.
    package func field<T: RawRepresentable>(_ name: String, _ value: inout T) where T.RawValue: FixedWidthInteger {
        var rawValue = value.rawValue
        field(name, &rawValue)
        guard isRestoring, failure == nil else { return }
        if let restored = T(rawValue: rawValue) {
            value = restored
        } else {
            fail(.mismatch(field: path(name), expected: "a known value", found: "\(rawValue)"))
        }
    }

    package func field<T: FixedWidthInteger>(_ name: String, _ value: inout T?) {
        var present = value != nil
        var number = value ?? 0
        field(name + ".present", &present)
        field(name, &number)
        if isRestoring { value = present ? number : nil }
    }

    /// An array whose length is part of the machine's shape and does not change.
    package func fixed<T: FixedWidthInteger>(_ name: String, _ values: inout [T]) {
        values.withUnsafeMutableBytes { raw(name, $0) }
    }

    /// An array of any length up to `limit` elements.
    package func variable<T: FixedWidthInteger>(_ name: String, _ values: inout [T], limit: Int) {
        var count = UInt64(values.count)
        field(name + ".count", &count)
        if isRestoring {
            guard failure == nil else { return }
            guard count <= UInt64(limit) else {
                return fail(.mismatch(field: path(name), expected: "at most \(limit) elements", found: "\(count)"))
            }
            values = [T](repeating: 0, count: Int(count))
        }
        fixed(name, &values)
    }

    /// Memory owned by the caller, of a size that does not change.
    package func raw(_ name: String, _ memory: UnsafeMutableRawBufferPointer) {
        guard failure == nil else { return }
        if isRestoring {
            guard memory.count <= bytes.count - cursor else {
                return fail(.truncated(field: path(name), offset: bytes.count))
            }
            bytes.withUnsafeBytes { source in
                memory.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[cursor..<cursor + memory.count]))
            }
            cursor += memory.count
        } else if let hash {
            XXH3_128bits_update(hash, memory.baseAddress, memory.count)
        } else {
            let start = bytes.count
            if abbreviates, memory.count > Self.longestWhole {
                var value = XXH3_64bits(memory.baseAddress, memory.count)
                withUnsafeBytes(of: &value) { bytes.append(contentsOf: $0) }
            } else {
                bytes.append(contentsOf: memory)
            }
            if recordsLayout { layout.append(Field(path: path(name), range: start..<bytes.count)) }
        }
    }

    /// A value that must be the same on both sides, such as the size of RAM.
    package func expect<T: FixedWidthInteger>(_ name: String, _ value: T) {
        var found = value
        field(name, &found)
        if isRestoring, failure == nil, found != value {
            fail(.mismatch(field: path(name), expected: "\(value)", found: "\(found)"))
        }
    }

    /// Ends a restore: bytes that no field took are an error.
    package func finish() {
        if isRestoring, failure == nil, cursor < bytes.count { fail(.tooLong(bytes: bytes.count - cursor)) }
    }

    private func path(_ name: String) -> String {
        (sections + [name]).joined(separator: ".")
    }
}

/// A part of the machine whose whole state can be saved and put back.
package protocol Archivable: AnyObject {
    /// Visits every field that the guest can observe, now or later, in a fixed order.
    func archive(_ archive: StateArchive)
}
