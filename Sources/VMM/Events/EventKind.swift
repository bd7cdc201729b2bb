/// What an event of the guest is. Raw values are part of the trace format: append, never renumber.
package enum EventKind: UInt8, CaseIterable {
    /// Not sensitive: no event.
    case none = 0
    // Sensitive instructions, by the field's names.
    case cli, sti, pushf, popf, iret, farReturn, farJump, farCall
    case interruptInstruction, syscall, sysret, sysenter, sysexit, swapgs
    case readControl, writeControl, readDebug, writeDebug, clts, lmsw, smsw
    case lgdt, lidt, lldt, ltr, sgdt, sidt, sldt, str
    case segmentLoad, segmentStore, lar, lsl, verr, verw, arpl
    case invlpg, invd, wbinvd, rdmsr, wrmsr, rdtsc, rdtscp, rdpmc, cpuid, hlt, pause, portIn, portOut, rsm
    case undefinedInstruction, monitor, mwait, xgetbv, xsetbv
    // What the machine does.
    case mmioRead, mmioWrite, dma, exception, interruptAsserted, interruptDelivered, modeSwitch
    case pageTableWrite, descriptorWrite, tlbFill, firstTouch, taskSwitch
    /// Not an event of its own: up to 16 bytes that the string I/O before it moved, in `operand` and `value`. `size` is
    /// their number.
    case payload
    // What only a model of another machine wants to know (`EventWatch.model`); never in a trace.
    /// A walk read a frame for the first time, so that it became a page table: `operand` is its address, `value` the
    /// first linear address that it translates, `detail` its level (4: PML4, 1: page table), `size` the entries' bytes.
    /// Its entries that are not zero follow.
    case pageTableBegin
    /// An entry of the page table that just began: `operand` is its address, `value` its contents.
    case pageTableEntry
    /// The frame at `operand` is no page table any more.
    case pageTableEnd
    /// The first data access, since the TLB was flushed but for global entries, to a page that it still held: `address`
    /// and all else as of `tlbFill`.
    case tlbReuse
    /// A block of instructions was decoded, which may overlap others: `operand` is the physical address,
    /// `value` their bytes and, from bit 16 on, the indirect branches that the kernel had taken; `detail` their number.
    case codeDecoded
    /// Bytes in a frame with decoded code change: `operand` is the physical address, `value` their number.
    case codeChanged

    /// The kinds of events that a trace may hold.
    package static let recorded = allCases.filter { $0 != .none && $0.rawValue < EventKind.payload.rawValue }
}

/// Bits of `EventRecord.flags`.
package enum EventFlags {
    /// String I/O: `value` elements of `detail` bytes follow in records of kind `payload`.
    package static let hasPayload: UInt8 = 1 << 0
    // The state that the event leaves behind; for deliveries, the state that they interrupt. Sinks see it, traces do
    // not hold it, and RDTSC, RDTSCP and PAUSE may not carry it.
    /// RFLAGS.IF.
    package static let interruptsEnabled: UInt8 = 1 << 1
    /// CPL, two bits.
    package static let ringShift: UInt8 = 2
}

/// What a sink wants besides the events that are always reported.
package struct EventWatch: OptionSet {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// TLB fills, first touches, stores into page tables and descriptor tables.
    package static let paging = EventWatch(rawValue: 1)
    /// With `paging`: the contents of page tables, pages that a flushed TLB still holds, decoded code, and the count of
    /// indirect branches.
    package static let model = EventWatch(rawValue: 2)
}
