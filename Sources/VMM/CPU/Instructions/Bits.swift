import CEngine
import CZydis

/// What BT, BTS, BTR and BTC do to the bit that they copied to CF.
protocol BitOperation {
    static var writes: Bool { get }
    static func apply<T: Word>(_ value: T, _ mask: T) -> T
}
enum BitTest: BitOperation {
    static let writes = false
    @inline(__always) static func apply<T: Word>(_ value: T, _ mask: T) -> T { value }
}
enum BitSet: BitOperation {
    static let writes = true
    @inline(__always) static func apply<T: Word>(_ value: T, _ mask: T) -> T { value | mask }
}
enum BitReset: BitOperation {
    static let writes = true
    @inline(__always) static func apply<T: Word>(_ value: T, _ mask: T) -> T { value & ~mask }
}
enum BitComplement: BitOperation {
    static let writes = true
    @inline(__always) static func apply<T: Word>(_ value: T, _ mask: T) -> T { value ^ mask }
}

@inline(__always)
private func bitR<O: BitOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    let index = op.pointee.source.load(as: T.self) & T(T.bitWidth - 1)
    let value: T = cpu.register(op.pointee.destination)
    if O.writes { cpu.setRegister(op.pointee.destination, O.apply(value, 1 << index)) }
    cpu.setCF((value >> index) & 1 != 0)
    return op + 1
}

/// The operand of a bit string lies at a signed distance that the bit index gives; an immediate index stays inside it.
@inline(__always)
private func bitM<O: BitOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    let index = op.pointee.source.load(as: T.self)
    let bit = index & T(T.bitWidth - 1)
    let isImmediate = op.pointee.source == UnsafeMutableRawPointer(op) + 16
    let words = isImmediate ? 0 : Int64(truncatingIfNeeded: index.signed >> T.Signed(T.bitWidth.trailingZeroBitCount))
    let displacement = UInt64(bitPattern: words &* Int64(MemoryLayout<T>.size))
    guard let linear = bitLinear(cpu, op, displacement, MemoryLayout<T>.size, O.writes) else { return nil }
    if !O.writes {
        guard let value = cpu.read(T.self, linear: linear, op, stack: op.pointee.segment == 2) else { return nil }
        cpu.setCF((value >> bit) & 1 != 0)
        return op + 1
    }
    guard let place = cpu.beginUpdate(T.self, linear: linear, op) else { return nil }
    let value = place.loadUnaligned(as: T.self)
    cpu.finishUpdate(place, O.apply(value, 1 << bit), op)
    cpu.setCF((value >> bit) & 1 != 0)
    return op + 1
}

@inline(__always)
private func bitLinear(_ cpu: CPU, _ op: OperationPointer, _ displacement: UInt64, _ size: Int, _ write: Bool)
    -> UInt64?
{
    let offset = (cpu.effectiveAddress(op) &+ displacement) & op.pointee.addressMask
    if op.pointee.flags & OperationFlags.checkSegment != 0 {
        guard cpu.checkSegment(Int(op.pointee.segment), offset: offset, size: size, write: write, op) else {
            return nil
        }
    }
    return (offset &+ cpu.register(op.pointee.segmentBase)) & cpu.pointee.linearMask
}

/// BSF and BSR of zero leave the destination alone, whole, and set ZF. Their other flags, which the SDM leaves
/// undefined,
/// are those of the source compared with zero.
@inline(__always) private func scan<T: Word>(_ cpu: CPU, _ op: OperationPointer, _ value: T, forward: Bool) -> Next {
    cpu.setLogicFlags(value)
    guard value != 0 else { return op + 1 }
    let index = forward ? value.trailingZeroBitCount : T.bitWidth - 1 - value.leadingZeroBitCount
    cpu.setRegister(op.pointee.destination, T(truncatingIfNeeded: index))
    return op + 1
}

@inline(__always) private func bsfR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    scan(cpu, op, op.pointee.source.load(as: T.self), forward: true)
}
@inline(__always) private func bsfM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let value = cpu.load(T.self, op) else { return nil }
    return scan(cpu, op, value, forward: true)
}
@inline(__always) private func bsrR<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    scan(cpu, op, op.pointee.source.load(as: T.self), forward: false)
}
@inline(__always) private func bsrM<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    guard let value = cpu.load(T.self, op) else { return nil }
    return scan(cpu, op, value, forward: false)
}

