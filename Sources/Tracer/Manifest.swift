import CXXHash
import VMM

/// How much a trace holds of what the guest did.
package enum TraceDetail: String, CaseIterable, Comparable {
    /// What replay needs, and nothing else.
    case inputs
    /// And every sensitive instruction, device access, transfer, exception and interrupt.
    case events
    /// And page-table and descriptor writes, TLB fills, first touches.
    case paging

    private var rank: Int { Self.allCases.firstIndex(of: self)! }
    package static func < (left: TraceDetail, right: TraceDetail) -> Bool { left.rank < right.rank }
}

/// An image that the machine was given.
package struct TraceImage: Equatable {
    package enum Role: String, CaseIterable {
        case kernel, initrd, module, firmware
        case vgaROM = "vga-rom"
        case disk, cdrom

        /// Its number in the images stream.
        package var number: UInt8 { UInt8(Self.allCases.firstIndex(of: self)! + 1) }
    }

    package var role: Role
    /// Bytes in all.
    package var size: UInt64
    /// XXH3 of the whole image, 128 bits; zero for disks, whose parts are checked one by one.
    package var digest: StateDigest
    /// Where it was read from; empty if it came from no file.
    package var path = ""
    /// How many of its bytes are the file's; what follows was added to them.
    package var fileBytes: UInt64
    /// Whether the trace holds what replay needs of it; otherwise the file is wanted.
    package var isEmbedded: Bool
    /// A module's command line.
    package var commandLine = ""

    package static func digest(_ bytes: [UInt8]) -> StateDigest {
        let hash = XXH3_128bits(bytes, bytes.count)
        return StateDigest(high: hash.high64, low: hash.low64)
    }
}

