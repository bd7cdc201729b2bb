import CHostCPU
import VMM

/// The code sizes in which instructions are tested.
package enum CodeMode: Int, CaseIterable {
    case bits64 = 64
    case bits32 = 32
    case bits16 = 16

    /// Of linear addresses.
    package var linearMask: UInt64 { self == .bits64 ? ~0 : 0xffff_ffff }
}

/// The modelled CPU whose vendor is the host's, so that where the vendors differ both sides do the same.
package let testedModel = CPUModel.named(hostcpu_is_amd() ? "x86-64" : "x86-64-intel")!
