// The machine's whole state as bytes, and a digest of it. Both can be taken at any position.
extension Machine {
    private static let signature: UInt64 = 0x0031_5041_4E53_4C54  // "TLSNAP1"

    /// Everything that decides how the run goes on, apart from the configuration.
    package func snapshot() -> [UInt8] {
        let archive = StateArchive()
        visit(archive)
        return archive.bytes
    }

    /// Continues from `snapshot`, which was taken on a machine of the same configuration. After an error the machine is
    /// in no defined state and must be dropped.
    package func restore(_ snapshot: [UInt8]) throws(SnapshotError) {
        let archive = StateArchive(restoring: snapshot)
        visit(archive)
        archive.finish()
        if let failure = archive.failure { throw failure }
    }

    /// The state without the contents of RAM, for whoever keeps those by page.
    package func snapshotWithoutRAM() -> [UInt8] {
        let archive = StateArchive(omitsRAM: true)
        visit(archive)
        return archive.bytes
    }

    /// `snapshotWithoutRAM` with the name and place of each field, for looking at what is in it.
    package func layoutWithoutRAM() -> (bytes: [UInt8], fields: [StateArchive.Field]) {
        let archive = StateArchive(recordsLayout: true, omitsRAM: true)
        visit(archive)
        return (archive.bytes, archive.layout)
    }

    /// Continues from `snapshotWithoutRAM`, after the contents of RAM were put back; otherwise as `restore`.
    package func restoreWithoutRAM(_ snapshot: [UInt8]) throws(SnapshotError) {
        let archive = StateArchive(restoring: snapshot, omitsRAM: true)
        visit(archive)
        archive.finish()
        if let failure = archive.failure { throw failure }
    }

    /// Everything but the contents of RAM in short: each field as it is, or its XXH3 if it is longer than a few hundred
    /// bytes. Two machines with the same summary and the same RAM are in the same state.
    package func stateSummary(recordsLayout: Bool = false) -> (bytes: [UInt8], layout: [StateArchive.Field]) {
        let archive = StateArchive(recordsLayout: recordsLayout, omitsRAM: true, abbreviates: true)
        visit(archive)
        return (archive.bytes, archive.layout)
    }

    /// A digest of the state that `snapshot` would hold.
    package var digest: StateDigest { StateArchive.digest { visit($0) } }

    /// The dotted path of the first field that differs from `snapshot`, of a machine of the same configuration; nil if
    /// none does.
    package func firstDifference(from snapshot: [UInt8]) -> String? {
        let archive = StateArchive(recordsLayout: true)
        visit(archive)
        let fields = archive.layout
        let differing = fields.first { field in
            field.range.upperBound > snapshot.count || archive.bytes[field.range] != snapshot[field.range]
        }
        return differing?.path ?? (archive.bytes.count == snapshot.count ? nil : "the end")
    }

    func visit(_ archive: StateArchive) {
        archive.expect("signature", Self.signature)
        archive.expect("chipset", UInt8(configuration.chipset == .apic ? 1 : 0))
        archive.section("clock") { clock.archive(archive) }
        archive.section("memory") { memory.archive(archive) }
        archive.section("devices") { devices.archive(archive) }
        // Putting memory and devices back flushes caches, sets input lines and arms timers; what was saved is final.
        archive.section("processor") { processor.archive(archive) }
        archive.section("events") { events.archive(archive) }
    }
}
