/// Why a boot image cannot be used. Each case is one sentence about what was read and what was expected;
/// whoever opened the file puts its name in front.
package enum BootError: Error, Equatable, CustomStringConvertible {
    /// The image ends before a field or a part that its headers promise.
    case truncated(part: String, needed: UInt64, size: UInt64)
    case notAKernel(reason: String)
    /// The setup header's protocol version, and the oldest that can be booted.
    case protocolTooOld(version: UInt16, oldest: UInt16)
    case needsLongMode(cpu: String)
    /// A value in a header makes no sense.
    case badField(String, value: UInt64, expected: String)
    case commandLineTooLong(bytes: Int, limit: Int)
    case doesNotFit(part: String, from: UInt64, to: UInt64, memory: UInt64)
    case initrdDoesNotFit(bytes: UInt64, room: Range<UInt64>)
    case firmwareSize(Int)
    case unsupportedFeature(String)

    package var description: String {
        switch self {
        case .truncated(let part, let needed, let size):
            "truncated: \(part) reaches to byte \(needed), the file has \(size)"
        case .notAKernel(let reason):
            "not a bootable kernel: \(reason)"
        case .protocolTooOld(let version, let oldest):
            "Linux boot protocol \(Self.dotted(version)) is too old, expected \(Self.dotted(oldest)) or newer"
        case .needsLongMode(let cpu):
            "a 64-bit kernel, but the CPU model \(cpu) has no long mode"
        case .badField(let name, let value, let expected):
            "\(name) is 0x\(String(value, radix: 16)), expected \(expected)"
        case .commandLineTooLong(let bytes, let limit):
            "the command line has \(bytes) bytes, the kernel takes at most \(limit)"
        case .doesNotFit(let part, let from, let to, let memory):
            "\(part) occupies 0x\(String(from, radix: 16)) to 0x\(String(to, radix: 16)), "
                + "which is not within the \(memory >> 20) MB of RAM"
        case .initrdDoesNotFit(let bytes, let room):
            "the initrd has \(bytes) bytes, but only \(room.count) are free for it "
                + "(0x\(String(room.lowerBound, radix: 16)) to 0x\(String(room.upperBound, radix: 16)))"
        case .firmwareSize(let bytes):
            "a firmware image of \(bytes) bytes, expected a multiple of 64 KB up to 16 MB"
        case .unsupportedFeature(let feature):
            "\(feature) is not supported"
        }
    }

    private static func dotted(_ version: UInt16) -> String {
        let minor = String(version & 0xff, radix: 16)
        return "\(version >> 8).\(minor.count < 2 ? "0" : "")\(minor)"
    }
}
