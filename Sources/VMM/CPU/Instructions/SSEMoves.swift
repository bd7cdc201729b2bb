import CEngine
import CZydis

// Moves between XMM, MMX and general registers and memory, without a call out of Swift on the common paths.

// MARK: Whole XMM registers

private let moveRegister: Handler = { cpu, op in
    cpu.xmm(at: op.pointee.destination).pointee = cpu.sourceXMM(op)
    return op + 1
}
private let loadAligned: Handler = { cpu, op in
    guard let value = cpu.load128(op, aligned: true) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee = value
    return op + 1
}
private let loadUnaligned: Handler = { cpu, op in
    guard let value = cpu.load128(op, aligned: false) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee = value
    return op + 1
}
private let storeAligned: Handler = { cpu, op in
    cpu.store128(cpu.sourceXMM(op), op, aligned: true) ? op + 1 : nil
}
private let storeUnaligned: Handler = { cpu, op in
    cpu.store128(cpu.sourceXMM(op), op, aligned: false) ? op + 1 : nil
}

// MARK: Parts of XMM registers

/// MOVQ xmm, xmm and MOVQ xmm, r64: the upper half is cleared.
private let moveLowClearing: Handler = { cpu, op in
    let low = op.pointee.source.load(as: UInt64.self)
    cpu.xmm(at: op.pointee.destination).pointee = XMMRegister(low: low, high: 0)
    return op + 1
}
/// MOVD xmm, r32.
private let moveDoublewordClearing: Handler = { cpu, op in
    let low = op.pointee.source.load(as: UInt32.self)
    cpu.xmm(at: op.pointee.destination).pointee = XMMRegister(low: UInt64(low), high: 0)
    return op + 1
}
private let loadQuadwordClearing: Handler = { cpu, op in
    guard let value = cpu.loadScalar(UInt64.self, op) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee = value
    return op + 1
}
private let loadDoublewordClearing: Handler = { cpu, op in
    guard let value = cpu.loadScalar(UInt32.self, op) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee = value
    return op + 1
}
private let storeLow: Handler = { cpu, op in
    cpu.store(op.pointee.source.load(as: UInt64.self), op) ? op + 1 : nil
}
private let storeDoubleword: Handler = { cpu, op in
    cpu.store(op.pointee.source.load(as: UInt32.self), op) ? op + 1 : nil
}
private let storeHigh: Handler = { cpu, op in cpu.store(cpu.sourceXMM(op).high, op) ? op + 1 : nil }

/// MOVSD xmm, xmm: the upper half stays.
private let moveLow: Handler = { cpu, op in
    cpu.xmm(at: op.pointee.destination).pointee.low = op.pointee.source.load(as: UInt64.self)
    return op + 1
}
/// MOVSS xmm, xmm.
private let moveSingle: Handler = { cpu, op in
    cpu.raw.storeBytes(
        of: op.pointee.source.load(as: UInt32.self), toByteOffset: Int(op.pointee.destination), as: UInt32.self)
    return op + 1
}
/// MOVLPS xmm, m64.
private let loadLow: Handler = { cpu, op in
    guard let value = cpu.load(UInt64.self, op) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee.low = value
    return op + 1
}
/// MOVHPS xmm, m64.
private let loadHigh: Handler = { cpu, op in
    guard let value = cpu.load(UInt64.self, op) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee.high = value
    return op + 1
}
/// MOVHLPS.
private let moveHighToLow: Handler = { cpu, op in
    cpu.xmm(at: op.pointee.destination).pointee.low = cpu.sourceXMM(op).high
    return op + 1
}
/// MOVLHPS.
private let moveLowToHigh: Handler = { cpu, op in
    cpu.xmm(at: op.pointee.destination).pointee.high = cpu.sourceXMM(op).low
    return op + 1
}

// MARK: Duplicating moves (SSE3)

extension UnsafeMutablePointer where Pointee == CPUState {
    /// MOVSHDUP (odd) or MOVSLDUP (even): copies every second single to its neighbour.
    @inline(__always) fileprivate func duplicateSingles(_ op: OperationPointer, _ value: XMMRegister, odd: Bool) {
        let shift: UInt64 = odd ? 32 : 0
        func both(_ half: UInt64) -> UInt64 { ((half >> shift) & 0xffff_ffff) &* 0x1_0000_0001 }
        xmm(at: op.pointee.destination).pointee = XMMRegister(low: both(value.low), high: both(value.high))
    }
}

