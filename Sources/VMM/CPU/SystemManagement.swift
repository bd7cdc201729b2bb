import CEngine

// System-management mode (SDM volume 3, chapter 31; APM volume 2, chapter 10): entry, the state save area, RSM.

/// The state save area, seen from SMBASE. 32-bit models have the layout of Intel's first processors with SMM, 64-bit
/// ones AMD's; their hidden parts of segments lie where those processors keep them.
private struct SaveArea {
    let isLong: Bool

    static let entry: UInt64 = 0x8000
    static let length = 0x200
    static let start: UInt64 = 0xfe00

    static let revision: UInt16 = 0x7efc
    /// Revision: SMBASE can be moved; the low half tells the layout.
    var revisionValue: UInt64 { isLong ? 0x2_0064 : 0x2_0000 }
    var smbase: UInt16 { isLong ? 0x7f00 : 0x7ef8 }
    var autoHalt: UInt16 { isLong ? 0x7ec9 : 0x7f02 }

    /// Offset of general register `number`.
    func register(_ number: Int) -> UInt16 { isLong ? UInt16(0x7ff8 - 8 * number) : UInt16(0x7fd0 + 4 * number) }
    /// Offsets of a 64-bit save area's segment: selector, attributes, limit, base.
    func longSegment(_ index: Int) -> UInt16 {
        [0x7e00, 0x7e10, 0x7e20, 0x7e30, 0x7e40, 0x7e50, 0x7e70, 0x7e90][index]
    }
    static let longGDTR: UInt16 = 0x7e60, longIDTR: UInt16 = 0x7e80
    /// Offsets of a 32-bit save area's selector, and of its attributes with limit and base after them.
    func shortSelector(_ index: Int) -> UInt16 { UInt16(0x7fa8 + 4 * index) }
    func shortHidden(_ index: Int) -> UInt16 {
        [0x7f84, 0x7f90, 0x7f9c, 0x7f2c, 0x7f38, 0x7f44, 0x7f78, 0x7f5c][index]
    }
}

/// The bytes of a save area while it is filled or read, before it goes to or after it came from memory.
private struct SaveImage {
    var bytes = [UInt8](repeating: 0, count: SaveArea.length)

    private func index(_ offset: UInt16) -> Int { Int(offset) - 0x7e00 }

