/// The command set of an ATAPI CD-ROM drive: the ATA commands that such a drive has, and packets (SFF-8020i,
/// MMC-3), with their data by PIO or DMA.
final class ATAPIDrive: IDECommandSet {
    static let blockSize = 2048
    private static let rawBlockSize: UInt32 = 2352
    private static let packetSize = 12
    private static let largestReply = 1 << 16
    private static let defaultTransferMode: UInt8 = 0x42
    private static let byteCountDefault = 0xFFFE

    /// Sense key, additional sense code and its qualifier (MMC-3, annex F).
    struct Sense: Equatable {
        var key: UInt8
        var code: UInt8
        var qualifier: UInt8 = 0

        static let none = Sense(key: 0, code: 0)
        static let noMedium = Sense(key: 2, code: 0x3A)
        static let illegalCommand = Sense(key: 5, code: 0x20)
        static let outOfRange = Sense(key: 5, code: 0x21)
        static let invalidField = Sense(key: 5, code: 0x24)
        static let removalPrevented = Sense(key: 5, code: 0x53, qualifier: 2)
        static let mediumChanged = Sense(key: 6, code: 0x28)
    }

    /// What GET EVENT STATUS NOTIFICATION reports next.
    enum MediaEvent: UInt8 {
        case none = 0
        case ejectRequest = 1
        case newMedia = 2
        case removal = 3
    }

    let signature: (middle: UInt8, high: UInt8) = (0x14, 0xEB)
    let statusAfterReset: UInt8 = 0

    private let disc: (any BlockSource)?
    private let serial: String
    private var transferMode = ATAPIDrive.defaultTransferMode

    private(set) var sense = Sense.none
    private(set) var trayIsOpen = false
    private var isLocked = false
    private var event = MediaEvent.none
    private var attention = false

    /// The command under way.
    private var awaitsPacket = false
    private var usesDMA = false
    private var byteLimit = ATAPIDrive.byteCountDefault
    /// Data not from the disc; empty while the disc is read.
    private var reply: [UInt8] = []
    private var firstBlock: UInt32 = 0
    private var bytesPerBlock = UInt32(ATAPIDrive.blockSize)
    private var total: UInt64 = 0
    private var done: UInt64 = 0

    init(disc: (any BlockSource)?, serial: String) {
        self.disc = disc
        self.serial = serial
    }

    func reset() {
        awaitsPacket = false
        reply = []
        endData()
        sense = .none
        attention = false
        isLocked = false
    }

    /// Blocks of the disc in the drive; nil without one.
    var blockCount: UInt32? {
        guard let disc, !trayIsOpen else { return nil }
        return UInt32(truncatingIfNeeded: min(disc.byteCount / UInt64(Self.blockSize), 0xFFFF_FFFE))
    }

    // MARK: ATA commands

    func execute(_ command: UInt8, on drive: IDEDrive) {
        awaitsPacket = false
        switch command {
        case ATACommand.packet: startPacket(drive)
        case ATACommand.identifyPacket:
            reply = []
            endData()
            drive.offer(identity.bytes)
        case ATACommand.deviceReset: drive.reset()
        case ATACommand.setFeatures: setFeatures(drive)
        case ATACommand.checkPowerMode:
            drive.count.current = 0xFF
            drive.finish()
        case ATACommand.idleImmediate, ATACommand.standbyImmediate, ATACommand.standby, ATACommand.idle,
            ATACommand.sleep, ATACommand.flushCache:
            drive.finish()
        case ATACommand.identify, ATACommand.readSectors:
            // How a host that only knows disks finds out.
            drive.setSignature()
            drive.abort()
        default:
            drive.abort()
        }
    }

    private func setFeatures(_ drive: IDEDrive) {
        switch drive.features.current {
        case 0x03:
            guard ATAIdentity.isTransferMode(drive.count.current) else { return drive.abort() }
            transferMode = drive.count.current
        case 0x66, 0xCC: break
        default: return drive.abort()
        }
        drive.finish()
    }

    private var identity: ATAIdentity {
        var identity = ATAIdentity()
        identity.setCommon(model: "TRAPLINE DVD-ROM", serial: serial, transferMode: transferMode)
        // ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets.
        identity[0] = 0x85C0
        let (packet, deviceReset, nop, valid): (UInt16, UInt16, UInt16, UInt16) = (1 << 4, 1 << 9, 1 << 14, 1 << 14)
        identity[82] = packet | deviceReset | nop
        identity[83] = valid
        identity[84] = valid
        identity[85] = identity[82]
        identity[87] = valid
        return identity
    }

