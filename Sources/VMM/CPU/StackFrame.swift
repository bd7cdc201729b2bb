import CEngine

/// A stack being pushed to or popped from by a transfer that has not yet committed: the current one, or that of
/// another ring before SS and RSP are loaded.
package struct StackFrame {
    private let cpu: CPU
    private let segment: SegmentRegister
    private let mask: UInt64
    private let cpl: UInt8
    private let isLong: Bool
    /// Error code of the #SS that a push beyond the limit raises.
    private let faultCode: UInt32
    /// The stack pointer as it would be after what was done so far.
    package private(set) var rsp: UInt64

    /// The current stack.
    package init(_ cpu: CPU, ext: UInt32 = 0) {
        self.cpu = cpu
        segment = cpu.pointee.segments.2
        mask = cpu.pointee.stackMask
        cpl = cpu.pointee.cpl
        isLong = cpu.is64Bit
        faultCode = ext
        rsp = cpu.gpr(Register.rsp)
    }

    /// A stack in a 16- or 32-bit segment that is about to be loaded; `pointer` as it lies in memory.
    package init(_ cpu: CPU, _ register: SegmentRegister, pointer: UInt64, cpl: UInt8, ext: UInt32 = 0) {
        self.cpu = cpu
        segment = register
        mask = register.attributes & SegmentAttributes.big != 0 ? 0xffff_ffff : 0xffff
        self.cpl = cpl
        isLong = false
        faultCode = Selector.code(register.selector, ext: ext)
        rsp = (cpu.gpr(Register.rsp) & ~mask & 0xffff_ffff) | (pointer & mask)
    }

    /// A stack of 64-bit code that is about to be entered.
    package init(_ cpu: CPU, long pointer: UInt64, cpl: UInt8, ext: UInt32 = 0) {
        self.cpu = cpu
        segment = SegmentRegister()
        mask = ~0
        self.cpl = cpl
        isLong = true
        faultCode = ext
        rsp = pointer
    }

    /// Pushes the low `size` (2, 4 or 8) bytes of `value`; false with #SS or #PF recorded.
    package mutating func push(_ value: UInt64, size: Int) -> Bool {
        let offset = (rsp &- UInt64(size)) & mask
        guard let linear = linear(offset, size, write: true) else { return false }
        let done: Bool
        switch size {
        case 2: done = cpu.writeAs(UInt16(truncatingIfNeeded: value), linear: linear, cpl: cpl)
        case 4: done = cpu.writeAs(UInt32(truncatingIfNeeded: value), linear: linear, cpl: cpl)
        default: done = cpu.writeAs(value, linear: linear, cpl: cpl)
        }
        if done { rsp = (rsp & ~mask) | offset }
        return done
    }

    /// Pops `size` bytes of the current stack for `op`; nil with the fault recorded.
    package mutating func pop(size: Int, _ op: OperationPointer) -> UInt64? {
        let offset = rsp & mask
        guard let linear = linear(offset, size, write: false) else { return nil }
        let value: UInt64?
        switch size {
        case 2: value = cpu.readHere(UInt16.self, linear: linear, op).map { UInt64($0) }
        case 4: value = cpu.readHere(UInt32.self, linear: linear, op).map { UInt64($0) }
        default: value = cpu.readHere(UInt64.self, linear: linear, op)
        }
        if value != nil { skip(size) }
        return value
    }

    /// Moves up over `bytes`.
    package mutating func skip(_ bytes: Int) {
        rsp = (rsp & ~mask) | ((rsp &+ UInt64(bytes)) & mask)
    }

    private func linear(_ offset: UInt64, _ size: Int, write: Bool) -> UInt64? {
        if isLong {
            guard isCanonical(offset), isCanonical(offset &+ UInt64(size) &- 1) else {
                cpu.setFault(ExceptionVector.ss, code: faultCode)
                return nil
            }
            return offset
        }
        guard cpu.segmentAllows(segment, offset: offset, size: size, write: write) else {
            cpu.setFault(ExceptionVector.ss, code: faultCode)
            return nil
        }
        return (segment.base &+ offset) & 0xffff_ffff
    }
}

extension UnsafeMutablePointer where Pointee == CPUState {
    /// Reads at the current privilege for `op`, which is not left on a fault.
    package func readHere<T: Word>(_ type: T.Type, linear: UInt64, _ op: OperationPointer) -> T? {
        let count = pointee.count
        if let value = read(T.self, linear: linear, op, stack: true) { return value }
        pointee.count = count
        return nil
    }
}
