import CEngine

/// What a page walk found.
private struct Translation {
    var frame: UInt64
    var flags: UInt64
    /// 12, 21 or 22.
    var pageShift: UInt64
    /// Entries that were read.
    var references: UInt32
    /// The walk set the dirty bit.
    var setsDirty: Bool
}

// Address translation: the modelled TLB, and the page walk under it (SDM volume 3, chapter 4).
extension Processor {
    var isPaging: Bool { cpu.pointee.cr0 & CR0.pg != 0 }

    /// log2 of the size of large pages in the present paging mode.
    @inline(__always) var largeShift: UInt64 {
        cpu.pointee.cr4 & CR4.pae != 0 ? 21 : 22
    }

    /// Translates `linear` for an access at `cpl`. On a fault records it and returns nil.
    func translate(_ linear: UInt64, _ kind: AccessKind, cpl: UInt8) -> UInt64? {
        guard isPaging else { return linear & physicalMask }
        let isUser = cpl == 3 && !kind.contains(.system)
        let shift = largeShift
        let found =
            kind.contains(.fetch)
            ? fetchTLB.lookup(linear, largeShift: shift) : dataTLB.lookup(linear, largeShift: shift)
        if let (slot, entry) = found, permits(entry.frame, kind, isUser: isUser),
            !kind.contains(.write) || entry.frame & TLBFlags.dirty != 0
        {
            let pageBits: UInt64 = slot < TLB.smallEntries ? 0xfff : (1 << shift) - 1
            if watchesModel, !kind.contains(.fetch), noteUse(slot) {
                reportUse(.tlbReuse, linear, entry.frame, slot < TLB.smallEntries ? 12 : shift, kind.rawValue)
            }
            return ((entry.frame & pageMask) | (linear & pageBits)) & physicalMask
        }
        guard let walked = walk(linear, kind, isUser: isUser) else { return nil }
        fill(linear, walked, kind, replacing: found)
        return ((walked.frame & pageMask) | (linear & ((1 << walked.pageShift) - 1))) & physicalMask
    }

    private func fill(
        _ linear: UInt64, _ walked: Translation, _ kind: AccessKind, replacing: (slot: Int, entry: TLBEntry)?
    ) {
        let slot = TLB.slot(linear, largeShift: walked.pageShift == 12 ? nil : walked.pageShift)
        let entry = TLBEntry(
            tag: ((linear >> walked.pageShift) << walked.pageShift) | 1, frame: walked.frame | walked.flags)
        if kind.contains(.fetch) {
            if let replacing {
                fetchTLB.drop(replacing.slot)
                forgetFetch(replacing.slot, replacing.entry)
            }
            forgetFetch(slot, fetchTLB[slot])
            fetchTLB.fill(slot, entry)
        } else {
            if let replacing {
                dataTLB.drop(replacing.slot)
                dataCaches.drop(replacing.slot, replacing.entry)
            }
            dataCaches.drop(slot, dataTLB[slot])
            dataTLB.fill(slot, entry)
        }
        cpu_event_count(cpu, Int32(EventKind.tlbFill.rawValue)).pointee &+= 1
        guard watchesPaging else { return }
        if watchesModel, !kind.contains(.fetch) { _ = noteUse(slot) }
        let detail = kind.rawValue | walked.references << 8 | (walked.setsDirty ? 1 << 16 : 0)
        reportUse(.tlbFill, linear, walked.frame | walked.flags, walked.pageShift, detail)
    }

    private func reportUse(_ kind: EventKind, _ linear: UInt64, _ entry: UInt64, _ shift: UInt64, _ detail: UInt32) {
        cpu.append(
            EventRecord(
                count: cpu.pointee.position, address: linear, operand: entry & pageMask, value: entry & ~pageMask,
                kind: kind.rawValue, ring: cpu.pointee.cpl, size: UInt8(shift), flags: 0, detail: detail))
    }

    /// Whether rights collected over a walk allow the access.
    @inline(__always) private func permits(_ flags: UInt64, _ kind: AccessKind, isUser: Bool) -> Bool {
        if isUser && flags & TLBFlags.user == 0 { return false }
        if kind.contains(.write) && flags & TLBFlags.writable == 0 && (isUser || cpu.pointee.cr0 & CR0.wp != 0) {
            return false
        }
        return !(kind.contains(.fetch) && flags & TLBFlags.noExecute != 0)
    }

    // MARK: The walk

    private enum PTE {
        static let present: UInt64 = 1 << 0, writable: UInt64 = 1 << 1, user: UInt64 = 1 << 2
        static let accessed: UInt64 = 1 << 5, dirty: UInt64 = 1 << 6, large: UInt64 = 1 << 7, global: UInt64 = 1 << 8
        static let noExecute: UInt64 = 1 << 63
    }

