/// The two 8237A DMA controllers of a PC with their page registers (Intel 8237A datasheet; 82371SB, section 2.5.1).
///
/// No device of this machine uses ISA DMA, but firmware and kernels program the registers and read them back.
package final class DMAController: PortDevice, Archivable {
    private struct Channel {
        var baseAddress: UInt16 = 0, baseCount: UInt16 = 0, address: UInt16 = 0, count: UInt16 = 0
        var mode: UInt8 = 0
    }
    private struct Controller {
        var channels = [Channel](repeating: Channel(), count: 4)
        var command: UInt8 = 0, status: UInt8 = 0, requests: UInt8 = 0, masks: UInt8 = 0x0F, temporary: UInt8 = 0
        /// The byte pointer: the next access to an address or count is to its high byte.
        var highByte = false
    }
    /// Register numbers from 8 up; below are the channels' addresses and counts.
    private enum Register {
        static let command = 8, request = 9, singleMask = 10, mode = 11, clearPointer = 12, masterClear = 13
        static let clearMasks = 14, allMasks = 15
    }
    private static let firstPorts: ClosedRange<UInt16> = 0x00...0x0F
    private static let secondPorts: ClosedRange<UInt16> = 0xC0...0xDF
    /// Port 0x80 of this range is the POST port.
    private static let pagePorts: ClosedRange<UInt16> = 0x81...0x8F
    private static let highPagePorts: ClosedRange<UInt16> = 0x481...0x48F

    private var controllers = [Controller(), Controller()]
    private var pages = [UInt8](repeating: 0, count: 16)
    private var highPages = [UInt8](repeating: 0, count: 16)

    package init() {}

    /// Claims the controllers' and page registers' ports.
    package func attach(to bus: PortBus) {
        bus.attach(self, DMAController.firstPorts, width: 1)
        bus.attach(self, DMAController.secondPorts, width: 1)
        bus.attach(self, DMAController.pagePorts, width: 1)
        bus.attach(self, DMAController.highPagePorts, width: 1)
    }

    package func reset() {
        controllers = [Controller(), Controller()]
        pages = [UInt8](repeating: 0, count: 16)
        highPages = [UInt8](repeating: 0, count: 16)
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        if DMAController.pagePorts.contains(port) { return UInt32(pages[Int(port & 15)]) }
        if DMAController.highPagePorts.contains(port) { return UInt32(highPages[Int(port & 15)]) }
        let (index, register) = place(port)
        if register < 8 { return UInt32(readChannel(index, register)) }
        switch register {
        case Register.command:
            defer { controllers[index].status &= 0xF0 }
            return UInt32(controllers[index].status)
        case Register.masterClear: return UInt32(controllers[index].temporary)
        case Register.allMasks: return UInt32(controllers[index].masks | 0xF0)
        default: return 0xFF
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let byte = UInt8(truncatingIfNeeded: value)
        if DMAController.pagePorts.contains(port) {
            pages[Int(port & 15)] = byte
            return
        }
        if DMAController.highPagePorts.contains(port) {
            highPages[Int(port & 15)] = byte
            return
        }
        let (index, register) = place(port)
        if register < 8 { return writeChannel(index, register, byte) }
        let bit: UInt8 = 1 << (byte & 3)
        switch register {
        case Register.command: controllers[index].command = byte
        case Register.request: setBit(&controllers[index].requests, bit, byte & 4 != 0)
        case Register.singleMask: setBit(&controllers[index].masks, bit, byte & 4 != 0)
        case Register.mode: controllers[index].channels[Int(byte & 3)].mode = byte & ~3
        case Register.clearPointer: controllers[index].highByte = false
        case Register.masterClear: clear(index)
        case Register.clearMasks: controllers[index].masks = 0
        default: controllers[index].masks = byte & 0x0F
        }
    }

    /// The second controller's registers are at even ports.
    private func place(_ port: UInt16) -> (controller: Int, register: Int) {
        port < 0x10 ? (0, Int(port)) : (1, Int(port - 0xC0) / 2)
    }

    private func setBit(_ bits: inout UInt8, _ bit: UInt8, _ value: Bool) {
        bits = value ? bits | bit : bits & ~bit
    }

    private func clear(_ index: Int) {
        controllers[index].command = 0
        controllers[index].status = 0
        controllers[index].requests = 0
        controllers[index].temporary = 0
        controllers[index].masks = 0x0F
        controllers[index].highByte = false
    }

    private func readChannel(_ index: Int, _ register: Int) -> UInt8 {
        let channel = controllers[index].channels[register / 2]
        let word = register % 2 == 0 ? channel.address : channel.count
        defer { controllers[index].highByte.toggle() }
        return UInt8(truncatingIfNeeded: controllers[index].highByte ? word >> 8 : word)
    }

    private func writeChannel(_ index: Int, _ register: Int, _ byte: UInt8) {
        func put(_ word: UInt16) -> UInt16 {
            controllers[index].highByte ? word & 0x00FF | UInt16(byte) << 8 : word & 0xFF00 | UInt16(byte)
        }
        var channel = controllers[index].channels[register / 2]
        if register % 2 == 0 {
            channel.baseAddress = put(channel.baseAddress)
            channel.address = channel.baseAddress
        } else {
            channel.baseCount = put(channel.baseCount)
            channel.count = channel.baseCount
        }
        controllers[index].channels[register / 2] = channel
        controllers[index].highByte.toggle()
    }

    // MARK: State

    package func archive(_ archive: StateArchive) {
        archive.fixed("pages", &pages)
        archive.fixed("highPages", &highPages)
        for index in 0..<2 {
            archive.section("controller\(index)") { archiveController(index, archive) }
        }
    }

    private func archiveController(_ index: Int, _ archive: StateArchive) {
        archive.field("command", &controllers[index].command)
        archive.field("status", &controllers[index].status)
        archive.field("requests", &controllers[index].requests)
        archive.field("masks", &controllers[index].masks)
        archive.field("temporary", &controllers[index].temporary)
        archive.field("highByte", &controllers[index].highByte)
        for channel in 0..<4 {
            archive.field("channel\(channel).baseAddress", &controllers[index].channels[channel].baseAddress)
            archive.field("channel\(channel).baseCount", &controllers[index].channels[channel].baseCount)
            archive.field("channel\(channel).address", &controllers[index].channels[channel].address)
            archive.field("channel\(channel).count", &controllers[index].channels[channel].count)
            archive.field("channel\(channel).mode", &controllers[index].channels[channel].mode)
        }
    }
}
