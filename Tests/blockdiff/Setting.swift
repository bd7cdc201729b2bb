import CBlockGuest
import VMM

/// The mode and privilege that a program runs in.
enum Setting: String, CaseIterable {
    case user64 = "64-user"
    case kernel64 = "64-kernel"
    /// 32-bit code in long mode.
    case compatUser = "compat-user"
    case compatKernel = "compat-kernel"
    /// 32-bit protected mode with PAE paging.
    case paeUser = "pae-user"
    case paeKernel = "pae-kernel"
    /// 32-bit protected mode with two levels of page tables.
    case legacyUser = "legacy-user"
    case legacyKernel = "legacy-kernel"

    var isLong: Bool { [.user64, .kernel64, .compatUser, .compatKernel].contains(self) }
    var is64Bit: Bool { self == .user64 || self == .kernel64 }
    var isUser: Bool { [.user64, .compatUser, .paeUser, .legacyUser].contains(self) }
    var hasPAE: Bool { self != .legacyUser && self != .legacyKernel }
    var cpl: UInt8 { isUser ? 3 : 0 }
    var bits: Int { is64Bit ? 64 : 32 }

    /// The program's code segment.
    var codeSelector: UInt16 {
        switch self {
        case .user64: Selector.userCode64
        case .kernel64: Selector.kernelCode64
        case .compatUser, .paeUser, .legacyUser: Selector.userCode32
        case .compatKernel, .paeKernel, .legacyKernel: Selector.kernelCode32
        }
    }

    /// The code segment of the same privilege that it can change to in long mode.
    var otherCodeSelector: UInt16? {
        switch self {
        case .user64: Selector.userCode32
        case .kernel64: Selector.kernelCode32
        case .compatUser: Selector.userCode64
        case .compatKernel: Selector.kernelCode64
        default: nil
        }
    }

    var stackSelector: UInt16 { isUser ? Selector.userData : Selector.kernelData }
    /// Where the kernel's window is.
    var kernelBase: UInt64 { isLong ? 0xffff_ffff_8000_0000 : 0xc000_0000 }
    /// The second linear address of the program's code and data.
    var secondWindow: UInt64 { is64Bit ? Linear.high : Linear.second }
}

/// Selectors in the kernels' GDT. Those of the user are Linux's.
enum Selector {
    static let kernelCode32: UInt16 = 0x08
    static let kernelCode64: UInt16 = 0x10
    static let kernelData: UInt16 = 0x18
    static let userCode32: UInt16 = 0x23
    static let userData: UInt16 = 0x2b
    static let userCode64: UInt16 = 0x33
    static let task: UInt16 = 0x38
    /// Data segments with bases, for FS and GS in 32-bit code: read-write, and read-only.
    static let based: UInt16 = 0x4b
    static let constant: UInt16 = 0x53

    /// Descriptors by selector.
    static let descriptors: [(UInt16, UInt64)] = [
        (kernelCode32, 0x00cf_9b00_0000_ffff), (kernelCode64, 0x00af_9b00_0000_ffff),
        (kernelData, 0x00cf_9300_0000_ffff), (userCode32, 0x00cf_fb00_0000_ffff),
        (userData, 0x00cf_f300_0000_ffff), (userCode64, 0x00af_fb00_0000_ffff),
        (based, 0x20cf_f300_8100_ffff), (constant, 0x20cf_f100_8000_ffff),
    ]
}

/// Linear addresses of what programs use.
enum Linear {
    static let low: UInt64 = 0x2000_0000
    /// The same code and data again, for 32-bit programs and for 64-bit ones.
    static let second: UInt64 = 0x3000_0000
    static let high: UInt64 = 0x3456_2000_0000
    /// Windows whose pages use the same TLB slots as the low one's: 4 MB and 8 MB on.
    static let conflicts: [UInt64] = [low + 0x40_0000, low + 0x80_0000]
    /// A large page: of 2 MB, or with two levels of tables of 4 MB and read-only.
    static let large: UInt64 = 0x2100_0000

    // Offsets in the windows.
    static let code: UInt64 = 0
    static let data: UInt64 = 0x8000
    static let stack: UInt64 = 0x1_1000
    static let alias: UInt64 = 0x1_8000
    static let pageTable: UInt64 = 0x2_0000

    static let stackStart = low + stack + 0x1000
    /// Counts down at backward branches.
    static let fuel = low + data + 0xf00
    /// Pointers for indirect branches.
    static let pointers = low + data + 0xe00
    /// Where programs put code that they make.
    static let made = low + data + 0x6000
    /// The FS and GS bases of programs.
    static let fsBase = low + data + 0x100
    static let gsBase = low + data + 0x1080
}

/// Guest-physical addresses of what programs use. The kernels' are in CBlockGuest.h.
enum Physical {
    static let tables: UInt64 = 0x2_0000
    static let tablesEnd: UInt64 = 0x3_0000
    static let code: UInt64 = 0x3_0000
    /// What the second page of code is exchanged for.
    static let alternateCode: UInt64 = 0x3_4000
    static let stack: UInt64 = 0x3_6000
    static let data: UInt64 = 0x3_8000
    static let end: UInt64 = 0x4_0000
    static let device: UInt64 = 0xa_0000
    static let large: UInt64 = 0x20_0000
    /// Of the large page, what programs are meant to use.
    static let largeEnd: UInt64 = 0x21_0000
    static let memory: UInt64 = 3 << 20

    static let codeBytes = Int(BLOCKGUEST_CODE_BYTES)
}

/// What the pages of data are like, by number.
enum DataPage {
    static let plain0: UInt64 = 0
    static let plain1: UInt64 = 1
    static let readOnly: UInt64 = 2
    static let supervisor: UInt64 = 3
    static let noExecute: UInt64 = 4
    static let absent: UInt64 = 5
    static let made: UInt64 = 6
    static let device: UInt64 = 7
}
