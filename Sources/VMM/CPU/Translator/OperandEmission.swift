import CEngine

// Guest operands in host code.
extension Translator {
    // MARK: General registers

    /// A general register as an operand: a host register, or its place in the state block.
    func operand(_ number: Int) -> Emitter.Operand {
        GuestRegisters.host[number].map { .register($0) } ?? .state(StateOffset.gpr(number))
    }

    /// The host register that holds a general register, whole; it is loaded into `scratch` if it has none.
    func value(_ number: Int, in scratch: HostRegister) -> HostRegister {
        if let register = GuestRegisters.host[number] { return register }
        hot.load(scratch, .state(StateOffset.gpr(number)))
        return scratch
    }

    /// Lets `body` change a general register, whole or its low part, in a host register.
    func change(_ number: Int, in scratch: HostRegister, _ body: (HostRegister) -> Void) {
        let register = value(number, in: scratch)
        body(register)
        if GuestRegisters.host[number] == nil { hot.store(.state(StateOffset.gpr(number)), register) }
    }

    /// Writes a whole general register from a host register whose upper half is right for `size`.
    func write(_ number: Int, size: Int, _ register: HostRegister) {
        if let own = GuestRegisters.host[number] {
            if own != register || size == 4 { hot.move(own, register, size: size) }
        } else {
            // A 32-bit value has been written to the scratch register as one, so that its upper half is zero.
            hot.store(.state(StateOffset.gpr(number)), size: size == 4 ? 8 : size, register)
        }
    }

    // MARK: Memory

    /// Leaves the host address of the current instruction's memory operand in RAX; RDX is lost, as are the host's
    /// flags.
    func probe(size: Int, write: Bool) {
        if current.group.exists { return probeGroup() }
        effectiveAddress()
        probeLinear(size: size, write: write, stack: usesStackSegment)
    }

    /// Whether the memory operand is reached through SS.
    var usesStackSegment: Bool { current.op.pointee.segment == UInt8(SegmentIndex.ss) }

    /// The linear address of the memory operand in RAX; RDX is lost. Flags stay unless a segment base is added.
    func effectiveAddress() {
        let address = current.address
        loadAddress(.address, address, size: has(.addressMask) && is64 ? 8 : address.width / 8)
        guard address.segment >= 0, !has(.segmentBase) else { return }
        let base = Emitter.Operand.state(StateOffset.segmentBase(address.segment))
        hot.arithmetic(ArithmeticNumber.add, .address, size: is64 ? 8 : 4, base)
    }

    var is64: Bool { block.pointee.mode & ModeKey.sizeMask == ModeKey.code64 }

    /// `register` ← the effective address, cut to `size`. RAX and RDX are lost. Flags stay.
    func loadAddress(_ register: HostRegister, _ address: GuestAddress, size: Int) {
        guard let displacement = Int32(exactly: Int64(bitPattern: address.displacement)) ?? displacement32(address),
            address.base >= 0 || address.index >= 0
        else {
            hot.move(register, constant: size == 4 ? address.displacement & 0xffff_ffff : address.displacement)
            return
        }
        let index = address.index < 0 ? nil : value(address.index, in: .first)
        guard address.base >= 0 else {
            // An index alone takes a base of zero, which has a long displacement; one times it is itself a base.
            hot.loadScaled(register, size: size, index.unsafelyUnwrapped, scale: address.scale, displacement)
            return
        }
        let base = value(address.base, in: .address)
        if let index {
            hot.loadAddress(register, size: size, .indexed(base, index, scale: address.scale, displacement))
        } else if displacement == 0 {
            if register != base || size == 4 { hot.move(register, base, size: size) }
        } else {
            hot.loadAddress(register, size: size, .memory(base, displacement))
        }
    }

    /// With 32-bit addresses a displacement matters only to 32 bits.
    private func displacement32(_ address: GuestAddress) -> Int32? {
        address.width == 32 ? Int32(truncatingIfNeeded: address.displacement) : nil
    }

    /// A probe of the data cache that may miss.
    struct Probe {
        /// Where it begins, with the linear address in RAX.
        let start: UnsafeRawPointer
        /// Where it has hit: RAX has the offset in the page, RDX the entry's index.
        let end: UnsafeRawPointer
        /// Its jump if the page is not there or the operand crosses its end.
        let site: JumpSite
        /// Offset of the tag from the state register and RDX.
        let tag: Int32
        let size: Int32
        let writes: Bool
        let isStack: Bool
    }

