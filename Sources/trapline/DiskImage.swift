import Glibc
import VMM

/// A raw disk or CD image, read where the guest reads it and never written.
final class DiskImage: BlockSource {
    /// First bytes of image formats that are not raw.
    private static let otherFormats: [(name: String, magic: [UInt8])] = [
        ("qcow2", [0x51, 0x46, 0x49, 0xFB]), ("VMDK", Array("KDMV".utf8)), ("VHDX", Array("vhdxfile".utf8)),
        ("VHD", Array("conectix".utf8)),
    ]

    let byteCount: UInt64
    private let path: String
    private let descriptor: FileDescriptor

    init(_ path: String) throws(CommandError) {
        self.path = path
        descriptor = try FileDescriptor.reading(path)
        let end = lseek(descriptor.number, 0, SEEK_END)
        guard end >= 0 else { throw .badFile(path: path, reason: "not a file or device that can be read at any place") }
        guard end > 0 else { throw .badFile(path: path, reason: "the image is empty") }
        byteCount = UInt64(end)
        var start = [UInt8](repeating: 0, count: 8)
        start.withUnsafeMutableBytes { read(0, into: $0) }
        if let format = Self.otherFormats.first(where: { start.starts(with: $0.magic) }) {
            throw .badFile(path: path, reason: "a \(format.name) image, expected a raw one")
        }
    }

    deinit { descriptor.close() }

    func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < buffer.count, let start = Int(exactly: offset), start <= .max - done {
            let result = pread(descriptor.number, buffer.baseAddress! + done, buffer.count - done, start + done)
            if result < 0, errno == EINTR { continue }
            // A medium that fails reads as zeros, like what lies past its end.
            guard result > 0 else { break }
            done += result
        }
        UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0)
    }
}
