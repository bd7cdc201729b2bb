import Tracer
import VMM

extension Machine {
    /// The state without RAM and where its fields are.
    func stateLayout() -> (bytes: [UInt8], fields: [StateArchive.Field]) {
        layoutWithoutRAM()
    }
}

extension Processor {
    /// The pages that were written to, so that putting a state back does not make all of them count as written.
    func writtenPages() -> [UInt32] {
        var pages: [UInt32] = []
        takeWrittenPages(&pages)
        return pages
    }

    func restoreWritten(_ pages: [UInt32]) {
        beginWriteTracking()
        for page in pages { _ = memory.writePage(UInt64(page) * 4096) }
    }
}
