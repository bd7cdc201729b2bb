import CHostCPU
import DifferentialSupport

/// One instruction with all its inputs. Both sides run it; neither changes it.
final class TestCase {
    let mode: CodeMode
    /// The instruction's bytes.
    var bytes: [UInt8] = []
    /// What the host gets in its place, of the same length: an encoding without a prefix that means more to newer CPUs.
    var hostBytes: [UInt8]?
    /// Where it starts in the code page.
    var codeOffset = 0x100
    /// Registers before the instruction. Owned by this object.
    let input: UnsafeMutablePointer<HostState>
    /// Bytes of the backing memory that differ from `Window.pristine`; later ones win.
    private(set) var patches: [(offset: Int, byte: UInt8)] = []
    /// A linear range that the instruction fills with what no manual defines.
    struct IgnoredRange {
        var address: UInt64
        var count: Int
        /// Only if the instruction faults: it may have done part of its stores.
        var afterFault = false
    }
    var ignoredMemory: [IgnoredRange] = []

    init(mode: CodeMode) {
        self.mode = mode
        input = .allocate(capacity: 1)
        input.initialize(to: HostState())
        FXImage.initialize(fx)
    }

    deinit { input.deallocate() }

    /// The FXSAVE64 image in `input`.
    var fx: UnsafeMutableRawPointer { UnsafeMutableRawPointer(input) }

    /// The general registers in `input`.
    var gpr: UnsafeMutablePointer<UInt64> { input.generalRegisters }

    func removePatches() {
        patches.removeAll(keepingCapacity: true)
        ignoredMemory.removeAll(keepingCapacity: true)
    }

    /// Makes the byte at a linear address hold `byte` before the instruction, if the window has it and it is not code.
    func patch(_ linear: UInt64, _ byte: UInt8) {
        guard let offset = Window.backing(linear & mode.linearMask), offset < Window.dataBytes else { return }
        patches.append((offset, byte))
    }

    /// The same for the low `count` bytes of `value`.
    func patch(_ linear: UInt64, _ value: UInt64, count: Int) {
        for index in 0..<count {
            patch(linear &+ UInt64(index), UInt8(truncatingIfNeeded: value >> UInt64(index * 8)))
        }
    }

    /// Whether a segment of the local descriptor table is used.
    var usesLDT: Bool {
        let input = input.pointee
        return [input.es, input.cs, input.ss, input.ds, input.fs, input.gs].contains { $0 & 4 != 0 }
    }
}

extension UnsafeMutablePointer where Pointee == HostState {
    /// RAX to R15, inside the block pointed to.
    var generalRegisters: UnsafeMutablePointer<UInt64> {
        (UnsafeMutableRawPointer(self) + FXImage.bytes).assumingMemoryBound(to: UInt64.self)
    }
}
