import Glibc

/// The folder of stores that nobody named. Each can be made again from its trace, so the folder is kept small.
struct StoreCache {
    /// Bytes of all stores together, above which those that were not used for longest go.
    static let limit: Int64 = 2 << 30

    let folder: String

    /// The cache of this user, made if it is not there.
    init() throws(AnalysisError) {
        func variable(_ name: String) -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        guard let base = variable("XDG_CACHE_HOME") ?? variable("HOME").map({ $0 + "/.cache" }) else {
            throw AnalysisError("neither XDG_CACHE_HOME nor HOME is set; --db says where the store goes")
        }
        folder = base + "/trapline"
        for folder in [base, folder] where mkdir(folder, 0o777) != 0 && errno != EEXIST {
            throw AnalysisError("cannot make the folder \(folder): \(String(cString: strerror(errno)))")
        }
    }

    func path(of identity: StoreIdentity) -> String { folder + "/" + identity.fileName }

    /// Notes that a store is being used.
    func use(_ path: String) { _ = utimensat(AT_FDCWD, path, nil, 0) }

    /// Removes what was not used for longest, but not the store at `path`, until the rest is within the limit.
    func trim(keeping path: String) {
        var files: [(path: String, size: Int64, used: timespec)] = []
        guard let directory = opendir(folder) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            var status = stat()
            guard name.contains(".sqlite"), stat(folder + "/" + name, &status) == 0 else { continue }
            files.append((folder + "/" + name, Int64(status.st_size), status.st_mtim))
        }
        closedir(directory)
        var sum = files.map(\.size).reduce(0, +)
        let oldest = files.sorted {
            ($0.used.tv_sec, $0.used.tv_nsec, $0.path) < ($1.used.tv_sec, $1.used.tv_nsec, $1.path)
        }
        for file in oldest where sum > Self.limit && file.path != path {
            if unlink(file.path) == 0 { sum -= file.size }
        }
    }
}
