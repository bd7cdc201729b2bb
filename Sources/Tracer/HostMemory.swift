import Glibc

/// What the host's kernel knows of this process's memory.
enum HostMemory {
    private static let pageSize = 4096
    /// Bits of an entry of `/proc/self/pagemap`.
    private static let present: UInt64 = 1 << 63, swapped: UInt64 = 1 << 62

    /// Which pages of an anonymous mapping were ever touched; the others are zero, and stay untouched by not being
    /// looked at. Nil where the host does not say.
    static func touchedPages(_ mapping: UnsafeRawBufferPointer) -> [Bool]? {
        guard sysconf(Int32(_SC_PAGESIZE)) == pageSize else { return nil }
        let descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { _ = close(descriptor) }
        let count = mapping.count / pageSize
        let start = Int(bitPattern: mapping.baseAddress) / pageSize * 8
        var entries = [UInt64](repeating: 0, count: count)
        var done = 0
        while done < count * 8 {
            let result = entries.withUnsafeMutableBytes {
                pread(descriptor, $0.baseAddress! + done, count * 8 - done, off_t(start + done))
            }
            if result < 0 && errno == EINTR { continue }
            guard result > 0 else { return nil }
            done += result
        }
        return entries.map { $0 & (present | swapped) != 0 }
    }
}
