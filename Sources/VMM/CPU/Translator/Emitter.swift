/// Writes host instructions, one method a kind of instruction (SDM volume 2, chapter 2 for the encoding).
///
/// `place` is where the next byte goes, in the writable view of the code memory, which owns it; whoever uses an
/// emitter has made sure of the room. Code runs `distance` bytes away, in the executable view.
struct Emitter {
    private(set) var place: UnsafeMutableRawPointer

    init(_ place: UnsafeMutableRawPointer) { self.place = place }

    /// The second operand of most instructions: a register, or memory at a base (and index) register.
    enum Operand {
        case register(HostRegister)
        case memory(HostRegister, Int32)
        case indexed(HostRegister, HostRegister, scale: UInt8, Int32)

        /// A place in the state block.
        static func state(_ offset: Int32) -> Operand { .memory(.state, offset) }
    }

    // MARK: Bytes

    @inline(__always) mutating func byte(_ value: UInt8) {
        place.storeBytes(of: value, as: UInt8.self)
        place += 1
    }

    @inline(__always) mutating func long(_ value: Int32) {
        place.storeBytes(of: value, as: Int32.self)
        place += 4
    }

    @inline(__always) mutating func quad(_ value: UInt64) {
        place.storeBytes(of: value, as: UInt64.self)
        place += 8
    }

    // MARK: The general form

    /// [prefix] [66] [REX] opcode ModRM: `reg` is a register's number or an opcode extension. `size` is the operand
    /// size in bytes; with size 1 the registers are byte registers, the low ones.
    mutating func instruction(
        prefix: UInt8 = 0, map0F: Bool = false, _ opcode: UInt8, size: Int, reg: UInt8, _ operand: Operand,
        byteOperand: Bool? = nil
    ) {
        if prefix != 0 { byte(prefix) }
        if size == 2 { byte(0x66) }
        rex(wide: size == 8, reg: reg, operand, bytes: size == 1, byteOperand: byteOperand ?? (size == 1))
        if map0F { byte(0x0f) }
        byte(opcode)
        modRM(reg, operand)
    }

    private mutating func rex(wide: Bool, reg: UInt8, _ operand: Operand, bytes: Bool, byteOperand: Bool) {
        var rex: UInt8 = (wide ? 8 : 0) | (reg >> 3) << 2
        var needed = bytes && reg >= 4
        switch operand {
        case .register(let register):
            rex |= register.number >> 3
            needed = needed || byteOperand && register.number >= 4
        case .memory(let base, _): rex |= base.number >> 3
        case .indexed(let base, let index, _, _): rex |= base.number >> 3 | (index.number >> 3) << 1
        }
        if rex != 0 || needed { byte(0x40 | rex) }
    }

    private mutating func modRM(_ reg: UInt8, _ operand: Operand) {
        let middle = (reg & 7) << 3
        switch operand {
        case .register(let register): byte(0xc0 | middle | register.number & 7)
        case .memory(let base, let displacement):
            let low = base.number & 7
            let mod = mode(displacement, base: low)
            byte(mod | middle | low)
            if low == 4 { byte(0x24) }
            self.displacement(displacement, mod)
        case .indexed(let base, let index, let scale, let displacement):
            let mod = mode(displacement, base: base.number & 7)
            byte(mod | middle | 4)
            byte(scale << 6 | (index.number & 7) << 3 | base.number & 7)
            self.displacement(displacement, mod)
        }
    }

    private func mode(_ displacement: Int32, base: UInt8) -> UInt8 {
        displacement == 0 && base != 5 ? 0 : Int8(exactly: displacement) != nil ? 0x40 : 0x80
    }

    private mutating func displacement(_ value: Int32, _ mod: UInt8) {
        if mod == 0x40 { byte(UInt8(truncatingIfNeeded: value)) }
        if mod == 0x80 { long(value) }
    }

    // MARK: Moves

