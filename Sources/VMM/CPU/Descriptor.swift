import CEngine

/// Types of system descriptors: segments and gates with S clear (SDM volume 3, 3.5). In long mode the 32-bit types
/// mean their 64-bit counterparts and the others are illegal, except the LDT's.
package enum SystemType {
    package static let tss16Available: UInt16 = 1, ldt: UInt16 = 2, tss16Busy: UInt16 = 3, callGate16: UInt16 = 4
    package static let taskGate: UInt16 = 5, interruptGate16: UInt16 = 6, trapGate16: UInt16 = 7
    package static let tss32Available: UInt16 = 9, tss32Busy: UInt16 = 11, callGate32: UInt16 = 12
    package static let interruptGate32: UInt16 = 14, trapGate32: UInt16 = 15
    /// Set in the type of a TSS that is in use.
    package static let busy: UInt16 = 2
}

/// Parts of a segment selector, and the error codes that name one (SDM volume 3, 3.4.2 and 6.13).
package enum Selector {
    package static let rplMask: UInt16 = 3
    package static let local: UInt16 = 4

    package static func rpl(_ selector: UInt16) -> UInt8 { UInt8(selector & rplMask) }
    package static func isNull(_ selector: UInt16) -> Bool { selector & ~rplMask == 0 }

    /// The selector with another RPL.
    package static func with(_ selector: UInt16, rpl: UInt8) -> UInt16 { (selector & ~rplMask) | UInt16(rpl) }

    /// The error code that names a selector; `ext` is 1 if an event external to the program caused the fault.
    package static func code(_ selector: UInt16, ext: UInt32 = 0) -> UInt32 { UInt32(selector & ~rplMask) | ext }
}

/// A segment or gate descriptor as read from a descriptor table.
package struct Descriptor {
    /// The eight bytes that every descriptor has.
    package var low: UInt64
    /// Bytes 8 to 15 of a system descriptor in long mode, otherwise 0.
    package var high: UInt64 = 0
    /// Linear address of its first byte.
    package let address: UInt64

    /// As in `SegmentRegister.attributes`.
    package var attributes: UInt16 { UInt16(truncatingIfNeeded: low >> 40) & 0xf0ff }
    package var type: UInt16 { attributes & SegmentAttributes.typeMask }
    package var dpl: UInt8 { UInt8(truncatingIfNeeded: (attributes & SegmentAttributes.dpl) >> 5) }
    package var isPresent: Bool { attributes & SegmentAttributes.present != 0 }
    package var isSystem: Bool { attributes & SegmentAttributes.user == 0 }
    package var isCode: Bool { !isSystem && attributes & SegmentAttributes.code != 0 }
    package var isData: Bool { !isSystem && attributes & SegmentAttributes.code == 0 }
    package var isConforming: Bool { attributes & SegmentAttributes.conforming != 0 }
    package var isWritableData: Bool { isData && attributes & SegmentAttributes.writable != 0 }
    package var isReadable: Bool { isData || (isCode && attributes & SegmentAttributes.readable != 0) }
    package var isLong: Bool { attributes & SegmentAttributes.long != 0 }
    package var isBig: Bool { attributes & SegmentAttributes.big != 0 }

    package var base: UInt64 {
        ((low >> 16) & 0xff_ffff) | ((low >> 32) & 0xff00_0000) | (high << 32)
    }

    /// The last valid offset, in bytes.
    package var limit: UInt32 {
        let raw = UInt32(truncatingIfNeeded: (low & 0xffff) | ((low >> 32) & 0xf_0000))
        return attributes & SegmentAttributes.granularity != 0 ? (raw << 12) | 0xfff : raw
    }

    // Fields of gates.
    package var gateSelector: UInt16 { UInt16(truncatingIfNeeded: low >> 16) }
    /// The entry point; the upper half is 0 in a 16-bit gate.
    package var gateOffset: UInt64 {
        let wide = type & 8 != 0
        return (low & 0xffff) | (wide ? ((low >> 32) & 0xffff_0000) | (high << 32) : 0)
    }
    /// How many words or doublewords a call gate copies from the caller's stack.
    package var gateParameters: Int { Int(truncatingIfNeeded: (low >> 32) & 0x1f) }
    /// Interrupt stack table index of a 64-bit gate, 0 for none.
    package var gateIST: Int { Int(truncatingIfNeeded: (low >> 32) & 7) }

    /// What a segment register holds after loading this descriptor.
    package func register(_ selector: UInt16) -> SegmentRegister {
        SegmentRegister(
            base: base, limit: limit, selector: selector,
            attributes: attributes | (isSystem ? 0 : SegmentAttributes.accessed))
    }
}

