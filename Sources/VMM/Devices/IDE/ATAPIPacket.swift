/// A 12-byte packet for a CD-ROM drive and the answers that depend on the disc only (MMC-3; SPC-2 for the
/// commands that all SCSI devices have).
struct ATAPIPacket {
    let bytes: [UInt8]

    enum Operation: UInt8 {
        case testUnitReady = 0x00
        case requestSense = 0x03
        case inquiry = 0x12
        case modeSense6 = 0x1A
        case startStopUnit = 0x1B
        case preventRemoval = 0x1E
        case readCapacity = 0x25
        case read10 = 0x28
        case seek10 = 0x2B
        case readSubChannel = 0x42
        case readTOC = 0x43
        case getConfiguration = 0x46
        case getEventStatus = 0x4A
        case readDiscInformation = 0x51
        case modeSense10 = 0x5A
        case read12 = 0xA8
        case setSpeed = 0xBB
        case mechanismStatus = 0xBD
        case readCD = 0xBE
    }

    private static let firstTrack: UInt8 = 1
    private static let leadOut: UInt8 = 0xAA
    private static let dataTrack: UInt8 = 0x14
    /// The longest CD, 80 minutes; larger images are DVDs.
    private static let largestCD: UInt32 = 80 * 60 * 75
    private static let (cdProfile, dvdProfile): (UInt16, UInt16) = (0x0008, 0x0010)

    var operation: Operation? { Operation(rawValue: bytes[0]) }

    // MARK: Fields

