import CEngine

// What the fast path of operand access falls back to. Every page is translated, for the rights that the whole
// instruction
// needs, before the first byte moves; then bytes go to RAM, ROM or a device.
extension Processor {
    /// Reads up to 16 bytes into `scratch`. On a fault leaves `op` and returns false.
    func read(_ linear: UInt64, size: Int, _ kind: AccessKind, _ op: OperationPointer) -> Bool {
        enter(op)
        guard let span = probe(linear, size: size, kind, cpl: cpu.pointee.cpl, op) else { return false }
        let buffer = UnsafeMutableRawBufferPointer(start: cpu.scratchPointer, count: size)
        transfer(span, buffer, write: false, op)
        checkDataBreakpoints(linear, size, write: false, op)
        return true
    }

    /// Writes up to 16 bytes from `scratch`.
    func write(_ linear: UInt64, size: Int, _ kind: AccessKind, _ op: OperationPointer) -> Bool {
        enter(op)
        guard let span = probe(linear, size: size, kind.union(.write), cpl: cpu.pointee.cpl, op) else { return false }
        transfer(span, UnsafeMutableRawBufferPointer(start: cpu.scratchPointer, count: size), write: true, op)
        checkDataBreakpoints(linear, size, write: true, op)
        return true
    }

    /// Reads into `scratch` after probing for a write to the same bytes.
    func readForUpdate(_ linear: UInt64, size: Int, _ kind: AccessKind, _ op: OperationPointer) -> Bool {
        enter(op)
        guard let span = probe(linear, size: size, kind.union(.write), cpl: cpu.pointee.cpl, op) else { return false }
        let buffer = UnsafeMutableRawBufferPointer(start: cpu.scratchPointer, count: size)
        transfer(span, buffer, write: false, op)
        return true
    }

    /// Writes `scratch` back after `readForUpdate`, whose probe succeeded.
    func commitUpdate(_ linear: UInt64, size: Int, _ op: OperationPointer) {
        guard let span = probe(linear, size: size, [.write], cpl: cpu.pointee.cpl, op) else { return }
        transfer(span, UnsafeMutableRawBufferPointer(start: cpu.scratchPointer, count: size), write: true, op)
        checkDataBreakpoints(linear, size, write: true, op)
    }

    /// Copies guest memory to `bytes` (at most a page).
    func copy(from linear: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ op: OperationPointer) -> Bool {
        enter(op)
        guard let span = probe(linear, size: bytes.count, stackKind(op), cpl: cpu.pointee.cpl, op) else { return false }
        transfer(span, bytes, write: false, op)
        checkDataBreakpoints(linear, bytes.count, write: false, op)
        return true
    }

    /// Copies `bytes` (at most a page) to guest memory.
    func copy(_ bytes: UnsafeRawBufferPointer, to linear: UInt64, _ op: OperationPointer) -> Bool {
        enter(op)
        guard let span = probe(linear, size: bytes.count, stackKind(op).union(.write), cpl: cpu.pointee.cpl, op) else {
            return false
        }
        transfer(span, UnsafeMutableRawBufferPointer(mutating: bytes), write: true, op)
        checkDataBreakpoints(linear, bytes.count, write: true, op)
        return true
    }

    /// Whether `op`'s memory operand is reached through SS.
    private func stackKind(_ op: OperationPointer) -> AccessKind {
        op.pointee.segment == UInt8(SegmentIndex.ss) ? [.stack] : []
    }

    // MARK: Probing

    /// Where the bytes of one operand lie: on one physical page, or two.
    struct Span {
        var first: UInt64
        var firstCount: Int
        var second: UInt64
        var count: Int
    }

    /// Makes the position and RIP exact for whatever the access reports or a device reads.
    private func enter(_ op: OperationPointer) {
        let position = cpu.count(before: op)
        cpu.pointee.rip = cpu.rip(of: op)
        cpu.pointee.position = position
        clock.count = position
    }

    /// Checks and translates `size` bytes at `linear`. On a fault leaves `op` and returns nil.
    private func probe(
        _ linear: UInt64, size: Int, _ kind: AccessKind, cpl: UInt8, _ op: OperationPointer
    ) -> Span? {
        guard checkCanonical(linear, size, kind), checkAlignment(linear, size, kind, cpl),
            let span = translate(linear, size: size, kind, cpl: cpl, refill: true)
        else {
            _ = cpu.leave(at: op)
            return nil
        }
        return span
    }

