/// The command set of an ATA hard disk (ATA/ATAPI-6), with 28-bit, 48-bit and cylinder-head-sector addressing.
final class ATADisk: IDECommandSet {
    private static let largestMultiple: UInt8 = 16
    private static let nativeHeads: UInt8 = 16
    private static let nativeSectors: UInt8 = 63
    private static let lba28Limit: UInt64 = 1 << 28
    private static let defaultTransferMode: UInt8 = 0x45

    let signature: (middle: UInt8, high: UInt8) = (0, 0)
    let statusAfterReset = ATAStatus.idle

    private let disk: any BlockDevice
    private let serial: String

    /// The translation that INITIALIZE DEVICE PARAMETERS selects.
    private var heads = ATADisk.nativeHeads
    private var sectors = ATADisk.nativeSectors
    private var multiple: UInt8 = 0
    private var transferMode = ATADisk.defaultTransferMode
    private var writeCache = true

    /// The transfer under way.
    private enum Direction: UInt8 { case none, read, write }
    private var direction = Direction.none
    private var sector: UInt64 = 0
    private var left: UInt32 = 0
    private var sectorsPerBlock: UInt32 = 1
    private var isExtended = false

    init(disk: any BlockDevice, serial: String) {
        self.disk = disk
        self.serial = serial
    }

    func reset() {
        direction = .none
        left = 0
        heads = Self.nativeHeads
        sectors = Self.nativeSectors
        multiple = 0
    }

    // MARK: Dispatch

    func execute(_ command: UInt8, on drive: IDEDrive) {
        direction = .none
        switch command {
        case ATACommand.readSectors: startPIO(.read, drive)
        case ATACommand.readSectorsExt: startPIO(.read, drive, extended: true)
        case ATACommand.readMultiple: startPIO(.read, drive, useMultiple: true)
        case ATACommand.readMultipleExt: startPIO(.read, drive, extended: true, useMultiple: true)
        case ATACommand.writeSectors: startPIO(.write, drive)
        case ATACommand.writeSectorsExt: startPIO(.write, drive, extended: true)
        case ATACommand.writeMultiple: startPIO(.write, drive, useMultiple: true)
        case ATACommand.writeMultipleExt: startPIO(.write, drive, extended: true, useMultiple: true)
        case ATACommand.readDMA: startDMA(.read, drive, extended: false)
        case ATACommand.readDMAExt: startDMA(.read, drive, extended: true)
        case ATACommand.writeDMA: startDMA(.write, drive, extended: false)
        case ATACommand.writeDMAExt: startDMA(.write, drive, extended: true)
        case ATACommand.verify: verify(drive, extended: false)
        case ATACommand.verifyExt: verify(drive, extended: true)
        case ATACommand.readNativeMax: readNativeMax(drive, extended: false)
        case ATACommand.readNativeMaxExt: readNativeMax(drive, extended: true)
        case ATACommand.identify: drive.offer(identity.bytes)
        case ATACommand.initializeParameters: initializeParameters(drive)
        case ATACommand.setMultiple: setMultiple(drive)
        case ATACommand.setFeatures: setFeatures(drive)
        case ATACommand.checkPowerMode, ATACommand.oldPower.upperBound - 1:
            let active: UInt8 = 0xFF
            drive.count.current = active
            drive.finish()
        case ATACommand.recalibrate, ATACommand.seek, ATACommand.oldPower, ATACommand.standbyImmediate,
            ATACommand.idleImmediate, ATACommand.standby, ATACommand.idle, ATACommand.sleep,
            ATACommand.flushCache, ATACommand.flushCacheExt:
            drive.finish()
        default:
            drive.abort()
        }
    }

    // MARK: Addressing

    /// Takes the range from the registers; nil if it does not lie on the disk.
    private func range(_ drive: IDEDrive, extended: Bool) -> (first: UInt64, count: UInt32)? {
        isExtended = extended
        var count = UInt32(drive.count.current)
        var first =
            UInt64(drive.lbaLow.current) | UInt64(drive.lbaMiddle.current) << 8
            | UInt64(drive.lbaHigh.current) << 16
        if extended {
            count |= UInt32(drive.count.previous) << 8
            if count == 0 { count = 0x1_0000 }
            first |= UInt64(drive.lbaLow.previous) << 24 | UInt64(drive.lbaMiddle.previous) << 32
            first |= UInt64(drive.lbaHigh.previous) << 40
        } else {
            if count == 0 { count = 0x100 }
            let head = UInt64(drive.device & ATADevice.headMask)
            if drive.device & ATADevice.lba != 0 {
                first |= head << 24
            } else {
                let cylinder = first >> 8
                let number = first & 0xFF
                guard number >= 1, number <= UInt64(sectors), head < UInt64(heads) else { return nil }
                first = (cylinder * UInt64(heads) + head) * UInt64(sectors) + number - 1
            }
        }
        guard first + UInt64(count) <= disk.sectorCount else { return nil }
        return (first, count)
    }