    private func walk(_ linear: UInt64, _ kind: AccessKind, isUser: Bool) -> Translation? {
        if cpu.pointee.cr4 & CR4.pae == 0 { return walk32(linear, kind, isUser: isUser) }
        if cpu.pointee.efer & EFER.lma != 0 {
            return walkPAE(
                linear, kind, isUser: isUser, table: cpu.pointee.cr3 & addressBits, level: 4,
                rights: TLBFlags.user | TLBFlags.writable)
        }
        let pointer = cpu_pdptr(cpu, Int32((linear >> 30) & 3)).pointee
        guard pointer & PTE.present != 0 else { return pageFault(linear, kind, isUser: isUser, present: false) }
        return walkPAE(
            linear, kind, isUser: isUser, table: pointer & addressBits, level: 2,
            rights: TLBFlags.user | TLBFlags.writable)
    }

    /// Bits 12 up to the model's physical width.
    private var addressBits: UInt64 { ((1 << model.physicalAddressBits) - 1) & pageMask }

    /// Walks tables of 64-bit entries from `level` (4: PML4, 2: page directory) down.
    private func walkPAE(
        _ linear: UInt64, _ kind: AccessKind, isUser: Bool, table: UInt64, level: Int, rights: UInt64
    ) -> Translation? {
        var table = table
        var rights = rights
        let noExecuteEnabled = cpu.pointee.efer & EFER.nxe != 0
        let reservedHigh =
            ((UInt64(1) << 52) - 1) & ~((1 << model.physicalAddressBits) - 1)
            | (noExecuteEnabled ? 0 : PTE.noExecute)
            | (cpu.pointee.efer & EFER.lma != 0 ? 0 : 0x7ff0_0000_0000_0000)
        for current in stride(from: level, through: 1, by: -1) {
            let shift = UInt64(12 + 9 * (current - 1))
            let address = (table | ((linear >> shift) & 511) << 3) & physicalMask
            let entry = readTable(address, as: UInt64.self, level: UInt32(current), linear)
            guard entry & PTE.present != 0 else { return pageFault(linear, kind, isUser: isUser, present: false) }
            let isLarge = current == 2 && entry & PTE.large != 0
            let reserved = reservedHigh | (isLarge ? 0x1f_e000 : current > 2 ? PTE.large : 0)
            guard entry & reserved == 0 else {
                return pageFault(linear, kind, isUser: isUser, present: true, reserved: true)
            }
            if entry & PTE.writable == 0 { rights &= ~TLBFlags.writable }
            if entry & PTE.user == 0 { rights &= ~TLBFlags.user }
            if entry & PTE.noExecute != 0 { rights |= TLBFlags.noExecute }
            if current > 1 && !isLarge {
                if entry & PTE.accessed == 0 { writeTable(address, entry | PTE.accessed) }
                table = entry & addressBits
                continue
            }
            return leaf(
                linear, kind, isUser: isUser, rights, entry, at: address,
                frame: entry & addressBits & ~((1 << shift) - 1), shift: isLarge ? 21 : 12,
                references: UInt32(level - current + 1))
        }
        return nil
    }

    /// Walks the two levels of 32-bit entries.
    private func walk32(_ linear: UInt64, _ kind: AccessKind, isUser: Bool) -> Translation? {
        let directoryAddress = ((cpu.pointee.cr3 & 0xffff_f000) | ((linear >> 22) & 1023) << 2) & physicalMask
        let directory = readTable(directoryAddress, as: UInt32.self, level: 2, linear)
        let directoryEntry = UInt64(directory)
        guard directoryEntry & PTE.present != 0 else { return pageFault(linear, kind, isUser: isUser, present: false) }
        var rights =
            (directoryEntry & PTE.user != 0 ? TLBFlags.user : 0)
            | (directoryEntry & PTE.writable != 0 ? TLBFlags.writable : 0)
        if directoryEntry & PTE.large != 0 && cpu.pointee.cr4 & CR4.pse != 0 {
            // PSE-36: bits 13 to 20 are address bits 32 to 39, as many as the model has.
            let high = ((directoryEntry >> 13) & 0xff) << 32
            guard directoryEntry & (1 << 21) == 0 && high & ~((1 << model.physicalAddressBits) - 1) == 0 else {
                return pageFault(linear, kind, isUser: isUser, present: true, reserved: true)
            }
            return leaf(
                linear, kind, isUser: isUser, rights, directory, at: directoryAddress,
                frame: (directoryEntry & 0xffc0_0000) | high, shift: 22, references: 1)
        }
        if directoryEntry & PTE.accessed == 0 { writeTable(directoryAddress, directory | UInt32(PTE.accessed)) }
        let address = ((directoryEntry & 0xffff_f000) | ((linear >> 12) & 1023) << 2) & physicalMask
        let entry = readTable(address, as: UInt32.self, level: 1, linear)
        guard UInt64(entry) & PTE.present != 0 else { return pageFault(linear, kind, isUser: isUser, present: false) }
        if UInt64(entry) & PTE.user == 0 { rights &= ~TLBFlags.user }
        if UInt64(entry) & PTE.writable == 0 { rights &= ~TLBFlags.writable }
        return leaf(
            linear, kind, isUser: isUser, rights, entry, at: address,
            frame: UInt64(entry) & 0xffff_f000, shift: 12, references: 2)
    }

