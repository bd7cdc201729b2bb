import CEngine

/// A general register of the host, by its number in instructions.
struct HostRegister: Equatable {
    let number: UInt8

    static let rax = HostRegister(number: 0), rcx = HostRegister(number: 1), rdx = HostRegister(number: 2)
    static let rbx = HostRegister(number: 3), rsp = HostRegister(number: 4), rbp = HostRegister(number: 5)
    static let rsi = HostRegister(number: 6), rdi = HostRegister(number: 7), r8 = HostRegister(number: 8)
    static let r9 = HostRegister(number: 9), r10 = HostRegister(number: 10), r11 = HostRegister(number: 11)
    static let r12 = HostRegister(number: 12), r13 = HostRegister(number: 13), r14 = HostRegister(number: 14)
    static let r15 = HostRegister(number: 15)

    // The roles of registers in translated code. What is not named here holds a guest register.
    /// Scratch: addresses, and the flags on their way (LAHF wants AH). Not kept from one instruction to the next.
    static let address = rax
    /// Scratch.
    static let first = rdx, second = r14
    /// The state block, `StateOffset.bias` bytes in.
    static let state = rbp
    /// `deadline - count`, with the whole running block charged.
    static let budget = r15
}

/// Where guest registers are while translated code runs: ten in host registers, the others in the state block. RCX
/// stands in itself for the sake of shifts; RAX and RDX do not, since they are what the scratch registers must be.
enum GuestRegisters {
    /// By guest number: the host register, or nil.
    static let host: [HostRegister?] = [
        .r8, .rcx, .r9, .rbx, .r12, .r13, .rsi, .rdi, .r10, nil, nil, nil, .r11, nil, nil, nil,
    ]

    /// Those in registers that a C function does not keep.
    static let callerSaved: [(number: Int, register: HostRegister)] = [
        (Register.rcx, .rcx), (Register.rsi, .rsi), (Register.rdi, .rdi), (Register.rax, .r8), (Register.rdx, .r9),
        (8, .r10), (12, .r11),
    ]

    /// Every guest number that has a host register.
    static let mapped = (0..<16).filter { host[$0] != nil }
}

/// Offsets from `HostRegister.state`, which points into the state block so that general registers and what follows
/// them are within a byte's displacement.
enum StateOffset {
    static let bias = 128

    static func of(_ path: PartialKeyPath<CPUState>) -> Int32 {
        Int32(MemoryLayout<CPUState>.offset(of: path).unsafelyUnwrapped - bias)
    }

    /// The offset of something that the decoder named by its place in the state block.
    static func at(_ offset: some BinaryInteger) -> Int32 { Int32(offset) - Int32(bias) }

    static func gpr(_ number: Int) -> Int32 { Int32(number * 8 - bias) }
    static func xmm(_ number: Int) -> Int32 { at(Int(CPU_OFFSET_XMM) + number * 16) }
    static func segmentBase(_ number: Int) -> Int32 {
        at(Int(CPU_OFFSET_SEGMENTS) + number * MemoryLayout<SegmentRegister>.size)
    }

    static let count = of(\.count), deadline = of(\.deadline), blockRIP = of(\.blockRIP), patched = of(\.patched)
    static let flagResult = of(\.flagResult), flagCarries = of(\.flagCarries), hostFlags = of(\.hostFlags)
    static let events = of(\.events), eventCount = of(\.eventCount), eventCapacity = of(\.eventCapacity)
    static let cr4 = of(\.cr4), cpl = of(\.cpl), tscOffset = of(\.tscOffset), tscAux = of(\.tscAux)
    static let groupAddress = of(\.groupAddress)
    static let rip = of(\.rip)
    static let fetchEntries = of(\.fetchEntries)
    static let kernelIndirectBranches = of(\.kernelIndirectBranches)
    static let callMarks = of(\.callMarks), callMarksRAM = of(\.callMarksRAM), callMarksSize = of(\.callMarksSize)
    static let idleNanoseconds = of(\.idleNanoseconds)
    static let blockArena = of(\.blockArena)
    static let flagTable = at(CPU_REGION_FLAGS), jumpCache = at(CPU_REGION_JUMP_CACHE)

    /// The counter of a kind of event.
    static func eventCounter(_ kind: UInt8) -> Int32 { of(\.eventCounts) + Int32(kind) * 8 }

    /// The private data cache of a privilege.
    static func dataCache(user: Bool) -> Int32 {
        at(user ? CPU_REGION_USER_CACHE : CPU_REGION_SUPERVISOR_CACHE)
    }
}