    mutating func load(_ register: HostRegister, size: Int = 8, _ operand: Operand) {
        instruction(size == 1 ? 0x8a : 0x8b, size: size, reg: register.number, operand)
    }

    mutating func store(_ operand: Operand, size: Int = 8, _ register: HostRegister) {
        instruction(size == 1 ? 0x88 : 0x89, size: size, reg: register.number, operand)
    }

    mutating func move(_ register: HostRegister, _ source: HostRegister, size: Int = 8) {
        load(register, size: size, .register(source))
    }

    /// A constant, in its shortest form; flags stay.
    mutating func move(_ register: HostRegister, constant value: UInt64) {
        if value <= UInt64(UInt32.max) {
            if register.number >= 8 { byte(0x41) }
            byte(0xb8 | register.number & 7)
            long(Int32(truncatingIfNeeded: value))
        } else if let short = Int32(exactly: Int64(bitPattern: value)) {
            instruction(0xc7, size: 8, reg: 0, .register(register))
            long(short)
        } else {
            byte(0x48 | register.number >> 3)
            byte(0xb8 | register.number & 7)
            quad(value)
        }
    }

    /// Stores a constant, sign-extended to the size.
    mutating func store(_ operand: Operand, size: Int, constant: Int32) {
        instruction(size == 1 ? 0xc6 : 0xc7, size: size, reg: 0, operand)
        immediate(constant, size: size)
    }

    /// An immediate operand as wide as the operand size has it: 1, 2 or 4 bytes.
    mutating func immediate(_ value: Int32, size: Int) {
        switch size {
        case 1: byte(UInt8(truncatingIfNeeded: value))
        case 2:
            byte(UInt8(truncatingIfNeeded: value))
            byte(UInt8(truncatingIfNeeded: value >> 8))
        default: long(value)
        }
    }

    /// Loads with zero or sign extension from 1, 2 or (signed) 4 bytes.
    mutating func extend(
        _ register: HostRegister, size: Int, _ operand: Operand, from: Int, signed: Bool
    ) {
        if from == 4 {
            instruction(0x63, size: size, reg: register.number, operand)
            return
        }
        let opcode: UInt8 = (signed ? 0xbe : 0xb6) | (from == 2 ? 1 : 0)
        instruction(map0F: true, opcode, size: size, reg: register.number, operand, byteOperand: from == 1)
    }

    mutating func loadAddress(_ register: HostRegister, size: Int = 8, _ operand: Operand) {
        instruction(0x8d, size: size, reg: register.number, operand)
    }

    // MARK: Arithmetic

    /// ADD OR ADC SBB AND SUB XOR CMP by number, with a register destination.
    mutating func arithmetic(_ number: UInt8, _ register: HostRegister, size: Int = 8, _ operand: Operand) {
        instruction(number << 3 | (size == 1 ? 2 : 3), size: size, reg: register.number, operand)
    }

    /// The same with a register source.
    mutating func arithmetic(_ number: UInt8, _ operand: Operand, size: Int = 8, source: HostRegister) {
        instruction(number << 3 | (size == 1 ? 0 : 1), size: size, reg: source.number, operand)
    }

    /// The same with an immediate, sign-extended to the size.
    mutating func arithmetic(_ number: UInt8, _ operand: Operand, size: Int = 8, constant: Int32) {
        if size == 1 {
            instruction(0x80, size: 1, reg: number, operand)
            byte(UInt8(truncatingIfNeeded: constant))
        } else if Int8(exactly: constant) != nil {
            instruction(0x83, size: size, reg: number, operand)
            byte(UInt8(truncatingIfNeeded: constant))
        } else {
            instruction(0x81, size: size, reg: number, operand)
            immediate(constant, size: size)
        }
    }

    mutating func test(_ operand: Operand, size: Int = 8, _ register: HostRegister) {
        instruction(size == 1 ? 0x84 : 0x85, size: size, reg: register.number, operand)
    }

