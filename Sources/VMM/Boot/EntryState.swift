import CEngine

/// The processor as a boot protocol hands it to a kernel: flat segments, interrupts off.
package struct EntryState: Equatable {
    package enum Mode { case protected32, long64 }

    package var mode: Mode
    package var rip: UInt64
    package var rax: UInt64 = 0
    package var rbx: UInt64 = 0
    package var rsi: UInt64 = 0
    package var rsp: UInt64 = 0
    /// Whether the protocol promises a loaded descriptor table; otherwise only the hidden parts of segments are set.
    package var loadsDescriptorTable = true

    /// Where the descriptor table and the page tables of the entry lie: conventional memory that the kernel is told is
    /// free, and that nothing else of a boot uses.
    static let gdtAddress: UInt64 = 0x8000
    static let pageTables: UInt64 = 0x9000
    private static let pageTableBytes: UInt64 = 4096
    private static let codeSelector: UInt16 = 0x10
    private static let dataSelector: UInt16 = 0x18
    private static let pagePresentWritable: UInt64 = 3
    private static let pageLarge: UInt64 = 1 << 7

    // Access byte and flags of descriptors (SDM volume 3, 3.4.5): present, accessed, 4-KB granularity.
    private static let code32: UInt16 = 0xC09B
    private static let code64: UInt16 = 0xA09B
    private static let data32: UInt16 = 0xC093
    private static let flatLimit: UInt32 = 0xFFFF_FFFF

    private var codeAttributes: UInt16 { mode == .long64 ? Self.code64 : Self.code32 }

    package init(mode: Mode, rip: UInt64) {
        self.mode = mode
        self.rip = rip
    }

    /// Writes the tables that the state refers to and puts the processor into it.
    func apply(to processor: Processor, memory: some DMAMemory) {
        let cpu = processor.cpu
        cpu.pointee.gdtr = DescriptorTable(base: 0, limit: 0)
        if loadsDescriptorTable {
            storeDescriptorTable(in: memory)
            cpu.pointee.gdtr = DescriptorTable(base: Self.gdtAddress, limit: Self.dataSelector + 7)
        }
        cpu.pointee.idtr = DescriptorTable(base: 0, limit: 0)
        cpu.pointee.cr0 = CR0.pe | CR0.et
        if mode == .long64 {
            storeIdentityPaging(in: memory)
            cpu.pointee.cr3 = Self.pageTables
            cpu.pointee.cr4 = CR4.pae
            cpu.pointee.efer = EFER.lme | EFER.lma
            cpu.pointee.cr0 |= CR0.pg
        }
        for index in 0...SegmentIndex.gs {
            let isCode = index == SegmentIndex.cs
            cpu.segment(index).pointee = SegmentRegister(
                base: 0, limit: Self.flatLimit, selector: isCode ? Self.codeSelector : Self.dataSelector,
                attributes: isCode ? codeAttributes : Self.data32)
        }
        for register in 0..<16 { cpu.setGPR(register, 0) }
        cpu.setGPR(Register.rax, rax)
        cpu.setGPR(Register.rbx, rbx)
        cpu.setGPR(Register.rsi, rsi)
        cpu.setGPR(Register.rsp, rsp)
        cpu.setRFlags(RFlags.reserved1)
        cpu.pointee.rip = rip
        cpu.pointee.cpl = 0
        cpu.updateMode()
        processor.pagingChanged()
        processor.modeChanged()
    }

    private func storeDescriptorTable(in memory: some DMAMemory) {
        var table = GuestBlock(size: Int(Self.dataSelector) + 8)
        table.set(Int(Self.codeSelector), Self.flatDescriptor(codeAttributes))
        table.set(Int(Self.dataSelector), Self.flatDescriptor(Self.data32))
        memory.store(table.bytes, at: Self.gdtAddress)
    }

    /// A descriptor of base 0 and limit 4 GB.
    private static func flatDescriptor(_ attributes: UInt16) -> UInt64 {
        UInt64(attributes) << 40 | 0x000F_0000_0000_FFFF
    }

    /// Maps the first 4 GB one to one with 2-MB pages.
    private func storeIdentityPaging(in memory: some DMAMemory) {
        var tables = GuestBlock(size: 6 * Int(Self.pageTableBytes))
        let pointers = Self.pageTables + Self.pageTableBytes
        tables.set(0, pointers | Self.pagePresentWritable)
        for gigabyte in 0..<4 {
            let directory = pointers + Self.pageTableBytes * UInt64(gigabyte + 1)
            tables.set(Int(Self.pageTableBytes) + gigabyte * 8, directory | Self.pagePresentWritable)
        }
        for page in 0..<2048 {
            let entry = UInt64(page) << 21 | Self.pagePresentWritable | Self.pageLarge
            tables.set(2 * Int(Self.pageTableBytes) + page * 8, entry)
        }
        memory.store(tables.bytes, at: Self.pageTables)
    }
}
