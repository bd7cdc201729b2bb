import CEngine
import CZydis

// String instructions. A REP counts one for each iteration and can be left between two of them, with the registers
// showing
// what is done, for a fault, a deadline or a change of the code; it then goes on as if it had just begun.

extension UnsafeMutablePointer where Pointee == CPUState {
    /// The step of SI and DI: the element size, or minus it with DF.
    @inline(__always) fileprivate func step(_ size: Int) -> UInt64 {
        pointee.flags & RFlags.df != 0 ? 0 &- UInt64(size) : UInt64(size)
    }

    /// Adds to RSI, RDI or RCX at the address size.
    @inline(__always) fileprivate func advance(_ register: Int, _ op: OperationPointer, by step: UInt64) {
        let value = gpr(register)
        switch op.pointee.addressMask {
        case 0xffff: setGPR(register, to: UInt16(truncatingIfNeeded: value &+ step))
        case 0xffff_ffff: setGPR(register, (value &+ step) & 0xffff_ffff)
        default: setGPR(register, value &+ step)
        }
    }

    /// The linear address of the source element, at RSI in the operation's segment.
    @inline(__always) fileprivate func sourceAddress(_ op: OperationPointer, _ size: Int) -> UInt64? {
        let offset = gpr(Register.rsi) & op.pointee.addressMask
        if op.pointee.flags & OperationFlags.checkSegment != 0 {
            guard checkSegment(Int(op.pointee.segment), offset: offset, size: size, write: false, op) else {
                return nil
            }
        }
        return (offset &+ register(op.pointee.segmentBase)) & pointee.linearMask
    }

    /// The linear address of the destination element, at RDI in ES.
    @inline(__always) fileprivate func destinationAddress(_ op: OperationPointer, _ size: Int, write: Bool) -> UInt64? {
        let offset = gpr(Register.rdi) & op.pointee.addressMask
        if pointee.mode & ModeKey.unchecked(SegmentIndex.es) == 0 {
            guard checkSegment(SegmentIndex.es, offset: offset, size: size, write: write, op) else { return nil }
        }
        let base = is64Bit ? 0 : pointee.segments.0.base
        return (offset &+ base) & pointee.linearMask
    }

    /// Repeats `iteration` as the REP prefix says. It returns nil after a fault, false to stop (REPE, REPNE), true to
    /// go on.
    @inline(__always) fileprivate func repeated(
        _ op: OperationPointer, bulk: (UInt64) -> UInt64 = { _ in 0 }, iteration: () -> Bool?
    ) -> Next {
        let repeats = OperationFlags.rep | OperationFlags.repne
        guard op.pointee.flags & repeats != 0 else {
            guard iteration() != nil else { return nil }
            return pointee.count <= pointee.deadline ? op + 1 : leave(after: op)
        }
        var left = gpr(Register.rcx) & op.pointee.addressMask
        guard left != 0 else { return op + 1 }
        while true {
            let position = count(before: op)
            let budget = pointee.deadline > position ? pointee.deadline &- position : 1
            let done = bulk(min(left, budget))
            if done > 0 {
                advance(Register.rcx, op, by: 0 &- done)
                left &-= done
                pointee.count &+= left == 0 ? done &- 1 : done
                if left == 0 { break }
            } else {
                guard let goesOn = iteration() else { return nil }
                advance(Register.rcx, op, by: ~0)
                left &-= 1
                if left == 0 || !goesOn { break }
                pointee.count &+= 1
            }
            if count(before: op) >= pointee.deadline || pointee.patched != nil {
                // An interrupt taken here pushes RF set; a breakpoint on the instruction does not hit again (SDM
                // volume 3, 18.3.1.1).
                pointee.flags |= RFlags.rf
                return leave(at: op)
            }
        }
        return pointee.count <= pointee.deadline ? op + 1 : leave(after: op)
    }

    /// Host address of `linear` for reading, if the private cache has its page; the rest of the page is readable too.
    @inline(__always) fileprivate func cachedRead(_ linear: UInt64) -> UnsafeMutableRawPointer? {
        let entry = pointee.dataCache + Int(truncatingIfNeeded: (linear >> 12) & (dataCacheEntries - 1))
        guard entry.pointee.readTag == linear & pageMask else { return nil }
        return UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: entry.pointee.addend &+ linear))
    }

    /// The same for writing.
    @inline(__always) fileprivate func cachedWrite(_ linear: UInt64) -> UnsafeMutableRawPointer? {
        let entry = pointee.dataCache + Int(truncatingIfNeeded: (linear >> 12) & (dataCacheEntries - 1))
        guard entry.pointee.writeTag == linear & pageMask else { return nil }
        return UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: entry.pointee.addend &+ linear))
    }

    /// Whether elements can be handled in bulk: upwards, in segments that need no check.
    @inline(__always) fileprivate func allowsBulk(_ op: OperationPointer) -> Bool {
        pointee.flags & RFlags.df == 0 && op.pointee.flags & OperationFlags.checkSegment == 0
            && pointee.mode & ModeKey.unchecked(SegmentIndex.es) != 0
    }

    /// Whole elements of `size` bytes from `linear` to the end of its page.
    @inline(__always) fileprivate func elementsOnPage(_ linear: UInt64, _ size: Int) -> UInt64 {
        (pageSize &- (linear & ~pageMask)) / UInt64(size)
    }
}

