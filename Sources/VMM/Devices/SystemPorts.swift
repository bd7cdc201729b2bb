/// The A20 gate as the wire that its two sources drive together: open if either opens it.
package final class A20Gate: Archivable {
    private var keyboard = false
    private var fast = true
    private let onChange: (Bool) -> Void

    /// - Parameter onChange: called with whether address bit 20 passes.
    package init(onChange: @escaping (Bool) -> Void) { self.onChange = onChange }

    package var isOpen: Bool { keyboard || fast }

    /// The keyboard controller's output port bit 1.
    package func setKeyboard(_ open: Bool) {
        keyboard = open
        onChange(isOpen)
    }

    /// Port 0x92 bit 1.
    package func setFast(_ open: Bool) {
        fast = open
        onChange(isOpen)
    }

    package var isFastOpen: Bool { fast }
    package var isKeyboardOpen: Bool { keyboard }

    /// At reset the fast gate is open, so that firmware can run above 1 MB.
    package func reset() {
        keyboard = false
        fast = true
        onChange(true)
    }

    package func archive(_ archive: StateArchive) {
        archive.field("keyboard", &keyboard)
        archive.field("fast", &fast)
    }
}

/// The PC's single-byte ports that belong to no larger device: fast A20 and reset (0x92), reset control (0xCF9),
/// coprocessor error (0xF0), POST codes (0x80, 0x190), debug consoles (0xE9, 0x402) and isa-debug-exit (0xF4).
package final class SystemPorts: PortDevice, Archivable {
    private enum Port {
        static let post: UInt16 = 0x80, fastA20: UInt16 = 0x92, debugConsole: UInt16 = 0xE9
        static let clearFERR: UInt16 = 0xF0, resetCoprocessor: UInt16 = 0xF1, debugExit: UInt16 = 0xF4
        static let secondPOST: UInt16 = 0x190, firmwareConsole: UInt16 = 0x402, resetControl: UInt16 = 0xCF9
    }
    private enum ResetControl { static let hard: UInt8 = 1 << 1, reset: UInt8 = 1 << 2 }
    private enum FastA20 { static let reset: UInt8 = 1 << 0, a20: UInt8 = 1 << 1 }
    /// What the debug consoles read as, so that a guest can tell they are there.
    private static let consoleSignature: UInt8 = 0xE9

    /// The last bytes written to ports 0x80 and 0x190.
    package private(set) var post: (primary: UInt8, secondary: UInt8) = (0, 0)
    private var resetControl: UInt8 = 0
    private let a20: A20Gate

    /// Called when the guest resets the machine.
    package var onReset: () -> Void = {}
    /// Takes each byte written to port 0xE9.
    package var onDebugByte: (UInt8) -> Void = { _ in }
    /// Takes each byte that firmware writes to port 0x402.
    package var onFirmwareByte: (UInt8) -> Void = { _ in }
    /// Takes the byte written to port 0xF4, which ends the run.
    package var onDebugExit: (UInt8) -> Void = { _ in }
    /// Called when the guest clears the coprocessor error latch (IRQ 13).
    package var onClearFERR: () -> Void = {}

    package init(a20: A20Gate) { self.a20 = a20 }

    /// Claims the ports.
    package func attach(to bus: PortBus) {
        for port in [
            Port.post, Port.fastA20, Port.debugConsole, Port.clearFERR, Port.resetCoprocessor, Port.debugExit,
            Port.secondPOST, Port.firmwareConsole, Port.resetControl,
        ] {
            bus.attach(self, port...port, width: 1)
        }
    }

    package func reset() { resetControl = 0 }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        switch port {
        case Port.post: UInt32(post.primary)
        case Port.secondPOST: UInt32(post.secondary)
        case Port.fastA20: UInt32(a20.isFastOpen ? FastA20.a20 : 0)
        case Port.debugConsole, Port.firmwareConsole: UInt32(SystemPorts.consoleSignature)
        case Port.resetControl: UInt32(resetControl)
        default: 0xFF
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let byte = UInt8(truncatingIfNeeded: value)
        switch port {
        case Port.post: post.primary = byte
        case Port.secondPOST: post.secondary = byte
        case Port.fastA20:
            a20.setFast(byte & FastA20.a20 != 0)
            if byte & FastA20.reset != 0 { onReset() }
        case Port.debugConsole: onDebugByte(byte)
        case Port.firmwareConsole: onFirmwareByte(byte)
        case Port.clearFERR: onClearFERR()
        case Port.debugExit: onDebugExit(byte)
        case Port.resetControl:
            resetControl = byte & ResetControl.hard
            if byte & ResetControl.reset != 0 { onReset() }
        default: break
        }
    }

    package func archive(_ archive: StateArchive) {
        archive.field("post.primary", &post.primary)
        archive.field("post.secondary", &post.secondary)
        archive.field("resetControl", &resetControl)
    }
}
