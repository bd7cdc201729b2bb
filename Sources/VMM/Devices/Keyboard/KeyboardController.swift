/// The 8042 keyboard controller with a PS/2 keyboard and a PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference,
/// keyboard and auxiliary device controller).
package final class KeyboardController: PortDevice, Archivable {
    private enum Port { static let data: UInt16 = 0x60, command: UInt16 = 0x64 }
    private enum Status {
        static let outputFull: UInt8 = 1 << 0, system: UInt8 = 1 << 2, command: UInt8 = 1 << 3
        static let unlocked: UInt8 = 1 << 4, auxiliary: UInt8 = 1 << 5
    }
    private enum Configuration {
        static let keyboardInterrupt: UInt8 = 1 << 0, mouseInterrupt: UInt8 = 1 << 1, system: UInt8 = 1 << 2
        static let keyboardDisabled: UInt8 = 1 << 4, mouseDisabled: UInt8 = 1 << 5, translate: UInt8 = 1 << 6
    }
    private enum Command {
        static let readRAM: ClosedRange<UInt8> = 0x20...0x3F, writeRAM: ClosedRange<UInt8> = 0x60...0x7F
        static let disableMouse: UInt8 = 0xA7, enableMouse: UInt8 = 0xA8, testMouse: UInt8 = 0xA9
        static let selfTest: UInt8 = 0xAA, testKeyboard: UInt8 = 0xAB
        static let disableKeyboard: UInt8 = 0xAD, enableKeyboard: UInt8 = 0xAE
        static let readInput: UInt8 = 0xC0, readOutput: UInt8 = 0xD0, writeOutput: UInt8 = 0xD1
        static let writeKeyboardBuffer: UInt8 = 0xD2, writeMouseBuffer: UInt8 = 0xD3, writeMouse: UInt8 = 0xD4
        static let disableA20: UInt8 = 0xDD, enableA20: UInt8 = 0xDF
        /// 0xF0 to 0xFF pulse the output port's low bits; bit 0 clear is a reset.
        static let pulse: ClosedRange<UInt8> = 0xF0...0xFF
    }
    private enum OutputPort { static let notReset: UInt8 = 1 << 0, a20: UInt8 = 1 << 1 }
    private static let selfTestPassed: UInt8 = 0x55
    private static let portTestPassed: UInt8 = 0
    private static let inputPort: UInt8 = 0x80

    private enum Source: UInt8 { case controller, keyboard, mouse }

    private var ram = [UInt8](repeating: 0, count: 32)
    private var passedSelfTest = false
    /// The command that waits for its data byte; 0 if none does.
    private var pendingCommand: UInt8 = 0
    private var lastWasCommand = false
    private var output: UInt8 = 0
    private var outputFull = false
    private var outputSource = Source.controller
    /// Bytes of the controller itself, ahead of those of the devices.
    private var replies: [UInt8] = []
    private var mouseReplies: [UInt8] = []

    package let keyboard = PS2Keyboard()
    package let mouse = PS2Mouse()
    private let a20: A20Gate
    private let keyboardInterrupt: InterruptLine
    private let mouseInterrupt: InterruptLine

    /// Called when the guest resets the machine through the output port.
    package var onReset: () -> Void = {}

    /// - Parameters:
    ///   - keyboardInterrupt: IRQ 1.
    ///   - mouseInterrupt: IRQ 12.
    package init(a20: A20Gate, keyboardInterrupt: InterruptLine, mouseInterrupt: InterruptLine) {
        self.a20 = a20
        self.keyboardInterrupt = keyboardInterrupt
        self.mouseInterrupt = mouseInterrupt
        reset()
    }

    /// Claims ports 0x60 and 0x64.
    package func attach(to bus: PortBus) {
        bus.attach(self, Port.data...Port.data, width: 1)
        bus.attach(self, Port.command...Port.command, width: 1)
    }

    package func reset() {
        ram = [UInt8](repeating: 0, count: 32)
        ram[0] = Configuration.keyboardInterrupt | Configuration.mouseInterrupt | Configuration.translate
        passedSelfTest = false
        pendingCommand = 0
        outputFull = false
        replies = []
        mouseReplies = []
        keyboard.reset()
        mouse.reset()
        updateInterrupts()
    }

    /// Types ASCII text on the keyboard. Characters without a key on a US layout are left out.
    package func type(_ text: String) {
        keyboard.type(text)
        refill()
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        if port == Port.command { return UInt32(status) }
        let value = output
        outputFull = false
        updateInterrupts()
        refill()
        return UInt32(value)
    }

    private var status: UInt8 {
        (outputFull ? Status.outputFull : 0) | (passedSelfTest ? Status.system : 0)
            | (lastWasCommand ? Status.command : 0) | Status.unlocked
            | (outputFull && outputSource == .mouse ? Status.auxiliary : 0)
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let byte = UInt8(truncatingIfNeeded: value)
        lastWasCommand = port == Port.command
        if port == Port.command { command(byte) } else { data(byte) }
        refill()
    }

    private func command(_ byte: UInt8) {
        pendingCommand = 0
        switch byte {
        case Command.readRAM: replies.append(ram[Int(byte & 0x1F)])
        case Command.writeRAM, Command.writeOutput, Command.writeKeyboardBuffer, Command.writeMouseBuffer,
            Command.writeMouse:
            pendingCommand = byte
        case Command.disableMouse: ram[0] |= Configuration.mouseDisabled
        case Command.enableMouse: ram[0] &= ~Configuration.mouseDisabled
        case Command.testMouse, Command.testKeyboard: replies.append(KeyboardController.portTestPassed)
        case Command.selfTest:
            passedSelfTest = true
            replies.append(KeyboardController.selfTestPassed)
        case Command.disableKeyboard: ram[0] |= Configuration.keyboardDisabled
        case Command.enableKeyboard: ram[0] &= ~Configuration.keyboardDisabled
        case Command.readInput: replies.append(KeyboardController.inputPort)
        case Command.readOutput:
            replies.append(OutputPort.notReset | (a20.isKeyboardOpen ? OutputPort.a20 : 0))
        case Command.disableA20: a20.setKeyboard(false)
        case Command.enableA20: a20.setKeyboard(true)
        case Command.pulse where byte & 1 == 0: onReset()
        default: break
        }
    }

    private func data(_ byte: UInt8) {
        let waiting = pendingCommand
        pendingCommand = 0
        switch waiting {
        case 0:
            ram[0] &= ~Configuration.keyboardDisabled
            keyboard.receive(byte)
        case Command.writeRAM:
            ram[Int(waiting & 0x1F)] = byte
            if waiting == Command.writeRAM.lowerBound { passedSelfTest = byte & Configuration.system != 0 }
            updateInterrupts()
        case Command.writeOutput:
            a20.setKeyboard(byte & OutputPort.a20 != 0)
            if byte & OutputPort.notReset == 0 { onReset() }
        case Command.writeKeyboardBuffer: replies.append(byte)
        case Command.writeMouseBuffer: mouseReplies.append(byte)
        default:
            ram[0] &= ~Configuration.mouseDisabled
            mouse.receive(byte)
        }
        // Whoever writes without ever reading cannot make the queues grow.
        replies = Array(replies.suffix(16))
        mouseReplies = Array(mouseReplies.suffix(16))
    }

    // MARK: Output buffer

    /// Moves the next byte into the empty output buffer: the controller's own first, then the keyboard's, then the mouse's.
    private func refill() {
        guard !outputFull else { return }
        if !replies.isEmpty {
            put(replies.removeFirst(), .controller)
        } else if !mouseReplies.isEmpty {
            put(mouseReplies.removeFirst(), .mouse)
        } else if ram[0] & Configuration.keyboardDisabled == 0, let byte = nextKeyboardByte() {
            put(byte, .keyboard)
        } else if ram[0] & Configuration.mouseDisabled == 0, let byte = mouse.transmit() {
            put(byte, .mouse)
        }
    }

    /// Translation to scan code set 1 turns the break prefix into bit 7 of the code that follows.
    private func nextKeyboardByte() -> UInt8? {
        guard let byte = keyboard.transmit() else { return nil }
        guard ram[0] & Configuration.translate != 0, byte.isScanCode else { return byte.value }
        guard byte.value == ScanCode.breakPrefix else { return ScanCode.translate(byte.value) }
        guard let code = keyboard.transmit() else { return nil }
        return ScanCode.translate(code.value) | 0x80
    }

    private func put(_ byte: UInt8, _ source: Source) {
        output = byte
        outputSource = source
        outputFull = true
        updateInterrupts()
    }

    private func updateInterrupts() {
        let fromMouse = outputSource == .mouse
        keyboardInterrupt.set(outputFull && !fromMouse && ram[0] & Configuration.keyboardInterrupt != 0)
        mouseInterrupt.set(outputFull && fromMouse && ram[0] & Configuration.mouseInterrupt != 0)
    }

    // MARK: State

    package func archive(_ archive: StateArchive) {
        archive.fixed("ram", &ram)
        archive.field("passedSelfTest", &passedSelfTest)
        archive.field("pendingCommand", &pendingCommand)
        archive.field("lastWasCommand", &lastWasCommand)
        archive.field("output", &output)
        archive.field("outputFull", &outputFull)
        archive.field("outputSource", &outputSource)
        archive.variable("replies", &replies, limit: 16)
        archive.variable("mouseReplies", &mouseReplies, limit: 16)
        archive.section("keyboard") { keyboard.archive(archive) }
        archive.section("mouse") { mouse.archive(archive) }
    }
}