@inline(__always) private func moveString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    return cpu.repeated(
        op, bulk: { moveBulk(cpu, op, size, $0) },
        iteration: {
            guard let source = cpu.sourceAddress(op, size), let value = cpu.read(T.self, linear: source, op),
                let destination = cpu.destinationAddress(op, size, write: true),
                cpu.write(value, linear: destination, op)
            else { return nil }
            let step = cpu.step(size)
            cpu.advance(Register.rsi, op, by: step)
            cpu.advance(Register.rdi, op, by: step)
            return true
        })
}

/// Copies up to `limit` elements at once where both pages are at hand and the copy does not feed on itself.
/// - Returns: how many.
private func moveBulk(_ cpu: CPU, _ op: OperationPointer, _ size: Int, _ limit: UInt64) -> UInt64 {
    guard limit > 1, cpu.allowsBulk(op) else { return 0 }
    guard let source = cpu.sourceAddress(op, size), let destination = cpu.destinationAddress(op, size, write: true),
        let from = cpu.cachedRead(source), let to = cpu.cachedWrite(destination)
    else { return 0 }
    let count = min(limit, cpu.elementsOnPage(source, size), cpu.elementsOnPage(destination, size))
    let bytes = Int(count) * size
    guard count > 0, to <= from || to >= from + bytes else { return 0 }
    to.copyMemory(from: from, byteCount: bytes)
    cpu.advance(Register.rsi, op, by: UInt64(bytes))
    cpu.advance(Register.rdi, op, by: UInt64(bytes))
    return count
}

@inline(__always) private func storeString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    return cpu.repeated(
        op, bulk: { storeBulk(cpu, op, T.self, $0) },
        iteration: {
            guard let destination = cpu.destinationAddress(op, size, write: true),
                cpu.write(cpu.gpr(Register.rax, as: T.self), linear: destination, op)
            else { return nil }
            cpu.advance(Register.rdi, op, by: cpu.step(size))
            return true
        })
}

@inline(__always) private func storeBulk<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type, _ limit: UInt64)
    -> UInt64
{
    let size = MemoryLayout<T>.size
    guard limit > 1, cpu.allowsBulk(op), let destination = cpu.destinationAddress(op, size, write: true),
        let to = cpu.cachedWrite(destination)
    else { return 0 }
    let count = min(limit, cpu.elementsOnPage(destination, size))
    let value = cpu.gpr(Register.rax, as: T.self)
    for index in 0..<Int(count) { to.storeBytes(of: value, toByteOffset: index &* size, as: T.self) }
    cpu.advance(Register.rdi, op, by: count &* UInt64(size))
    return count
}

@inline(__always) private func loadString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    return cpu.repeated(op) {
        guard let source = cpu.sourceAddress(op, size), let value = cpu.read(T.self, linear: source, op) else {
            return nil
        }
        cpu.setGPR(Register.rax, to: value)
        cpu.advance(Register.rsi, op, by: cpu.step(size))
        return true
    }
}

/// Whether REPE or REPNE goes on after a comparison.
@inline(__always) private func goesOn(_ cpu: CPU, _ op: OperationPointer) -> Bool {
    cpu.zf == (op.pointee.flags & OperationFlags.rep != 0)
}

/// CMPS reads the element at RDI first, as processors do.
@inline(__always) private func compareString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    return cpu.repeated(op) {
        guard let destination = cpu.destinationAddress(op, size, write: false),
            let b = cpu.read(T.self, linear: destination, op),
            let source = cpu.sourceAddress(op, size), let a = cpu.read(T.self, linear: source, op)
        else { return nil }
        _ = Compare.apply(cpu, a, b)
        let step = cpu.step(size)
        cpu.advance(Register.rsi, op, by: step)
        cpu.advance(Register.rdi, op, by: step)
        return goesOn(cpu, op)
    }
}

@inline(__always) private func scanString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    return cpu.repeated(op) {
        guard let destination = cpu.destinationAddress(op, size, write: false),
            let value = cpu.read(T.self, linear: destination, op)
        else { return nil }
        _ = Compare.apply(cpu, cpu.gpr(Register.rax, as: T.self), value)
        cpu.advance(Register.rdi, op, by: cpu.step(size))
        return goesOn(cpu, op)
    }
}

