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
}

/// Bits of `EventRecord.flags`.
package enum EventFlags {
    /// String I/O: `value` elements of `detail` bytes follow in records of kind `payload`.
    package static let hasPayload: UInt8 = 1 << 0
}
