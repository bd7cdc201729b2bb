import CEngine
import Glibc

/// Where accesses to a page of the area from 0xA0000 to 0xFFFFF go, as the host bridge's PAM and SMRAM registers say.
package enum LegacyTarget: UInt8 {
    case ram, rom, mmio
}

/// Bits of a frame's attributes: why stores to it leave the fast path.
package enum FrameAttributes {
    /// Decoded code was read from it.
    package static let code: UInt8 = 1 << 0
    /// A page walk read it; kept only while a sink wants page-table writes.
    package static let pageTable: UInt8 = 1 << 1
    /// It holds part of the live GDT, LDT, IDT or TSS; kept only while a sink wants descriptor writes.
    package static let descriptorTable: UInt8 = 1 << 2
    /// Was touched since the sink was attached.
    package static let touched: UInt8 = 1 << 3
    /// What is kept only for a sink that wants paging events.
    package static let watched = pageTable | descriptorTable | touched
    /// Was not written to since writes began to be noted.
    package static let unwritten: UInt8 = 1 << 4
}

/// Guest-physical memory: RAM from address 0 up, ROMs, and the PC's area below 1 MB whose pages can be either.
///
/// Owns all memory that guest accesses may touch. Pointers it hands out cover exactly one 4-KB page and stay valid for
/// the life of the object.
package final class GuestMemory: DMAMemory, Archivable {
    /// Bytes of RAM.
    package let size: UInt64
    /// The RAM itself, one anonymous mapping of `size` bytes, unmapped in deinit.
    private let ram: UnsafeMutableRawPointer
    /// One byte of FrameAttributes for each RAM frame; freed in deinit.
    package let frames: UnsafeMutablePointer<UInt8>

    private struct ROM {
        var range: Range<UInt64>
        var bytes: UnsafeMutableRawPointer
    }
    private var roms: [ROM] = []

    package static let legacyStart: UInt64 = 0xa0000
    package static let legacyEnd: UInt64 = 0x100000
    private var legacyRead: [LegacyTarget]
    private var legacyWrite: [LegacyTarget]
    /// What `.rom` pages of the legacy area show: 384 KB, freed in deinit.
    private let legacyROM: UnsafeMutableRawPointer

    /// Called with the physical range whenever bytes in a frame with decoded code are about to be stale.
    package var onCodeWrite: (_ address: UInt64, _ count: Int) -> Void = { _, _ in }
    /// Called with the physical range when what the legacy area shows there has changed.
    package var onMapChange: (Range<UInt64>) -> Void = { _ in }
    /// Called for each DMA access with what it moves, for the event sink.
    package var onDMA: (_ address: UInt64, _ bytes: UnsafeRawBufferPointer, _ isWrite: Bool) -> Void = { _, _, _ in }

    /// RAM of `size` bytes, a multiple of 1 MB from 1 MB to 3 GB, all zero.
    package init(size: UInt64) {
        precondition(size >= 1 << 20 && size <= 3 << 30 && size & ((1 << 20) - 1) == 0)
        self.size = size
        let mapping = mmap(nil, Int(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let mapping, mapping != MAP_FAILED else { fatalError("cannot reserve \(size) bytes for the guest's RAM") }
        ram = mapping
        let frameCount = Int(size / pageSize)
        frames = .allocate(capacity: frameCount)
        frames.initialize(repeating: 0, count: frameCount)
        let pages = Int((Self.legacyEnd - Self.legacyStart) / pageSize)
        legacyRead = (0..<pages).map { $0 < 0x20 ? .mmio : .ram }
        legacyWrite = legacyRead
        legacyROM = .allocate(byteCount: pages * Int(pageSize), alignment: Int(pageSize))
        memset(legacyROM, 0xff, pages * Int(pageSize))
    }

    deinit {
        munmap(ram, Int(size))
        frames.deallocate()
        legacyROM.deallocate()
        for rom in roms { rom.bytes.deallocate() }
    }

    // MARK: Map

    /// Places a ROM at `address`, above RAM. Both are multiples of 4 KB.
    package func addROM(_ bytes: [UInt8], at address: UInt64) {
        precondition(address % pageSize == 0 && bytes.count % Int(pageSize) == 0 && address >= size)
        let copy = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: Int(pageSize))
        bytes.withUnsafeBytes { copy.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        roms.append(ROM(range: address..<address + UInt64(bytes.count), bytes: copy))
    }

    /// Sets what `.rom` pages below 1 MB show, from `address` (0xA0000 to 0xFFFFF) on.
    package func setLegacyROM(_ bytes: [UInt8], at address: UInt64) {
        precondition(address >= Self.legacyStart && address + UInt64(bytes.count) <= Self.legacyEnd)
        bytes.withUnsafeBytes {
            (legacyROM + Int(address - Self.legacyStart)).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
        }
        onMapChange(address..<address + UInt64(bytes.count))
    }

    /// Routes the 4-KB pages of these numbers (0xA0 to 0xFF).
    package func setLegacyArea(pages: ClosedRange<Int>, read: LegacyTarget, write: LegacyTarget) {
        let first = Int(Self.legacyStart / pageSize)
        let indices = pages.lowerBound - first...pages.upperBound - first
        guard indices.contains(where: { legacyRead[$0] != read || legacyWrite[$0] != write }) else { return }
        for index in indices {
            legacyRead[index] = read
            legacyWrite[index] = write
        }
        onMapChange(UInt64(pages.lowerBound) * pageSize..<UInt64(pages.upperBound + 1) * pageSize)
    }

    /// The page at guest-physical `address` for reading, or nil if a device answers there.
    package func readPage(_ address: UInt64) -> UnsafeMutableRawPointer? {
        let page = address & pageMask
        if page < size {
            guard page >= Self.legacyStart && page < Self.legacyEnd else { return ram + Int(page) }
            switch legacyRead[Int((page - Self.legacyStart) / pageSize)] {
            case .ram: return ram + Int(page)
            case .rom: return legacyROM + Int(page - Self.legacyStart)
            case .mmio: return nil
            }
        }
        for rom in roms where rom.range.contains(page) { return rom.bytes + Int(page - rom.range.lowerBound) }
        return nil
    }

    /// The page at guest-physical `address` for writing, or nil if it is not RAM. It counts as written to.
    package func writePage(_ address: UInt64) -> UnsafeMutableRawPointer? {
        guard let page = writablePage(address) else { return nil }
        frames[Int(address / pageSize)] &= ~FrameAttributes.unwritten
        return page
    }

    /// The page at guest-physical `address` if it can be written to, for comparing; nil if it is not RAM.
    package func writablePage(_ address: UInt64) -> UnsafeMutableRawPointer? {
        let page = address & pageMask
        guard page < size else { return nil }
        if page >= Self.legacyStart && page < Self.legacyEnd,
            legacyWrite[Int((page - Self.legacyStart) / pageSize)] != .ram
        {
            return nil
        }
        return ram + Int(page)
    }

    /// Whether stores to the page at `address` are dropped because it is ROM.
    package func dropsWrites(_ address: UInt64) -> Bool {
        let page = address & pageMask
        if page >= Self.legacyStart && page < Self.legacyEnd {
            return legacyWrite[Int((page - Self.legacyStart) / pageSize)] == .rom
        }
        return roms.contains { $0.range.contains(page) }
    }

    /// The attributes of the RAM frame that holds `address`; 0 for anything else.
    package func attributes(_ address: UInt64) -> UInt8 {
        address < size ? frames[Int(address / pageSize)] : 0
    }

    /// Adds attributes to the RAM frame that holds `address`, if it is one.
    package func mark(_ address: UInt64, _ attributes: UInt8) {
        if address < size { frames[Int(address / pageSize)] |= attributes }
    }

    package func unmark(_ address: UInt64, _ attributes: UInt8) {
        if address < size { frames[Int(address / pageSize)] &= ~attributes }
    }

    // MARK: DMA

    package func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        defer { onDMA(address, UnsafeRawBufferPointer(buffer), false) }
        forEachPage(address, buffer.count) { address, range in
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[range])
            if address < size, let page = readPage(address) {
                target.copyMemory(
                    from: UnsafeRawBufferPointer(
                        start: page + Int(address & ~pageMask), count: range.count))
            } else {
                memset(target.baseAddress!, 0xff, range.count)
            }
        }
    }

    package func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        onDMA(address, buffer, true)
        forEachPage(address, buffer.count) { address, range in
            guard let page = writePage(address) else { return }
            if attributes(address) & FrameAttributes.code != 0 { onCodeWrite(address, range.count) }
            (page + Int(address & ~pageMask)).copyMemory(
                from: buffer.baseAddress! + range.lowerBound, byteCount: range.count)
        }
    }

    /// Calls `body` with the address and the sub-range of the transfer for each page that it touches.
    private func forEachPage(_ address: UInt64, _ count: Int, _ body: (UInt64, Range<Int>) -> Void) {
        var done = 0
        while done < count {
            let current = address &+ UInt64(done)
            let chunk = min(count - done, Int(pageSize - (current & ~pageMask)))
            body(current, done..<done + chunk)
            done += chunk
        }
    }

    // MARK: Written pages

    /// Marks every frame as not written to.
    func forgetWrittenPages() {
        for frame in 0..<Int(size / pageSize) { frames[frame] |= FrameAttributes.unwritten }
    }

    /// Appends the numbers of the frames that were written to since they were marked, in ascending order.
    func appendWrittenPages(to pages: inout [UInt32]) {
        for frame in 0..<Int(size / pageSize) where frames[frame] & FrameAttributes.unwritten == 0 {
            pages.append(UInt32(frame))
        }
    }

    /// The bytes of RAM page `number`, for looking at; owned by this object.
    package func ramPage(_ number: UInt32) -> UnsafeRawBufferPointer {
        precondition(UInt64(number) < size / pageSize)
        return UnsafeRawBufferPointer(start: ram + Int(number) * Int(pageSize), count: Int(pageSize))
    }

    /// Replaces RAM page `number`, when a state is put back; `restore` of the rest of the state must follow.
    package func setRAMPage(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) {
        precondition(UInt64(number) < size / pageSize && bytes.count == Int(pageSize))
        (ram + Int(number) * Int(pageSize)).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    }

    /// Makes all of RAM zero, when a state is put back.
    package func clearRAM() { madvise(ram, Int(size), MADV_DONTNEED) }

    // MARK: State

    /// Calls `body` with the address and bytes of each 4-KB page of RAM, in order.
    package func forEachRAMPage(_ body: (UInt64, UnsafeRawBufferPointer) -> Void) {
        for address in stride(from: 0, to: size, by: Int(pageSize)) {
            body(address, UnsafeRawBufferPointer(start: ram + Int(address), count: Int(pageSize)))
        }
    }

    /// All of RAM. The object owns it; the buffer is valid as long as the object lives.
    package var ramBytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: ram, count: Int(size)) }

    /// ROM contents are configuration, not state, and are not visited; RAM is.
    package func archive(_ archive: StateArchive) {
        archive.expect("size", size)
        var read = legacyRead.map(\.rawValue)
        var write = legacyWrite.map(\.rawValue)
        archive.fixed("legacyRead", &read)
        archive.fixed("legacyWrite", &write)
        if !archive.omitsRAM { archiveRAM(archive) }
        guard archive.isRestoring, archive.failure == nil else { return }
        legacyRead = read.map { LegacyTarget(rawValue: $0) ?? .mmio }
        legacyWrite = write.map { LegacyTarget(rawValue: $0) ?? .mmio }
        frames.update(repeating: 0, count: Int(size / pageSize))
        onMapChange(Self.legacyStart..<Self.legacyEnd)
    }

    /// RAM as a list of the pages that are not all zero, so that a snapshot does not cost what the guest never touched.
    private func archiveRAM(_ archive: StateArchive) {
        var pages: [UInt32] = []
        if !archive.isRestoring {
            forEachRAMPage { address, bytes in
                if !bytes.bindMemory(to: UInt64.self).allSatisfy({ $0 == 0 }) {
                    pages.append(UInt32(address / pageSize))
                }
            }
        }
        archive.variable("ram.pages", &pages, limit: Int(size / pageSize))
        if archive.isRestoring { madvise(ram, Int(size), MADV_DONTNEED) }
        for page in pages where UInt64(page) < size / pageSize {
            archive.raw(
                "ram",
                UnsafeMutableRawBufferPointer(
                    start: ram + Int(page) * Int(pageSize), count: Int(pageSize)))
        }
    }
}
