import CXXHash
import GRDB
import Glibc
import Tracer

/// An analysis of a trace as a SQLite file, made when it is first asked for.
package final class AnalysisStore {
    package let path: String
    /// Reads only.
    let queue: DatabaseQueue
    /// By key of the `meta` table.
    package private(set) var meta: [String: String] = [:]

    private init(_ path: String) throws {
        self.path = path
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(10)
        queue = try DatabaseQueue(path: path, configuration: configuration)
        try refreshMeta()
    }

    /// Reads the `meta` table, again after it was changed.
    func refreshMeta() throws {
        let path = path
        meta = try queue.read { database in
            guard try Int.fetchOne(database, sql: "PRAGMA application_id") == StoreSchema.application else {
                throw AnalysisError("\(path) is no analysis store")
            }
            let rows = try Row.fetchAll(database, sql: "SELECT key, value FROM meta")
            return Dictionary(rows.map { ($0["key"], $0["value"]) }, uniquingKeysWith: { $1 })
        }
    }

    /// Why the store cannot be used for `identity`.
    private func objection(_ identity: StoreIdentity, withEvents: Bool) -> String? {
        if meta["schema"] != "\(StoreSchema.version)" {
            return "has schema version \(meta["schema"] ?? "none"), expected \(StoreSchema.version)"
        }
        if meta["trace"] != identity.trace { return "was made from another trace, or from this one before it changed" }
        if meta["symbols"] != identity.symbols { return "was made with other symbol files" }
        if withEvents, meta["has_events"] != "1" { return "was made without --events" }
        return nil
    }

    /// Opens the store of a trace, and makes it if it is not there.
    /// - Parameter named: a file that is to be the store, which is never replaced; nil for one in the cache, which is.
    package static func open(
        _ identity: StoreIdentity, named: String?, withEvents: Bool, analysis: () throws -> TraceAnalysis
    ) throws -> AnalysisStore {
        var cache: StoreCache?
        let path: String
        if let named {
            path = named
        } else {
            let made = try StoreCache()
            (cache, path) = (made, made.path(of: identity))
        }
        if access(path, F_OK) == 0 {
            do {
                let store = try AnalysisStore(path)
                guard let objection = store.objection(identity, withEvents: withEvents) else {
                    cache?.use(path)
                    return store
                }
                if named != nil { throw AnalysisError("\(path) \(objection)") }
            } catch let error where named != nil {
                if error is AnalysisError { throw error }
                throw AnalysisError("\(path) is no analysis store")
            } catch {
                // What is in the cache and cannot be read is made anew.
            }
        }
        try build(path, identity, withEvents: withEvents, analysis())
        cache?.trim(keeping: path)
        return try AnalysisStore(path)
    }

    /// Makes the store beside its place, so that nobody finds a half one there.
    private static func build(
        _ path: String, _ identity: StoreIdentity, withEvents: Bool, _ analysis: TraceAnalysis
    ) throws {
        let partial = "\(path).\(getpid())"
        _ = unlink(partial)
        defer { _ = unlink(partial) }
        do {
            var configuration = Configuration()
            // Nothing is lost with the file: it is made again.
            configuration.prepareDatabase { database in
                try database.execute(sql: "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            }
            let queue = try DatabaseQueue(path: partial, configuration: configuration)
            try queue.inDatabase { database in
                try database.execute(sql: "PRAGMA application_id = \(StoreSchema.application)")
                try database.inTransaction {
                    try StoreWriter(analysis, database).write(meta: identity.meta, withEvents: withEvents)
                    return .commit
                }
            }
            try queue.close()
        } catch let error as DatabaseError {
            throw AnalysisError("cannot write \(path): \(error.message ?? "SQLite error \(error.resultCode.rawValue)")")
        }
        guard rename(partial, path) == 0 else {
            throw AnalysisError("cannot write \(path): \(String(cString: strerror(errno)))")
        }
    }
}

/// Which trace and symbols a store belongs to, as its name in the cache and in its `meta` table.
package struct StoreIdentity: Equatable {
    private static let sampled = 1 << 20
    package let trace: String
    package let symbols: String

    /// The trace's: its size, its first and last megabyte, and where its blocks are.
    package init(path: String, _ reader: TraceReader, symbolFiles: [SymbolFile]) throws(AnalysisError) {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw AnalysisError("cannot read \(path): \(String(cString: strerror(errno)))") }
        defer { _ = close(file) }
        var bytes = [UInt8](repeating: 0, count: Self.sampled)
        var hashes: [UInt64] = [reader.fileSize]
        for offset in [0, reader.fileSize - min(reader.fileSize, UInt64(Self.sampled))] {
            let count = pread(file, &bytes, bytes.count, off_t(offset))
            hashes.append(XXH3_64bits(bytes, max(count, 0)))
        }
        for block in reader.blocks { hashes += [block.offset, block.header.firstCount, block.header.lastCount] }
        let hash = hashes.withUnsafeBytes { XXH3_128bits($0.baseAddress, $0.count) }
        trace = Self.digits(hash.high64) + Self.digits(hash.low64)
        symbols = symbolFiles.map(\.digest).joined(separator: "+")
    }

    static func digest(_ bytes: [UInt8]) -> String { digits(XXH3_64bits(bytes, bytes.count)) }

    private static func digits(_ number: UInt64) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    /// The store's name in the cache.
    var fileName: String { symbols.isEmpty ? "\(trace).sqlite" : "\(trace)-\(symbols.prefix(64)).sqlite" }

    var meta: [(String, String)] {
        [("schema", "\(StoreSchema.version)"), ("trace", trace), ("symbols", symbols)]
    }
}
