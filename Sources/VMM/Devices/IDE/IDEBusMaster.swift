/// One channel of the bus master IDE controller (Programming Interface for Bus Master IDE Controller, revision 1.0):
/// moves data between a drive and the memory regions that a table of physical region descriptors (PRD) names.
final class IDEBusMaster: Archivable {
    private enum Register {
        static let command = 0
        static let status = 2
        static let table = 4...7
    }
    private static let start: UInt8 = 1 << 0
    private static let toMemory: UInt8 = 1 << 3
    private static let active: UInt8 = 1 << 0
    private static let error: UInt8 = 1 << 1
    private static let interrupt: UInt8 = 1 << 2
    /// The two bits in which software notes that drives can do DMA.
    private static let capable: UInt8 = 0x60
    private static let endOfTable: UInt32 = 1 << 31

    private let memory: any DMAMemory
    /// Whether PCI lets the function master the bus.
    private let mayMaster: () -> Bool
    /// Called when the engine has been started.
    var onStart: () -> Void = {}

    private var command: UInt8 = 0
    private var status: UInt8 = 0
    private var table: UInt32 = 0
    /// Where the engine is: the next descriptor, the region at hand, and whether it is the last.
    private var nextDescriptor: UInt32 = 0
    private var address: UInt32 = 0
    private var regionLeft: UInt32 = 0
    private var isLastRegion = false

    init(memory: any DMAMemory, mayMaster: @escaping () -> Bool) {
        self.memory = memory
        self.mayMaster = mayMaster
    }

    var isActive: Bool { status & Self.active != 0 }

    func reset() {
        command = 0
        status = 0
        table = 0
        regionLeft = 0
        isLastRegion = false
    }

    /// Notes that the channel's interrupt line has risen.
    func interruptAsserted() { status |= Self.interrupt }

    // MARK: Registers, `offset` 0 to 7

    func readByte(_ offset: Int) -> UInt8 {
        switch offset {
        case Register.command: command
        case Register.status: status
        case Register.table: UInt8(truncatingIfNeeded: table >> UInt32((offset - 4) * 8))
        default: 0
        }
    }

    func writeByte(_ offset: Int, _ value: UInt8) {
        switch offset {
        case Register.command:
            let wasStarted = command & Self.start != 0
            command = value & (Self.start | Self.toMemory)
            if command & Self.start == 0 {
                status &= ~Self.active
            } else if !wasStarted {
                nextDescriptor = table
                regionLeft = 0
                isLastRegion = false
                status |= Self.active
                onStart()
            }
        case Register.status:
            status = status & (Self.active | (Self.error | Self.interrupt) & ~value) | value & Self.capable
        case Register.table:
            let shift = UInt32((offset - 4) * 8)
            table = (table & ~(0xFF << shift) | UInt32(value) << shift) & ~3
        default:
            break
        }
    }

    // MARK: Transfers

    /// Moves `buffer` to or from the memory regions. A region has at least two bytes, so the walk is bounded by
    /// the buffer whatever the table holds.
    /// - Returns: how many bytes were moved; fewer than asked if the table ended.
    func move(_ buffer: UnsafeMutableRawBufferPointer, toMemory: Bool) -> Int {
        guard mayMaster() else {
            status = status & ~Self.active | Self.error
            return 0
        }
        var moved = 0
        while moved < buffer.count {
            if regionLeft == 0, !loadRegion() {
                status &= ~Self.active
                break
            }
            let count = min(Int(regionLeft), buffer.count - moved)
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[moved..<moved + count])
            if toMemory {
                memory.write(UInt64(address), from: UnsafeRawBufferPointer(part))
            } else {
                memory.read(UInt64(address), into: part)
            }
            moved += count
            address &+= UInt32(count)
            regionLeft -= UInt32(count)
        }
        return moved
    }

    private func loadRegion() -> Bool {
        guard !isLastRegion else { return false }
        var descriptor: (UInt32, UInt32) = (0, 0)
        withUnsafeMutableBytes(of: &descriptor) { memory.read(UInt64(nextDescriptor), into: $0) }
        nextDescriptor &+= 8
        address = UInt32(littleEndian: descriptor.0) & ~1
        let word = UInt32(littleEndian: descriptor.1)
        let size = word & 0xFFFE
        regionLeft = size == 0 ? 0x1_0000 : size
        isLastRegion = word & Self.endOfTable != 0
        return true
    }

    /// The drive has no more data: the engine stays active if the table has not ended.
    func finish() {
        if regionLeft == 0, isLastRegion { status &= ~Self.active }
    }

    func archive(_ archive: StateArchive) {
        archive.field("command", &command)
        archive.field("status", &status)
        archive.field("table", &table)
        archive.field("nextDescriptor", &nextDescriptor)
        archive.field("address", &address)
        archive.field("regionLeft", &regionLeft)
        archive.field("isLastRegion", &isLastRegion)
    }
}
