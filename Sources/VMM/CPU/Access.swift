import CEngine

/// How a linear address is being accessed; decides rights, fault codes and breakpoints.
package struct AccessKind: OptionSet {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let write = AccessKind(rawValue: 1)
    /// Through SS, so that a non-canonical address is #SS instead of #GP.
    package static let stack = AccessKind(rawValue: 2)
    /// By the processor itself (descriptor tables, TSS): supervisor rights at any CPL.
    package static let system = AccessKind(rawValue: 4)
    package static let fetch = AccessKind(rawValue: 8)
}

package let pageSize: UInt64 = 4096
package let pageMask: UInt64 = ~4095
/// Entries of the private data cache of a privilege. It holds pages of what the modelled TLB holds, of which large
/// pages reach far, so there are more than the TLB has 4-KB entries.
package let dataCacheEntries = UInt64(CPU_DATA_CACHE_ENTRIES)

// Operand access. The fast path probes the private cache of the modelled TLB and touches guest RAM in place; anything
// else (miss, page crossing, MMIO, page holding decoded code, breakpoints, watched pages) takes a slow path in
// Processor.
extension UnsafeMutablePointer where Pointee == CPUState {
    @inline(__always) private func cacheEntry(_ linear: UInt64) -> UnsafeMutablePointer<DataCacheEntry> {
        pointee.dataCache + Int(truncatingIfNeeded: (linear >> 12) & (dataCacheEntries - 1))
    }

    /// The effective address of `op`'s memory operand, inside its segment.
    @inline(__always) package func effectiveAddress(_ op: OperationPointer) -> UInt64 {
        let base: UInt64 = register(op.pointee.base)
        let index: UInt64 = register(op.pointee.index)
        return (op.pointee.displacement &+ base &+ (index &<< UInt64(op.pointee.scale))) & op.pointee.addressMask
    }

    /// The linear address of `size` bytes at `op`'s memory operand, or nil with #GP or #SS recorded.
    @inline(__always) package func linearAddress(_ op: OperationPointer, size: Int, write: Bool) -> UInt64? {
        let offset = effectiveAddress(op)
        if op.pointee.flags & OperationFlags.checkSegment != 0 {
            guard checkSegment(Int(op.pointee.segment), offset: offset, size: size, write: write, op) else {
                return nil
            }
        }
        return (offset &+ register(op.pointee.segmentBase)) & pointee.linearMask
    }

    /// Reads a `T` at a linear address. On a fault returns nil with the fault recorded and `op` left.
    @inline(__always) package func read<T: Word>(
        _ type: T.Type = T.self, linear: UInt64, _ op: OperationPointer, stack: Bool = false
    ) -> T? {
        let entry = cacheEntry(linear)
        let last = linear &+ UInt64(truncatingIfNeeded: MemoryLayout<T>.size &- 1)
        if _fastPath(entry.pointee.readTag == last & pageMask) {
            return hostPointer(entry.pointee.addend &+ linear).loadUnaligned(as: T.self)
        }
        guard readSlow(linear, MemoryLayout<T>.size, op, stack: stack) else { return nil }
        return T(truncatingIfNeeded: pointee.scratch.0)
    }

    /// Writes a `T` at a linear address. On a fault returns false with the fault recorded and `op` left.
    @inline(__always) package func write<T: Word>(
        _ value: T, linear: UInt64, _ op: OperationPointer, stack: Bool = false
    ) -> Bool {
        let entry = cacheEntry(linear)
        let last = linear &+ UInt64(truncatingIfNeeded: MemoryLayout<T>.size &- 1)
        if _fastPath(entry.pointee.writeTag == last & pageMask) {
            hostPointer(entry.pointee.addend &+ linear).storeBytes(of: value, as: T.self)
            return true
        }
        return writeSlow(linear, UInt64(truncatingIfNeeded: value), MemoryLayout<T>.size, op, stack: stack)
    }

