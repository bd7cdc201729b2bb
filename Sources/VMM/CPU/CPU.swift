import CEngine

/// The virtual CPU: a pointer to its one flat block of state.
///
/// The block belongs to a `Processor`, which outlives every use of the pointer. Everything that executes guest
/// instructions is an extension of this pointer type, so nothing on the hot path is reference counted.
package typealias CPU = UnsafeMutablePointer<CPUState>

/// A decoded instruction inside a block of the `BlockCache`, which owns its memory. Each block ends with an
/// operation that leaves it, so the operation after any instruction exists.
package typealias OperationPointer = UnsafeMutablePointer<Operation>

/// What a handler returns: the operation to run next, or nil to go back to the run loop.
package typealias Next = OperationPointer?

/// A guest integer of one of the operand sizes.
package protocol Word: FixedWidthInteger, UnsignedInteger where Magnitude == Self {
    associatedtype Signed: FixedWidthInteger, SignedInteger
    var signed: Signed { get }
}
extension UInt8: Word { package var signed: Int8 { Int8(bitPattern: self) } }
extension UInt16: Word { package var signed: Int16 { Int16(bitPattern: self) } }
extension UInt32: Word { package var signed: Int32 { Int32(bitPattern: self) } }
extension UInt64: Word { package var signed: Int64 { Int64(bitPattern: self) } }

/// General registers by number, as encoded in instructions.
package enum Register {
    package static let rax = 0, rcx = 1, rdx = 2, rbx = 3, rsp = 4, rbp = 5, rsi = 6, rdi = 7
}

/// Segment registers by number, as encoded in instructions; LDTR and TR follow.
package enum SegmentIndex {
    package static let es = 0, cs = 1, ss = 2, ds = 3, fs = 4, gs = 5, ldtr = 6, tr = 7
}

/// RFLAGS bits (SDM volume 1, 3.4.3).
package enum RFlags {
    package static let cf: UInt64 = 1 << 0, reserved1: UInt64 = 1 << 1, pf: UInt64 = 1 << 2, af: UInt64 = 1 << 4
    package static let zf: UInt64 = 1 << 6, sf: UInt64 = 1 << 7, tf: UInt64 = 1 << 8, `if`: UInt64 = 1 << 9
    package static let df: UInt64 = 1 << 10, of: UInt64 = 1 << 11, iopl: UInt64 = 3 << 12, nt: UInt64 = 1 << 14
    package static let rf: UInt64 = 1 << 16, vm: UInt64 = 1 << 17, ac: UInt64 = 1 << 18, vif: UInt64 = 1 << 19
    package static let vip: UInt64 = 1 << 20, id: UInt64 = 1 << 21
    /// CF, PF, AF, ZF, SF and OF, which are kept lazily.
    package static let arithmetic: UInt64 = cf | pf | af | zf | sf | of
    /// Every flag that a guest can set.
    package static let all: UInt64 = 0x3f7fd5 | reserved1
}

/// CR0 bits (SDM volume 3, 2.5).
package enum CR0 {
    package static let pe: UInt64 = 1 << 0, mp: UInt64 = 1 << 1, em: UInt64 = 1 << 2, ts: UInt64 = 1 << 3
    package static let et: UInt64 = 1 << 4, ne: UInt64 = 1 << 5, wp: UInt64 = 1 << 16, am: UInt64 = 1 << 18
    package static let nw: UInt64 = 1 << 29, cd: UInt64 = 1 << 30, pg: UInt64 = 1 << 31
}

/// CR4 bits (SDM volume 3, 2.5).
package enum CR4 {
    package static let vme: UInt64 = 1 << 0, pvi: UInt64 = 1 << 1, tsd: UInt64 = 1 << 2, de: UInt64 = 1 << 3
    package static let pse: UInt64 = 1 << 4, pae: UInt64 = 1 << 5, mce: UInt64 = 1 << 6, pge: UInt64 = 1 << 7
    package static let pce: UInt64 = 1 << 8, osfxsr: UInt64 = 1 << 9, osxmmexcpt: UInt64 = 1 << 10
}