    /// Puts the address of a sector into the registers, in the form that the command used.
    private func show(_ sector: UInt64, _ drive: IDEDrive) {
        var low = sector
        if !isExtended, drive.device & ATADevice.lba == 0 {
            let track = sector / UInt64(sectors)
            low = sector % UInt64(sectors) + 1 | (track / UInt64(heads)) << 8
            drive.device = drive.device & ~ATADevice.headMask | UInt8(track % UInt64(heads))
        } else if !isExtended {
            drive.device = drive.device & ~ATADevice.headMask | UInt8(sector >> 24 & 0xF)
        }
        drive.lbaLow.current = UInt8(truncatingIfNeeded: low)
        drive.lbaMiddle.current = UInt8(truncatingIfNeeded: low >> 8)
        drive.lbaHigh.current = UInt8(truncatingIfNeeded: low >> 16)
        if isExtended {
            drive.lbaLow.previous = UInt8(truncatingIfNeeded: low >> 24)
            drive.lbaMiddle.previous = UInt8(truncatingIfNeeded: low >> 32)
            drive.lbaHigh.previous = UInt8(truncatingIfNeeded: low >> 40)
        }
    }

    // MARK: Transfers

    private func startPIO(
        _ direction: Direction, _ drive: IDEDrive, extended: Bool = false, useMultiple: Bool = false
    ) {
        if useMultiple, multiple == 0 { return drive.abort() }
        guard let range = range(drive, extended: extended) else { return drive.finish(error: ATAError.idNotFound) }
        self.direction = direction
        (sector, left) = range
        sectorsPerBlock = useMultiple ? UInt32(multiple) : 1
        if direction == .read { offerBlock(drive) } else { drive.request(blockSize, interrupt: false) }
    }

    private var blockSize: Int { Int(min(left, sectorsPerBlock)) * CopyOnWriteDisk.sectorSize }

    private func offerBlock(_ drive: IDEDrive) {
        var block = [UInt8](repeating: 0, count: blockSize)
        block.withUnsafeMutableBytes { disk.read(sector, into: $0) }
        advance(min(left, sectorsPerBlock), drive)
        drive.offer(block)
    }

    private func advance(_ count: UInt32, _ drive: IDEDrive) {
        sector &+= UInt64(count)
        left -= count
        show(sector &- 1, drive)
        drive.count.current = UInt8(truncatingIfNeeded: left)
        if isExtended { drive.count.previous = UInt8(truncatingIfNeeded: left >> 8) }
    }

    func blockDone(on drive: IDEDrive) {
        switch direction {
        case .read:
            if left > 0 { offerBlock(drive) } else { direction = .none }
        case .write:
            drive.buffer.withUnsafeBytes { disk.write(sector, from: $0) }
            advance(min(left, sectorsPerBlock), drive)
            if left > 0 {
                drive.request(blockSize, interrupt: true)
            } else {
                direction = .none
                drive.finish()
            }
        case .none:
            break
        }
    }

    private func startDMA(_ direction: Direction, _ drive: IDEDrive, extended: Bool) {
        guard let range = range(drive, extended: extended) else { return drive.finish(error: ATAError.idNotFound) }
        self.direction = direction
        (sector, left) = range
        drive.wantDMA()
    }

    func transfer(through master: IDEBusMaster, on drive: IDEDrive) {
        var block = [UInt8](repeating: 0, count: CopyOnWriteDisk.sectorSize)
        while left > 0 {
            let moved = block.withUnsafeMutableBytes { bytes in
                if direction == .read { disk.read(sector, into: bytes) }
                let moved = master.move(bytes, toMemory: direction == .read)
                if direction == .write, moved == bytes.count { disk.write(sector, from: UnsafeRawBufferPointer(bytes)) }
                return moved
            }
            guard moved == block.count else {
                direction = .none
                return drive.stall()
            }
            advance(1, drive)
        }
        direction = .none
        master.finish()
        drive.finishTransfer()
    }

    // MARK: Other commands