private let duplicateOdd: Handler = { cpu, op in
    cpu.duplicateSingles(op, cpu.sourceXMM(op), odd: true)
    return op + 1
}
private let duplicateOddMemory: Handler = { cpu, op in
    guard let value = cpu.load128(op, aligned: true) else { return nil }
    cpu.duplicateSingles(op, value, odd: true)
    return op + 1
}
private let duplicateEven: Handler = { cpu, op in
    cpu.duplicateSingles(op, cpu.sourceXMM(op), odd: false)
    return op + 1
}
private let duplicateEvenMemory: Handler = { cpu, op in
    guard let value = cpu.load128(op, aligned: true) else { return nil }
    cpu.duplicateSingles(op, value, odd: false)
    return op + 1
}
private let duplicateDouble: Handler = { cpu, op in
    let low = op.pointee.source.load(as: UInt64.self)
    cpu.xmm(at: op.pointee.destination).pointee = XMMRegister(low: low, high: low)
    return op + 1
}
private let duplicateDoubleMemory: Handler = { cpu, op in
    guard let low = cpu.load(UInt64.self, op) else { return nil }
    cpu.xmm(at: op.pointee.destination).pointee = XMMRegister(low: low, high: low)
    return op + 1
}

// MARK: XMM or MMX to general registers

private let moveQuadwordToGeneral: Handler = { cpu, op in
    cpu.setRegister(op.pointee.destination, op.pointee.source.load(as: UInt64.self))
    return op + 1
}
private let moveDoublewordToGeneral: Handler = { cpu, op in
    cpu.setRegister(op.pointee.destination, op.pointee.source.load(as: UInt32.self))
    return op + 1
}
private let extractWord: Handler = { cpu, op in
    let offset = Int(op.pointee.immediate & 7) &* 2
    cpu.setRegister(op.pointee.destination, UInt32(op.pointee.source.load(fromByteOffset: offset, as: UInt16.self)))
    return op + 1
}
private let insertWord: Handler = { cpu, op in
    let offset = Int(op.pointee.destination) &+ Int(op.pointee.immediate & 7) &* 2
    cpu.raw.storeBytes(of: op.pointee.source.load(as: UInt16.self), toByteOffset: offset, as: UInt16.self)
    return op + 1
}
private let insertWordMemory: Handler = { cpu, op in
    guard let value = cpu.load(UInt16.self, op) else { return nil }
    let offset = Int(op.pointee.destination) &+ Int(op.pointee.immediate & 7) &* 2
    cpu.raw.storeBytes(of: value, toByteOffset: offset, as: UInt16.self)
    return op + 1
}

// MARK: MMX

private let mmxMoveQuadword: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.setMMX(op.pointee.destination, op.pointee.source.load(as: UInt64.self))
    return op + 1
}
private let mmxMoveDoubleword: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.setMMX(op.pointee.destination, UInt64(op.pointee.source.load(as: UInt32.self)))
    return op + 1
}
private let mmxLoadQuadword: Handler = { cpu, op in
    guard cpu.x87Ready(op), let value = cpu.load(UInt64.self, op) else { return nil }
    cpu.setMMX(op.pointee.destination, value)
    return op + 1
}
private let mmxLoadDoubleword: Handler = { cpu, op in
    guard cpu.x87Ready(op), let value = cpu.load(UInt32.self, op) else { return nil }
    cpu.setMMX(op.pointee.destination, UInt64(value))
    return op + 1
}
private let mmxStoreQuadword: Handler = { cpu, op in
    guard cpu.x87Ready(op), cpu.store(op.pointee.source.load(as: UInt64.self), op) else { return nil }
    cpu.enterMMX()
    return op + 1
}
private let mmxStoreDoubleword: Handler = { cpu, op in
    guard cpu.x87Ready(op), cpu.store(op.pointee.source.load(as: UInt32.self), op) else { return nil }
    cpu.enterMMX()
    return op + 1
}
private let mmxQuadwordToGeneral: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.setRegister(op.pointee.destination, op.pointee.source.load(as: UInt64.self))
    cpu.enterMMX()
    return op + 1
}
private let mmxDoublewordToGeneral: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    cpu.setRegister(op.pointee.destination, op.pointee.source.load(as: UInt32.self))
    cpu.enterMMX()
    return op + 1
}
private let mmxExtractWord: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    let offset = Int(op.pointee.immediate & 3) &* 2
    cpu.setRegister(op.pointee.destination, UInt32(op.pointee.source.load(fromByteOffset: offset, as: UInt16.self)))
    cpu.enterMMX()
    return op + 1
}
private let mmxInsertWord: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    let offset = Int(op.pointee.destination) &+ Int(op.pointee.immediate & 3) &* 2
    cpu.raw.storeBytes(of: op.pointee.source.load(as: UInt16.self), toByteOffset: offset, as: UInt16.self)
    cpu.markMMX(op.pointee.destination)
    return op + 1
}
private let mmxInsertWordMemory: Handler = { cpu, op in
    guard cpu.x87Ready(op), let value = cpu.load(UInt16.self, op) else { return nil }
    let offset = Int(op.pointee.destination) &+ Int(op.pointee.immediate & 3) &* 2
    cpu.raw.storeBytes(of: value, toByteOffset: offset, as: UInt16.self)
    cpu.markMMX(op.pointee.destination)
    return op + 1
}
/// MOVQ2DQ.
private let moveMMXToXMM: Handler = { cpu, op in
    guard cpu.x87Ready(op) else { return nil }
    let low = op.pointee.source.load(as: UInt64.self)
    cpu.xmm(at: op.pointee.destination).pointee = XMMRegister(low: low, high: 0)
    cpu.enterMMX()
    return op + 1
}

