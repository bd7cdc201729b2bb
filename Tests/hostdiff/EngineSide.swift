import CEngine
import CHostCPU
import DifferentialSupport
import VMM

/// The engine, running each case at CPL 3 of long mode under a kernel that is only an IDT.
final class EngineSide: Side {
    /// Guest-physical addresses, and offsets in the kernel's linear window, which maps the first 2 MB.
    private enum Physical {
        static let pml4: UInt64 = 0x10_0000, kernelPDPT: UInt64 = 0x10_1000, kernelPD: UInt64 = 0x10_2000
        static let tables: UInt64 = 0x10_3000  // of the user's windows, six pages
        static let idt: UInt64 = 0x11_0000, gdt: UInt64 = 0x11_1000, tss: UInt64 = 0x11_2000
        static let handlers: UInt64 = 0x11_3000
        static let stackTop: UInt64 = 0x11_6000
        static let window: UInt64 = 0x12_0000
    }

    private enum PTE {
        static let present: UInt64 = 1, writable: UInt64 = 2, user: UInt64 = 4, large: UInt64 = 0x80
        static let noExecute: UInt64 = 1 << 63
    }

    private static let kernelBase: UInt64 = 0xffff_ffff_8000_0000
    private static let kernelCS: UInt16 = 0x10, tssSelector: UInt16 = 0x40
    private static let tssLimit: UInt16 = 0x67
    private static let handlerSpacing: UInt64 = 16
    /// No case runs longer: a repeated instruction ends at the window's end.
    private static let countLimit: UInt64 = 1 << 20

    let output: UnsafeMutablePointer<HostState>
    let memory: UnsafeMutableRawPointer
    private let processor: Processor
    private let clock = VirtualClock()
    private let guest: GuestMemory
    private var cpu: CPU { processor.cpu }
    /// The first byte of guest RAM, which `guest` owns.
    private let ram: UnsafeMutableRawPointer

    init() {
        guest = GuestMemory(size: 4 << 20)
        ram = guest.ramBytes.baseAddress!
        memory = ram + Int(Physical.window)
        output = .allocate(capacity: 1)
        output.initialize(to: HostState())
        processor = Processor(
            memory: guest, ports: PortBus(), mmio: MMIOBus(), clock: clock, model: testedModel)
        makePageTables()
        makeKernel()
        enterLongMode()
    }

    deinit { output.deallocate() }

    private func store<T>(_ value: T, _ physical: UInt64) {
        ram.storeBytes(of: value, toByteOffset: Int(physical), as: T.self)
    }

    private func load<T>(_ physical: UInt64, as type: T.Type = T.self) -> T {
        ram.loadUnaligned(fromByteOffset: Int(physical), as: T.self)
    }

    // MARK: The kernel

    private func makePageTables() {
        let kernel = PTE.present | PTE.writable
        store(Physical.kernelPDPT | kernel, Physical.pml4 + EngineSide.index(EngineSide.kernelBase, 3))
        store(Physical.kernelPD | kernel, Physical.kernelPDPT + EngineSide.index(EngineSide.kernelBase, 2))
        store(PTE.large | kernel, Physical.kernelPD + EngineSide.index(EngineSide.kernelBase, 1))
        mapWindow(Window.low, tables: Physical.tables, isHigh: false)
        mapWindow(Window.high, tables: Physical.tables + 0x3000, isHigh: true)
    }

    /// Byte offset of the entry for `linear` in a table of `level` 0 to 3.
    private static func index(_ linear: UInt64, _ level: UInt64) -> UInt64 { (linear >> (12 + 9 * level) & 511) * 8 }

    private func mapWindow(_ base: UInt64, tables: UInt64, isHigh: Bool) {
        let user = PTE.present | PTE.writable | PTE.user
        store(tables | user, Physical.pml4 + EngineSide.index(base, 3))
        store(tables + 0x1000 | user, tables + EngineSide.index(base, 2))
        store(tables + 0x2000 | user, tables + 0x1000 + EngineSide.index(base, 1))
        for mapping in Window.mappings {
            let frame = Physical.window + UInt64((isHigh ? mapping.highPage : mapping.page) * Window.pageSize)
            let rights =
                PTE.present | PTE.user | (mapping.isWritable ? PTE.writable : 0)
                | (mapping.isExecutable ? 0 : PTE.noExecute)
            store(frame | rights, tables + 0x2000 + EngineSide.index(base + mapping.offset, 0))
        }
    }