/// What a trace says about itself: the machine, its images, the recording.
package struct TraceManifest: Equatable {
    package enum Boot: String, CaseIterable { case linux, multiboot, firmware }

    package var writer = ""
    package var detail = TraceDetail.events
    package var digestEvery: UInt64 = 100_000_000
    package var checkpointEvery: UInt64 = 250_000_000
    /// Where the recording begins; at power-on the count is 0.
    package var start = TracePosition(count: 0, nanoseconds: 0)
    package var expectsInput = false
    package var keepLast: UInt64?
    package var engine = Engine.interpreter
    package var cpu = ""
    package var chipset = MachineConfiguration.Chipset.apic
    package var memorySize: UInt64 = 0
    package var instructionsPerMicrosecond: UInt64 = 1000
    package var startDate: UInt64 = 0
    package var continuesAfterReset = false
    package var boot = Boot.linux
    package var commandLine = ""
    package var host = HostFacts(x87: 0, sse: 0)
    package var images: [TraceImage] = []

    package init() {}

    // MARK: Text

    /// The manifest's lines, `key value`, in which a value has percent signs and line ends escaped.
    package var text: String {
        var lines = [
            ("writer", writer), ("detail", detail.rawValue), ("digest-every", "\(digestEvery)"),
            ("checkpoint-every", "\(checkpointEvery)"), ("start", "\(start.count) \(start.nanoseconds)"),
            ("expects-input", expectsInput ? "1" : "0"), ("engine", engine.rawValue), ("cpu", cpu),
            ("chipset", chipset.rawValue), ("memory", "\(memorySize)"),
            ("instructions-per-us", "\(instructionsPerMicrosecond)"), ("start-date", "\(startDate)"),
            ("reset", continuesAfterReset ? "continue" : "exit"), ("boot", boot.rawValue),
            ("command-line", commandLine), ("host-x87", "\(host.x87)"), ("host-sse", "\(host.sse)"),
        ]
        if let keepLast { lines.append(("keep-last", "\(keepLast)")) }
        for image in images {
            lines.append(("image", image.role.rawValue))
            lines.append(("image-size", "\(image.size)"))
            lines.append(("image-file-bytes", "\(image.fileBytes)"))
            lines.append(("image-digest", "\(image.digest.high) \(image.digest.low)"))
            lines.append(("image-embedded", image.isEmbedded ? "1" : "0"))
            lines.append(("image-path", image.path))
            if !image.commandLine.isEmpty { lines.append(("image-command-line", image.commandLine)) }
        }
        return lines.map { "\($0) \(Self.escape($1))\n" }.joined()
    }

    private static func escape(_ value: String) -> String {
        var result = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "%": result += "%25"
            case "\n": result += "%0A"
            case "\r": result += "%0D"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private static func unescape(_ value: Substring) -> String {
        var result = String(value)
        for (code, character) in [("%0A", "\n"), ("%0D", "\r"), ("%25", "%")] {
            result = result.split(separator: code, omittingEmptySubsequences: false).joined(separator: character)
        }
        return result
    }

    private static let longest = 1 << 20
    private static let mostImages = 4096

    /// The manifest in `block`. Keys that are not known are skipped.
    package static func parse(_ block: Block) throws(TraceError) -> TraceManifest {
        let bytes = try block.column(1)
        func bad(_ expected: String, _ found: String) -> TraceError {
            .malformed(offset: block.offset, expected: "\(expected) in the manifest", found: found)
        }
        guard bytes.count <= longest else { throw bad("at most \(longest) bytes", "\(bytes.count)") }
        var manifest = TraceManifest()
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let split = line.firstIndex(of: " ") ?? line.endIndex
            let key = String(line[..<split])
            let value = unescape(split < line.endIndex ? line[line.index(after: split)...] : "")
            guard try manifest.set(key, value) else { throw bad("a value for \(key)", "\"\(value.prefix(40))\"") }
            guard manifest.images.count <= mostImages else { throw bad("at most \(mostImages) images", "more") }
        }
        guard MachineConfiguration.memoryRange.contains(manifest.memorySize), manifest.memorySize % (1 << 20) == 0
        else { throw bad("16 MB to 3 GB of memory", "\(manifest.memorySize)") }
        guard (1...1_000_000).contains(manifest.instructionsPerMicrosecond) else {
            throw bad("1 to 1000000 instructions a microsecond", "\(manifest.instructionsPerMicrosecond)")
        }
        guard CPUModel.names.contains(manifest.cpu) else { throw bad("a known CPU model", "\"\(manifest.cpu)\"") }
        guard manifest.digestEvery > 0, manifest.checkpointEvery > 0 else { throw bad("a digest interval", "0") }
        return manifest
    }

    /// - Returns: false if `value` is not one for `key`.
    private mutating func set(_ key: String, _ value: String) throws(TraceError) -> Bool {
        if key.hasPrefix("image") { return setImage(key, value) }
        switch key {
        case "writer": writer = value
        case "detail": return assign(&detail, TraceDetail(rawValue: value))
        case "digest-every": return assign(&digestEvery, UInt64(value))
        case "checkpoint-every": return assign(&checkpointEvery, UInt64(value))
        case "start":
            let parts = value.split(separator: " ").map { UInt64($0) }
            guard parts.count == 2, let count = parts[0], let nanoseconds = parts[1] else { return false }
            start = TracePosition(count: count, nanoseconds: nanoseconds)
        case "expects-input": expectsInput = value == "1"
        case "keep-last": keepLast = UInt64(value)
        case "engine": return assign(&engine, Engine(rawValue: value))
        case "cpu": cpu = value
        case "chipset": return assign(&chipset, MachineConfiguration.Chipset(rawValue: value))
        case "memory": return assign(&memorySize, UInt64(value))
        case "instructions-per-us": return assign(&instructionsPerMicrosecond, UInt64(value))
        case "start-date": return assign(&startDate, UInt64(value))
        case "reset": continuesAfterReset = value == "continue"
        case "boot": return assign(&boot, Boot(rawValue: value))
        case "command-line": commandLine = value
        case "host-x87": return assign(&host.x87, UInt64(value))
        case "host-sse": return assign(&host.sse, UInt64(value))
        default: break
        }
        return true
    }

    private mutating func setImage(_ key: String, _ value: String) -> Bool {
        if key == "image" {
            guard let role = TraceImage.Role(rawValue: value) else { return false }
            images.append(
                TraceImage(role: role, size: 0, digest: StateDigest(high: 0, low: 0), fileBytes: 0, isEmbedded: true))
            return true
        }
        guard !images.isEmpty else { return false }
        let last = images.count - 1
        switch key {
        case "image-size": return assign(&images[last].size, UInt64(value))
        case "image-file-bytes": return assign(&images[last].fileBytes, UInt64(value))
        case "image-digest":
            let parts = value.split(separator: " ").map { UInt64($0) }
            guard parts.count == 2, let high = parts[0], let low = parts[1] else { return false }
            images[last].digest = StateDigest(high: high, low: low)
        case "image-embedded": images[last].isEmbedded = value == "1"
        case "image-path": images[last].path = value
        case "image-command-line": images[last].commandLine = value
        default: break
        }
        return true
    }

    private func assign<T>(_ target: inout T, _ value: T?) -> Bool {
        guard let value else { return false }
        target = value
        return true
    }
}