/// IA32_EFER bits.
package enum EFER {
    package static let sce: UInt64 = 1 << 0, lme: UInt64 = 1 << 8, lma: UInt64 = 1 << 10, nxe: UInt64 = 1 << 11
}

/// What of the machine's mode decides how code bytes decode and which checks an operation needs. A block of decoded
/// code is keyed by its physical address and this value.
package enum ModeKey {
    /// Bits 0 and 1: default code size, 0 for 16, 1 for 32, 2 for 64 bits.
    package static let sizeMask: UInt32 = 3
    package static let code16: UInt32 = 0, code32: UInt32 = 1, code64: UInt32 = 2
    /// SS.B: pushes and pops use ESP. Meaningless in 64-bit code.
    package static let stack32: UInt32 = 1 << 2
    /// Bit 3 + segment number (ES CS SS DS FS GS): accesses to the segment need no check (present, 4 GB, expand-up, and
    /// writable; readable is enough for CS, which is never written). Always set in 64-bit code.
    package static func unchecked(_ segment: Int) -> UInt32 { 1 << (3 + UInt32(segment)) }
    /// Protected mode, and not virtual-8086.
    package static let protected: UInt32 = 1 << 9
    /// x87 instructions do not fault: CR0.EM and TS are clear.
    package static let x87Usable: UInt32 = 1 << 10
    /// SSE instructions do not fault: CR0.EM and TS are clear, CR4.OSFXSR is set.
    package static let sseUsable: UInt32 = 1 << 11
    /// Long mode is active (IA32_EFER.LMA), in 64-bit or compatibility code.
    package static let longMode: UInt32 = 1 << 12
    /// 32-bit code whose CS, SS, DS and ES all begin at 0 and need no check, with a 32-bit stack.
    package static let flat: UInt32 = 1 << 13
    /// CPL is 3.
    package static let user: UInt32 = 1 << 14
}

/// Bits of `CPUState.pending`: what the run loop must do before the next instruction.
package enum PendingFlags {
    /// The fault described by `faultVector` and its neighbours is to be delivered.
    package static let fault: UInt32 = 1 << 0
    /// The processor shut down after a triple fault.
    package static let shutdown: UInt32 = 1 << 1
    /// An instruction that Trapline does not implement was met at `rip`.
    package static let unsupported: UInt32 = 1 << 2
}

