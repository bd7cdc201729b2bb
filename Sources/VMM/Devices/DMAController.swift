/// The two cascaded 8237A DMA controllers of a PC and their page registers (Intel 8237A datasheet; 82371SB,
/// section 2.5.1). Channels 0 to 3 move bytes, 5 to 7 words; channel 4 is the cascade.
///
/// A device raises its request and moves data when it likes; the transfer takes no virtual time. Memory-to-memory
/// transfers, which a PC cannot use, are absent.
package final class DMAController: PortDevice, Archivable {
    private enum Port {
        static let first: ClosedRange<UInt16> = 0x00...0x0F
        static let pages: ClosedRange<UInt16> = 0x81...0x8F
        static let second: ClosedRange<UInt16> = 0xC0...0xDF
        static let highPages: ClosedRange<UInt16> = 0x481...0x48F
    }
    /// The page register of each channel, as an offset from port 0x80.
    private static let pageOfChannel = [0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA]

    private var chips = [DMA8237(), DMA8237()]
    /// The latches at ports 0x80 to 0x8F; the one at 0x80 belongs to another device and stays zero.
    private var pages = [UInt8](repeating: 0, count: 16)
    /// Bits 31 to 24 of the addresses.
    private var highPages = [UInt8](repeating: 0, count: 16)

    package init() {}

    /// Claims the controllers' ports and the page registers except port 0x80.
    package func attach(to bus: PortBus) {
        bus.attach(self, Port.first, width: 1)
        bus.attach(self, Port.pages, width: 1)
        bus.attach(self, Port.second, width: 1)
        bus.attach(self, Port.highPages, width: 1)
    }

    /// Back to the state after power-on.
    package func reset() {
        chips = [DMA8237(), DMA8237()]
        pages = [UInt8](repeating: 0, count: 16)
        highPages = pages
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        switch port {
        case Port.first: UInt32(chips[0].read(Int(port)))
        case Port.second: UInt32(chips[1].read(Int(port - Port.second.lowerBound) / 2))
        case Port.highPages: UInt32(highPages[Int(port & 15)])
        default: UInt32(pages[Int(port & 15)])
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        switch port {
        case Port.first: chips[0].write(Int(port), value)
        case Port.second: chips[1].write(Int(port - Port.second.lowerBound) / 2, value)
        case Port.highPages: highPages[Int(port & 15)] = value
        default: pages[Int(port & 15)] = value
        }
    }

    // MARK: The device's side

    /// Sets the request line of `channel`, 0 to 3 or 5 to 7.
    package func setRequest(channel: Int, _ level: Bool) {
        guard isDeviceChannel(channel) else { return }
        chips[channel >> 2].setRequest(channel & 3, level)
    }

    /// Whether the controller would acknowledge `channel`: requested, not masked, both controllers on.
    package func isReady(channel: Int) -> Bool {
        guard isDeviceChannel(channel), chips[channel >> 2].isReady(channel & 3) else { return false }
        return channel > 3 || chips[1].passesCascade
    }

    /// Moves up to `data.count` bytes from the device to memory, as the channel's mode says: one unit in single mode,
    /// to the end of the data or the terminal count in block and demand mode. A channel set to verify moves nothing.
    /// - Returns: how many bytes were moved, and whether the terminal count was reached.
    package func transferToMemory(
        channel: Int, _ data: [UInt8], _ memory: any DMAMemory
    ) -> (moved: Int, terminalCount: Bool) {
        var data = data
        return transfer(channel, limit: data.count, direction: .toMemory) { address, range in
            data.withUnsafeMutableBytes { buffer in
                memory.write(address, from: UnsafeRawBufferPointer(rebasing: buffer[range]))
            }
        }
    }

    /// Moves up to `limit` bytes, at most 64 KB, from memory to the device; see `transferToMemory`.
    package func transferFromMemory(
        channel: Int, limit: Int, _ memory: any DMAMemory
    ) -> (data: [UInt8], terminalCount: Bool) {
        var data = [UInt8](repeating: 0, count: min(max(limit, 0), 1 << 16))
        let result = transfer(channel, limit: data.count, direction: .fromMemory) { address, range in
            data.withUnsafeMutableBytes { buffer in
                memory.read(address, into: UnsafeMutableRawBufferPointer(rebasing: buffer[range]))
            }
        }
        return (Array(data.prefix(result.moved)), result.terminalCount)
    }

    private func isDeviceChannel(_ channel: Int) -> Bool { (0..<8).contains(channel) && channel != 4 }

    /// Moves unit by unit, since the address may run down and wraps within 64 KB (128 KB for words).
    private func transfer(
        _ channel: Int, limit: Int, direction: DMA8237.Direction, _ move: (UInt64, Range<Int>) -> Void
    ) -> (moved: Int, terminalCount: Bool) {
        guard isReady(channel: channel) else { return (0, false) }
        let unit = channel < 4 ? 1 : 2
        let place = Self.pageOfChannel[channel]
        let page = UInt64(highPages[place]) << 8 | UInt64(pages[place])
        let programmed = chips[channel >> 2].direction(channel & 3)
        var moved = 0
        while moved + unit <= limit {
            let step = chips[channel >> 2].step(channel & 3)
            // A 16-bit channel shifts its address by one and takes the page's bits 7 to 1.
            let address =
                unit == 1 ? page << 16 | UInt64(step.address) : (page & ~1) << 16 | UInt64(step.address) << 1
            if programmed == direction { move(address, moved..<moved + unit) }
            moved += unit
            if step.terminalCount { return (moved, true) }
            if chips[channel >> 2].isSingle(channel & 3) { break }
        }
        return (moved, false)
    }

    package func archive(_ archive: StateArchive) {
        for index in 0..<2 { archive.section("chip\(index)") { chips[index].archive(archive) } }
        archive.fixed("pages", &pages)
        archive.fixed("highPages", &highPages)
    }
}

/// One 8237A.
private struct DMA8237 {
    enum Direction: UInt8 {
        case verify, toMemory, fromMemory, illegal
    }
    private enum Register {
        static let status = 0x8
        static let request = 0x9
        static let singleMask = 0xA
        static let mode = 0xB
        static let clearFlipFlop = 0xC
        static let masterClear = 0xD
        static let clearMask = 0xE
        static let allMask = 0xF
    }
    private enum Mode {
        static let automatic: UInt8 = 0x10
        static let decrement: UInt8 = 0x20
        static let transferMask: UInt8 = 0xC0
        static let single: UInt8 = 0x40
        static let cascade: UInt8 = 0xC0
    }
    private static let disabled: UInt8 = 0x04

    private var baseAddress = [UInt16](repeating: 0, count: 4)
    private var baseCount = [UInt16](repeating: 0, count: 4)
    private var address = [UInt16](repeating: 0, count: 4)
    private var count = [UInt16](repeating: 0, count: 4)
    private var mode = [UInt8](repeating: 0, count: 4)
    private var command: UInt8 = 0
    private var mask: UInt8 = 0x0F
    /// Requests by the devices' lines, and by software.
    private var lines: UInt8 = 0
    private var software: UInt8 = 0
    private var reachedTerminalCount: UInt8 = 0
    /// The next byte at an address or count port is the high one.
    private var accessesHigh = false

    private mutating func masterClear() {
        command = 0
        mask = 0x0F
        software = 0
        reachedTerminalCount = 0
        accessesHigh = false
    }

    mutating func read(_ register: Int) -> UInt8 {
        switch register {
        case 0..<8:
            let value = register & 1 == 0 ? address[register >> 1] : count[register >> 1]
            accessesHigh.toggle()
            return UInt8(truncatingIfNeeded: accessesHigh ? value : value >> 8)
        case Register.status:
            let value = (lines | software) << 4 | reachedTerminalCount
            reachedTerminalCount = 0
            return value
        case Register.request: return 0xF0 | software
        case Register.singleMask: return command
        case Register.mode: return mode[0] | 0x03
        case Register.allMask: return 0xF0 | mask
        default: return 0
        }
    }

    mutating func write(_ register: Int, _ value: UInt8) {
        let bit: UInt8 = 1 << (value & 3)
        let sets = value & 4 != 0
        switch register {
        case 0..<8: writeWord(register, value)
        case Register.status: command = value
        case Register.request: software = sets ? software | bit : software & ~bit
        case Register.singleMask: mask = sets ? mask | bit : mask & ~bit
        case Register.mode: mode[Int(value & 3)] = value & 0xFC
        case Register.clearFlipFlop: accessesHigh = false
        case Register.masterClear: masterClear()
        case Register.clearMask: mask = 0
        default: mask = value & 0x0F
        }
    }

    private mutating func writeWord(_ register: Int, _ value: UInt8) {
        func merge(_ word: inout UInt16) {
            word = accessesHigh ? word & 0x00FF | UInt16(value) << 8 : word & 0xFF00 | UInt16(value)
        }
        if register & 1 == 0 {
            merge(&baseAddress[register >> 1])
            merge(&address[register >> 1])
        } else {
            merge(&baseCount[register >> 1])
            merge(&count[register >> 1])
        }
        accessesHigh.toggle()
    }

    mutating func setRequest(_ channel: Int, _ level: Bool) {
        let bit: UInt8 = 1 << UInt8(channel)
        lines = level ? lines | bit : lines & ~bit
    }

    func isReady(_ channel: Int) -> Bool {
        let bit: UInt8 = 1 << UInt8(channel)
        return command & Self.disabled == 0 && (lines & ~mask | software) & bit != 0
            && mode[channel] & Mode.transferMask != Mode.cascade
    }

    /// Channel 0 of the second controller lets the first one through.
    var passesCascade: Bool {
        command & Self.disabled == 0 && mask & 1 == 0 && mode[0] & Mode.transferMask == Mode.cascade
    }

    func direction(_ channel: Int) -> Direction { Direction(rawValue: mode[channel] >> 2 & 3)! }

    func isSingle(_ channel: Int) -> Bool { mode[channel] & Mode.transferMask == Mode.single }

    /// Accounts for one unit: its address, and whether it was the last one.
    mutating func step(_ channel: Int) -> (address: UInt16, terminalCount: Bool) {
        let current = address[channel]
        address[channel] = mode[channel] & Mode.decrement != 0 ? current &- 1 : current &+ 1
        count[channel] = count[channel] &- 1
        guard count[channel] == 0xFFFF else { return (current, false) }
        let bit: UInt8 = 1 << UInt8(channel)
        reachedTerminalCount |= bit
        software &= ~bit
        if mode[channel] & Mode.automatic != 0 {
            address[channel] = baseAddress[channel]
            count[channel] = baseCount[channel]
        } else {
            mask |= bit
        }
        return (current, true)
    }

    mutating func archive(_ archive: StateArchive) {
        archive.fixed("baseAddress", &baseAddress)
        archive.fixed("baseCount", &baseCount)
        archive.fixed("address", &address)
        archive.fixed("count", &count)
        archive.fixed("mode", &mode)
        archive.field("command", &command)
        archive.field("mask", &mask)
        archive.field("lines", &lines)
        archive.field("software", &software)
        archive.field("reachedTerminalCount", &reachedTerminalCount)
        archive.field("accessesHigh", &accessesHigh)
    }
}

extension DMAController: NamedRegisters {
    package var deviceName: String { "DMA" }

    package func registerName(port: UInt16) -> String? {
        if Port.first.contains(port) { return "first controller \(port - Port.first.lowerBound)" }
        if Port.second.contains(port) { return "second controller \((port - Port.second.lowerBound) / 2)" }
        return "page \(port & 0xF)"
    }
}