extension InstructionTable {
    mutating func addBits() {
        let btR = SizedHandlers(
            { bitR($0, $1, BitTest.self, UInt16.self) }, { bitR($0, $1, BitTest.self, UInt16.self) },
            { bitR($0, $1, BitTest.self, UInt32.self) }, { bitR($0, $1, BitTest.self, UInt64.self) })
        let btM = SizedHandlers(
            { bitM($0, $1, BitTest.self, UInt16.self) }, { bitM($0, $1, BitTest.self, UInt16.self) },
            { bitM($0, $1, BitTest.self, UInt32.self) }, { bitM($0, $1, BitTest.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_BT) { ($0.isMemory(0) ? btM : btR)[$0.size] }
        let btsR = SizedHandlers(
            { bitR($0, $1, BitSet.self, UInt16.self) }, { bitR($0, $1, BitSet.self, UInt16.self) },
            { bitR($0, $1, BitSet.self, UInt32.self) }, { bitR($0, $1, BitSet.self, UInt64.self) })
        let btsM = SizedHandlers(
            { bitM($0, $1, BitSet.self, UInt16.self) }, { bitM($0, $1, BitSet.self, UInt16.self) },
            { bitM($0, $1, BitSet.self, UInt32.self) }, { bitM($0, $1, BitSet.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_BTS) { ($0.isMemory(0) ? btsM : btsR)[$0.size] }
        let btrR = SizedHandlers(
            { bitR($0, $1, BitReset.self, UInt16.self) }, { bitR($0, $1, BitReset.self, UInt16.self) },
            { bitR($0, $1, BitReset.self, UInt32.self) }, { bitR($0, $1, BitReset.self, UInt64.self) })
        let btrM = SizedHandlers(
            { bitM($0, $1, BitReset.self, UInt16.self) }, { bitM($0, $1, BitReset.self, UInt16.self) },
            { bitM($0, $1, BitReset.self, UInt32.self) }, { bitM($0, $1, BitReset.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_BTR) { ($0.isMemory(0) ? btrM : btrR)[$0.size] }
        let btcR = SizedHandlers(
            { bitR($0, $1, BitComplement.self, UInt16.self) }, { bitR($0, $1, BitComplement.self, UInt16.self) },
            { bitR($0, $1, BitComplement.self, UInt32.self) }, { bitR($0, $1, BitComplement.self, UInt64.self) })
        let btcM = SizedHandlers(
            { bitM($0, $1, BitComplement.self, UInt16.self) }, { bitM($0, $1, BitComplement.self, UInt16.self) },
            { bitM($0, $1, BitComplement.self, UInt32.self) }, { bitM($0, $1, BitComplement.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_BTC) { ($0.isMemory(0) ? btcM : btcR)[$0.size] }
        let bsf = (
            SizedHandlers(
                { bsfR($0, $1, UInt16.self) }, { bsfR($0, $1, UInt16.self) },
                { bsfR($0, $1, UInt32.self) }, { bsfR($0, $1, UInt64.self) }),
            SizedHandlers(
                { bsfM($0, $1, UInt16.self) }, { bsfM($0, $1, UInt16.self) },
                { bsfM($0, $1, UInt32.self) }, { bsfM($0, $1, UInt64.self) })
        )
        row(ZYDIS_MNEMONIC_BSF) { ($0.isMemory(1) ? bsf.1 : bsf.0)[$0.size] }
        let bsr = (
            SizedHandlers(
                { bsrR($0, $1, UInt16.self) }, { bsrR($0, $1, UInt16.self) },
                { bsrR($0, $1, UInt32.self) }, { bsrR($0, $1, UInt64.self) }),
            SizedHandlers(
                { bsrM($0, $1, UInt16.self) }, { bsrM($0, $1, UInt16.self) },
                { bsrM($0, $1, UInt32.self) }, { bsrM($0, $1, UInt64.self) })
        )
        row(ZYDIS_MNEMONIC_BSR) { ($0.isMemory(1) ? bsr.1 : bsr.0)[$0.size] }
        row(ZYDIS_MNEMONIC_BSWAP) { decoding in
            switch decoding.size {
            case 8:
                { cpu, op in
                    cpu.setRegister(
                        op.pointee.destination, cpu.register(op.pointee.destination, as: UInt64.self).byteSwapped)
                    return op + 1
                }
            case 4:
                { cpu, op in
                    cpu.setRegister(
                        op.pointee.destination, cpu.register(op.pointee.destination, as: UInt32.self).byteSwapped)
                    return op + 1
                }
            default:
                // Undefined for 16 bits; processors clear the register.
                { cpu, op in
                    cpu.setRegister(op.pointee.destination, UInt16(0))
                    return op + 1
                }
            }
        }
    }
}