    /// Translates both pages of an access; on a fault records it.
    private func translate(_ linear: UInt64, size: Int, _ kind: AccessKind, cpl: UInt8, refill: Bool) -> Span? {
        guard let first = translate(linear, kind, cpl: cpl) else { return nil }
        if watchesPaging { touch(first) }
        let room = Int(pageSize - (linear & ~pageMask))
        guard size > room else {
            if refill { fillCache(linear, first, cpl: cpl) }
            return Span(first: first, firstCount: size, second: 0, count: size)
        }
        // The processor itself reads and writes 64-bit addresses in compatibility mode too.
        let mask = cpu.isLongMode && linear >> 32 != 0 ? ~0 : cpu.pointee.linearMask
        let next = ((linear & pageMask) &+ pageSize) & mask
        guard let second = translate(next, kind, cpl: cpl) else { return nil }
        if watchesPaging { touch(second) }
        return Span(first: first, firstCount: room, second: second, count: size)
    }

    /// #GP(0), or #SS(0) through the stack, for addresses that are not canonical in 64-bit code.
    private func checkCanonical(_ linear: UInt64, _ size: Int, _ kind: AccessKind) -> Bool {
        guard cpu.is64Bit else { return true }
        let last = linear &+ UInt64(size - 1)
        if isCanonical(linear) && isCanonical(last) { return true }
        cpu.setFault(kind.contains(.stack) ? ExceptionVector.ss : ExceptionVector.gp, code: 0)
        return false
    }

    /// #AC(0) at CPL 3 with CR0.AM and EFLAGS.AC.
    private func checkAlignment(_ linear: UInt64, _ size: Int, _ kind: AccessKind, _ cpl: UInt8) -> Bool {
        guard cpl == 3, cpu.pointee.cr0 & CR0.am != 0, cpu.pointee.flags & RFlags.ac != 0, !kind.contains(.system),
            size.nonzeroBitCount == 1, size <= (cpu.processor.model.checksAlignment128 ? 16 : 8),
            linear & UInt64(size - 1) != 0
        else { return true }
        cpu.setFault(ExceptionVector.ac, code: 0)
        return false
    }

    /// Has the page of `linear` in the private cache for `op`, which accesses it next.
    /// - Returns: false, with no fault recorded, if it cannot be there.
    func fillDataCache(_ linear: UInt64, _ kind: AccessKind, _ op: OperationPointer) -> Bool {
        guard !cpu.is64Bit || isCanonical(linear) else { return false }
        enter(op)
        guard let physical = translate(linear, kind, cpl: cpu.pointee.cpl) else {
            // The operation meets it again.
            cpu.pointee.pending &= ~PendingFlags.fault
            return false
        }
        if cpu.pointee.events != nil { touch(physical) }
        fillCache(linear, physical, cpl: cpu.pointee.cpl)
        let entry = cpu.pointee.dataCache[DataCaches.index(linear)]
        return (kind.contains(.write) ? entry.writeTag : entry.readTag) == linear & pageMask
    }

    /// Mirrors the TLB entry that now translates `linear` in the private cache, with the rights it gives there.
    private func fillCache(_ linear: UInt64, _ physical: UInt64, cpl: UInt8) {
        guard let page = memory.readPage(physical) else { return }
        let isUser = cpl == 3
        var mayWrite = true
        var largeSlot: Int?
        if isPaging {
            guard let (slot, entry) = dataTLB.lookup(linear, largeShift: largeShift) else { return }
            let flags = entry.frame
            mayWrite =
                flags & TLBFlags.dirty != 0
                && (flags & TLBFlags.writable != 0 || (!isUser && cpu.pointee.cr0 & CR0.wp == 0))
            if slot >= TLB.smallEntries { largeSlot = slot }
        }
        if mayWrite {
            let watched =
                FrameAttributes.code | FrameAttributes.pageTable | FrameAttributes.descriptorTable
                | FrameAttributes.unwritten
            mayWrite = memory.writablePage(physical) == page && memory.attributes(physical) & watched == 0
        }
        dataCaches.fill(user: isUser, linear: linear, page: page, write: mayWrite, largeSlot: largeSlot)
    }

    // MARK: Moving bytes

    private func transfer(_ span: Span, _ bytes: UnsafeMutableRawBufferPointer, write: Bool, _ op: OperationPointer) {
        move(span.first, UnsafeMutableRawBufferPointer(rebasing: bytes[..<span.firstCount]), write: write, op)
        if span.firstCount < span.count {
            move(span.second, UnsafeMutableRawBufferPointer(rebasing: bytes[span.firstCount...]), write: write, op)
        }
    }