    static func big16(_ value: Int) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }

    static func big32(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    /// A block's place on a CD; the two seconds before block 0 count.
    static func minuteSecondFrame(_ block: UInt32) -> [UInt8] {
        let frame = UInt64(block) + 150
        return [UInt8(truncatingIfNeeded: frame / 4500), UInt8(frame / 75 % 60), UInt8(frame % 75)]
    }

    private func number(_ offset: Int, _ size: Int) -> UInt32 {
        bytes[offset..<offset + size].reduce(0) { $0 << 8 | UInt32($1) }
    }

    private var allocation6: Int { Int(bytes[4]) }
    var allocation10: Int { Int(number(7, 2)) }
    private var wantsMSF: Bool { bytes[1] & 2 != 0 }

    // MARK: Answers

    /// What the packet leads to; `blockCount` is nil without a disc.
    func outcome(sense: ATAPIDrive.Sense, blockCount: UInt32?, trayIsOpen: Bool) -> ATAPIDrive.Outcome {
        switch operation {
        case .requestSense: return .reply(senseData(sense), limit: allocation6)
        case .inquiry:
            let wantsPage = bytes[1] & 1 != 0 || bytes[2] != 0
            return wantsPage ? .failed(.invalidField) : .reply(Self.inquiryData, limit: allocation6)
        case .modeSense6: return modeSense(short: true)
        case .modeSense10: return modeSense(short: false)
        case .getConfiguration: return .reply(configuration(blockCount), limit: allocation10)
        case .mechanismStatus:
            let slots: UInt8 = 1
            return .reply([0, trayIsOpen ? 0x10 : 0, 0, 0, 0, slots, 0, 0], limit: Int(number(8, 2)))
        case .setSpeed: return .done
        case nil, .startStopUnit, .preventRemoval, .getEventStatus: return .failed(.illegalCommand)
        default: break
        }
        guard let blockCount else { return .failed(.noMedium) }
        return mediumOutcome(blockCount)
    }

    /// The commands that need a disc.
    private func mediumOutcome(_ blockCount: UInt32) -> ATAPIDrive.Outcome {
        let block = UInt32(ATAPIDrive.blockSize)
        switch operation {
        case .testUnitReady: return .done
        case .seek10: return number(2, 4) < blockCount ? .done : .failed(.outOfRange)
        case .readCapacity:
            return .reply(Self.big32(blockCount &- 1) + Self.big32(block), limit: 8)
        case .read10: return .read(first: number(2, 4), count: number(7, 2), size: block)
        case .read12: return .read(first: number(2, 4), count: number(6, 4), size: block)
        case .readCD: return readCD
        case .readTOC: return tableOfContents(blockCount)
        case .readSubChannel:
            // No audio: status "no current audio status".
            let noAudio: UInt8 = 0x15
            return .reply([0, noAudio, 0, 0], limit: allocation10)
        case .readDiscInformation: return .reply(Self.discInformation, limit: allocation10)
        default: return .failed(.illegalCommand)
        }
    }

    private var readCD: ATAPIDrive.Outcome {
        let (first, count) = (number(2, 4), number(6, 3))
        switch bytes[9] & 0xF8 {
        case 0x00: return .done
        case 0x10: return .read(first: first, count: count, size: UInt32(ATAPIDrive.blockSize))
        case 0xF8: return .read(first: first, count: count, size: 2352)
        default: return .failed(.invalidField)
        }
    }

    private func senseData(_ sense: ATAPIDrive.Sense) -> [UInt8] {
        let currentError: UInt8 = 0x70
        let additionalLength: UInt8 = 10
        return [currentError, 0, sense.key, 0, 0, 0, 0, additionalLength, 0, 0, 0, 0, sense.code, sense.qualifier]
            + [0, 0, 0, 0]
    }

    private static let inquiryData: [UInt8] = {
        // CD-ROM, removable, no ANSI version, ATAPI 2 with response format 1, 31 more bytes.
        let head: [UInt8] = [0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0]
        return head + Array("TRAPLINE".utf8) + Array("DVD-ROM         ".utf8) + Array("1.0 ".utf8)
    }()

    private static let discInformation: [UInt8] = {
        var data = [UInt8](repeating: 0, count: 34)
        data[1] = 32
        // Complete disc, complete last session; first track, sessions, first and last track of the last session.
        data[2] = 0x0E
        for index in 3...6 { data[index] = 1 }
        let unrestricted: UInt8 = 0x20
        data[7] = unrestricted
        return data
    }()

    private func configuration(_ blockCount: UInt32?) -> [UInt8] {
        func feature(_ code: Int, version: UInt8, _ data: [UInt8]) -> [UInt8] {
            let persistentAndCurrent: UInt8 = 3
            return Self.big16(code) + [version << 2 | persistentAndCurrent, UInt8(data.count)] + data
        }
        let profile: UInt16 = blockCount.map { $0 > Self.largestCD ? Self.dvdProfile : Self.cdProfile } ?? 0
        let profiles = [Self.dvdProfile, Self.cdProfile].flatMap { each -> [UInt8] in
            Self.big16(Int(each)) + [each == profile ? 1 : 0, 0]
        }
        let atapi: UInt32 = 2
        // Locks, ejects, tray loading.
        let removable: [UInt8] = [0x29, 0, 0, 0]
        let features =
            feature(0, version: 0, profiles) + feature(1, version: 0, Self.big32(atapi))
            + feature(3, version: 0, removable)
        return Self.big32(UInt32(features.count + 4)) + [0, 0] + Self.big16(Int(profile)) + features
    }

    // MARK: Mode pages

    private func modeSense(short: Bool) -> ATAPIDrive.Outcome {
        let savedValues: UInt8 = 3
        guard bytes[2] >> 6 != savedValues else {
            return .failed(ATAPIDrive.Sense(key: 5, code: 0x39))
        }
        let errorRecovery: [UInt8] = [0x01, 6, 0, 5, 0, 0, 0, 0]
        let audio: [UInt8] = [0x0E, 14, 4] + [UInt8](repeating: 0, count: 13)
        // Reads CD-R and DVD-ROM; locks and ejects; 5.6 MB/s; 512 KB of buffer.
        let speed = Self.big16(5632)
        let capabilities: [UInt8] =
            [0x2A, 18, 0x0B, 0, 0x70, 0x60, 0x29, 0] + speed + [0, 2] + Self.big16(512)
            + speed + [0, 0, 0, 0]
        let pages: [UInt8]
        switch bytes[2] & 0x3F {
        case 0x01: pages = errorRecovery
        case 0x0E: pages = audio
        case 0x2A: pages = capabilities
        case 0x3F: pages = errorRecovery + audio + capabilities
        default: return .failed(.invalidField)
        }
        if short { return .reply([UInt8(pages.count + 3), 0, 0, 0] + pages, limit: allocation6) }
        return .reply(Self.big16(pages.count + 6) + [0, 0, 0, 0, 0, 0] + pages, limit: allocation10)
    }

    // MARK: Table of contents

    private func tableOfContents(_ blockCount: UInt32) -> ATAPIDrive.Outcome {
        func address(_ block: UInt32) -> [UInt8] {
            wantsMSF ? [0] + Self.minuteSecondFrame(block) : Self.big32(block)
        }
        let track = Self.firstTrack
        // The format lies in byte 2; drives before MMC had it in the top bits of byte 9.
        let format = bytes[2] & 0xF != 0 ? bytes[2] & 0xF : bytes[9] >> 6
        var entries: [UInt8] = []
        switch format {
        case 0:
            let start = bytes[6]
            guard start <= track || start == Self.leadOut else { return .failed(.invalidField) }
            if start <= track { entries += [0, Self.dataTrack, track, 0] + address(0) }
            entries += [0, Self.dataTrack, Self.leadOut, 0] + address(blockCount)
        case 1:
            entries = [0, Self.dataTrack, track, 0] + address(0)
        case 2:
            let (first, last) = ([track, 0, 0], [track, 0, 0])
            let points: [(UInt8, [UInt8])] = [
                (0xA0, first), (0xA1, last), (0xA2, Self.minuteSecondFrame(blockCount)),
                (track, Self.minuteSecondFrame(0)),
            ]
            for (point, place) in points { entries += [1, Self.dataTrack, 0, point, 0, 0, 0, 0] + place }
        default:
            return .failed(.invalidField)
        }
        return .reply(Self.big16(entries.count + 2) + [track, track] + entries, limit: allocation10)
    }
}