    /// The last entry of a walk: rights, then accessed and dirty bits.
    private func leaf<T: Word>(
        _ linear: UInt64, _ kind: AccessKind, isUser: Bool, _ rights: UInt64, _ entry: T, at address: UInt64,
        frame: UInt64, shift: UInt64, references: UInt32
    ) -> Translation? {
        guard permits(rights, kind, isUser: isUser) else {
            return pageFault(linear, kind, isUser: isUser, present: true)
        }
        let marks = PTE.accessed | (kind.contains(.write) ? PTE.dirty : 0)
        let wide = UInt64(truncatingIfNeeded: entry)
        if wide & marks != marks { writeTable(address, entry | T(truncatingIfNeeded: marks)) }
        var flags = rights
        if wide & PTE.dirty != 0 || kind.contains(.write) { flags |= TLBFlags.dirty }
        if wide & PTE.global != 0 && cpu.pointee.cr4 & CR4.pge != 0 { flags |= TLBFlags.global }
        return Translation(
            frame: frame, flags: flags, pageShift: shift, references: references,
            setsDirty: wide & PTE.dirty == 0 && kind.contains(.write))
    }

    private func pageFault(
        _ linear: UInt64, _ kind: AccessKind, isUser: Bool, present: Bool, reserved: Bool = false
    ) -> Translation? {
        var code: UInt32 = present ? PageFaultCode.present : 0
        if kind.contains(.write) { code |= PageFaultCode.write }
        if isUser { code |= PageFaultCode.user }
        if reserved { code |= PageFaultCode.reserved }
        let showsFetch = cpu.pointee.cr4 & CR4.pae != 0 && cpu.pointee.efer & EFER.nxe != 0
        if kind.contains(.fetch) && showsFetch { code |= PageFaultCode.fetch }
        cpu.setPageFault(linear, code: code)
        return nil
    }

    // MARK: Table access

    /// Reads the entry at `address` of a table at `level`, on the walk for `linear`.
    private func readTable<T: Word>(_ address: UInt64, as type: T.Type, level: UInt32, _ linear: UInt64) -> T {
        if watchesPaging, watch(address, FrameAttributes.pageTable), watchesModel {
            reportPageTable(address & pageMask, entryBytes: MemoryLayout<T>.size, level: level, linear)
        }
        if let page = memory.readPage(address) {
            return (page + Int(address & ~pageMask)).loadUnaligned(as: T.self)
        }
        return T(truncatingIfNeeded: mmio.read(address, size: MemoryLayout<T>.size))
    }

    /// Sets accessed or dirty bits. The table may hold decoded code, however unlikely.
    private func writeTable<T: Word>(_ address: UInt64, _ entry: T) {
        guard let page = memory.writePage(address) else { return }
        if memory.attributes(address) & FrameAttributes.code != 0 { codeWritten(address, MemoryLayout<T>.size) }
        (page + Int(address & ~pageMask)).storeBytes(of: entry, as: T.self)
    }

    /// Loads the PAE page-directory-pointer registers that CR3 points to.
    /// - Returns: false, and nothing changes, if a present entry has a reserved bit set.
    package func loadPDPTRs(_ cr3: UInt64) -> Bool {
        let reserved: UInt64 = ~((1 << model.physicalAddressBits) - 1) | 0x1e6
        let table = cr3 & 0xffff_ffe0
        let entries = (0..<4).map { readTable((table + UInt64($0) * 8) & physicalMask, as: UInt64.self, level: 3, 0) }
        guard entries.allSatisfy({ $0 & PTE.present == 0 || $0 & reserved == 0 }) else { return false }
        for index in 0..<4 { cpu_pdptr(cpu, Int32(index)).pointee = entries[index] }
        return true
    }
}
