/// Files added to a guest's initrd: one more cpio archive behind it, which the kernel unpacks over what came before
/// (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst, "newc" format).
package struct InitramfsOverlay {
    /// One file of the archive.
    package struct Entry: Equatable {
        /// Path from the root, without a leading slash.
        package var path: String
        /// Type and permission bits, as in `st_mode`.
        package var mode: UInt32
        /// A regular file's contents or a symbolic link's target; empty for anything else.
        package var contents: [UInt8]
        /// Device number of a device node.
        package var device: (major: UInt32, minor: UInt32)

        package init(
            path: String, mode: UInt32, contents: [UInt8] = [], device: (major: UInt32, minor: UInt32) = (0, 0)
        ) {
            self.path = path
            self.mode = mode
            self.contents = contents
            self.device = device
        }

        package static func == (left: Entry, right: Entry) -> Bool {
            left.path == right.path && left.mode == right.mode && left.contents == right.contents
                && left.device == right.device
        }
    }

    private static let trailer = "TRAILER!!!"
    private static let directory: UInt32 = 0o040755
    private static let executable: UInt32 = 0o100755
    private static let alignment = 4

    package private(set) var entries: [Entry]

    package init(_ entries: [Entry] = []) { self.entries = entries }

    /// Makes the guest run the shell script `command` after its start and end with its status: power-off for 0,
    /// otherwise isa-debug-exit with that status. Takes the place of the initrd's own `/init`.
    package mutating func addCommand(_ command: String, is64Bit: Bool) {
        entries.append(Entry(path: "init", mode: Self.executable, contents: BuiltinGuest.initProgram(is64Bit: is64Bit)))
        entries.append(Entry(path: ".trapline", mode: Self.directory))
        entries.append(Entry(path: ".trapline/command", mode: Self.executable, contents: Array(command.utf8) + [10]))
    }

    /// `initrd` followed by the archive of these entries.
    package func appended(to initrd: [UInt8]) -> [UInt8] {
        guard !entries.isEmpty else { return initrd }
        var bytes = initrd
        Self.pad(&bytes)
        for (index, entry) in entries.enumerated() { Self.append(entry, inode: index + 1, to: &bytes) }
        Self.append(Entry(path: Self.trailer, mode: 0), inode: 0, to: &bytes)
        return bytes
    }

    private static func append(_ entry: Entry, inode: Int, to bytes: inout [UInt8]) {
        let name = Array(entry.path.utf8) + [0]
        bytes += Array("070701".utf8)
        let isDirectory = entry.mode & 0o170000 == 0o040000
        // Inode, mode, uid, gid, links, mtime, size, device of the file (2), device (2), name size, checksum.
        let fields: [UInt32] = [
            UInt32(inode), entry.mode, 0, 0, isDirectory ? 2 : 1, 0, UInt32(truncatingIfNeeded: entry.contents.count),
            0, 0, entry.device.major, entry.device.minor, UInt32(name.count), 0,
        ]
        for field in fields {
            let digits = String(field, radix: 16)
            bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
        }
        bytes += name
        pad(&bytes)
        bytes += entry.contents
        pad(&bytes)
    }

    private static func pad(_ bytes: inout [UInt8]) {
        while bytes.count % alignment != 0 { bytes.append(0) }
    }
}
