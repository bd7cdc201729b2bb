import CEngine
import CZydis

/// A two-operand integer operation that sets all arithmetic flags.
protocol BinaryOperation {
    /// False for CMP and TEST.
    static var writesResult: Bool { get }
    static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T
}

enum Add: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        let result = a &+ b
        cpu.setFlags(result, carries: (a & b) | ((a | b) & ~result))
        return result
    }
}

enum AddWithCarry: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        let result = a &+ b &+ (cpu.cf ? 1 : 0)
        cpu.setFlags(result, carries: (a & b) | ((a | b) & ~result))
        return result
    }
}

enum Subtract: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        let result = a &- b
        cpu.setFlags(result, carries: (~a & b) | (~(a ^ b) & result))
        return result
    }
}

enum SubtractWithBorrow: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        let result = a &- b &- (cpu.cf ? 1 : 0)
        cpu.setFlags(result, carries: (~a & b) | (~(a ^ b) & result))
        return result
    }
}

enum Compare: BinaryOperation {
    static let writesResult = false
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T { Subtract.apply(cpu, a, b) }
}

enum And: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        cpu.setLogicFlags(a & b)
        return a & b
    }
}

enum Or: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        cpu.setLogicFlags(a | b)
        return a | b
    }
}

enum Xor: BinaryOperation {
    static let writesResult = true
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T {
        cpu.setLogicFlags(a ^ b)
        return a ^ b
    }
}

enum Test: BinaryOperation {
    static let writesResult = false
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T, _ b: T) -> T { And.apply(cpu, a, b) }
}

/// destination register ← operation(destination, register or immediate)
@inline(__always)
func binaryRR<O: BinaryOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    let b = op.pointee.source.load(as: T.self)
    let result = O.apply(cpu, cpu.register(op.pointee.destination, as: T.self), b)
    if O.writesResult { cpu.setRegister(op.pointee.destination, result) }
    return op + 1
}

/// destination register ← operation(destination, memory)
@inline(__always)
func binaryRM<O: BinaryOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    guard let b = cpu.load(T.self, op) else { return nil }
    let result = O.apply(cpu, cpu.register(op.pointee.destination, as: T.self), b)
    if O.writesResult { cpu.setRegister(op.pointee.destination, result) }
    return op + 1
}

/// memory ← operation(memory, register or immediate)
@inline(__always)
func binaryMR<O: BinaryOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    let b = op.pointee.source.load(as: T.self)
    if !O.writesResult {
        guard let a = cpu.load(T.self, op) else { return nil }
        _ = O.apply(cpu, a, b)
        return op + 1
    }
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    cpu.finishUpdate(place, O.apply(cpu, place.loadUnaligned(as: T.self), b), op)
    return op + 1
}

/// The handlers of a two-operand instruction by where memory stands.
struct BinaryHandlers {
    let rr, rm, mr: SizedHandlers

    func select(_ decoding: Decoding) -> Handler {
        let shape = decoding.isMemory(0) ? mr : decoding.isMemory(1) ? rm : rr
        return shape[decoding.size]
    }
}

/// A one-operand integer operation.
protocol UnaryOperation {
    static func apply<T: Word>(_ cpu: CPU, _ a: T) -> T
}

enum Increment: UnaryOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T) -> T {
        let carry = cpu.cf
        let result = a &+ 1
        cpu.setFlags(result, cf: carry, of: result == T(1) << (T.bitWidth - 1), af: result & 15 == 0)
        return result
    }
}

enum Decrement: UnaryOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T) -> T {
        let carry = cpu.cf
        let result = a &- 1
        cpu.setFlags(result, cf: carry, of: a == T(1) << (T.bitWidth - 1), af: result & 15 == 15)
        return result
    }
}

enum Negate: UnaryOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T) -> T { Subtract.apply(cpu, 0, a) }
}

enum Not: UnaryOperation {
    @inline(__always) static func apply<T: Word>(_ cpu: CPU, _ a: T) -> T { ~a }
}

@inline(__always)
func unaryR<O: UnaryOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    cpu.setRegister(op.pointee.destination, O.apply(cpu, cpu.register(op.pointee.destination, as: T.self)))
    return op + 1
}

@inline(__always)
func unaryM<O: UnaryOperation, T: Word>(_ cpu: CPU, _ op: OperationPointer, _: O.Type, _: T.Type) -> Next {
    guard let place = cpu.beginUpdate(T.self, op) else { return nil }
    cpu.finishUpdate(place, O.apply(cpu, place.loadUnaligned(as: T.self)), op)
    return op + 1
}