    /// Loads `op`'s memory operand.
    @inline(__always) package func load<T: Word>(_ type: T.Type = T.self, _ op: OperationPointer) -> T? {
        guard let linear = linearAddress(op, size: MemoryLayout<T>.size, write: false) else { return nil }
        return read(T.self, linear: linear, op, stack: op.pointee.segment == 2)
    }

    /// Stores to `op`'s memory operand.
    @inline(__always) package func store<T: Word>(_ value: T, _ op: OperationPointer) -> Bool {
        guard let linear = linearAddress(op, size: MemoryLayout<T>.size, write: true) else { return false }
        return write(value, linear: linear, op, stack: op.pointee.segment == 2)
    }

    /// Begins a read-modify-write of `op`'s memory operand, checking for write rights first. The pointer is to
    /// guest RAM, or to `scratch` when the operand cannot be updated in place; give it to `finishUpdate` afterwards.
    @inline(__always) package func beginUpdate<T: Word>(
        _ type: T.Type = T.self, _ op: OperationPointer
    ) -> UnsafeMutableRawPointer? {
        guard let linear = linearAddress(op, size: MemoryLayout<T>.size, write: true) else { return nil }
        return beginUpdate(T.self, linear: linear, op)
    }

    /// The same at a linear address, for bit-string instructions.
    @inline(__always) package func beginUpdate<T: Word>(
        _ type: T.Type = T.self, linear: UInt64, _ op: OperationPointer
    ) -> UnsafeMutableRawPointer? {
        let entry = cacheEntry(linear)
        let last = linear &+ UInt64(truncatingIfNeeded: MemoryLayout<T>.size &- 1)
        if _fastPath(entry.pointee.writeTag == last & pageMask) {
            return hostPointer(entry.pointee.addend &+ linear)
        }
        return beginUpdateSlow(linear, MemoryLayout<T>.size, op)
    }

    /// Ends a read-modify-write with the new value.
    @inline(__always) package func finishUpdate<T: Word>(
        _ pointer: UnsafeMutableRawPointer, _ value: T, _ op: OperationPointer
    ) {
        pointer.storeBytes(of: value, as: T.self)
        if _slowPath(pointer == scratchPointer) { finishUpdateSlow(MemoryLayout<T>.size, op) }
    }