// Reading of descriptor tables. Functions here and in the other files about segments record a fault and return nil or
// false; they do not leave the operation.
extension UnsafeMutablePointer where Pointee == CPUState {
    /// Records a fault with an error code; false, so that a check can end with it.
    package func reject(_ vector: UInt8, _ code: UInt32) -> Bool {
        setFault(vector, code: code)
        return false
    }

    /// Where a descriptor lies, or nil if its table does not hold `size` bytes there.
    package func descriptorAddress(_ selector: UInt16, size: UInt64 = 8) -> UInt64? {
        let offset = UInt64(selector & 0xfff8)
        if selector & Selector.local != 0 {
            let ldt = pointee.segments.6
            guard ldt.attributes & SegmentAttributes.present != 0, offset + size - 1 <= UInt64(ldt.limit) else {
                return nil
            }
            return systemAddress(ldt.base, offset)
        }
        guard offset + size - 1 <= UInt64(pointee.gdtr.limit) else { return nil }
        return systemAddress(pointee.gdtr.base, offset)
    }

    /// A linear address in a system table: 64 bits wide in long mode, otherwise 32.
    package func systemAddress(_ base: UInt64, _ offset: UInt64) -> UInt64 {
        let address = base &+ offset
        return isLongMode ? address : address & 0xffff_ffff
    }

    /// Reads the descriptor that `selector` names; outside its table is `vector` with the selector as code.
    package func readDescriptor(
        _ selector: UInt16, vector: UInt8 = ExceptionVector.gp, ext: UInt32 = 0
    ) -> Descriptor? {
        guard let address = descriptorAddress(selector) else {
            setFault(vector, code: Selector.code(selector, ext: ext))
            return nil
        }
        guard let low = readSystem(UInt64.self, linear: address) else { return nil }
        return Descriptor(low: low, address: address)
    }

    /// Adds the second half of a system descriptor in long mode. Its type field must be zero (SDM volume 3, 3.5.2).
    package func extend(_ descriptor: Descriptor, _ selector: UInt16) -> Descriptor? {
        guard isLongMode else { return descriptor }
        guard descriptorAddress(selector, size: 16) != nil else {
            setFault(ExceptionVector.gp, code: Selector.code(selector))
            return nil
        }
        guard let high = readSystem(UInt64.self, linear: descriptor.address &+ 8) else { return nil }
        guard high >> 40 & 0x1f == 0 else {
            setFault(ExceptionVector.gp, code: Selector.code(selector))
            return nil
        }
        var whole = descriptor
        whole.high = high & 0xffff_ffff
        return whole
    }

    /// Sets the accessed bit of a code or data descriptor in memory.
    package func markAccessed(_ descriptor: Descriptor) -> Bool {
        if descriptor.attributes & SegmentAttributes.accessed != 0 { return true }
        let access = UInt8(truncatingIfNeeded: descriptor.attributes) | UInt8(SegmentAttributes.accessed)
        return writeSystem(access, linear: descriptor.address &+ 5)
    }

    /// Sets or clears the busy bit of a TSS descriptor in memory.
    package func markBusy(_ busy: Bool, tssAt address: UInt64) -> Bool {
        guard let access = readSystem(UInt8.self, linear: address &+ 5) else { return false }
        let bit = UInt8(SystemType.busy)
        return writeSystem(busy ? access | bit : access & ~bit, linear: address &+ 5)
    }
}
