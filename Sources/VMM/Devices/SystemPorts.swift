/// How far a reset reaches.
package enum ResetKind: UInt8 {
    /// The processor alone, by INIT; memory and devices keep their state.
    case processor
    /// The whole machine.
    case system
}

/// The A20 gate. Several devices switch it; the last one to do so decides, and all of them show its state.
package final class A20Gate: Archivable {
    /// Whether address bit 20 passes.
    package private(set) var isOpen = true
    private let onA20: (Bool) -> Void

    /// - Parameter onA20: called when the gate changes. It is not called by a restore: the processor has its own state.
    package init(onA20: @escaping (Bool) -> Void) { self.onA20 = onA20 }

    package func set(_ open: Bool) {
        guard open != isOpen else { return }
        isOpen = open
        onA20(open)
    }

    /// Back to the state after power-on: open, so that firmware can run above 1 MB.
    package func reset() { set(true) }

    package func archive(_ archive: StateArchive) { archive.field("isOpen", &isOpen) }
}

/// The ports of a PC that belong to no larger device: fast A20 and reset (0x92), reset control (0xCF9), coprocessor
/// error (0xF0, 0xF1), POST codes (0x80, 0x190), debug consoles (0xE9, 0x402) and the exit port (0xF4).
/// See 82371SB, sections 2.5.5 to 2.5.7.
package final class SystemPorts: PortDevice, Archivable {
    private enum Port {
        static let post: UInt16 = 0x80
        static let systemControlA: UInt16 = 0x92
        static let debugConsole: UInt16 = 0xE9
        static let coprocessorBusy: UInt16 = 0xF0
        static let coprocessorReset: UInt16 = 0xF1
        static let debugExit: UInt16 = 0xF4
        static let post2: UInt16 = 0x190
        static let firmwareConsole: UInt16 = 0x402
        static let resetControl: UInt16 = 0xCF9
        static let all = [
            post, systemControlA, debugConsole, coprocessorBusy, coprocessorReset, debugExit, post2, firmwareConsole,
            resetControl,
        ]
    }
    private enum SystemControlA {
        static let fastReset: UInt8 = 0x01
        static let a20: UInt8 = 0x02
    }
    private enum ResetControl {
        static let system: UInt8 = 0x02
        static let reset: UInt8 = 0x04
    }
    /// What a debug console reads as, so that a guest can tell that it is there.
    private static let consolePresent: UInt8 = 0xE9

    /// The last bytes written to ports 0x80 and 0x190.
    package private(set) var post: (primary: UInt8, secondary: UInt8) = (0, 0)
    private var systemControlA: UInt8 = 0
    private var resetControl: UInt8 = 0
    private let a20: A20Gate

    /// Called when port 0x92 or 0xCF9 asks for a reset.
    package var onReset: (ResetKind) -> Void = { _ in }
    /// Called when port 0xF0 or 0xF1 is written: the coprocessor's error line falls.
    package var onClearFERR: () -> Void = {}
    /// Takes each byte written to a debug console, port 0xE9 or 0x402.
    package var onDebugByte: (UInt8) -> Void = { _ in }
    /// Takes each byte written to port 0xE9, where guests set marks.
    package var onMarkByte: (UInt8) -> Void = { _ in }
    /// Takes the byte written to the exit port 0xF4.
    package var onDebugExit: (UInt8) -> Void = { _ in }

    package init(a20: A20Gate) { self.a20 = a20 }

    /// Claims the ports.
    package func attach(to bus: PortBus) {
        for port in Port.all { bus.attach(self, port...port, width: 1) }
    }

    /// Back to the state after power-on. The POST codes stay, as on a card that shows them.
    package func reset() {
        systemControlA = 0
        resetControl = 0
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        switch port {
        case Port.post: UInt32(post.primary)
        case Port.post2: UInt32(post.secondary)
        case Port.systemControlA:
            UInt32(systemControlA & ~SystemControlA.a20 | (a20.isOpen ? SystemControlA.a20 : 0))
        case Port.debugConsole, Port.firmwareConsole: UInt32(Self.consolePresent)
        case Port.debugExit: 0
        case Port.resetControl: UInt32(resetControl)
        default: 0xFF
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        switch port {
        case Port.post: post.primary = value
        case Port.post2: post.secondary = value
        case Port.systemControlA: writeSystemControlA(value)
        case Port.debugConsole:
            onMarkByte(value)
            onDebugByte(value)
        case Port.firmwareConsole: onDebugByte(value)
        case Port.coprocessorBusy, Port.coprocessorReset: onClearFERR()
        case Port.debugExit: onDebugExit(value)
        case Port.resetControl: writeResetControl(value)
        default: break
        }
    }

    private func writeSystemControlA(_ value: UInt8) {
        let resets = value & ~systemControlA & SystemControlA.fastReset != 0
        systemControlA = value
        a20.set(value & SystemControlA.a20 != 0)
        if resets { onReset(.processor) }
    }

    /// The reset happens when its bit rises.
    private func writeResetControl(_ value: UInt8) {
        let resets = value & ~resetControl & ResetControl.reset != 0
        resetControl = value & (ResetControl.system | ResetControl.reset)
        if resets { onReset(value & ResetControl.system != 0 ? .system : .processor) }
    }

    package func archive(_ archive: StateArchive) {
        archive.field("post.primary", &post.primary)
        archive.field("post.secondary", &post.secondary)
        archive.field("systemControlA", &systemControlA)
        archive.field("resetControl", &resetControl)
    }
}

extension SystemPorts: NamedRegisters {
    package var deviceName: String { "system" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Port.post, Port.post2: "POST code"
        case Port.systemControlA: "control port A"
        case Port.debugConsole: "debug console"
        case Port.firmwareConsole: "firmware console"
        case Port.coprocessorBusy: "coprocessor busy"
        case Port.coprocessorReset: "coprocessor reset"
        case Port.debugExit: "debug exit"
        case Port.resetControl: "reset control"
        default: nil
        }
    }
}
