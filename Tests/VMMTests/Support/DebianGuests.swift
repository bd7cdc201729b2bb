import Foundation
import Testing

/// The guests that `make guests` fetches. Tests that need them fail without, unless OFFLINE=1 says that they may be
/// missing.
enum DebianGuests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../../.cache/guests").standardizedFileURL

    /// Whether tests that need a guest are to run.
    static var areExpected: Bool { arePresent || ProcessInfo.processInfo.environment["OFFLINE"] != "1" }
    private static var arePresent: Bool {
        FileManager.default.fileExists(atPath: folder.appendingPathComponent("MANIFEST").path)
    }

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appendingPathComponent(name)))
    }
}

extension Trait where Self == ConditionTrait {
    static var needsDebianGuests: Self {
        .enabled(if: DebianGuests.areExpected, "OFFLINE=1 and no Debian guests in .cache")
    }
}