    mutating func put(_ value: UInt64, _ offset: UInt16, size: Int) {
        for byte in 0..<size { bytes[index(offset) + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8)) }
    }

    func get(_ offset: UInt16, size: Int) -> UInt64 {
        (0..<size).reduce(0) { $0 | UInt64(bytes[index(offset) + $1]) << UInt64($1 * 8) }
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: Entry

    /// Takes a system-management interrupt: saves the state at SMBASE and starts at SMBASE + 8000H.
    package func enterSMM() {
        if cpu_leaves_transfer(self).pointee != 0 { processor.endTransfer() }
        let area = SaveArea(isLong: processor.model.hasLongMode)
        let image = save(area)
        pointee.inSMM = true
        pointee.nmiBlocked = true
        pointee.halted = false
        pointee.interruptShadow = 0
        leavePaging()
        for offset in 0..<SaveArea.length {
            let address = pointee.smbase &+ SaveArea.start &+ UInt64(offset)
            _ = writeSystem(image.bytes[offset], linear: address & 0xffff_ffff)
        }
        setRFlags(RFlags.reserved1)
        pointee.dr.7 = DebugControl.fixed
        for index in 0..<6 {
            segment(index).pointee = SegmentRegister(base: 0, limit: 0xffff_ffff, selector: 0, attributes: 0x8093)
        }
        pointee.segments.1.selector = UInt16(truncatingIfNeeded: pointee.smbase >> 4)
        pointee.segments.1.base = pointee.smbase
        pointee.cpl = 0
        pointee.rip = SaveArea.entry
        pointee.count &+= 1
        updateMode()
    }

    /// Turns off protection, paging and long mode, and lets memory be seen as the new mode sees it.
    private func leavePaging() {
        pointee.cr0 &= ~(CR0.pe | CR0.em | CR0.ts | CR0.pg)
        pointee.cr4 = 0
        pointee.efer = 0
        processor.smmChanged(pointee.inSMM)
        processor.pagingChanged()
        processor.mapChanged()
    }

    private func save(_ area: SaveArea) -> SaveImage {
        var image = SaveImage()
        image.put(area.revisionValue, SaveArea.revision, size: 4)
        image.put(pointee.smbase, area.smbase, size: 4)
        image.put(pointee.halted ? 1 : 0, area.autoHalt, size: area.isLong ? 1 : 2)
        if area.isLong { saveLong(area, &image) } else { saveShort(area, &image) }
        return image
    }

    private func saveLong(_ area: SaveArea, _ image: inout SaveImage) {
        for index in 0..<8 {
            let register = segment(index).pointee
            let offset = area.longSegment(index)
            let attributes = (register.attributes & 0xff) | (register.attributes & 0xf000) >> 4
            image.put(UInt64(register.selector), offset, size: 2)
            image.put(UInt64(attributes), offset + 2, size: 2)
            image.put(UInt64(register.limit), offset + 4, size: 4)
            image.put(register.base, offset + 8, size: 8)
        }
        for (table, offset) in [(pointee.gdtr, SaveArea.longGDTR), (pointee.idtr, SaveArea.longIDTR)] {
            image.put(UInt64(table.limit), offset + 4, size: 4)
            image.put(table.base, offset + 8, size: 8)
        }
        for number in 0..<16 { image.put(gpr(number), area.register(number), size: 8) }
        for (value, offset) in longControls { image.put(value, offset, size: 8) }
    }

    /// Control registers of a 64-bit save area, with their offsets.
    private var longControls: [(UInt64, UInt16)] {
        [
            (pointee.efer, 0x7ed0), (pointee.cr4, 0x7f48), (pointee.cr3, 0x7f50), (pointee.cr0, 0x7f58),
            (pointee.dr.7, 0x7f60), (pointee.dr.6, 0x7f68), (rflags, 0x7f70), (pointee.rip, 0x7f78),
        ]
    }

    private func saveShort(_ area: SaveArea, _ image: inout SaveImage) {
        for index in 0..<8 {
            let register = segment(index).pointee
            let offset = area.shortHidden(index)
            image.put(UInt64(register.selector), area.shortSelector(index), size: 4)
            image.put(UInt64(register.attributes) << 8, offset, size: 4)
            image.put(UInt64(register.limit), offset + 4, size: 4)
            image.put(register.base, offset + 8, size: 4)
        }
        image.put(pointee.gdtr.base, 0x7f74, size: 4)
        image.put(UInt64(pointee.gdtr.limit), 0x7f70, size: 4)
        image.put(pointee.idtr.base, 0x7f58, size: 4)
        image.put(UInt64(pointee.idtr.limit), 0x7f54, size: 4)
        for number in 0..<8 { image.put(gpr(number), area.register(number), size: 4) }
        let controls: [(UInt64, UInt16)] = [
            (pointee.cr4, 0x7f14), (pointee.cr3, 0x7ff8), (pointee.cr0, 0x7ffc), (pointee.dr.7, 0x7fc8),
            (pointee.dr.6, 0x7fcc), (rflags, 0x7ff4), (pointee.rip, 0x7ff0),
        ]
        for (value, offset) in controls { image.put(value, offset, size: 4) }
    }

    // MARK: RSM

    /// RSM: #UD outside SMM; shutdown if the save area holds a state that cannot be entered.
    package func resumeFromSMM(_ op: OperationPointer) -> Next {
        guard pointee.inSMM else { return undefined(at: op) }
        pointee.count = count(before: op) &+ 1
        let area = SaveArea(isLong: processor.model.hasLongMode)
        leavePaging()
        var image = SaveImage()
        for offset in 0..<SaveArea.length {
            let address = pointee.smbase &+ SaveArea.start &+ UInt64(offset)
            image.bytes[offset] = readSystem(UInt8.self, linear: address & 0xffff_ffff) ?? 0xff
        }
        pointee.inSMM = false
        pointee.nmiBlocked = false
        pointee.smbase = image.get(area.smbase, size: 4)
        let restored = area.isLong ? restoreLong(area, image) : restoreShort(area, image)
        processor.smmChanged(false)
        processor.pagingChanged()
        processor.mapChanged()
        if !restored { pointee.pending |= PendingFlags.shutdown }
        pointee.halted = image.get(area.autoHalt, size: 1) & 1 != 0
        updateMode()
        return nil
    }

    private func restoreLong(_ area: SaveArea, _ image: SaveImage) -> Bool {
        for index in 0..<8 {
            let offset = area.longSegment(index)
            let attributes = UInt16(image.get(offset + 2, size: 2))
            segment(index).pointee = SegmentRegister(
                base: image.get(offset + 8, size: 8), limit: UInt32(image.get(offset + 4, size: 4)),
                selector: UInt16(image.get(offset, size: 2)),
                attributes: (attributes & 0xff) | (attributes & 0xf00) << 4)
        }
        pointee.gdtr = restoredTable(image, base: SaveArea.longGDTR + 8, limit: SaveArea.longGDTR + 4, size: 8)
        pointee.idtr = restoredTable(image, base: SaveArea.longIDTR + 8, limit: SaveArea.longIDTR + 4, size: 8)
        for number in 0..<16 { setGPR(number, image.get(area.register(number), size: 8)) }
        pointee.rip = image.get(0x7f78, size: 8)
        return restoreControls(
            efer: image.get(0x7ed0, size: 8), cr4: image.get(0x7f48, size: 8), cr3: image.get(0x7f50, size: 8),
            cr0: image.get(0x7f58, size: 8), dr7: image.get(0x7f60, size: 8), dr6: image.get(0x7f68, size: 8),
            flags: image.get(0x7f70, size: 8))
    }

    private func restoreShort(_ area: SaveArea, _ image: SaveImage) -> Bool {
        for index in 0..<8 {
            let offset = area.shortHidden(index)
            segment(index).pointee = SegmentRegister(
                base: image.get(offset + 8, size: 4), limit: UInt32(image.get(offset + 4, size: 4)),
                selector: UInt16(truncatingIfNeeded: image.get(area.shortSelector(index), size: 4)),
                attributes: UInt16(truncatingIfNeeded: image.get(offset, size: 4) >> 8) & 0xf0ff)
        }
        pointee.gdtr = restoredTable(image, base: 0x7f74, limit: 0x7f70, size: 4)
        pointee.idtr = restoredTable(image, base: 0x7f58, limit: 0x7f54, size: 4)
        for number in 0..<8 { setGPR(number, image.get(area.register(number), size: 4)) }
        pointee.rip = image.get(0x7ff0, size: 4)
        return restoreControls(
            efer: 0, cr4: image.get(0x7f14, size: 4), cr3: image.get(0x7ff8, size: 4),
            cr0: image.get(0x7ffc, size: 4), dr7: image.get(0x7fc8, size: 4), dr6: image.get(0x7fcc, size: 4),
            flags: image.get(0x7ff4, size: 4))
    }

    private func restoredTable(_ image: SaveImage, base: UInt16, limit: UInt16, size: Int) -> DescriptorTable {
        DescriptorTable(base: image.get(base, size: size), limit: UInt16(truncatingIfNeeded: image.get(limit, size: 4)))
    }

    /// Control and debug registers and RFLAGS; false if together they are no state that a processor can be in.
    private func restoreControls(
        efer: UInt64, cr4: UInt64, cr3: UInt64, cr0: UInt64, dr7: UInt64, dr6: UInt64, flags: UInt64
    ) -> Bool {
        let model = processor.model
        let isPaging = cr0 & CR0.pg != 0
        pointee.efer = efer & (model.eferBits | EFER.lma)
        pointee.cr4 = cr4 & model.cr4Bits
        pointee.cr3 = cr3
        pointee.cr0 = (cr0 & 0xffff_ffff) | CR0.et
        pointee.dr.6 = dr6 & 0xffff_ffff
        pointee.dr.7 = (dr7 & DebugControl.writable) | DebugControl.fixed
        setRFlags(flags)
        let protected = cr0 & CR0.pe != 0
        let stackDPL = UInt8(truncatingIfNeeded: (pointee.segments.2.attributes & SegmentAttributes.dpl) >> 5)
        pointee.cpl = !protected ? 0 : isVirtual8086 ? 3 : stackDPL
        guard cr4 & ~model.cr4Bits == 0, cr0 >> 32 == 0, !isPaging || protected,
            cr0 & CR0.nw == 0 || cr0 & CR0.cd != 0
        else { return false }
        let isLong = efer & EFER.lma != 0
        if isLong && !(isPaging && efer & EFER.lme != 0 && cr4 & CR4.pae != 0) { return false }
        return !isPaging || isLong || cr4 & CR4.pae == 0 || processor.loadPDPTRs(cr3)
    }
}
