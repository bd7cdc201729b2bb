import CEngine

/// Attributes of the segment registers that the processor sets without a descriptor.
package enum FlatSegment {
    package static let data: UInt16 = 0xc093  // G, B, present, writable, accessed
    package static let code32: UInt16 = 0xc09b  // G, D, present, readable, accessed
    package static let code64: UInt16 = 0xa09b  // G, L, present, readable, accessed
    /// In virtual-8086 mode every segment is a present, writable one of ring 3.
    package static let virtual8086: UInt16 = 0xf3
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: Mode

    /// Recomputes what follows from the control registers, CS, SS, CPL and RFLAGS. To be called after any of them has
    /// changed, once RIP is that of the next instruction.
    package func updateMode() {
        let old = pointee.mode
        recomputeMode()
        let kind = ModeKey.sizeMask | ModeKey.protected | ModeKey.longMode
        if (old ^ pointee.mode) & kind != 0 {
            let value = UInt64(pointee.mode & kind)
            emit(.modeSwitch, address: nextLinearAddress, operand: UInt64(old & kind), value: value)
        }
    }

    /// `updateMode` without an event, for state that is put back rather than changed.
    package func recomputeMode() {
        let long = isLongMode
        let code = pointee.segments.1.attributes
        let is64 = long && code & SegmentAttributes.long != 0
        let isProtected = pointee.cr0 & CR0.pe != 0 && !isVirtual8086
        var mode: UInt32
        if is64 {
            mode = ModeKey.code64 | allUnchecked
        } else {
            mode = code & SegmentAttributes.big != 0 ? ModeKey.code32 : ModeKey.code16
            if pointee.segments.2.attributes & SegmentAttributes.big != 0 { mode |= ModeKey.stack32 }
            mode |= uncheckedSegments
            if isFlat(mode) { mode |= ModeKey.flat }
        }
        if pointee.cpl == 3 { mode |= ModeKey.user }
        if isProtected { mode |= ModeKey.protected }
        if long { mode |= ModeKey.longMode }
        if pointee.cr0 & (CR0.em | CR0.ts) == 0 {
            mode |= ModeKey.x87Usable
            if pointee.cr4 & CR4.osfxsr != 0 { mode |= ModeKey.sseUsable }
        }
        pointee.mode = mode
        pointee.linearMask = is64 ? ~0 : 0xffff_ffff
        pointee.stackMask = is64 ? ~0 : mode & ModeKey.stack32 != 0 ? 0xffff_ffff : 0xffff
        pointee.stackBase = is64 ? 0 : pointee.segments.2.base
        processor.modeChanged()
    }

    /// Linear address of the next instruction between blocks, and of the running one in what it reports.
    package var nextLinearAddress: UInt64 { linearRIP }

    private func isFlat(_ mode: UInt32) -> Bool {
        let wanted =
            ModeKey.code32 | ModeKey.stack32 | ModeKey.unchecked(SegmentIndex.es) | ModeKey.unchecked(SegmentIndex.ss)
            | ModeKey.unchecked(SegmentIndex.ds)
        return mode & (wanted | ModeKey.sizeMask) == wanted && pointee.segments.1.limit == 0xffff_ffff
            && pointee.segments.0.base | pointee.segments.1.base | pointee.segments.2.base | pointee.segments.3.base
                == 0
    }

    private var allUnchecked: UInt32 { 0x3f * ModeKey.unchecked(0) }

    /// The segments that cover 4 GB and may be read and written. CS never counts: a store through it must still fault.
    private var uncheckedSegments: UInt32 {
        let mask =
            SegmentAttributes.present | SegmentAttributes.code | SegmentAttributes.expandDown
            | SegmentAttributes.writable
        let wanted = SegmentAttributes.present | SegmentAttributes.writable
        var bits: UInt32 = 0
        for index in SegmentIndex.es...SegmentIndex.gs where index != SegmentIndex.cs {
            let segment = segment(index).pointee
            if segment.limit == 0xffff_ffff && segment.attributes & mask == wanted { bits |= ModeKey.unchecked(index) }
        }
        return bits
    }

    // MARK: Loading segment registers

    /// Loads ES, SS, DS, FS or GS as MOV and POP do, with every check of the current mode (SDM volume 2, MOV).
    package func loadSegment(_ index: Int, _ selector: UInt16) -> Bool {
        if isRealOrVirtual8086 {
            loadRealSegment(index, selector)
            return true
        }
        if Selector.isNull(selector) { return loadNullSegment(index, selector) }
        if index == SegmentIndex.ss {
            guard let descriptor = stackDescriptor(selector, cpl: pointee.cpl, vector: ExceptionVector.gp),
                markAccessed(descriptor)
            else { return false }
            segment(index).pointee = descriptor.register(selector)
            return true
        }
        guard let descriptor = readDescriptor(selector) else { return false }
        let privilege = max(pointee.cpl, Selector.rpl(selector))
        guard descriptor.isReadable, descriptor.isCode && descriptor.isConforming || privilege <= descriptor.dpl else {
            return reject(ExceptionVector.gp, Selector.code(selector))
        }
        guard descriptor.isPresent else { return reject(ExceptionVector.np, Selector.code(selector)) }
        guard markAccessed(descriptor) else { return false }
        segment(index).pointee = descriptor.register(selector)
        return true
    }

    /// Loads a segment register in real or virtual-8086 mode. In real mode the hidden limit and attributes stay.
    package func loadRealSegment(_ index: Int, _ selector: UInt16) {
        let register = segment(index)
        register.pointee.selector = selector
        register.pointee.base = UInt64(selector) << 4
        if isVirtual8086 {
            register.pointee.limit = 0xffff
            register.pointee.attributes = FlatSegment.virtual8086
        }
    }

    private func loadNullSegment(_ index: Int, _ selector: UInt16) -> Bool {
        if index == SegmentIndex.ss {
            guard is64Bit, pointee.cpl != 3, Selector.rpl(selector) == pointee.cpl else {
                return reject(ExceptionVector.gp, 0)
            }
        }
        setNullSegment(index, selector)
        return true
    }

    /// Makes a segment register unusable. AMD processors leave the hidden base and limit as they were.
    package func setNullSegment(_ index: Int, _ selector: UInt16 = 0) {
        let register = segment(index)
        register.pointee.selector = selector
        register.pointee.attributes = 0
        if !processor.model.nullSelectorKeepsBase {
            register.pointee.base = 0
            register.pointee.limit = 0
        }
    }

    /// SS after a switch to an inner ring in long mode: null, with the new privilege as RPL.
    package func setNullStackSegment(cpl: UInt8) {
        setNullSegment(SegmentIndex.ss, UInt16(cpl))
        segment(SegmentIndex.ss).pointee.attributes = UInt16(cpl) << 5
    }

    /// Reads and checks a descriptor for SS at privilege `cpl`. `vector` is what a bad one raises: #TS when the
    /// selector comes from a TSS, else #GP; one that is not present raises #SS.
    package func stackDescriptor(_ selector: UInt16, cpl: UInt8, vector: UInt8, ext: UInt32 = 0) -> Descriptor? {
        let code = Selector.code(selector, ext: ext)
        guard !Selector.isNull(selector) else {
            setFault(vector, code: ext)
            return nil
        }
        guard let descriptor = readDescriptor(selector, vector: vector, ext: ext) else { return nil }
        guard Selector.rpl(selector) == cpl, descriptor.dpl == cpl, descriptor.isWritableData else {
            setFault(vector, code: code)
            return nil
        }
        guard descriptor.isPresent else {
            setFault(ExceptionVector.ss, code: code)
            return nil
        }
        return descriptor
    }

    /// Whether a code descriptor's L and D bits can be used: both together are reserved in long mode.
    package func codeSizeIsValid(_ descriptor: Descriptor) -> Bool {
        !(isLongMode && descriptor.isLong && descriptor.isBig)
    }

    /// Whether `rip` can be run in the segment: inside its limit, or canonical in 64-bit code.
    package func codeAllows(_ rip: UInt64, _ descriptor: Descriptor) -> Bool {
        isLongMode && descriptor.isLong ? isCanonical(rip) : rip <= UInt64(descriptor.limit)
    }

    /// Enters a code segment at privilege `cpl`: the descriptor has been checked and marked accessed. RIP is the
    /// caller's to set, and `updateMode` to call.
    package func setCS(_ selector: UInt16, _ descriptor: Descriptor, cpl: UInt8) {
        pointee.segments.1 = descriptor.register(Selector.with(selector, rpl: cpl))
        pointee.cpl = cpl
    }

    /// After a return to an outer ring: data segments that it may not use become null (SDM volume 3, 5.8.6).
    package func dropInnerSegments() {
        for index in SegmentIndex.es...SegmentIndex.gs where index != SegmentIndex.cs && index != SegmentIndex.ss {
            let attributes = segment(index).pointee.attributes
            let isConformingCode =
                attributes & SegmentAttributes.code != 0
                && attributes & SegmentAttributes.conforming != 0
            let dpl = UInt8(truncatingIfNeeded: (attributes & SegmentAttributes.dpl) >> 5)
            if attributes & SegmentAttributes.present != 0 && !isConformingCode && dpl < pointee.cpl {
                setNullSegment(index)
            }
        }
    }
}