    // MARK: Packets

    private func startPacket(_ drive: IDEDrive) {
        usesDMA = drive.features.current & 1 != 0
        byteLimit = Int(drive.lbaMiddle.current) | Int(drive.lbaHigh.current) << 8
        // Blocks but the last have an even size.
        byteLimit = byteLimit == 0 ? Self.byteCountDefault : max(min(byteLimit, Self.byteCountDefault) & ~1, 2)
        awaitsPacket = true
        reply = []
        endData()
        drive.count.current = ATAPIReason.isCommand
        drive.request(Self.packetSize, interrupt: false)
    }

    func blockDone(on drive: IDEDrive) {
        if awaitsPacket {
            awaitsPacket = false
            runPacket(drive.buffer, drive)
        } else if done < total {
            offerBlock(drive)
        } else if total > 0 {
            succeed(drive)
        }
    }

    private func succeed(_ drive: IDEDrive) {
        endData()
        drive.count.current = ATAPIReason.isCommand | ATAPIReason.toHost
        drive.finish()
    }

    private func fail(_ sense: Sense, _ drive: IDEDrive) {
        self.sense = sense
        endData()
        drive.count.current = ATAPIReason.isCommand | ATAPIReason.toHost
        drive.finish(error: sense.key << 4 | (sense.key == Sense.illegalCommand.key ? ATAError.aborted : 0))
    }

    private func runPacket(_ packet: [UInt8], _ drive: IDEDrive) {
        let inquiry: UInt8 = 0x12
        let requestSense: UInt8 = 0x03
        let configuration: UInt8 = 0x46
        let eventStatus: UInt8 = 0x4A
        if attention, ![inquiry, requestSense, configuration, eventStatus].contains(packet[0]) {
            attention = false
            return fail(.mediumChanged, drive)
        }
        if packet[0] != requestSense { sense = .none }
        switch outcome(of: ATAPIPacket(bytes: packet)) {
        case .done: succeed(drive)
        case .failed(let sense): fail(sense, drive)
        case .reply(let bytes, let limit):
            reply = Array(bytes.prefix(min(limit, Self.largestReply)))
            if packet[0] == requestSense { sense = .none }
            startData(UInt64(reply.count), drive)
        case .read(let first, let count, let size):
            guard let blockCount else { return fail(.noMedium, drive) }
            guard UInt64(first) + UInt64(count) <= UInt64(blockCount) else { return fail(.outOfRange, drive) }
            firstBlock = first
            bytesPerBlock = size
            startData(UInt64(count) * UInt64(size), drive)
        }
    }

    /// Sends `total` bytes, from `reply` or from the disc.
    private func startData(_ total: UInt64, _ drive: IDEDrive) {
        guard total > 0 else { return succeed(drive) }
        self.total = total
        done = 0
        if usesDMA { drive.wantDMA() } else { offerBlock(drive) }
    }

    private func endData() { (total, done) = (0, 0) }

    private func offerBlock(_ drive: IDEDrive) {
        let size = Int(min(UInt64(byteLimit), total - done))
        let block = data(size)
        drive.count.current = ATAPIReason.toHost
        drive.lbaMiddle.current = UInt8(truncatingIfNeeded: size)
        drive.lbaHigh.current = UInt8(truncatingIfNeeded: size >> 8)
        drive.offer(block)
    }

    func transfer(through master: IDEBusMaster, on drive: IDEDrive) {
        while done < total {
            var block = data(Int(min(UInt64(bytesPerBlock), total - done)))
            let moved = block.withUnsafeMutableBytes { master.move($0, toMemory: true) }
            guard moved == block.count else {
                endData()
                return drive.stall()
            }
        }
        master.finish()
        endData()
        drive.count.current = ATAPIReason.isCommand | ATAPIReason.toHost
        drive.finishTransfer()
    }