    /// IDT, GDT and TSS. Each exception's handler is a HLT at an address of its own.
    private func makeKernel() {
        for vector in 0..<UInt64(256) {
            let handler = EngineSide.kernelBase + Physical.handlers + vector * EngineSide.handlerSpacing
            let privilege: UInt64 = vector == 3 || vector == 4 ? 3 : 0
            let gate =
                handler & 0xffff | UInt64(EngineSide.kernelCS) << 16 | (0x8e | privilege << 5) << 40
                | (handler >> 16 & 0xffff) << 48
            store(gate, Physical.idt + vector * 16)
            store(handler >> 32, Physical.idt + vector * 16 + 8)
            store(UInt8(0xf4), Physical.handlers + vector * EngineSide.handlerSpacing)
        }
        store(UInt64(0x00af_9b00_0000_ffff), Physical.gdt + UInt64(EngineSide.kernelCS))
        store(UInt64(0x00cf_9300_0000_ffff), Physical.gdt + UInt64(EngineSide.kernelCS) + 8)
        store(EngineSide.kernelBase + Physical.stackTop, Physical.tss + 4)  // RSP0
        store(EngineSide.tssLimit + 1, Physical.tss + 0x66)  // no I/O permission bits
    }

    private func enterLongMode() {
        let state = cpu
        state.pointee.cr0 = CR0.pe | CR0.mp | CR0.et | CR0.ne | CR0.wp | CR0.am | CR0.pg
        state.pointee.cr4 = CR4.pae | CR4.pge | CR4.osfxsr | CR4.osxmmexcpt
        state.pointee.efer = EFER.sce | EFER.lme | EFER.lma | EFER.nxe
        state.pointee.cr3 = Physical.pml4
        state.pointee.idtr = DescriptorTable(base: EngineSide.kernelBase + Physical.idt, limit: 0xfff)
        state.pointee.gdtr = DescriptorTable(base: EngineSide.kernelBase + Physical.gdt, limit: 0xff)
        state.segment(SegmentIndex.tr).pointee = SegmentRegister(
            base: EngineSide.kernelBase + Physical.tss, limit: UInt32(EngineSide.tssLimit),
            selector: EngineSide.tssSelector, attributes: 0x8b)
        state.updateMode()
        processor.pagingChanged()
        processor.modeChanged()
    }

    // MARK: Cases

    func writeCode(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guest.write(Physical.window + UInt64(Window.dataBytes + offset), from: bytes)
    }

    func execute(_ test: TestCase) -> String? {
        loadState()
        let reason = processor.run(until: clock.count &+ EngineSide.countLimit)
        guard reason == .halted else { return "the engine stopped: \(reason) at \(hex(cpu.pointee.rip))" }
        cpu.pointee.halted = false
        saveState()
        return nil
    }

    private func loadState() {
        let state = cpu
        let input = output.pointee
        for number in 0..<16 { state.setGPR(number, output.generalRegisters[number]) }
        state.pointee.rip = input.rip
        state.setRFlags(input.rflags)
        let selectors = [input.es, input.cs, input.ss, input.ds, input.fs, input.gs]
        for (index, selector) in selectors.enumerated() { setSegment(index, selector) }
        state.pointee.cpl = 3
        state.pointee.interruptShadow = 0
        FloatImage.load(UnsafeRawPointer(output), into: state)
        state.updateMode()
        processor.modeChanged()
    }

    private func setSegment(_ index: Int, _ selector: UInt16) {
        guard let segment = Segment.named(selector) else {
            cpu.segment(index).pointee = SegmentRegister(base: 0, limit: 0, selector: selector, attributes: 0)
            return
        }
        var attributes =
            SegmentAttributes.present | SegmentAttributes.user | SegmentAttributes.dpl
            | SegmentAttributes.accessed
        if segment.isCode { attributes |= SegmentAttributes.code | SegmentAttributes.readable }
        if segment.isWritable { attributes |= SegmentAttributes.writable }
        if segment.isExpandDown { attributes |= SegmentAttributes.expandDown }
        if segment.isBig { attributes |= SegmentAttributes.big }
        if segment.isLong { attributes |= SegmentAttributes.long }
        if segment.limit > 0xf_ffff { attributes |= SegmentAttributes.granularity }
        cpu.segment(index).pointee = SegmentRegister(
            base: segment.base, limit: UInt32(segment.limit), selector: selector, attributes: attributes)
    }

    /// Reads the exception's frame off the kernel's stack: error code if there is one, RIP, CS, RFLAGS, RSP, SS.
    private func saveState() {
        let state = cpu
        let vector = (state.pointee.rip &- EngineSide.kernelBase &- Physical.handlers) / EngineSide.handlerSpacing
        let top = EngineSide.kernelBase + Physical.stackTop
        let hasCode = top &- state.gpr(Register.rsp) == 48
        let frame = Physical.stackTop - 40
        for number in 0..<16 { output.generalRegisters[number] = state.gpr(number) }
        output.generalRegisters[Register.rsp] = load(frame + 24)
        output.pointee.rip = load(frame)
        output.pointee.cs = load(frame + 8)
        output.pointee.rflags = load(frame + 16)
        output.pointee.vector = UInt32(truncatingIfNeeded: vector)
        output.pointee.errorCode = hasCode ? load(frame - 8) : 0
        output.pointee.cr2 = state.pointee.cr2
        FloatImage.save(state, to: UnsafeMutableRawPointer(output))
    }
}
