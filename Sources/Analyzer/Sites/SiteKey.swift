import CEngine
import VMM

/// Which part of a run an event belongs to.
package enum Phase: UInt8, CaseIterable {
    case firmware, decompressor, kernel, user
}

/// What the events are told apart by: where they come from, and what they are about.
package struct SiteKey: Hashable {
    /// Linear address of the instruction.
    package var address: UInt64
    package var kind: UInt8
    package var ring: UInt8
    package var size: UInt8
    package var phase: Phase
    /// Port, address of a device's register, MSR, CPUID leaf, vector, control register; zero for other kinds.
    package var subject: UInt64

    package init(address: UInt64, kind: UInt8, ring: UInt8, size: UInt8, phase: Phase, subject: UInt64) {
        self.address = address
        self.kind = kind
        self.ring = ring
        self.size = size
        self.phase = phase
        self.subject = subject
    }

    /// What an event of a kind is about.
    package enum Subject: UInt8 {
        case none
        /// The operand as it is.
        case operand
        /// The operand, a physical address, as its page unless a device's registers are there.
        case memory
    }

    /// By the kind's number.
    package static let subjects: [Subject] = (0...255).map { number in
        switch EventKind(rawValue: UInt8(number)) {
        case .portIn, .portOut, .rdmsr, .wrmsr, .cpuid, .exception, .interruptAsserted, .interruptDelivered,
            .interruptInstruction, .readControl, .writeControl, .readDebug, .writeDebug, .rdpmc:
            .operand
        case .mmioRead, .mmioWrite: .memory
        default: .none
        }
    }
}

/// Events of one key, added up. A delta is the counts from the event before, of whatever site, to this one: the guest
/// time that the event ended.
package struct SiteTotals: Equatable {
    package var samples: UInt64 = 0
    package var first: UInt64 = .max
    package var last: UInt64 = 0
    package var deltaMin: UInt64 = .max
    package var deltaMax: UInt64 = 0
    package var deltaSum: UInt64 = 0

    package init() {}

    @inline(__always) mutating func add(_ count: UInt64, _ delta: UInt64) {
        samples &+= 1
        if count < first { first = count }
        if count > last { last = count }
        if delta < deltaMin { deltaMin = delta }
        if delta > deltaMax { deltaMax = delta }
        deltaSum &+= delta
    }

    mutating func add(_ other: SiteTotals) {
        samples &+= other.samples
        first = min(first, other.first)
        last = max(last, other.last)
        deltaMin = min(deltaMin, other.deltaMin)
        deltaMax = max(deltaMax, other.deltaMax)
        deltaSum &+= other.deltaSum
    }
}