/// Bits of `Operation.flags`.
package enum OperationFlags {
    /// The memory operand's segment needs its limit and type checked.
    package static let checkSegment: UInt8 = 1 << 0
    /// The stack segment needs its limit and type checked.
    package static let checkStack: UInt8 = 1 << 1
    /// A REP prefix (F3), or REPE; and REPNE (F2).
    package static let rep: UInt8 = 1 << 2
    package static let repne: UInt8 = 1 << 3
    /// The effective operand size is 16 bits, for handlers that serve two sizes.
    package static let operand16: UInt8 = 1 << 4
    /// The effective operand size is 64 bits.
    package static let operand64: UInt8 = 1 << 5
    /// The destination (op 0) is the memory operand, for handlers that serve both.
    package static let memory: UInt8 = 1 << 6
    /// The CPU model does not have the instruction: it raises #UD.
    package static let undefined: UInt8 = 1 << 7
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The bytes of the state block, for register access by offset.
    @inline(__always) package var raw: UnsafeMutableRawPointer { UnsafeMutableRawPointer(self) }

    /// Reads the register at a byte offset that the decoder put into an operation, always inside the state block.
    @inline(__always) package func register<T: Word>(_ offset: UInt16, as type: T.Type = T.self) -> T {
        raw.load(fromByteOffset: Int(offset), as: type)
    }

    /// Writes a register; a 32-bit write clears the upper half, as in 64-bit mode (elsewhere it is zero anyway).
    @inline(__always) package func setRegister<T: Word>(_ offset: UInt16, _ value: T) {
        if T.bitWidth == 32 {
            raw.storeBytes(of: UInt64(truncatingIfNeeded: value), toByteOffset: Int(offset), as: UInt64.self)
        } else {
            raw.storeBytes(of: value, toByteOffset: Int(offset), as: T.self)
        }
    }

    /// General register `number`, whole.
    @inline(__always) package func gpr(_ number: Int) -> UInt64 {
        raw.load(fromByteOffset: number &* 8, as: UInt64.self)
    }

    /// Writes general register `number`, whole.
    @inline(__always) package func setGPR(_ number: Int, _ value: UInt64) {
        raw.storeBytes(of: value, toByteOffset: number &* 8, as: UInt64.self)
    }

    /// The low part of a general register (AL, AX, EAX or RAX for number 0).
    @inline(__always) package func gpr<T: Word>(_ number: Int, as type: T.Type) -> T {
        raw.load(fromByteOffset: number &* 8, as: T.self)
    }

    /// Writes the low part of a general register, clearing the upper half if it is 32 bits wide.
    @inline(__always) package func setGPR<T: Word>(_ number: Int, to value: T) {
        setRegister(UInt16(truncatingIfNeeded: number &* 8), value)
    }

    /// A segment register with its hidden part. The pointer is into this state block.
    @inline(__always) package func segment(_ index: Int) -> UnsafeMutablePointer<SegmentRegister> {
        cpu_segment(self, Int32(truncatingIfNeeded: index))
    }

    package var isLongMode: Bool { pointee.efer & EFER.lma != 0 }
    /// Executing 64-bit code, rather than compatibility mode or none of both.
    @inline(__always) package var is64Bit: Bool { pointee.mode & ModeKey.sizeMask == ModeKey.code64 }
    package var isProtected: Bool { pointee.cr0 & CR0.pe != 0 }
    package var isVirtual8086: Bool { pointee.flags & RFlags.vm != 0 }
    package var isRealOrVirtual8086: Bool { !isProtected || isVirtual8086 }
    package var iopl: UInt8 { UInt8((pointee.flags & RFlags.iopl) >> 12) }

    /// The machine around this CPU; for slow paths only.
    @inline(__always) package var processor: Processor {
        Unmanaged<Processor>.fromOpaque(pointee.processor).takeUnretainedValue()
    }

    /// The same without reference counting, for what runs often.
    @inline(__always) package func withProcessor<R>(_ body: (Processor) -> R) -> R {
        Unmanaged<Processor>.fromOpaque(pointee.processor)._withUnsafeGuaranteedRef(body)
    }

    // MARK: Positions inside a block

    /// RIP of an operation of the running block.
    @inline(__always) package func rip(of op: OperationPointer) -> UInt64 {
        pointee.blockRIP &+ UInt64(op.pointee.offset)
    }

    /// RIP of the instruction after `op`, not yet cut to the code size.
    @inline(__always) package func rip(after op: OperationPointer) -> UInt64 {
        pointee.blockRIP &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length)
    }

    /// Counts retired before `op`.
    @inline(__always) package func count(before op: OperationPointer) -> UInt64 {
        pointee.count &- UInt64(op.pointee.remaining)
    }

    /// Returns to the run loop with `op` not executed: it runs again, or its fault is delivered.
    package func leave(at op: OperationPointer) -> Next {
        pointee.rip = rip(of: op)
        pointee.count = count(before: op)
        return nil
    }

    /// Returns to the run loop with `op` retired, for instructions after which something may be pending.
    package func leave(after op: OperationPointer) -> Next {
        pointee.rip = truncateRIP(rip(after: op))
        pointee.count = count(before: op) &+ 1
        return nil
    }

    /// RIP wraps at the code size: IP or EIP outside 64-bit code.
    @inline(__always) package func truncateRIP(_ rip: UInt64) -> UInt64 {
        switch pointee.mode & ModeKey.sizeMask {
        case ModeKey.code64: rip
        case ModeKey.code32: rip & 0xffff_ffff
        default: rip & 0xffff
        }
    }
}