    /// The next `size` bytes of the transfer.
    private func data(_ size: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        if reply.isEmpty {
            bytes.reserveCapacity(size)
            while bytes.count < size {
                let offset = done + UInt64(bytes.count)
                let block = self.block(firstBlock &+ UInt32(truncatingIfNeeded: offset / UInt64(bytesPerBlock)))
                bytes += block[Int(offset % UInt64(bytesPerBlock))...].prefix(size - bytes.count)
            }
        } else {
            let start = min(Int(done), reply.count)
            bytes = Array(reply[start..<min(start + size, reply.count)])
            bytes += [UInt8](repeating: 0, count: size - bytes.count)
        }
        done += UInt64(size)
        return bytes
    }

    /// One block of the disc; a raw one has synchronization, header and zeros for the error correction around it.
    private func block(_ number: UInt32) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.blockSize)
        bytes.withUnsafeMutableBytes { disc?.read(UInt64(number) * UInt64(Self.blockSize), into: $0) }
        guard bytesPerBlock == Self.rawBlockSize else { return bytes }
        let synchronization = [0] + [UInt8](repeating: 0xFF, count: 10) + [0]
        let mode1: UInt8 = 1
        let address = ATAPIPacket.minuteSecondFrame(number).map { ($0 / 10) << 4 | $0 % 10 }
        return synchronization + address + [mode1] + bytes + [UInt8](repeating: 0, count: 288)
    }

    // MARK: Media

    /// What a packet leads to.
    enum Outcome {
        case done
        case failed(Sense)
        case reply([UInt8], limit: Int)
        case read(first: UInt32, count: UInt32, size: UInt32)
    }

    private func outcome(of packet: ATAPIPacket) -> Outcome {
        switch packet.operation {
        case .startStopUnit: startStop(packet)
        case .preventRemoval: setLock(packet)
        case .getEventStatus: .reply(eventStatus(packet), limit: packet.allocation10)
        default: packet.outcome(sense: sense, blockCount: blockCount, trayIsOpen: trayIsOpen)
        }
    }

    /// LoEj with Start loads the disc, without it opens the tray.
    private func startStop(_ packet: ATAPIPacket) -> Outcome {
        let (start, eject) = (packet.bytes[4] & 1 != 0, packet.bytes[4] & 2 != 0)
        guard eject else { return .done }
        if !start, isLocked { return .failed(.removalPrevented) }
        if start, trayIsOpen {
            event = disc == nil ? .none : .newMedia
            attention = disc != nil
        } else if !start, !trayIsOpen {
            event = .removal
        }
        trayIsOpen = !start
        return .done
    }

    private func setLock(_ packet: ATAPIPacket) -> Outcome {
        isLocked = packet.bytes[4] & 1 != 0
        return .done
    }

    /// Only the media class (4) has events, and only polling is offered.
    private func eventStatus(_ packet: ATAPIPacket) -> [UInt8] {
        let mediaClass: UInt8 = 4
        let noEventAvailable: UInt8 = 0x80
        guard packet.bytes[4] & 1 << mediaClass != 0 else { return [0, 2, noEventAvailable, 1 << mediaClass] }
        let state: UInt8 = (trayIsOpen ? 1 : 0) | (blockCount != nil ? 2 : 0)
        let code = event.rawValue
        event = .none
        return [0, 6, mediaClass, 1 << mediaClass, code, state, 0, 0]
    }

    // MARK: State

    func archive(_ archive: StateArchive) {
        archive.expect("discBytes", disc?.byteCount ?? 0)
        archive.field("transferMode", &transferMode)
        archive.field("sense.key", &sense.key)
        archive.field("sense.code", &sense.code)
        archive.field("sense.qualifier", &sense.qualifier)
        archive.field("trayIsOpen", &trayIsOpen)
        archive.field("isLocked", &isLocked)
        archive.field("event", &event)
        archive.field("attention", &attention)
        archive.field("awaitsPacket", &awaitsPacket)
        archive.field("usesDMA", &usesDMA)
        archive.field("byteLimit", &byteLimit)
        archive.variable("reply", &reply, limit: Self.largestReply)
        archive.field("firstBlock", &firstBlock)
        archive.field("bytesPerBlock", &bytesPerBlock)
        archive.field("total", &total)
        archive.field("done", &done)
        if archive.isRestoring {
            // Bad data must not make a transfer endless or a division trap.
            byteLimit = max(2, min(byteLimit, Self.byteCountDefault))
            if bytesPerBlock != Self.rawBlockSize { bytesPerBlock = UInt32(Self.blockSize) }
            total = min(total, 0xFFFF_FFFE * UInt64(Self.rawBlockSize))
            done = min(done, total)
        }
    }
}
