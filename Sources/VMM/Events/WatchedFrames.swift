import CEngine

// What is reported only while a sink is attached: the first touch of each frame, and stores into page tables and live
// descriptor tables. Without a sink nothing is watched, and with one the guest notices nothing.
//
// A frame becomes a page table when a walk reads it. It stops being one when it is stored to in a way no page-table
// entry
// is: not 4 or 8 bytes wide, or not aligned to its width. The descriptor tables are those of the last LGDT, LIDT,
// LLDT or
// LTR, where they were mapped then. All of it depends on what the guest does, and on nothing else.
extension Processor {
    /// The frame of `physical` is being accessed; by the first access since the sink was attached it is reported.
    func touch(_ physical: UInt64) {
        guard watchesPaging, physical < memory.size, memory.attributes(physical) & FrameAttributes.touched == 0,
            memory.readPage(physical) != nil
        else { return }
        memory.mark(physical, FrameAttributes.touched)
        reportOnly(.firstTouch, operand: physical & pageMask, value: 0, size: 0)
    }

    /// What is watched and what was touched: the attributes of each RAM frame, and the ranges of the descriptor tables.
    /// It belongs to the events and not to the machine's state; who goes on with the events in another machine sets it
    /// after attaching the sink there.
    package var watchState: (frames: [UInt8], descriptors: [Range<UInt64>]) {
        get {
            let frames = UnsafeBufferPointer(start: memory.frames, count: Int(memory.size / pageSize))
            return (frames.map { $0 & FrameAttributes.watched }, descriptorRanges)
        }
        set {
            for (frame, attributes) in newValue.frames.prefix(Int(memory.size / pageSize)).enumerated() {
                memory.frames[frame] &= ~FrameAttributes.watched
                memory.frames[frame] |= attributes & FrameAttributes.watched
            }
            descriptorRanges = newValue.descriptors
            beginWatching()
        }
    }

    /// Takes the frame of `physical` off the fast path for stores.
    /// - Returns: whether it was not watched so before.
    @discardableResult
    func watch(_ physical: UInt64, _ attribute: UInt8) -> Bool {
        guard memory.attributes(physical) & attribute == 0, let page = memory.writablePage(physical) else {
            return false
        }
        memory.mark(physical, attribute)
        dataCaches.protect(page)
        return true
    }

    /// Reports that `frame` became a page table on the walk for `linear`, and what is in it.
    func reportPageTable(_ frame: UInt64, entryBytes: Int, level: UInt32, _ linear: UInt64) {
        guard let page = memory.readPage(frame) else { return }
        // What one entry translates has this many address bits; a table's entries together, those of its index more.
        let indexBits: UInt64 = entryBytes == 4 ? 10 : 9
        let first = linear & ~((1 << (12 + indexBits * UInt64(level))) - 1)
        reportOnly(.pageTableBegin, operand: frame, value: first, size: UInt8(entryBytes), detail: level)
        for offset in stride(from: 0, to: Int(pageSize), by: entryBytes) {
            let entry =
                entryBytes == 4
                ? UInt64((page + offset).load(as: UInt32.self)) : (page + offset).load(as: UInt64.self)
            if entry != 0 {
                reportOnly(.pageTableEntry, operand: frame + UInt64(offset), value: entry, size: UInt8(entryBytes))
            }
        }
    }

    /// Reports a block that was decoded.
    func reportDecoded(_ physical: UInt64, bytes: UInt16, instructions: UInt8) {
        guard watchesModel else { return }
        let value = cpu.pointee.kernelIndirectBranches << 16 | UInt64(bytes)
        reportOnly(.codeDecoded, operand: physical, value: value, size: 0, detail: UInt32(instructions))
    }

    /// Watches the descriptor tables as they are now, and no others.
    func watchDescriptorTables() {
        guard watchesPaging else { return }
        for range in descriptorRanges { memory.unmark(range.lowerBound, FrameAttributes.descriptorTable) }
        descriptorRanges = []
        let state = cpu.pointee
        for (base, limit) in [
            (state.gdtr.base, UInt64(state.gdtr.limit)), (state.idtr.base, UInt64(state.idtr.limit)),
            (state.segments.6.base, min(UInt64(state.segments.6.limit), 0xffff)),
            (state.segments.7.base, min(UInt64(state.segments.7.limit), 0xffff)),
        ] {
            watchTable(base, bytes: limit + 1)
        }
    }

    private func watchTable(_ base: UInt64, bytes: UInt64) {
        var done: UInt64 = 0
        while done < bytes {
            let linear = (base &+ done) & cpu.pointee.linearMask
            let chunk = min(bytes - done, pageSize - (linear & ~pageMask))
            if let physical = inspectTranslation(linear) {
                descriptorRanges.append(physical..<physical + chunk)
                watch(physical, FrameAttributes.descriptorTable)
            }
            done += chunk
        }
    }

    /// Reports a store into a watched frame, or ends the watch.
    func reportWatchedStore(_ physical: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ attributes: UInt8) {
        var value: UInt64 = 0
        for index in 0..<min(bytes.count, 8) { value |= UInt64(bytes[index]) << UInt64(index * 8) }
        let size = UInt8(truncatingIfNeeded: bytes.count)
        if attributes & FrameAttributes.pageTable != 0 {
            if (bytes.count == 4 || bytes.count == 8) && physical & UInt64(bytes.count - 1) == 0 {
                reportOnly(.pageTableWrite, operand: physical, value: value, size: size)
            } else {
                memory.unmark(physical, FrameAttributes.pageTable)
                if watchesModel { reportOnly(.pageTableEnd, operand: physical & pageMask, value: 0, size: 0) }
            }
        }
        let end = physical + UInt64(bytes.count)
        if attributes & FrameAttributes.descriptorTable != 0,
            descriptorRanges.contains(where: { $0.lowerBound < end && physical < $0.upperBound })
        {
            reportOnly(.descriptorWrite, operand: physical, value: value, size: size)
        }
    }

    /// Gives the sink an event that is not counted otherwise, so that counts do not depend on whether there is a sink.
    func reportOnly(_ kind: EventKind, operand: UInt64, value: UInt64, size: UInt8, detail: UInt32 = 0) {
        cpu.append(
            EventRecord(
                count: cpu.pointee.position, address: cpu.nextLinearAddress, operand: operand, value: value,
                kind: kind.rawValue, ring: cpu.pointee.cpl, size: size, flags: 0, detail: detail))
    }
}