    /// Moves bytes between `bytes` and one physical page.
    private func move(
        _ physical: UInt64, _ bytes: UnsafeMutableRawBufferPointer, write: Bool, _ op: OperationPointer?
    ) {
        let offset = Int(physical & ~pageMask)
        if write {
            if let page = memory.writePage(physical) {
                storeWatched(physical, bytes)
                (page + offset).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
            } else if !memory.dropsWrites(physical) {
                device(physical, bytes, write: true, op)
            }
        } else if let page = memory.readPage(physical) {
            bytes.copyMemory(from: UnsafeRawBufferPointer(start: page + offset, count: bytes.count))
        } else {
            device(physical, bytes, write: false, op)
        }
    }

    /// An access to memory-mapped registers: naturally sized parts, in ascending order.
    private func device(
        _ physical: UInt64, _ bytes: UnsafeMutableRawBufferPointer, write: Bool, _ op: OperationPointer?
    ) {
        var done = 0
        while done < bytes.count {
            var size = 8
            while size > bytes.count - done || (physical &+ UInt64(done)) & UInt64(size - 1) != 0 { size /= 2 }
            let address = physical &+ UInt64(done)
            var value: UInt64 = 0
            if write {
                memcpyOut(&value, bytes, done, size)
                mmio.write(address, value, size: size)
            } else {
                value = mmio.read(address, size: size)
                memcpyIn(bytes, value, done, size)
            }
            cpu.emit(
                write ? .mmioWrite : .mmioRead, address: cpu.nextLinearAddress, operand: address, value: value,
                size: UInt8(size))
            done += size
        }
        if let op { cpu.leaveBlock(after: op) }
    }

    private func memcpyOut(_ value: inout UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ at: Int, _ size: Int) {
        for index in 0..<size { value |= UInt64(bytes[at + index]) << UInt64(index * 8) }
    }

