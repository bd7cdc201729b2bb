import Glibc
import Replayer

/// Finds the cost table that a user names: one of the project's, the host's own, or a file.
enum CostTables {
    static let help = "\(BuiltInCosts.names.joined(separator: ", ")), host, or a file"
    /// The name of the table that `trapline calibrate` writes.
    static let host = "host"

    static func table(_ name: String) throws(CommandError) -> CostTable {
        if let table = BuiltInCosts.table(name) { return table }
        if name == host {
            let path = hostPath
            guard access(path, F_OK) == 0 else {
                throw .badCombination("there is no cost table of this host yet; 'trapline calibrate' measures one")
            }
            do { return try read(path) } catch {
                // A later Trapline may price more.
                guard case .badFile(let path, let reason) = error else { throw error }
                throw .badFile(path: path, reason: reason + "; 'trapline calibrate' makes a new one")
            }
        }
        guard name.contains("/") || name.contains(".") || access(name, F_OK) == 0 else {
            throw .badCombination("there is no cost table or file \"\(name)\"; expected \(help)")
        }
        return try read(name)
    }

    static func read(_ path: String) throws(CommandError) -> CostTable {
        let file = try FileDescriptor.reading(path)
        defer { file.close() }
        let bytes = try file.readAll(path, limit: UInt64(CostTable.maximumFileSize))
        do throws(CostTableError) { return try CostTable(json: bytes) } catch {
            throw .badFile(path: path, reason: error.description)
        }
    }

    /// Where the host's table is: in the user's cache folder.
    static var hostPath: String { cacheFolder + "/trapline/host.json" }

    /// $XDG_CACHE_HOME if it is an absolute path, as its specification says, else ~/.cache.
    private static var cacheFolder: String {
        if let folder = getenv("XDG_CACHE_HOME").map({ String(cString: $0) }), folder.hasPrefix("/") { return folder }
        return (getenv("HOME").map { String(cString: $0) } ?? "") + "/.cache"
    }
}
