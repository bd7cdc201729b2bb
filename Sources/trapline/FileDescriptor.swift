import Glibc

/// A file descriptor; whoever opened it closes it.
struct FileDescriptor {
    static let standardInput = FileDescriptor(number: 0)
    static let standardOutput = FileDescriptor(number: 1)
    static let standardError = FileDescriptor(number: 2)

    let number: Int32

    /// Opens a file for reading.
    static func reading(_ path: String) throws(CommandError) -> FileDescriptor {
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { throw .cannotRead(path: path, errno: errno) }
        var status = stat()
        guard fstat(number, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
            _ = Glibc.close(number)
            throw .cannotRead(path: path, errno: EISDIR)
        }
        return FileDescriptor(number: number)
    }

    /// Opens or creates a file for writing, its contents left alone until something is written.
    static func writing(_ path: String) throws(CommandError) -> FileDescriptor {
        let number = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
        guard number >= 0 else { throw .cannotWrite(path: path, errno: errno) }
        return FileDescriptor(number: number)
    }

    func close() { _ = Glibc.close(number) }

    /// Everything up to the end of the file, which may have at most `limit` bytes.
    func readAll(_ path: String, limit: UInt64) throws(CommandError) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            guard let chunk = read(upTo: 1 << 20) else { throw .cannotRead(path: path, errno: errno) }
            if chunk.isEmpty { return bytes }
            bytes += chunk
            guard bytes.count <= limit else {
                throw .badFile(path: path, reason: "the file has more than the \(limit) bytes that there is room for")
            }
        }
    }

    /// What is there to read, empty at the end; nil with `errno` set if there is nothing yet or on an error.
    func read(upTo count: Int) -> [UInt8]? {
        var result = -1
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            repeat { result = Glibc.read(number, buffer.baseAddress, count) } while result < 0 && errno == EINTR
            initialized = max(result, 0)
        }
        return result < 0 ? nil : bytes
    }

    /// Writes all of `bytes`, waiting if it must.
    /// - Returns: false with `errno` set if that failed.
    @discardableResult
    func writeAll(_ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let result = bytes.withUnsafeBytes { Glibc.write(number, $0.baseAddress! + done, bytes.count - done) }
            if result > 0 {
                done += result
            } else if result < 0 && errno == EAGAIN {
                var request = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
                poll(&request, 1, -1)
            } else if result == 0 || errno != EINTR {
                return false
            }
        }
        return true
    }
}

/// A file that is written when the run is over. It is opened before, so that a path that cannot be written is known.
struct OutputFile {
    let path: String
    let descriptor: FileDescriptor

    init(_ path: String) throws(CommandError) {
        self.path = path
        descriptor = try FileDescriptor.writing(path)
    }

    /// Runs `body`, which writes the file at `path`. If it fails, nothing is left where nothing was.
    static func writing<T>(_ path: String?, _ body: () throws -> T) rethrows -> T {
        let isNew = path.map { access($0, F_OK) != 0 } ?? false
        do {
            return try body()
        } catch {
            if isNew, let path { _ = unlink(path) }
            throw error
        }
    }

    /// Empties the file. That fails on pipes and devices, where there is nothing to truncate.
    func truncate() { ftruncate(descriptor.number, 0) }

    /// Replaces the contents and closes the file.
    func finish(_ text: String) throws(CommandError) {
        truncate()
        let written = descriptor.writeAll(Array(text.utf8))
        let number = errno
        guard Glibc.close(descriptor.number) == 0, written else { throw .cannotWrite(path: path, errno: number) }
    }
}