    private func memcpyIn(_ bytes: UnsafeMutableRawBufferPointer, _ value: UInt64, _ at: Int, _ size: Int) {
        for index in 0..<size { bytes[at + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
    }

    /// What must happen before bytes of a frame with attributes change.
    private func storeWatched(_ physical: UInt64, _ bytes: UnsafeMutableRawBufferPointer) {
        let attributes = memory.attributes(physical)
        guard attributes != 0 else { return }
        if attributes & FrameAttributes.code != 0 { codeWritten(physical, bytes.count) }
        if attributes & (FrameAttributes.pageTable | FrameAttributes.descriptorTable) != 0 {
            reportWatchedStore(physical, bytes, attributes)
        }
    }

    /// Bytes of a frame with decoded code are about to change: the blocks that hold them go.
    func codeWritten(_ physical: UInt64, _ count: Int) {
        blocks.invalidate(physical, count, cpu)
        if watchesModel { reportOnly(.codeChanged, operand: physical, value: UInt64(count), size: 0) }
        if !blocks.hasBlocks(inFrameOf: physical) { memory.unmark(physical, FrameAttributes.code) }
    }

    // MARK: Accesses by the processor itself

    /// Reads at CPL `cpl` outside any operation. On a fault records it and returns false.
    func readImplicit(_ linear: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ kind: AccessKind, cpl: UInt8) -> Bool
    {
        guard checkCanonical(linear, bytes.count, kind),
            let span = translate(linear, size: bytes.count, kind, cpl: cpl, refill: false)
        else { return false }
        moveImplicit(span, bytes, write: false)
        return true
    }

    func writeImplicit(_ linear: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ kind: AccessKind, cpl: UInt8) -> Bool
    {
        guard checkCanonical(linear, bytes.count, kind),
            let span = translate(linear, size: bytes.count, kind.union(.write), cpl: cpl, refill: false)
        else { return false }
        moveImplicit(span, bytes, write: true)
        return true
    }

    /// Whether the processor could write there; a fault is recorded.
    func probeImplicit(_ linear: UInt64, size: Int, _ kind: AccessKind, cpl: UInt8) -> Bool {
        checkCanonical(linear, size, kind) && translate(linear, size: size, kind, cpl: cpl, refill: false) != nil
    }

    private func moveImplicit(_ span: Span, _ bytes: UnsafeMutableRawBufferPointer, write: Bool) {
        move(span.first, UnsafeMutableRawBufferPointer(rebasing: bytes[..<span.firstCount]), write: write, nil)
        if span.firstCount < span.count {
            move(span.second, UnsafeMutableRawBufferPointer(rebasing: bytes[span.firstCount...]), write: write, nil)
        }
    }

    // MARK: Breakpoints

    /// Data breakpoints (SDM volume 3, 17.2.5): a trap after the instruction.
    private func checkDataBreakpoints(_ linear: UInt64, _ size: Int, write: Bool, _ op: OperationPointer) {
        checkBreakpoints(linear, size, types: write ? 1 << 1 | 1 << 3 : 1 << 3, op)
    }

    /// Port breakpoints, with CR4.DE.
    func checkPortBreakpoints(_ port: UInt16, _ size: Int, _ op: OperationPointer) {
        if cpu.pointee.cr4 & CR4.de != 0 { checkBreakpoints(UInt64(port), size, types: 1 << 2, op) }
    }

    /// Breakpoints of the DR7 types in the set `types`.
    private func checkBreakpoints(_ linear: UInt64, _ size: Int, types: UInt64, _ op: OperationPointer) {
        let control = cpu.pointee.dr.7
        guard control & 0xff != 0 else { return }
        var hits: UInt64 = 0
        for index in 0..<4 where control & (3 << UInt64(index * 2)) != 0 {
            guard types & (1 << ((control >> UInt64(16 + index * 4)) & 3)) != 0 else { continue }
            let length = [1, 2, 8, 4][Int((control >> UInt64(18 + index * 4)) & 3)] as UInt64
            let start = cpu_dr(cpu, Int32(index)).pointee & ~(length - 1)
            if linear < start &+ length && start < linear &+ UInt64(size) { hits |= 1 << UInt64(index) }
        }
        if hits != 0 {
            cpu.pointee.pendingDebug |= hits
            cpu.leaveBlock(after: op)
        }
    }
}

/// Whether a linear address is canonical: bits 47 to 63 are equal.
@inline(__always) package func isCanonical(_ linear: UInt64) -> Bool {
    let top = Int64(bitPattern: linear) >> 47
    return top == 0 || top == -1
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Makes the running block end after `op`, whatever it goes on to do: something else is due at that boundary.
    func leaveBlock(after op: OperationPointer) {
        guard pointee.patched == nil else { return }
        let next = op + 1
        pointee.patched = next
        pointee.patchedHandler = next.pointee.handler
        next.pointee.handler = { cpu, op in cpu.leave(at: op) }
    }

    /// Undoes `leaveBlock`.
    @inline(__always) func restorePatched() {
        guard let patched = pointee.patched else { return }
        patched.pointee.handler = pointee.patchedHandler.unsafelyUnwrapped
        pointee.patched = nil
        pointee.patchedHandler = nil
    }

    /// Reads what the processor itself needs (descriptor tables, TSS) with supervisor rights. On a fault records it and
    /// returns nil; the caller leaves its operation.
    package func readSystem<T: Word>(_ type: T.Type = T.self, linear: UInt64) -> T? {
        var value: T = 0
        let read = withUnsafeMutableBytes(of: &value) { processor.readImplicit(linear, $0, [.system], cpl: 0) }
        return read ? value : nil
    }

    /// Writes with supervisor rights; otherwise as `readSystem`.
    package func writeSystem<T: Word>(_ value: T, linear: UInt64) -> Bool {
        var value = value
        return withUnsafeMutableBytes(of: &value) { processor.writeImplicit(linear, $0, [.system], cpl: 0) }
    }

    /// Whether `size` bytes can be written with supervisor rights; records the fault if not.
    package func canWriteSystem(linear: UInt64, size: Int) -> Bool {
        processor.probeImplicit(linear, size: size, [.system, .write], cpl: 0)
    }

    /// Writes to a stack with the rights of `cpl`, for switches to another ring; otherwise as `writeSystem`.
    package func writeAs<T: Word>(_ value: T, linear: UInt64, cpl: UInt8) -> Bool {
        var value = value
        return withUnsafeMutableBytes(of: &value) { processor.writeImplicit(linear, $0, [.stack], cpl: cpl) }
    }

    /// Reads with the rights of `cpl`; otherwise as `readSystem`.
    package func readAs<T: Word>(_ type: T.Type = T.self, linear: UInt64, cpl: UInt8) -> T? {
        var value: T = 0
        let read = withUnsafeMutableBytes(of: &value) { processor.readImplicit(linear, $0, [.stack], cpl: cpl) }
        return read ? value : nil
    }
}