    private func verify(_ drive: IDEDrive, extended: Bool) {
        guard let range = range(drive, extended: extended) else { return drive.finish(error: ATAError.idNotFound) }
        show(range.first + UInt64(range.count) - 1, drive)
        drive.finish()
    }

    private func readNativeMax(_ drive: IDEDrive, extended: Bool) {
        guard disk.sectorCount > 0 else { return drive.abort() }
        isExtended = extended
        drive.device |= ATADevice.lba
        show(min(disk.sectorCount, extended ? .max : Self.lba28Limit) - 1, drive)
        drive.finish()
    }

    private func initializeParameters(_ drive: IDEDrive) {
        guard drive.count.current != 0 else { return drive.abort() }
        sectors = drive.count.current
        heads = drive.device & ATADevice.headMask + 1
        drive.finish()
    }

    private func setMultiple(_ drive: IDEDrive) {
        let count = drive.count.current
        guard count <= Self.largestMultiple, count & (count &- 1) == 0 else {
            multiple = 0
            return drive.abort()
        }
        multiple = count
        drive.finish()
    }

    private func setFeatures(_ drive: IDEDrive) {
        switch drive.features.current {
        case 0x02: writeCache = true
        case 0x82: writeCache = false
        case 0x03:
            guard ATAIdentity.isTransferMode(drive.count.current) else { return drive.abort() }
            transferMode = drive.count.current
        // Read look-ahead and what a software reset restores: nothing here depends on them.
        case 0x55, 0xAA, 0x66, 0xCC: break
        default: return drive.abort()
        }
        drive.finish()
    }

    private var identity: ATAIdentity {
        var identity = ATAIdentity()
        identity.setCommon(model: "TRAPLINE HARDDISK", serial: serial, transferMode: transferMode)
        func cylinders(_ heads: UInt8, _ sectors: UInt8) -> UInt64 {
            min(max(disk.sectorCount / (UInt64(heads) * UInt64(sectors)), 1), 16383)
        }
        let fixedDisk: UInt16 = 0x0040
        identity[0] = fixedDisk
        identity[1] = UInt16(cylinders(Self.nativeHeads, Self.nativeSectors))
        identity[3] = UInt16(Self.nativeHeads)
        identity[4] = UInt16(Self.nativeSectors) * 512
        identity[5] = 512
        identity[6] = UInt16(Self.nativeSectors)
        identity[47] = 0x8000 | UInt16(Self.largestMultiple)
        identity[51] = 0x0200
        identity[54] = UInt16(cylinders(heads, sectors))
        identity[55] = UInt16(heads)
        identity[56] = UInt16(sectors)
        identity.setNumber(cylinders(heads, sectors) * UInt64(heads) * UInt64(sectors), at: 57, words: 2)
        identity[59] = multiple == 0 ? 0 : 0x0100 | UInt16(multiple)
        identity.setNumber(min(disk.sectorCount, Self.lba28Limit - 1), at: 60, words: 2)
        let (powerManagement, cache, nop): (UInt16, UInt16, UInt16) = (1 << 3, 1 << 5, 1 << 14)
        let (lba48, flush, flushExt): (UInt16, UInt16, UInt16) = (1 << 10, 1 << 12, 1 << 13)
        let valid: UInt16 = 1 << 14
        identity[82] = powerManagement | cache | nop
        identity[83] = lba48 | flush | flushExt | valid
        identity[84] = valid
        identity[85] = powerManagement | (writeCache ? cache : 0) | nop
        identity[86] = lba48 | flush | flushExt
        identity[87] = valid
        identity.setNumber(disk.sectorCount, at: 100, words: 4)
        return identity
    }

    func archive(_ archive: StateArchive) {
        archive.field("heads", &heads)
        archive.field("sectors", &sectors)
        archive.field("multiple", &multiple)
        archive.field("transferMode", &transferMode)
        archive.field("writeCache", &writeCache)
        archive.field("direction", &direction)
        archive.field("sector", &sector)
        archive.field("left", &left)
        archive.field("sectorsPerBlock", &sectorsPerBlock)
        archive.field("isExtended", &isExtended)
        if archive.isRestoring {
            // Bad data must not make a division trap or a transfer endless.
            (heads, sectors) = (max(heads, 1), max(sectors, 1))
            (left, sectorsPerBlock) = (min(left, 0x1_0000), min(sectorsPerBlock, UInt32(Self.largestMultiple)))
        }
        archive.section("disk") { disk.archive(archive) }
    }
}