    mutating func test(_ operand: Operand, size: Int, constant: Int32) {
        instruction(size == 1 ? 0xf6 : 0xf7, size: size, reg: 0, operand)
        immediate(constant, size: size)
    }

    /// A shift or rotation by number (ROL ROR RCL RCR SHL SHR - SAR), by a constant.
    mutating func shift(_ number: UInt8, _ operand: Operand, size: Int = 8, by count: UInt8) {
        if count == 1 {
            instruction(size == 1 ? 0xd0 : 0xd1, size: size, reg: number, operand)
        } else {
            instruction(size == 1 ? 0xc0 : 0xc1, size: size, reg: number, operand)
            byte(count)
        }
    }

    mutating func shiftByCL(_ number: UInt8, _ operand: Operand, size: Int) {
        instruction(size == 1 ? 0xd2 : 0xd3, size: size, reg: number, operand)
    }

    /// SETcc of a register's low byte or of memory.
    mutating func set(_ condition: UInt8, _ operand: Operand) {
        instruction(map0F: true, 0x90 | condition, size: 1, reg: 0, operand)
    }

    // MARK: Flags

    /// LAHF; SETO AL: the flags in AX, as `CPUState.hostFlags` has them, but for an AF to be cleared.
    mutating func flagsToAX(clearsAF: Bool) {
        byte(0x9f)
        set(0, .register(.rax))
        if clearsAF {
            byte(0x80)
            byte(0xe4)
            byte(0xef)  // AND AH, not AF
        }
    }

    /// ADD AL, 7FH; SAHF: the reverse.
    mutating func flagsFromAX() {
        byte(0x04)
        byte(0x7f)
        byte(0x9e)
    }

    // MARK: Control

    /// Jcc with a displacement to be given; returns its place.
    mutating func jump(if condition: UInt8) -> JumpSite {
        byte(0x0f)
        byte(0x80 | condition)
        return site()
    }

    mutating func jump() -> JumpSite {
        byte(0xe9)
        return site()
    }

    mutating func jump(if condition: UInt8, to target: UnsafeRawPointer) { jump(if: condition).lead(to: target) }
    mutating func jump(to target: UnsafeRawPointer) { jump().lead(to: target) }

    mutating func call(_ target: UnsafeRawPointer) {
        byte(0xe8)
        site().lead(to: target)
    }

    mutating func jump(through operand: Operand) { instruction(0xff, size: 4, reg: 4, operand) }
    mutating func call(through operand: Operand) { instruction(0xff, size: 4, reg: 2, operand) }
    mutating func ret() { byte(0xc3) }

    private mutating func site() -> JumpSite {
        long(0)
        return JumpSite(end: place)
    }
}

/// The displacement of a jump that has been written, as the address after it in the writable view.
struct JumpSite {
    let end: UnsafeMutableRawPointer

    /// Makes the jump go to `target`, an address in the writable view: both views have the same distances.
    func lead(to target: UnsafeRawPointer) {
        (end - 4).storeBytes(of: Int32(truncatingIfNeeded: target - UnsafeRawPointer(end)), as: Int32.self)
    }
}

/// Condition codes of Jcc and SETcc (SDM volume 2, appendix B.1.4.7).
enum Condition {
    static let overflow: UInt8 = 0, below: UInt8 = 2, aboveOrEqual: UInt8 = 3, equal: UInt8 = 4, notEqual: UInt8 = 5
    static let belowOrEqual: UInt8 = 6, above: UInt8 = 7, parity: UInt8 = 10, less: UInt8 = 12
}

/// The numbers of the eight arithmetic instructions, as opcodes have them.
enum ArithmeticNumber {
    static let add: UInt8 = 0, or: UInt8 = 1, adc: UInt8 = 2, sbb: UInt8 = 3, and: UInt8 = 4, sub: UInt8 = 5
    static let xor: UInt8 = 6, cmp: UInt8 = 7
}