    /// Loads 16 bytes (SSE operands); `aligned` operands that are not fault with #GP(0).
    package func load128(_ op: OperationPointer, aligned: Bool) -> XMMRegister? {
        guard let linear = linearAddress(op, size: 16, write: false) else { return nil }
        if aligned, linear & 15 != 0 {
            _ = generalProtection(0, at: op)
            return nil
        }
        let entry = cacheEntry(linear)
        if entry.pointee.readTag == (linear &+ 15) & pageMask {
            let pointer = hostPointer(entry.pointee.addend &+ linear)
            return XMMRegister(
                low: pointer.loadUnaligned(as: UInt64.self),
                high: pointer.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        guard readSlow(linear, 16, op, stack: op.pointee.segment == 2) else { return nil }
        return XMMRegister(low: pointee.scratch.0, high: pointee.scratch.1)
    }

    /// A pointer to `op`'s memory operand of `size` (up to 16) bytes for host instructions to read: into guest RAM, or
    /// into `scratch`, where it was copied. Good until the next access.
    @inline(__always) package func sourcePointer(
        _ op: OperationPointer, size: Int, aligned: Bool = false
    ) -> UnsafeRawPointer? {
        guard let linear = linearAddress(op, size: size, write: false) else { return nil }
        if aligned, linear & 15 != 0 {
            _ = generalProtection(0, at: op)
            return nil
        }
        let entry = cacheEntry(linear)
        let last = linear &+ UInt64(truncatingIfNeeded: size &- 1)
        if _fastPath(entry.pointee.readTag == last & pageMask) {
            return UnsafeRawPointer(hostPointer(entry.pointee.addend &+ linear))
        }
        guard readSlow(linear, size, op, stack: op.pointee.segment == 2) else { return nil }
        return UnsafeRawPointer(scratchPointer)
    }

    /// Stores 16 bytes; `aligned` as for `load128`.
    package func store128(_ value: XMMRegister, _ op: OperationPointer, aligned: Bool) -> Bool {
        guard let linear = linearAddress(op, size: 16, write: true) else { return false }
        if aligned, linear & 15 != 0 {
            _ = generalProtection(0, at: op)
            return false
        }
        let entry = cacheEntry(linear)
        if entry.pointee.writeTag == (linear &+ 15) & pageMask {
            let pointer = hostPointer(entry.pointee.addend &+ linear)
            pointer.storeBytes(of: value.low, as: UInt64.self)
            pointer.storeBytes(of: value.high, toByteOffset: 8, as: UInt64.self)
            return true
        }
        pointee.scratch.0 = value.low
        pointee.scratch.1 = value.high
        return writeSlow(linear, value.low, 16, op, stack: op.pointee.segment == 2)
    }

    /// Loads `bytes.count` bytes (any length up to a page) at `op`'s memory operand, such as an FXSAVE image. False,
    /// with the
    /// fault recorded, leaves `bytes` unspecified.
    package func load(bytes: UnsafeMutableRawBufferPointer, _ op: OperationPointer) -> Bool {
        guard let linear = linearAddress(op, size: bytes.count, write: false) else { return false }
        return processor.copy(from: linear, bytes, op)
    }

    /// Stores `bytes` at `op`'s memory operand; all pages are probed before the first byte is written.
    package func store(bytes: UnsafeRawBufferPointer, _ op: OperationPointer) -> Bool {
        guard let linear = linearAddress(op, size: bytes.count, write: true) else { return false }
        return processor.copy(bytes, to: linear, op)
    }

    // MARK: Stack

    /// Pushes a `T`: RSP changes only if the store succeeds.
    @inline(__always) package func push<T: Word>(_ value: T, _ op: OperationPointer) -> Bool {
        let mask = pointee.stackMask
        let rsp = gpr(Register.rsp)
        let offset = (rsp &- UInt64(MemoryLayout<T>.size)) & mask
        if op.pointee.flags & OperationFlags.checkStack != 0 {
            guard checkSegment(SegmentIndex.ss, offset: offset, size: MemoryLayout<T>.size, write: true, op) else {
                return false
            }
        }
        let linear = (offset &+ pointee.stackBase) & pointee.linearMask
        guard write(value, linear: linear, op, stack: true) else { return false }
        setGPR(Register.rsp, (rsp & ~mask) | offset)
        return true
    }

    /// Reads the `T` that is `depth` bytes above the top of the stack without popping it.
    @inline(__always) package func peek<T: Word>(
        _ type: T.Type = T.self, _ op: OperationPointer, depth: UInt64 = 0
    ) -> T? {
        let offset = (gpr(Register.rsp) &+ depth) & pointee.stackMask
        if op.pointee.flags & OperationFlags.checkStack != 0 {
            guard checkSegment(SegmentIndex.ss, offset: offset, size: MemoryLayout<T>.size, write: false, op) else {
                return nil
            }
        }
        let linear = (offset &+ pointee.stackBase) & pointee.linearMask
        return read(T.self, linear: linear, op, stack: true)
    }

    /// Adds to RSP, at the width of the stack.
    @inline(__always) package func adjustStack(by bytes: UInt64) {
        let mask = pointee.stackMask
        let rsp = gpr(Register.rsp)
        setGPR(Register.rsp, (rsp & ~mask) | ((rsp &+ bytes) & mask))
    }

    /// Pops a `T`.
    @inline(__always) package func pop<T: Word>(_ type: T.Type = T.self, _ op: OperationPointer) -> T? {
        guard let value = peek(T.self, op) else { return nil }
        adjustStack(by: UInt64(MemoryLayout<T>.size))
        return value
    }

    // MARK: Slow paths

    /// A host address that a private-cache entry gave: it lies in the guest's RAM or a ROM buffer, which `GuestMemory`
    /// owns, because only `Processor` fills entries and an access never passes the end of its page.
    @inline(__always) private func hostPointer(_ address: UInt64) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: address)).unsafelyUnwrapped
    }

    /// `scratch`, where an operand that cannot be accessed in place is read, changed and written back.
    @inline(__always) package var scratchPointer: UnsafeMutableRawPointer {
        raw + Int(CPU_OFFSET_SCRATCH)
    }

    /// Limit, type and presence of a segment that is not known to need no check. Records #GP(0) or #SS(0).
    @inline(never) package func checkSegment(
        _ index: Int, offset: UInt64, size: Int, write: Bool, _ op: OperationPointer
    ) -> Bool {
        if segmentAllows(index, offset: offset, size: size, write: write) { return true }
        let vector = index == SegmentIndex.ss ? ExceptionVector.ss : ExceptionVector.gp
        _ = fault(vector, code: 0, at: op)
        return false
    }

    /// Whether `size` bytes at `offset` lie within segment `index` and its type permits the access.
    package func segmentAllows(_ index: Int, offset: UInt64, size: Int, write: Bool) -> Bool {
        segmentAllows(segment(index).pointee, offset: offset, size: size, write: write)
    }

    /// The same for a segment register's value, loaded or not (SDM volume 3, 5.3 and 5.5).
    package func segmentAllows(_ segment: SegmentRegister, offset: UInt64, size: Int, write: Bool) -> Bool {
        let attributes = segment.attributes
        guard attributes & SegmentAttributes.present != 0 else { return false }
        let isCode = attributes & SegmentAttributes.code != 0
        let permits =
            write
            ? !isCode && attributes & SegmentAttributes.writable != 0
            : !isCode || attributes & SegmentAttributes.readable != 0
        guard permits || isRealOrVirtual8086 else { return false }
        let last = offset &+ UInt64(size) &- 1
        if !isCode && attributes & SegmentAttributes.expandDown != 0 {
            let top: UInt64 = attributes & SegmentAttributes.big != 0 ? 0xffff_ffff : 0xffff
            return offset > UInt64(segment.limit) && last <= top
        }
        return last <= UInt64(segment.limit)
    }

    @inline(never) private func readSlow(_ linear: UInt64, _ size: Int, _ op: OperationPointer, stack: Bool) -> Bool {
        withProcessor { $0.read(linear, size: size, stack ? [.stack] : [], op) }
    }

    @inline(never) private func writeSlow(
        _ linear: UInt64, _ value: UInt64, _ size: Int, _ op: OperationPointer, stack: Bool
    ) -> Bool {
        pointee.scratch.0 = value
        return withProcessor { $0.write(linear, size: size, stack ? [.write, .stack] : [.write], op) }
    }

    @inline(never) private func beginUpdateSlow(
        _ linear: UInt64, _ size: Int, _ op: OperationPointer
    ) -> UnsafeMutableRawPointer? {
        let stack: AccessKind = op.pointee.segment == 2 ? [.stack] : []
        guard withProcessor({ $0.readForUpdate(linear, size: size, stack, op) }) else { return nil }
        pointee.scratchAddress = linear
        return scratchPointer
    }

    @inline(never) private func finishUpdateSlow(_ size: Int, _ op: OperationPointer) {
        withProcessor { $0.commitUpdate(pointee.scratchAddress, size: size, op) }
    }
}

/// Bits of `SegmentRegister.attributes` (SDM volume 3, 3.4.5).
package enum SegmentAttributes {
    package static let accessed: UInt16 = 1 << 0
    /// Data: writable. Code: readable.
    package static let writable: UInt16 = 1 << 1, readable: UInt16 = 1 << 1
    /// Data: expand-down. Code: conforming.
    package static let expandDown: UInt16 = 1 << 2, conforming: UInt16 = 1 << 2
    package static let code: UInt16 = 1 << 3
    /// S: a code or data segment, not a system one.
    package static let user: UInt16 = 1 << 4
    package static let dpl: UInt16 = 3 << 5
    package static let present: UInt16 = 1 << 7
    package static let long: UInt16 = 1 << 13
    package static let big: UInt16 = 1 << 14
    package static let granularity: UInt16 = 1 << 15
    /// The type field, bits 0 to 3.
    package static let typeMask: UInt16 = 0xf
}