extension InstructionTable {
    mutating func addArithmetic() {
        let addHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, Add.self, UInt8.self) }, { binaryRR($0, $1, Add.self, UInt16.self) },
                { binaryRR($0, $1, Add.self, UInt32.self) }, { binaryRR($0, $1, Add.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, Add.self, UInt8.self) }, { binaryRM($0, $1, Add.self, UInt16.self) },
                { binaryRM($0, $1, Add.self, UInt32.self) }, { binaryRM($0, $1, Add.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, Add.self, UInt8.self) }, { binaryMR($0, $1, Add.self, UInt16.self) },
                { binaryMR($0, $1, Add.self, UInt32.self) }, { binaryMR($0, $1, Add.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_ADD) { addHandlers.select($0) }
        let adcHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, AddWithCarry.self, UInt8.self) },
                { binaryRR($0, $1, AddWithCarry.self, UInt16.self) },
                { binaryRR($0, $1, AddWithCarry.self, UInt32.self) },
                { binaryRR($0, $1, AddWithCarry.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, AddWithCarry.self, UInt8.self) },
                { binaryRM($0, $1, AddWithCarry.self, UInt16.self) },
                { binaryRM($0, $1, AddWithCarry.self, UInt32.self) },
                { binaryRM($0, $1, AddWithCarry.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, AddWithCarry.self, UInt8.self) },
                { binaryMR($0, $1, AddWithCarry.self, UInt16.self) },
                { binaryMR($0, $1, AddWithCarry.self, UInt32.self) },
                { binaryMR($0, $1, AddWithCarry.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_ADC) { adcHandlers.select($0) }
        let subHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, Subtract.self, UInt8.self) }, { binaryRR($0, $1, Subtract.self, UInt16.self) },
                { binaryRR($0, $1, Subtract.self, UInt32.self) }, { binaryRR($0, $1, Subtract.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, Subtract.self, UInt8.self) }, { binaryRM($0, $1, Subtract.self, UInt16.self) },
                { binaryRM($0, $1, Subtract.self, UInt32.self) }, { binaryRM($0, $1, Subtract.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, Subtract.self, UInt8.self) }, { binaryMR($0, $1, Subtract.self, UInt16.self) },
                { binaryMR($0, $1, Subtract.self, UInt32.self) }, { binaryMR($0, $1, Subtract.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_SUB) { subHandlers.select($0) }
        let sbbHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, SubtractWithBorrow.self, UInt8.self) },
                { binaryRR($0, $1, SubtractWithBorrow.self, UInt16.self) },
                { binaryRR($0, $1, SubtractWithBorrow.self, UInt32.self) },
                { binaryRR($0, $1, SubtractWithBorrow.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, SubtractWithBorrow.self, UInt8.self) },
                { binaryRM($0, $1, SubtractWithBorrow.self, UInt16.self) },
                { binaryRM($0, $1, SubtractWithBorrow.self, UInt32.self) },
                { binaryRM($0, $1, SubtractWithBorrow.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, SubtractWithBorrow.self, UInt8.self) },
                { binaryMR($0, $1, SubtractWithBorrow.self, UInt16.self) },
                { binaryMR($0, $1, SubtractWithBorrow.self, UInt32.self) },
                { binaryMR($0, $1, SubtractWithBorrow.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_SBB) { sbbHandlers.select($0) }
        let cmpHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, Compare.self, UInt8.self) }, { binaryRR($0, $1, Compare.self, UInt16.self) },
                { binaryRR($0, $1, Compare.self, UInt32.self) }, { binaryRR($0, $1, Compare.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, Compare.self, UInt8.self) }, { binaryRM($0, $1, Compare.self, UInt16.self) },
                { binaryRM($0, $1, Compare.self, UInt32.self) }, { binaryRM($0, $1, Compare.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, Compare.self, UInt8.self) }, { binaryMR($0, $1, Compare.self, UInt16.self) },
                { binaryMR($0, $1, Compare.self, UInt32.self) }, { binaryMR($0, $1, Compare.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_CMP) { cmpHandlers.select($0) }
        let andHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, And.self, UInt8.self) }, { binaryRR($0, $1, And.self, UInt16.self) },
                { binaryRR($0, $1, And.self, UInt32.self) }, { binaryRR($0, $1, And.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, And.self, UInt8.self) }, { binaryRM($0, $1, And.self, UInt16.self) },
                { binaryRM($0, $1, And.self, UInt32.self) }, { binaryRM($0, $1, And.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, And.self, UInt8.self) }, { binaryMR($0, $1, And.self, UInt16.self) },
                { binaryMR($0, $1, And.self, UInt32.self) }, { binaryMR($0, $1, And.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_AND) { andHandlers.select($0) }
        let orHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, Or.self, UInt8.self) }, { binaryRR($0, $1, Or.self, UInt16.self) },
                { binaryRR($0, $1, Or.self, UInt32.self) }, { binaryRR($0, $1, Or.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, Or.self, UInt8.self) }, { binaryRM($0, $1, Or.self, UInt16.self) },
                { binaryRM($0, $1, Or.self, UInt32.self) }, { binaryRM($0, $1, Or.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, Or.self, UInt8.self) }, { binaryMR($0, $1, Or.self, UInt16.self) },
                { binaryMR($0, $1, Or.self, UInt32.self) }, { binaryMR($0, $1, Or.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_OR) { orHandlers.select($0) }
        let xorHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, Xor.self, UInt8.self) }, { binaryRR($0, $1, Xor.self, UInt16.self) },
                { binaryRR($0, $1, Xor.self, UInt32.self) }, { binaryRR($0, $1, Xor.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, Xor.self, UInt8.self) }, { binaryRM($0, $1, Xor.self, UInt16.self) },
                { binaryRM($0, $1, Xor.self, UInt32.self) }, { binaryRM($0, $1, Xor.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, Xor.self, UInt8.self) }, { binaryMR($0, $1, Xor.self, UInt16.self) },
                { binaryMR($0, $1, Xor.self, UInt32.self) }, { binaryMR($0, $1, Xor.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_XOR) { xorHandlers.select($0) }
        let testHandlers = BinaryHandlers(
            rr: SizedHandlers(
                { binaryRR($0, $1, Test.self, UInt8.self) }, { binaryRR($0, $1, Test.self, UInt16.self) },
                { binaryRR($0, $1, Test.self, UInt32.self) }, { binaryRR($0, $1, Test.self, UInt64.self) }),
            rm: SizedHandlers(
                { binaryRM($0, $1, Test.self, UInt8.self) }, { binaryRM($0, $1, Test.self, UInt16.self) },
                { binaryRM($0, $1, Test.self, UInt32.self) }, { binaryRM($0, $1, Test.self, UInt64.self) }),
            mr: SizedHandlers(
                { binaryMR($0, $1, Test.self, UInt8.self) }, { binaryMR($0, $1, Test.self, UInt16.self) },
                { binaryMR($0, $1, Test.self, UInt32.self) }, { binaryMR($0, $1, Test.self, UInt64.self) }))
        row(ZYDIS_MNEMONIC_TEST) { testHandlers.select($0) }
        let incR = SizedHandlers(
            { unaryR($0, $1, Increment.self, UInt8.self) }, { unaryR($0, $1, Increment.self, UInt16.self) },
            { unaryR($0, $1, Increment.self, UInt32.self) }, { unaryR($0, $1, Increment.self, UInt64.self) })
        let incM = SizedHandlers(
            { unaryM($0, $1, Increment.self, UInt8.self) }, { unaryM($0, $1, Increment.self, UInt16.self) },
            { unaryM($0, $1, Increment.self, UInt32.self) }, { unaryM($0, $1, Increment.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_INC) { $0.isMemory(0) ? incM[$0.size] : incR[$0.size] }
        let decR = SizedHandlers(
            { unaryR($0, $1, Decrement.self, UInt8.self) }, { unaryR($0, $1, Decrement.self, UInt16.self) },
            { unaryR($0, $1, Decrement.self, UInt32.self) }, { unaryR($0, $1, Decrement.self, UInt64.self) })
        let decM = SizedHandlers(
            { unaryM($0, $1, Decrement.self, UInt8.self) }, { unaryM($0, $1, Decrement.self, UInt16.self) },
            { unaryM($0, $1, Decrement.self, UInt32.self) }, { unaryM($0, $1, Decrement.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_DEC) { $0.isMemory(0) ? decM[$0.size] : decR[$0.size] }
        let negR = SizedHandlers(
            { unaryR($0, $1, Negate.self, UInt8.self) }, { unaryR($0, $1, Negate.self, UInt16.self) },
            { unaryR($0, $1, Negate.self, UInt32.self) }, { unaryR($0, $1, Negate.self, UInt64.self) })
        let negM = SizedHandlers(
            { unaryM($0, $1, Negate.self, UInt8.self) }, { unaryM($0, $1, Negate.self, UInt16.self) },
            { unaryM($0, $1, Negate.self, UInt32.self) }, { unaryM($0, $1, Negate.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_NEG) { $0.isMemory(0) ? negM[$0.size] : negR[$0.size] }
        let notR = SizedHandlers(
            { unaryR($0, $1, Not.self, UInt8.self) }, { unaryR($0, $1, Not.self, UInt16.self) },
            { unaryR($0, $1, Not.self, UInt32.self) }, { unaryR($0, $1, Not.self, UInt64.self) })
        let notM = SizedHandlers(
            { unaryM($0, $1, Not.self, UInt8.self) }, { unaryM($0, $1, Not.self, UInt16.self) },
            { unaryM($0, $1, Not.self, UInt32.self) }, { unaryM($0, $1, Not.self, UInt64.self) })
        row(ZYDIS_MNEMONIC_NOT) { $0.isMemory(0) ? notM[$0.size] : notR[$0.size] }
        addMultiply()
        addDecimal()
    }
}