/// INS: the destination is probed for writing before the port is read.
@inline(__always) private func inString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    let port = cpu.gpr(Register.rdx, as: UInt16.self)
    guard cpu.ioPermitted(port: port, size: size) else { return cpu.leave(at: op) }
    return cpu.repeated(op) {
        // What happens on the way happens at this element, wherever the run was stopped before.
        cpu.pointee.position = cpu.count(before: op)
        guard let destination = cpu.destinationAddress(op, size, write: true),
            let place = cpu.beginUpdate(T.self, linear: destination, op)
        else { return nil }
        let value = cpu.processor.readPort(port, size: size, op)
        cpu.finishUpdate(place, T(truncatingIfNeeded: value), op)
        cpu.processor.noteStringIO(value, size: size)
        cpu.advance(Register.rdi, op, by: cpu.step(size))
        return true
    }
}

@inline(__always) private func outString<T: Word>(_ cpu: CPU, _ op: OperationPointer, _: T.Type) -> Next {
    let size = MemoryLayout<T>.size
    let port = cpu.gpr(Register.rdx, as: UInt16.self)
    guard cpu.ioPermitted(port: port, size: size) else { return cpu.leave(at: op) }
    return cpu.repeated(op) {
        cpu.pointee.position = cpu.count(before: op)
        guard let source = cpu.sourceAddress(op, size), let value = cpu.read(T.self, linear: source, op) else {
            return nil
        }
        cpu.processor.writePort(port, UInt32(truncatingIfNeeded: value), size: size, op)
        cpu.processor.noteStringIO(UInt32(truncatingIfNeeded: value), size: size)
        cpu.advance(Register.rsi, op, by: cpu.step(size))
        return true
    }
}

extension Decoding {
    /// Gives the operation the source's segment, which a prefix may override, and only the REP prefixes that count.
    fileprivate func wireString() {
        for index in 0..<Int(instruction.operand_count) where operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY {
            let base = operands[index].mem.base
            guard base == ZYDIS_REGISTER_SI || base == ZYDIS_REGISTER_ESI || base == ZYDIS_REGISTER_RSI else {
                continue
            }
            op.pointee.flags &= ~OperationFlags.checkSegment
            useSegment(Int(operands[index].mem.segment.rawValue) - Int(ZYDIS_REGISTER_ES.rawValue))
        }
        let repeats = OperationFlags.rep | OperationFlags.repne
        op.pointee.flags &= ~repeats
        let prefixed = instruction.attributes
        if prefixed & ZYDIS_ATTRIB_HAS_REPNE_SHIM != 0 {
            op.pointee.flags |= OperationFlags.repne
        } else if prefixed & (ZYDIS_ATTRIB_HAS_REP_SHIM | ZYDIS_ATTRIB_HAS_REPE_SHIM) != 0 {
            op.pointee.flags |= OperationFlags.rep
        }
    }
}

extension InstructionTable {
    private mutating func stringRow(_ mnemonic: ZydisMnemonic, _ handler: @escaping Handler) {
        row(mnemonic) { decoding in
            decoding.wireString()
            return handler
        }
    }

    mutating func addStrings() {
        stringRow(ZYDIS_MNEMONIC_MOVSB) { moveString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_MOVSW) { moveString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_MOVSQ) { moveString($0, $1, UInt64.self) }
        stringRow(ZYDIS_MNEMONIC_STOSB) { storeString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_STOSW) { storeString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_STOSD) { storeString($0, $1, UInt32.self) }
        stringRow(ZYDIS_MNEMONIC_STOSQ) { storeString($0, $1, UInt64.self) }
        stringRow(ZYDIS_MNEMONIC_LODSB) { loadString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_LODSW) { loadString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_LODSD) { loadString($0, $1, UInt32.self) }
        stringRow(ZYDIS_MNEMONIC_LODSQ) { loadString($0, $1, UInt64.self) }
        stringRow(ZYDIS_MNEMONIC_CMPSB) { compareString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_CMPSW) { compareString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_CMPSQ) { compareString($0, $1, UInt64.self) }
        stringRow(ZYDIS_MNEMONIC_SCASB) { scanString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_SCASW) { scanString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_SCASD) { scanString($0, $1, UInt32.self) }
        stringRow(ZYDIS_MNEMONIC_SCASQ) { scanString($0, $1, UInt64.self) }
        stringRow(ZYDIS_MNEMONIC_INSB) { inString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_INSW) { inString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_INSD) { inString($0, $1, UInt32.self) }
        stringRow(ZYDIS_MNEMONIC_OUTSB) { outString($0, $1, UInt8.self) }
        stringRow(ZYDIS_MNEMONIC_OUTSW) { outString($0, $1, UInt16.self) }
        stringRow(ZYDIS_MNEMONIC_OUTSD) { outString($0, $1, UInt32.self) }
        // MOVSD and CMPSD are also names of SSE2 instructions, which add themselves to these rows.
        stringRow(ZYDIS_MNEMONIC_MOVSD) { moveString($0, $1, UInt32.self) }
        stringRow(ZYDIS_MNEMONIC_CMPSD) { compareString($0, $1, UInt32.self) }
    }
}
