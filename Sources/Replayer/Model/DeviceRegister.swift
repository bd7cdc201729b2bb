import VMM

/// What a port or a memory-mapped register is for, as far as pricing an access needs it.
package enum DeviceRole {
    /// Interrupt controllers and timers, which a para-virtual guest replaces by event channels and a virtual clock:
    /// `acts` tells whether a write changes a line or a timer (mask, end of interrupt, count).
    case platform(acts: Bool)
    /// The local APIC, on the processor's die.
    case localAPIC(acts: Bool)
    /// A write here starts an operation of a device.
    case doorbell
    /// Any other register of a device.
    case device
    /// The delay port, which no device answers.
    case delay
}

/// The devices that `--devices` can choose a way for.
package enum DeviceGroup: String, CaseIterable {
    case ide, uart, vga, keyboard, pci, other

    /// By port or physical address.
    static func of(_ event: ModelEvent) -> DeviceGroup {
        if event.kind == .mmioRead || event.kind == .mmioWrite {
            return event.operand >= 0xa0000 && event.operand < 0xc0000 ? .vga : .other
        }
        switch event.operand {
        case 0x1f0...0x1f7, 0x170...0x177, 0x3f6, 0x376: return .ide
        case 0xc000...0xc00f: return .ide
        case 0x3f8...0x3ff, 0x2f8...0x2ff: return .uart
        case 0x3b0...0x3df, 0x1ce...0x1d0: return .vga
        case 0x60, 0x64: return .keyboard
        case 0xcf8...0xcff: return .pci
        default: return .other
        }
    }
}

extension ModelEvent {
    package var isPort: Bool { kind == .portIn || kind == .portOut }
    package var isWrite: Bool { kind == .portOut || kind == .mmioWrite }

    /// Elements that a string instruction moved, otherwise 1.
    package var elements: Int64 { isPort && isString ? max(Int64(clamping: value), 1) : 1 }

    package var deviceRole: DeviceRole {
        isPort ? portRole : mmioRole
    }

    private var portRole: DeviceRole {
        switch operand {
        case 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1: return .platform(acts: isWrite)
        case 0x40...0x43, 0x61, 0x70, 0x71: return .platform(acts: isWrite)
        case 0x80, 0xed: return .delay
        case 0x1f7, 0x177, 0xc000, 0xc008, 0x3f8, 0x2f8: return isWrite ? .doorbell : .device
        default: return .device
        }
    }

    private var mmioRole: DeviceRole {
        switch operand & ~0xfff {
        case 0xfee0_0000:
            // End of interrupt, interrupt command, timer count: the ones that act at once.
            let register = operand & 0xff0
            return .localAPIC(acts: isWrite && [0xb0, 0x300, 0x310, 0x380].contains(register))
        case 0xfec0_0000: return .platform(acts: isWrite)
        default: return .device
        }
    }
}
