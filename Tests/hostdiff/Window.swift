import CHostCPU
import DifferentialSupport

/// A segment as both sides see it.
struct Segment {
    var base: UInt64
    /// The last valid offset; of an expand-down segment, the last invalid one.
    var limit: UInt64 = 0xffff_ffff
    var isBig = true
    var isExpandDown = false
    var isWritable = true
    var isCode = false
    var isLong = false

    /// By selector; nil for one that no test uses.
    static func named(_ selector: UInt16) -> Segment? {
        let low = UInt64(HOST_WINDOW_LOW)
        switch Int(selector) {
        case HOST_CS64: return Segment(base: 0, isBig: false, isWritable: false, isCode: true, isLong: true)
        case HOST_CS32: return Segment(base: 0, isWritable: false, isCode: true)
        case HOST_DS: return Segment(base: 0)
        case HOST_LDT_CODE16:
            return Segment(base: low, limit: 0xffff, isBig: false, isWritable: false, isCode: true)
        case HOST_LDT_CODE32: return Segment(base: low, limit: 0xffff, isWritable: false, isCode: true)
        case HOST_LDT_DATA16: return Segment(base: low, limit: 0xffff, isBig: false)
        case HOST_LDT_DATA32: return Segment(base: low, limit: 0xffff)
        case HOST_LDT_FS: return Segment(base: low + UInt64(HOST_FS_SHIFT))
        case HOST_LDT_GS: return Segment(base: low + UInt64(HOST_GS_SHIFT))
        case HOST_LDT_SHORT: return Segment(base: low, limit: UInt64(HOST_SHORT_LIMIT), isBig: false)
        case HOST_LDT_DOWN:
            return Segment(base: low, limit: UInt64(HOST_DOWN_LIMIT), isBig: false, isExpandDown: true)
        case HOST_LDT_CONST: return Segment(base: low, limit: 0xffff, isBig: false, isWritable: false)
        default: return nil
        }
    }
}

/// The memory that the tested instructions see: where its pages lie and what they hold before a case.
enum Window {
    static let pageSize = 4096
    static let pages = Int(HOST_PAGE_COUNT)
    /// Data, constant and stack pages come first in the backing memory, the code page last.
    static let dataBytes = Int(HOST_PAGE_CODE) * pageSize
    static let low = UInt64(HOST_WINDOW_LOW), high = UInt64(HOST_WINDOW_HIGH)
    static let data = UInt64(HOST_OFFSET_DATA), stack = UInt64(HOST_OFFSET_STACK), code = UInt64(HOST_OFFSET_CODE)

    /// A run of mapped pages: where it starts in the window, and what backs each in the low and the high window.
    struct Mapping {
        let offset: UInt64
        let page: Int
        let highPage: Int
        let isWritable: Bool
        let isExecutable: Bool
    }

    static let mappings = [
        Mapping(offset: data, page: 0, highPage: 1, isWritable: true, isExecutable: false),
        Mapping(offset: data + 0x1000, page: 1, highPage: 0, isWritable: true, isExecutable: false),
        Mapping(offset: data + 0x2000, page: 2, highPage: 2, isWritable: false, isExecutable: false),
        Mapping(offset: stack, page: 3, highPage: 4, isWritable: true, isExecutable: false),
        Mapping(offset: stack + 0x1000, page: 4, highPage: 3, isWritable: true, isExecutable: false),
        Mapping(offset: code, page: 5, highPage: 5, isWritable: false, isExecutable: true),
    ]

    /// Where the byte at a linear address lies in the backing memory.
    static func backing(_ linear: UInt64) -> Int? {
        let isHigh = linear >> 16 == high >> 16
        guard isHigh || linear >> 16 == low >> 16 else { return nil }
        let page = linear & 0xf000
        for mapping in mappings where mapping.offset == page {
            return (isHigh ? mapping.highPage : mapping.page) * pageSize + Int(linear & 0xfff)
        }
        return nil
    }

    /// What data, constant and stack pages hold before each case, apart from its patches: the same in every run, so
    /// that a case written as text stays the same case. Never freed.
    static let pristine: UnsafeMutablePointer<UInt8> = {
        let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: dataBytes)
        var random = Random(seed: 0x7472_6170)
        for index in 0..<dataBytes { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        return bytes
    }()
}
