import CEngine
import CZydis

// Instructions about memory and control: masked and non-temporal stores, cache hints, fences, MXCSR.

/// MXCSR bits (SDM volume 1, 10.2.3).
package enum MXCSR {
    /// After power-up: everything masked.
    package static let initial: UInt32 = 0x1f80
    /// MXCSR_MASK: the bits that exist. Denormals-are-zeros is always among them.
    package static let mask: UInt32 = 0xffff
}

/// Fences order nothing here, there being one CPU; hints have no effect, nor do their operands fault.
private let noOperation: Handler = { _, op in op + 1 }

private let moveNonTemporal32: Handler = { cpu, op in
    cpu.store(op.pointee.source.load(as: UInt32.self), op) ? op + 1 : nil
}
private let moveNonTemporal64: Handler = { cpu, op in
    cpu.store(op.pointee.source.load(as: UInt64.self), op) ? op + 1 : nil
}

/// CLFLUSH faults like a load of one byte.
private let flushCacheLine: Handler = { cpu, op in cpu.load(UInt8.self, op) == nil ? nil : op + 1 }

private let loadMXCSR: Handler = { cpu, op in
    guard let value = cpu.load(UInt32.self, op) else { return nil }
    if value & ~MXCSR.mask != 0 { return cpu.generalProtection(at: op) }
    cpu.pointee.mxcsr = value
    return op + 1
}
private let storeMXCSR: Handler = { cpu, op in cpu.store(cpu.pointee.mxcsr, op) ? op + 1 : nil }

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Stores those of `size` (up to 16) bytes of `value` whose byte in `mask` has its top bit set, at `op`'s memory
    /// operand. Both pages are probed at a byte that is going to be written; with an empty mask nothing can fault.
    fileprivate func storeMasked(
        _ value: XMMRegister, mask: XMMRegister, size: Int, _ op: OperationPointer
    ) -> Bool {
        func byte(_ register: XMMRegister, _ index: Int) -> UInt8 {
            let half = index < 8 ? register.low : register.high
            return UInt8(truncatingIfNeeded: half >> UInt64((index & 7) &* 8))
        }
        guard let first = (0..<size).first(where: { byte(mask, $0) & 0x80 != 0 }),
            let last = (0..<size).last(where: { byte(mask, $0) & 0x80 != 0 })
        else { return true }
        guard let base = linearAddress(op, size: size, write: true) else { return false }
        func linear(_ index: Int) -> UInt64 { (base &+ UInt64(index)) & pointee.linearMask }
        // The upper half first, as processors do.
        let upper = (8..<max(size, 8)).first { byte(mask, $0) & 0x80 != 0 } ?? first
        guard beginUpdate(UInt8.self, linear: linear(upper), op) != nil,
            beginUpdate(UInt8.self, linear: linear(first), op) != nil,
            beginUpdate(UInt8.self, linear: linear(last), op) != nil
        else { return false }
        for index in first...last where byte(mask, index) & 0x80 != 0 {
            guard write(byte(value, index), linear: linear(index), op) else { return false }
        }
        return true
    }
}

private let storeMaskedXMM: Handler = { cpu, op in
    let value = cpu.xmm(at: op.pointee.destination).pointee
    return cpu.storeMasked(value, mask: cpu.sourceXMM(op), size: 16, op) ? op + 1 : nil
}
private let storeMaskedMMX: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    let value = XMMRegister(low: cpu.register(op.pointee.destination), high: 0)
    let mask = XMMRegister(low: op.pointee.source.load(as: UInt64.self), high: 0)
    // Unlike MASKMOVDQU this needs the whole operand to be writable.
    guard cpu.beginUpdate(UInt64.self, op) != nil else { return nil }
    guard cpu.storeMasked(value, mask: mask, size: 8, op) else { return nil }
    cpu.enterMMX()
    return op + 1
}

extension Decoding {
    /// Makes DS:rDI, or what a segment prefix says instead of DS, the memory operand.
    fileprivate func useImplicitDestination() {
        op.pointee.base = UInt16(Register.rdi * 8)
        op.pointee.index = UInt16(CPU_OFFSET_ZERO)
        op.pointee.displacement = 0
        let segment = (0..<Int(instruction.operand_count)).first { operands[$0].type == ZYDIS_OPERAND_TYPE_MEMORY }
            .map { Int(operands[$0].mem.segment.rawValue) - Int(ZYDIS_REGISTER_ES.rawValue) }
        useSegment(segment ?? SegmentIndex.ds)
    }
}

extension InstructionTable {
    mutating func addSSEMemory() {
        for mnemonic in [
            ZYDIS_MNEMONIC_SFENCE, ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_MFENCE,
            ZYDIS_MNEMONIC_PREFETCHNTA, ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1,
            ZYDIS_MNEMONIC_PREFETCHT2, ZYDIS_MNEMONIC_PREFETCH, ZYDIS_MNEMONIC_PREFETCHW,
            ZYDIS_MNEMONIC_PREFETCHWT1,
        ] {
            row(mnemonic, noOperation)
        }
        row(ZYDIS_MNEMONIC_CLFLUSH, flushCacheLine)
        row(ZYDIS_MNEMONIC_MOVNTI) { $0.operandSize(1) == 8 ? moveNonTemporal64 : moveNonTemporal32 }
        sseRow(ZYDIS_MNEMONIC_LDMXCSR) { _ in loadMXCSR }
        sseRow(ZYDIS_MNEMONIC_STMXCSR) { _ in storeMXCSR }
        simdRow(ZYDIS_MNEMONIC_MASKMOVDQU) { d in
            d.useImplicitDestination()
            return storeMaskedXMM
        }
        simdRow(ZYDIS_MNEMONIC_MASKMOVQ) { d in
            d.useImplicitDestination()
            return storeMaskedMMX
        }
    }
}
