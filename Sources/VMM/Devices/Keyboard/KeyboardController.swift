/// The 8042 keyboard controller of a PS/2 with a keyboard and a mouse (IBM PS/2 Hardware Interface Technical
/// Reference, keyboard and auxiliary device controller).
///
/// After power-on it is as firmware leaves it: translation and the keyboard's interrupt on, so that a system that is
/// loaded without firmware finds what it expects. Commands take no time.
package final class KeyboardController: PortDevice, Archivable {
    private enum Port {
        static let data: UInt16 = 0x60
        static let command: UInt16 = 0x64
    }
    private enum Status {
        static let outputFull: UInt8 = 0x01
        static let systemFlag: UInt8 = 0x04
        static let lastWasCommand: UInt8 = 0x08
        static let unlocked: UInt8 = 0x10
        static let auxiliary: UInt8 = 0x20
    }
    /// Bits of the command byte.
    private enum Mode {
        static let keyboardInterrupt: UInt8 = 0x01
        static let mouseInterrupt: UInt8 = 0x02
        static let systemFlag: UInt8 = 0x04
        static let keyboardDisabled: UInt8 = 0x10
        static let mouseDisabled: UInt8 = 0x20
        static let translates: UInt8 = 0x40
        static let afterFirmware = keyboardInterrupt | systemFlag | translates
    }
    private enum Command {
        static let readRAM: ClosedRange<UInt8> = 0x20...0x3F
        static let writeRAM: ClosedRange<UInt8> = 0x60...0x7F
        static let testPassword: UInt8 = 0xA4
        static let disableMouse: UInt8 = 0xA7
        static let enableMouse: UInt8 = 0xA8
        static let testMousePort: UInt8 = 0xA9
        static let selfTest: UInt8 = 0xAA
        static let testKeyboardPort: UInt8 = 0xAB
        static let disableKeyboard: UInt8 = 0xAD
        static let enableKeyboard: UInt8 = 0xAE
        static let readInputPort: UInt8 = 0xC0
        static let readOutputPort: UInt8 = 0xD0
        static let writeOutputPort: UInt8 = 0xD1
        static let writeKeyboardOutput: UInt8 = 0xD2
        static let writeMouseOutput: UInt8 = 0xD3
        static let writeMouse: UInt8 = 0xD4
        static let closeA20: UInt8 = 0xDD
        static let openA20: UInt8 = 0xDF
        static let readTestInputs: UInt8 = 0xE0
        static let pulse: ClosedRange<UInt8> = 0xF0...0xFF
    }
    private enum Answer {
        static let noPassword: UInt8 = 0xF1
        static let selfTestPassed: UInt8 = 0x55
        static let portWorks: UInt8 = 0x00
        /// Keyboard not locked, manufacturing jumper open.
        static let inputPort: UInt8 = 0xA0
    }
    private enum OutputPort {
        static let notReset: UInt8 = 0x01
        static let a20: UInt8 = 0x02
        static let keyboardFull: UInt8 = 0x10
        static let mouseFull: UInt8 = 0x20
        static let others: UInt8 = 0xCC
    }
    /// Where the byte in the output buffer comes from.
    private enum Source: UInt8 {
        case none, controller, keyboard, mouse
    }
    private static let breakPrefix: UInt8 = 0xF0
    /// The most key presses that wait to be typed.
    private static let typingLimit = 4096
    private static let typingNanoseconds: UInt64 = 10_000_000

    private var ram = [UInt8](repeating: 0, count: 32)
    private var systemFlag = true
    private var lastWasCommand = true
    /// The command whose parameter the next byte at port 0x60 is, 0 if none.
    private var expecting: UInt8 = 0
    private var output: UInt8 = 0
    private var source = Source.none
    /// A break prefix of set 2 was swallowed by the translation.
    private var breaks = false
    private var mouse = PS2Mouse()
    /// Key events to type: the key's raw value, and bit 11 for release.
    private var typing: [UInt16] = []
    private static let release: UInt16 = 0x0800

    private let clock: VirtualClock
    private let a20: A20Gate
    private let keyboardInterrupt: InterruptLine
    private let mouseInterrupt: InterruptLine
    private var keyboard: PS2Keyboard!
    private var typingTimer: EventQueue.Timer!

    private var mode: UInt8 {
        get { ram[0] }
        set { ram[0] = newValue }
    }

    /// Called when the guest resets the processor through the output port.
    package var onReset: (ResetKind) -> Void = { _ in }

    /// - Parameters:
    ///   - keyboardInterrupt: IRQ 1.
    ///   - mouseInterrupt: IRQ 12.
    package init(
        clock: VirtualClock, queue: EventQueue, keyboardInterrupt: InterruptLine, mouseInterrupt: InterruptLine,
        a20: A20Gate
    ) {
        self.clock = clock
        self.a20 = a20
        self.keyboardInterrupt = keyboardInterrupt
        self.mouseInterrupt = mouseInterrupt
        keyboard = PS2Keyboard(clock: clock, queue: queue) { [unowned self] in fillOutput() }
        typingTimer = queue.makeTimer("keyboard.typing") { [unowned self] in typeNext() }
        mode = Mode.afterFirmware
    }

    /// Claims ports 0x60 and 0x64.
    package func attach(to bus: PortBus) {
        bus.attach(self, Port.data...Port.data, width: 1)
        bus.attach(self, Port.command...Port.command, width: 1)
    }

    /// Back to the state after power-on. What waits to be typed stays.
    package func reset() {
        ram = [UInt8](repeating: 0, count: 32)
        mode = Mode.afterFirmware
        systemFlag = true
        lastWasCommand = true
        expecting = 0
        source = .none
        breaks = false
        mouse = PS2Mouse()
        keyboard.reset()
        updateInterrupts()
    }

    // MARK: The host's side

    /// Presses or releases a key. A key that is held repeats.
    package func key(_ key: Key, down: Bool) { keyboard.key(key, down: down) }

    /// Types ASCII text on a US keyboard, one key event each 10 ms of virtual time. Other characters are left out.
    /// - Returns: how many characters were taken; the rest found too many waiting.
    @discardableResult
    package func type(_ text: String) -> Int {
        var taken = 0
        for character in text.utf8 {
            guard typing.count + 4 <= Self.typingLimit else { break }
            taken += 1
            guard let (key, shift) = Key.typing(character) else { continue }
            if shift { typing.append(Key.leftShift.rawValue) }
            typing += [key.rawValue, key.rawValue | Self.release]
            if shift { typing.append(Key.leftShift.rawValue | Self.release) }
        }
        if !typing.isEmpty, typingTimer.deadline == nil { typingTimer.arm(at: clock.now) }
        return taken
    }

    /// Moves the mouse by counts, y upwards, with `buttons` down: bit 0 left, 1 right, 2 middle.
    package func moveMouse(x: Int32, y: Int32, buttons: UInt8) {
        mouse.move(x, y, buttons: buttons)
        fillOutput()
    }

    /// The keyboard's LEDs: bit 0 scroll lock, bit 1 num lock, bit 2 caps lock.
    package var leds: UInt8 { keyboard.leds }

    private func typeNext() {
        guard !typing.isEmpty else { return }
        let event = typing.removeFirst()
        if let key = Key(rawValue: event & ~Self.release) { keyboard.key(key, down: event & Self.release == 0) }
        if !typing.isEmpty { typingTimer.arm(at: clock.now &+ Self.typingNanoseconds) }
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        guard port == Port.data else { return UInt32(status) }
        let byte = output
        if source != .none {
            // The line falls even if the next byte is ready, so that this one is a new edge.
            source = .none
            updateInterrupts()
            fillOutput()
        }
        return UInt32(byte)
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        lastWasCommand = port == Port.command
        if lastWasCommand {
            writeCommand(value)
        } else {
            writeData(value)
        }
        fillOutput()
        updateInterrupts()
    }

    private var status: UInt8 {
        var value = Status.unlocked
        if source != .none { value |= Status.outputFull }
        if source == .mouse { value |= Status.auxiliary }
        if systemFlag { value |= Status.systemFlag }
        if lastWasCommand { value |= Status.lastWasCommand }
        return value
    }

    private func writeCommand(_ command: UInt8) {
        expecting = 0
        switch command {
        case Command.readRAM: put(ram[Int(command & 0x1F)], .controller)
        case Command.writeRAM, Command.writeOutputPort, Command.writeKeyboardOutput, Command.writeMouseOutput,
            Command.writeMouse:
            expecting = command
        case Command.testPassword: put(Answer.noPassword, .controller)
        case Command.disableMouse: mode |= Mode.mouseDisabled
        case Command.enableMouse: mode &= ~Mode.mouseDisabled
        case Command.testMousePort, Command.testKeyboardPort: put(Answer.portWorks, .controller)
        case Command.selfTest:
            systemFlag = true
            put(Answer.selfTestPassed, .controller)
        case Command.disableKeyboard: mode |= Mode.keyboardDisabled
        case Command.enableKeyboard: mode &= ~Mode.keyboardDisabled
        case Command.readInputPort: put(Answer.inputPort, .controller)
        case Command.readOutputPort: put(outputPort, .controller)
        case Command.closeA20: a20.set(false)
        case Command.openA20: a20.set(true)
        case Command.readTestInputs: put(0, .controller)
        case Command.pulse:
            if command & OutputPort.notReset == 0 { onReset(.processor) }
        default: break
        }
    }

    private func writeData(_ value: UInt8) {
        let command = expecting
        expecting = 0
        switch command {
        case Command.writeRAM:
            ram[Int(command & 0x1F)] = value
            if command == Command.writeRAM.lowerBound { systemFlag = value & Mode.systemFlag != 0 }
        case Command.writeOutputPort:
            a20.set(value & OutputPort.a20 != 0)
            if value & OutputPort.notReset == 0 { onReset(.processor) }
        case Command.writeKeyboardOutput: put(value, .keyboard)
        case Command.writeMouseOutput: put(value, .mouse)
        case Command.writeMouse:
            mode &= ~Mode.mouseDisabled
            mouse.receive(value)
        default:
            // Sending to the keyboard starts its clock.
            mode &= ~Mode.keyboardDisabled
            keyboard.receive(value)
        }
    }

    private var outputPort: UInt8 {
        var value = OutputPort.others | OutputPort.notReset
        if a20.isOpen { value |= OutputPort.a20 }
        if source == .keyboard || source == .controller { value |= OutputPort.keyboardFull }
        if source == .mouse { value |= OutputPort.mouseFull }
        return value
    }

    // MARK: The output buffer

    /// The controller's own answers replace what is in the buffer.
    private func put(_ byte: UInt8, _ from: Source) {
        source = .none
        updateInterrupts()
        output = byte
        source = from
        updateInterrupts()
    }

    /// Takes the next byte of a device whose clock runs, if the buffer is empty.
    private func fillOutput() {
        while source == .none, mode & Mode.keyboardDisabled == 0, let byte = keyboard.takeByte() {
            if let translated = translate(byte) { put(translated, .keyboard) }
        }
        if source == .none, mode & Mode.mouseDisabled == 0, let byte = mouse.takeByte() { put(byte, .mouse) }
    }

    private func translate(_ byte: UInt8) -> UInt8? {
        guard mode & Mode.translates != 0 else { return byte }
        if byte == Self.breakPrefix {
            breaks = true
            return nil
        }
        defer { breaks = false }
        return ScanCodes.translation[Int(byte)] | (breaks ? 0x80 : 0)
    }

    private func updateInterrupts() {
        keyboardInterrupt.set(
            mode & Mode.keyboardInterrupt != 0 && (source == .keyboard || source == .controller))
        mouseInterrupt.set(mode & Mode.mouseInterrupt != 0 && source == .mouse)
    }

    package func archive(_ archive: StateArchive) {
        archive.fixed("ram", &ram)
        archive.field("systemFlag", &systemFlag)
        archive.field("lastWasCommand", &lastWasCommand)
        archive.field("expecting", &expecting)
        archive.field("output", &output)
        archive.field("source", &source)
        archive.field("breaks", &breaks)
        archive.section("keyboard") { keyboard.archive(archive) }
        archive.section("mouse") { mouse.archive(archive) }
        archive.variable("typing", &typing, limit: Self.typingLimit)
    }
}

extension KeyboardController: NamedRegisters {
    package var deviceName: String { "keyboard" }

    package func registerName(port: UInt16) -> String? {
        switch port {
        case Port.data: "data"
        case Port.command: "status/command"
        default: nil
        }
    }
}
