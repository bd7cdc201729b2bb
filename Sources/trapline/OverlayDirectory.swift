import Glibc
import VMM

/// The files below a directory, for the guest's initrd.
enum OverlayDirectory {
    /// Every file below `root` in order of path, so that the order of the host's directory does not matter.
    ///
    /// No file may have more than `limit` bytes.
    static func entries(_ root: String, limit: UInt64) throws(CommandError) -> [InitramfsOverlay.Entry] {
        var status = stat()
        guard stat(root, &status) == 0 else { throw .cannotRead(path: root, errno: errno) }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .badFile(path: root, reason: "not a directory") }
        var entries: [InitramfsOverlay.Entry] = []
        try append(&entries, root: root, folder: "", limit)
        return entries
    }

    private static func append(
        _ entries: inout [InitramfsOverlay.Entry], root: String, folder: String, _ limit: UInt64
    ) throws(CommandError) {
        for name in try names(in: "\(root)/\(folder)") {
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            let hostPath = "\(root)/\(path)"
            var status = stat()
            guard lstat(hostPath, &status) == 0 else { throw .cannotRead(path: hostPath, errno: errno) }
            var entry = InitramfsOverlay.Entry(path: path, mode: status.st_mode)
            switch status.st_mode & S_IFMT {
            case S_IFREG:
                let file = try FileDescriptor.reading(hostPath)
                defer { file.close() }
                entry.contents = try file.readAll(hostPath, limit: limit)
            case S_IFLNK:
                entry.contents = try linkTarget(hostPath)
            case S_IFCHR, S_IFBLK:
                entry.device = deviceNumber(status.st_rdev)
            case S_IFSOCK:
                continue
            default:
                break
            }
            entries.append(entry)
            if status.st_mode & S_IFMT == S_IFDIR { try append(&entries, root: root, folder: path, limit) }
        }
    }

    /// Major and minor number, as the C library packs them into 64 bits.
    private static func deviceNumber(_ device: dev_t) -> (major: UInt32, minor: UInt32) {
        let number = UInt64(device)
        return (
            UInt32((number >> 8) & 0xFFF | (number >> 32) & 0xFFFF_F000),
            UInt32(number & 0xFF | (number >> 12) & 0xFFFF_FF00)
        )
    }

    private static func names(in folder: String) throws(CommandError) -> [String] {
        guard let directory = opendir(folder) else { throw .cannotRead(path: folder, errno: errno) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private static func linkTarget(_ path: String) throws(CommandError) -> [UInt8] {
        var length = -1
        let target = [UInt8](unsafeUninitializedCapacity: Int(PATH_MAX)) { buffer, initialized in
            length = buffer.withMemoryRebound(to: CChar.self) { readlink(path, $0.baseAddress!, $0.count) }
            initialized = max(length, 0)
        }
        guard length >= 0 else { throw .cannotRead(path: path, errno: errno) }
        return target
    }
}
