import CEngine

// Page tables and descriptor tables are watched only while a sink is attached. A frame becomes a page table when a walk
// reads it. It stops being one when it is stored to in a way no page-table entry is: not 4 or 8 bytes wide, or not
// aligned to its width. Both depend on what the guest does, and on nothing else.
extension Processor {
    /// Adds attributes to a frame and takes it off the fast path for stores.
    func watch(_ physical: UInt64, _ attribute: UInt8) {
        guard memory.attributes(physical) & attribute == 0, let page = memory.writePage(physical) else { return }
        if memory.attributes(physical) & FrameAttributes.touched == 0 {
            cpu.emit(.firstTouch, address: 0, operand: physical & pageMask, value: 0)
        }
        memory.mark(physical, attribute | FrameAttributes.touched)
        dataCaches.protect(page)
    }

    /// Reports a store into a watched frame, or ends the watch.
    func reportWatchedStore(_ physical: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ attributes: UInt8) {
        let isEntry = (bytes.count == 4 || bytes.count == 8) && physical & UInt64(bytes.count - 1) == 0
        var value: UInt64 = 0
        for index in 0..<min(bytes.count, 8) { value |= UInt64(bytes[index]) << UInt64(index * 8) }
        if attributes & FrameAttributes.pageTable != 0 {
            if isEntry {
                cpu.emit(.pageTableWrite, address: cpu.pointee.blockRIP, operand: physical, value: value,
                         size: UInt8(bytes.count))
            } else {
                memory.unmark(physical, FrameAttributes.pageTable)
            }
        }
        if attributes & FrameAttributes.descriptorTable != 0 {
            cpu.emit(.descriptorWrite, address: cpu.pointee.blockRIP, operand: physical, value: value,
                     size: UInt8(truncatingIfNeeded: bytes.count))
        }
    }
}
