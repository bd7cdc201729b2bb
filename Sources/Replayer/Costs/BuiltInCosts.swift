/// The project's own cost tables, which are part of the executable.
package enum BuiltInCosts {
    private static let files: [(name: String, bytes: [UInt8])] = [
        ("pentium4", PackageResources.pentium4_json), ("prescott", PackageResources.prescott_json),
        ("skylake", PackageResources.skylake_json), ("zen3", PackageResources.zen3_json),
    ]

    package static let names = files.map(\.name)

    /// The table of that name, nil if there is none.
    package static func table(_ name: String) -> CostTable? {
        guard let file = files.first(where: { $0.name == name }) else { return nil }
        do throws(CostTableError) { return try CostTable(json: file.bytes) } catch {
            // A test reads each of them, so a build with a bad one does not leave the house.
            fatalError("\(name).json: \(error.description)")
        }
    }

    package static var all: [CostTable] { names.compactMap(table) }
}