    /// Turns the linear address in RAX into a host address if the private cache has its page, and all `size` bytes are
    /// on it; otherwise the page is looked up, or the instruction done by its handler. RDX is lost.
    func probeLinear(size: Int, write: Bool, stack: Bool) {
        let start = UnsafeRawPointer(hot.place)
        let table = StateOffset.dataCache(user: (block.pointee.mode & ModeKey.user != 0) != has(.privilege))
        let tag = MemoryLayout<DataCacheEntry>.offset(of: write && !has(.writeRights) ? \.writeTag : \.readTag)
            .unsafelyUnwrapped
        let page = MemoryLayout<DataCacheEntry>.offset(of: \.page).unsafelyUnwrapped
        let room = Int32(pageSize) - Int32(has(.pageCross) ? 1 : size)
        let site = compareTag(&hot, tag: table + Int32(tag), room: room)
        probes.append(
            Probe(
                start: start, end: UnsafeRawPointer(hot.place), site: site, tag: table + Int32(tag),
                size: Int32(size), writes: write, isStack: stack))
        hot.arithmetic(ArithmeticNumber.add, .address, .indexed(.state, .first, scale: 0, table + Int32(page)))
    }

    /// Compares the linear address in RAX with a tag of its entry, whose index is left in RDX. RAX becomes the offset
    /// in the page.
    /// - Returns: the jump that is taken if the page is another, or the offset above `room`.
    func compareTag(_ e: inout Emitter, tag: Int32, room: Int32) -> JumpSite {
        e.move(.first, .address, size: 4)
        e.shift(5, .register(.first), size: 4, by: 7)
        e.arithmetic(ArithmeticNumber.and, .register(.first), size: 4, constant: (Int32(dataCacheEntries) - 1) << 5)
        e.arithmetic(ArithmeticNumber.xor, .address, .indexed(.state, .first, scale: 0, tag))
        e.arithmetic(ArithmeticNumber.cmp, .register(.address), constant: room)
        return e.jump(if: Condition.above)
    }

    /// The memory operand as `probe` left it.
    var memoryOperand: Emitter.Operand { .memory(.address, current.groupOffset) }

    /// `probe` for the current instruction's group: the first access finds the host address of the group's bytes, which
    /// the others find in the state block. RDX is lost to the first.
    func probeGroup() {
        let group = current.group
        guard !current.isProbed else {
            hot.load(.address, .state(StateOffset.groupAddress))
            return
        }
        let base = groupBase
        let size = is64 ? 8 : 4
        hot.loadAddress(.address, size: size, .memory(value(base, in: .address), Int32(group.low)))
        probeLinear(size: group.span, write: group.writes, stack: isOnStack || usesStackSegment)
        hot.store(.state(StateOffset.groupAddress), .address)
    }

    /// The register that the accesses of the current instruction's group are relative to.
    private var groupBase: Int { isOnStack ? Register.rsp : current.address.base }

    /// Whether the current instruction's access is one of the stack, without an operand that says so.
    private var isOnStack: Bool {
        switch current.form {
        case .push, .pop, .call, .ret: true
        default: false
        }
    }

    /// To be called before `probe`, which destroys the host's flags unless it is known to hit.
    func prepareProbe() {
        if !current.isProbed { loseHostFlags(live: RFlags.arithmetic) }
    }
}

extension Emitter {
    /// LEA of an index without a base.
    mutating func loadScaled(
        _ register: HostRegister, size: Int, _ index: HostRegister, scale: UInt8, _ displacement: Int32
    ) {
        guard scale > 0 else {
            loadAddress(register, size: size, .memory(index, displacement))
            return
        }
        let rex: UInt8 = (size == 8 ? 8 : 0) | (register.number >> 3) << 2 | (index.number >> 3) << 1
        if rex != 0 { byte(0x40 | rex) }
        byte(0x8d)
        byte((register.number & 7) << 3 | 4)
        byte(scale << 6 | (index.number & 7) << 3 | 5)
        long(displacement)
    }
}
