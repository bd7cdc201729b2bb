import CEngine
import Glibc

/// A shadow of the kernel's stacks: which words of RAM hold a return address that a near CALL at CPL 0 to 2 has pushed
/// and no RET has taken yet.
///
/// It lies beside RAM rather than being a stack of its own, and so holds whatever threads there are, however the guest
/// switches between them. A word that was left without RET (a thread's last frames) stays marked until the next CALL or
/// RET there, so that what it holds must be looked at, too. It is no part of the machine's state.
package final class CallMarks {
    private static let granularity: UInt64 = 4
    /// A byte for each `granularity` bytes of RAM: an anonymous mapping of `count` bytes, of which only what is marked
    /// becomes resident; unmapped in deinit. Every store to it is at an offset in RAM that was checked.
    fileprivate let marks: UnsafeMutablePointer<UInt8>
    private let count: Int

    /// Marks for all of `memory`'s RAM; nil if they cannot be reserved.
    package init?(_ memory: GuestMemory) {
        count = Int(memory.size / Self.granularity)
        let mapping = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let mapping, mapping != MAP_FAILED else { return nil }
        marks = mapping.bindMemory(to: UInt8.self, capacity: count)
    }

    deinit { munmap(marks, count) }

    /// Whether the word at a physical address holds a return address.
    package func isMarked(_ physical: UInt64) -> Bool {
        let index = physical / Self.granularity
        return index < UInt64(count) && marks[Int(index)] != 0
    }

    /// The first physical address below `end` that only one of two has marked.
    package func firstDifference(_ other: CallMarks, below end: UInt64) -> UInt64? {
        let length = min(Int(end / Self.granularity), count, other.count)
        guard memcmp(marks, other.marks, length) != 0 else { return nil }
        return (0..<length).first { marks[$0] != other.marks[$0] }.map { UInt64($0) * Self.granularity }
    }

    fileprivate func mark(_ physical: UInt64, _ isCalled: Bool) {
        let index = physical / Self.granularity
        if index < UInt64(count) { marks[Int(index)] = isCalled ? 1 : 0 }
    }
}

extension Processor {
    /// Keeps `marks` from now on, which were made for this machine's memory; nil ends it.
    package func keep(_ marks: CallMarks?) {
        callMarks = marks
        cpu.pointee.callMarks = marks?.marks
        cpu.pointee.callMarksRAM = UInt64(UInt(bitPattern: memory.ramBytes.baseAddress))
        cpu.pointee.callMarksSize = memory.size
        translator?.marksCalls = marks != nil
        translator?.isStale = true
        leaveBlockSoon()
    }

    /// Marks the word at the top of the stack, or takes its mark away.
    func markCall(_ isCalled: Bool) {
        let offset = cpu.gpr(Register.rsp) & cpu.pointee.stackMask
        let linear = (offset &+ cpu.pointee.stackBase) & cpu.pointee.linearMask
        // Where the access went, which the page tables may no longer say.
        let entry = cpu.pointee.dataCache[DataCaches.index(linear)]
        if entry.readTag == linear & pageMask {
            callMarks?.mark(entry.addend &+ linear &- cpu.pointee.callMarksRAM, isCalled)
        } else if let physical = inspectTranslation(linear) {
            callMarks?.mark(physical, isCalled)
        }
    }
}