// MARK: Rows

extension InstructionTable {
    mutating func addSSEMoves() {
        for mnemonic in [ZYDIS_MNEMONIC_MOVAPS, ZYDIS_MNEMONIC_MOVAPD, ZYDIS_MNEMONIC_MOVDQA] {
            sseRow(mnemonic) { $0.isMemory(0) ? storeAligned : $0.isMemory(1) ? loadAligned : moveRegister }
        }
        for mnemonic in [ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU, ZYDIS_MNEMONIC_LDDQU] {
            sseRow(mnemonic) { $0.isMemory(0) ? storeUnaligned : $0.isMemory(1) ? loadUnaligned : moveRegister }
        }
        for mnemonic in [ZYDIS_MNEMONIC_MOVNTPS, ZYDIS_MNEMONIC_MOVNTPD, ZYDIS_MNEMONIC_MOVNTDQ] {
            sseRow(mnemonic) { _ in storeAligned }
        }
        sseRow(ZYDIS_MNEMONIC_MOVSS) {
            $0.isMemory(0) ? storeDoubleword : $0.isMemory(1) ? loadDoublewordClearing : moveSingle
        }
        sseRow(ZYDIS_MNEMONIC_MOVSD, shared: true) {
            $0.isMemory(0) ? storeLow : $0.isMemory(1) ? loadQuadwordClearing : moveLow
        }
        for mnemonic in [ZYDIS_MNEMONIC_MOVLPS, ZYDIS_MNEMONIC_MOVLPD] {
            sseRow(mnemonic) { $0.isMemory(0) ? storeLow : loadLow }
        }
        for mnemonic in [ZYDIS_MNEMONIC_MOVHPS, ZYDIS_MNEMONIC_MOVHPD] {
            sseRow(mnemonic) { $0.isMemory(0) ? storeHigh : loadHigh }
        }
        sseRow(ZYDIS_MNEMONIC_MOVHLPS) { _ in moveHighToLow }
        sseRow(ZYDIS_MNEMONIC_MOVLHPS) { _ in moveLowToHigh }
        sseRow(ZYDIS_MNEMONIC_MOVDDUP) { $0.isMemory(1) ? duplicateDoubleMemory : duplicateDouble }
        sseRow(ZYDIS_MNEMONIC_MOVSHDUP) { $0.isMemory(1) ? duplicateOddMemory : duplicateOdd }
        sseRow(ZYDIS_MNEMONIC_MOVSLDUP) { $0.isMemory(1) ? duplicateEvenMemory : duplicateEven }
        addGeneralMoves()
    }

    private mutating func addGeneralMoves() {
        simdRow(ZYDIS_MNEMONIC_MOVD) { d in
            switch (d.operandClass(0), d.operandClass(1)) {
            case (.xmm, .memory): loadDoublewordClearing
            case (.xmm, _): moveDoublewordClearing
            case (.memory, .xmm): storeDoubleword
            case (_, .xmm): moveDoublewordToGeneral
            case (.mmx, .memory): mmxLoadDoubleword
            case (.mmx, _): mmxMoveDoubleword
            case (.memory, _): mmxStoreDoubleword
            default: mmxDoublewordToGeneral
            }
        }
        simdRow(ZYDIS_MNEMONIC_MOVQ) { d in
            switch (d.operandClass(0), d.operandClass(1)) {
            case (.xmm, .memory): loadQuadwordClearing
            case (.xmm, _): moveLowClearing
            case (.memory, .xmm): storeLow
            case (_, .xmm): moveQuadwordToGeneral
            case (.mmx, .memory): mmxLoadQuadword
            case (.mmx, _): mmxMoveQuadword
            case (.memory, _): mmxStoreQuadword
            default: mmxQuadwordToGeneral
            }
        }
        simdRow(ZYDIS_MNEMONIC_MOVNTQ) { _ in mmxStoreQuadword }
        simdRow(ZYDIS_MNEMONIC_MOVDQ2Q) { _ in mmxMoveQuadword }
        simdRow(ZYDIS_MNEMONIC_MOVQ2DQ) { _ in moveMMXToXMM }
        simdRow(ZYDIS_MNEMONIC_PEXTRW) { d in
            // The form with a memory destination is SSE4.1.
            d.isMemory(0) ? nil : d.operandClass(1) == .mmx ? mmxExtractWord : extractWord
        }
        simdRow(ZYDIS_MNEMONIC_PINSRW) { d in
            if d.operandClass(0) == .mmx { return d.isMemory(1) ? mmxInsertWordMemory : mmxInsertWord }
            return d.isMemory(1) ? insertWordMemory : insertWord
        }
    }
}
