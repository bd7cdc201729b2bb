/// A 16550A serial port (National PC16550D datasheet).
///
/// A written byte reaches `output` at once, so that a guest's last words are never lost; what the guest sees of the
/// transmitter takes the time of the line. Bytes from the host wait outside the port while its receiver is full.
/// The interrupt is gated by OUT2, as on a PC's adapter.
package final class UART16550: PortDevice, Archivable {
    /// How long a character takes on the line.
    package enum CharacterTime {
        /// What divisor and line control say, from a 1.8432 MHz crystal.
        case fromDivisor
        /// A constant number of nanoseconds, whatever the guest programs.
        case fixed(nanoseconds: UInt64)
    }

    /// The port of the first PC serial port, COM1.
    package static let com1Base: UInt16 = 0x3F8
    /// The most bytes from the host that wait to be received.
    package static let inputLimit = 65536
    private static let fifoSize = 16
    private static let crystalHertz: UInt64 = 1_843_200
    /// Line status reads in a row that find nothing received and nothing left to send, after which the guest counts as
    /// waiting for input.
    private static let listeningPolls: UInt8 = 16
    /// 9600 baud.
    private static let resetDivisor: UInt16 = 12

    private enum Register {
        static let data: UInt16 = 0
        static let interruptEnable: UInt16 = 1
        static let interruptIdentification: UInt16 = 2
        static let lineControl: UInt16 = 3
        static let modemControl: UInt16 = 4
        static let lineStatus: UInt16 = 5
        static let modemStatus: UInt16 = 6
        static let scratch: UInt16 = 7
    }
    private enum IER {
        static let received: UInt8 = 0x01
        static let transmitterEmpty: UInt8 = 0x02
        static let lineStatus: UInt8 = 0x04
        static let modemStatus: UInt8 = 0x08
        static let writable: UInt8 = 0x0F
    }
    private enum IIR {
        static let modemStatus: UInt8 = 0x00
        static let none: UInt8 = 0x01
        static let transmitterEmpty: UInt8 = 0x02
        static let received: UInt8 = 0x04
        static let lineStatus: UInt8 = 0x06
        static let timeout: UInt8 = 0x0C
        static let fifosEnabled: UInt8 = 0xC0
    }
    private enum FCR {
        static let enable: UInt8 = 0x01
        static let resetReceiver: UInt8 = 0x02
        static let resetTransmitter: UInt8 = 0x04
        static let triggers = [1, 4, 8, 14]
    }
    private enum LCR {
        static let wordLength: UInt8 = 0x03
        static let twoStopBits: UInt8 = 0x04
        static let parity: UInt8 = 0x08
        static let divisorLatch: UInt8 = 0x80
    }
    private enum MCR {
        static let dtr: UInt8 = 0x01
        static let rts: UInt8 = 0x02
        static let out1: UInt8 = 0x04
        static let out2: UInt8 = 0x08
        static let loopback: UInt8 = 0x10
        static let writable: UInt8 = 0x1F
    }
    private enum LSR {
        static let dataReady: UInt8 = 0x01
        static let overrun: UInt8 = 0x02
        static let transmitterHoldingEmpty: UInt8 = 0x20
        static let transmitterEmpty: UInt8 = 0x40
    }
    private enum MSR {
        static let deltaRingTrailing: UInt8 = 0x04
        static let deltas: UInt8 = 0x0F
        static let cts: UInt8 = 0x10
        static let dsr: UInt8 = 0x20
        static let ring: UInt8 = 0x40
        static let carrier: UInt8 = 0x80
        /// The other end is there and ready.
        static let connected = cts | dsr | carrier
    }

    private var interruptEnable: UInt8 = 0
    private var fifoControl: UInt8 = 0
    private var lineControl: UInt8 = 0
    private var modemControl: UInt8 = 0
    private var modemStatus = MSR.connected
    private var scratch: UInt8 = 0
    private var divisor = UART16550.resetDivisor
    private var overrun = false
    /// A transmitter-empty interrupt was caused and neither identified nor answered.
    private var transmitterPending = false
    private var timeoutPending = false
    /// Bytes in the transmit FIFO or holding register, oldest first.
    private var transmitQueue: [UInt8] = []
    /// The byte in the transmit shift register.
    private var shifting: UInt8?
    private var receiveQueue: [UInt8] = []
    /// Bytes from the host, not on the line yet.
    private var input: [UInt8] = []
    private var lineLevel = false
    /// Such reads so far, up to `listeningPolls`.
    private var idlePolls: UInt8 = 0

    private let base: UInt16
    private let characterTime: CharacterTime
    private let clock: VirtualClock
    private let interrupt: InterruptLine
    private let output: (UInt8) -> Void
    private var transmitTimer: EventQueue.Timer!
    private var receiveTimer: EventQueue.Timer!
    private var timeoutTimer: EventQueue.Timer!

    /// - Parameters:
    ///   - base: the first of the eight ports.
    ///   - interrupt: called with the new level whenever the interrupt request changes.
    ///   - output: takes every byte that the guest sends, in order.
    package init(
        base: UInt16 = com1Base, characterTime: CharacterTime = .fromDivisor, clock: VirtualClock, queue: EventQueue,
        interrupt: InterruptLine, output: @escaping (UInt8) -> Void
    ) {
        self.base = base
        self.characterTime = characterTime
        self.clock = clock
        self.interrupt = interrupt
        self.output = output
        let name = "uart." + String(base, radix: 16)
        transmitTimer = queue.makeTimer(name + ".transmit") { [unowned self] in finishTransmission() }
        receiveTimer = queue.makeTimer(name + ".receive") { [unowned self] in takeInput() }
        timeoutTimer = queue.makeTimer(name + ".timeout") { [unowned self] in
            timeoutPending = !receiveQueue.isEmpty
            updateInterrupt()
        }
    }

    /// Claims the eight ports.
    package func attach(to bus: PortBus) { bus.attach(self, base...base + Register.scratch, width: 1) }

    /// Back to the state after power-on. Input that waits outside the port stays.
    package func reset() {
        interruptEnable = 0
        fifoControl = 0
        lineControl = 0
        modemControl = 0
        modemStatus = MSR.connected
        scratch = 0
        divisor = Self.resetDivisor
        overrun = false
        transmitterPending = false
        idlePolls = 0
        shifting = nil
        transmitQueue = []
        transmitTimer.cancel()
        clearReceiver()
        updateInterrupt()
    }

    /// Puts bytes from the host on the line behind those that wait.
    /// - Returns: how many were taken; the rest found `inputLimit` bytes waiting.
    @discardableResult
    package func receive(_ bytes: some Collection<UInt8>) -> Int {
        let taken = min(bytes.count, Self.inputLimit - input.count)
        input.append(contentsOf: bytes.prefix(taken))
        scheduleReceive()
        return taken
    }

    /// How many bytes from the host the guest's port has not taken yet.
    package var waitingInput: Int { input.count }

    /// Whether the guest wants input now: its receive interrupt is on, or it polls for a byte. A port that is still
    /// being
    /// probed or set up would lose what it is given.
    package var isListening: Bool { interruptEnable & IER.received != 0 || idlePolls >= Self.listeningPolls }

    // MARK: Registers

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        let accessesDivisor = lineControl & LCR.divisorLatch != 0
        switch port &- base {
        case Register.data: return UInt32(accessesDivisor ? UInt8(divisor & 0xFF) : readData())
        case Register.interruptEnable: return UInt32(accessesDivisor ? UInt8(divisor >> 8) : interruptEnable)
        case Register.interruptIdentification: return UInt32(readIdentification())
        case Register.lineControl: return UInt32(lineControl)
        case Register.modemControl: return UInt32(modemControl)
        case Register.lineStatus: return UInt32(readLineStatus())
        case Register.modemStatus:
            let value = modemStatus
            modemStatus &= ~MSR.deltas
            updateInterrupt()
            return UInt32(value)
        default: return UInt32(scratch)
        }
    }

    package func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        let value = UInt8(truncatingIfNeeded: value)
        let accessesDivisor = lineControl & LCR.divisorLatch != 0
        switch port &- base {
        case Register.data:
            if accessesDivisor { divisor = divisor & 0xFF00 | UInt16(value) } else { transmit(value) }
        case Register.interruptEnable:
            if accessesDivisor {
                divisor = divisor & 0x00FF | UInt16(value) << 8
            } else {
                let enabled = value & ~interruptEnable
                interruptEnable = value & IER.writable
                if enabled & IER.transmitterEmpty != 0, transmitQueue.isEmpty { transmitterPending = true }
            }
        case Register.interruptIdentification: writeFIFOControl(value)
        case Register.lineControl: lineControl = value
        case Register.modemControl: writeModemControl(value)
        case Register.scratch: scratch = value
        default: break
        }
        updateInterrupt()
    }

    private var hasFIFOs: Bool { fifoControl & FCR.enable != 0 }
    private var isLooped: Bool { modemControl & MCR.loopback != 0 }

    /// The cause of the present interrupt, by priority.
    private var identification: UInt8 {
        if interruptEnable & IER.lineStatus != 0, overrun { return IIR.lineStatus }
        if interruptEnable & IER.received != 0 {
            let trigger = hasFIFOs ? FCR.triggers[Int(fifoControl >> 6)] : 1
            if receiveQueue.count >= trigger { return IIR.received }
            if timeoutPending { return IIR.timeout }
        }
        if interruptEnable & IER.transmitterEmpty != 0, transmitterPending { return IIR.transmitterEmpty }
        if interruptEnable & IER.modemStatus != 0, modemStatus & MSR.deltas != 0 { return IIR.modemStatus }
        return IIR.none
    }

    private func updateInterrupt() {
        let level = identification != IIR.none && modemControl & MCR.out2 != 0
        guard level != lineLevel else { return }
        lineLevel = level
        interrupt.set(level)
    }

    private func readIdentification() -> UInt8 {
        let cause = identification
        if cause == IIR.transmitterEmpty {
            transmitterPending = false
            updateInterrupt()
        }
        return cause | (hasFIFOs ? IIR.fifosEnabled : 0)
    }

    private func readLineStatus() -> UInt8 {
        var value: UInt8 = 0
        if !receiveQueue.isEmpty { value |= LSR.dataReady }
        if overrun { value |= LSR.overrun }
        if transmitQueue.isEmpty { value |= LSR.transmitterHoldingEmpty }
        if transmitQueue.isEmpty, shifting == nil { value |= LSR.transmitterEmpty }
        let isIdle = value & LSR.dataReady == 0 && value & LSR.transmitterEmpty != 0
        idlePolls = isIdle ? min(idlePolls + 1, Self.listeningPolls) : 0
        overrun = false
        updateInterrupt()
        return value
    }

    private func writeFIFOControl(_ value: UInt8) {
        let switched = (value ^ fifoControl) & FCR.enable != 0
        if switched || value & FCR.resetReceiver != 0 { clearReceiver() }
        if switched || value & FCR.resetTransmitter != 0, !transmitQueue.isEmpty {
            transmitQueue = []
            transmitterPending = true
        }
        fifoControl = value & FCR.enable != 0 ? value : 0
    }

    private func writeModemControl(_ value: UInt8) {
        modemControl = value & MCR.writable
        var inputs = MSR.connected
        if isLooped {
            inputs = 0
            if value & MCR.rts != 0 { inputs |= MSR.cts }
            if value & MCR.dtr != 0 { inputs |= MSR.dsr }
            if value & MCR.out1 != 0 { inputs |= MSR.ring }
            if value & MCR.out2 != 0 { inputs |= MSR.carrier }
        }
        var deltas = (inputs ^ modemStatus) >> 4
        // Of the ring indicator only the trailing edge counts.
        if inputs & MSR.ring != 0 { deltas &= ~MSR.deltaRingTrailing }
        modemStatus = inputs | modemStatus & MSR.deltas | deltas
        scheduleReceive()
    }

    // MARK: Transmitter

    private func transmit(_ byte: UInt8) {
        transmitterPending = false
        idlePolls = 0
        if hasFIFOs {
            guard transmitQueue.count < Self.fifoSize else { return }
            transmitQueue.append(byte)
        } else {
            transmitQueue = [byte]
        }
        if !isLooped { output(byte) }
        if shifting == nil { startTransmission() }
    }

    private func startTransmission() {
        guard !transmitQueue.isEmpty else { return }
        shifting = transmitQueue.removeFirst()
        if transmitQueue.isEmpty { transmitterPending = true }
        transmitTimer.arm(at: clock.now &+ characterNanoseconds)
    }

    private func finishTransmission() {
        if let byte = shifting, isLooped { accept(byte & wordMask) }
        shifting = nil
        startTransmission()
        updateInterrupt()
    }

    private var wordMask: UInt8 { 0xFF >> (3 - (lineControl & LCR.wordLength)) }

    /// Start bit, data, parity and stop bits.
    private var characterNanoseconds: UInt64 {
        if case .fixed(let nanoseconds) = characterTime { return nanoseconds }
        let data = UInt64(lineControl & LCR.wordLength) + 5
        let parity: UInt64 = lineControl & LCR.parity != 0 ? 1 : 0
        let stopHalves: UInt64 = lineControl & LCR.twoStopBits == 0 ? 2 : data == 5 ? 3 : 4
        let halfBits = 2 * (1 + data + parity) + stopHalves
        return halfBits * UInt64(max(divisor, 1)) * 8 * 1_000_000_000 / Self.crystalHertz
    }

    // MARK: Receiver

    private func readData() -> UInt8 {
        guard !receiveQueue.isEmpty else { return 0 }
        let byte = receiveQueue.removeFirst()
        restartTimeout()
        scheduleReceive()
        updateInterrupt()
        return byte
    }

    /// A byte has arrived in the receive shift register.
    private func accept(_ byte: UInt8) {
        if receiveQueue.count < (hasFIFOs ? Self.fifoSize : 1) {
            receiveQueue.append(byte)
        } else {
            overrun = true
            if !hasFIFOs { receiveQueue = [byte] }
        }
        restartTimeout()
        updateInterrupt()
    }

    private func takeInput() {
        guard !input.isEmpty, !isLooped, receiveQueue.count < (hasFIFOs ? Self.fifoSize : 1) else { return }
        accept(input.removeFirst())
        scheduleReceive()
    }

    /// The next byte of the host sets out as soon as the receiver has room for it.
    private func scheduleReceive() {
        guard !input.isEmpty, receiveTimer.deadline == nil, !isLooped,
            receiveQueue.count < (hasFIFOs ? Self.fifoSize : 1)
        else { return }
        receiveTimer.arm(at: clock.now &+ characterNanoseconds)
    }

    /// The character timeout: four character times without an arrival or a read while the FIFO holds something.
    private func restartTimeout() {
        timeoutPending = false
        if hasFIFOs, !receiveQueue.isEmpty {
            timeoutTimer.arm(at: clock.now &+ 4 &* characterNanoseconds)
        } else {
            timeoutTimer.cancel()
        }
    }

    private func clearReceiver() {
        receiveQueue = []
        timeoutPending = false
        timeoutTimer.cancel()
        scheduleReceive()
    }

    package func archive(_ archive: StateArchive) {
        archive.field("interruptEnable", &interruptEnable)
        archive.field("fifoControl", &fifoControl)
        archive.field("lineControl", &lineControl)
        archive.field("modemControl", &modemControl)
        archive.field("modemStatus", &modemStatus)
        archive.field("scratch", &scratch)
        archive.field("divisor", &divisor)
        archive.field("overrun", &overrun)
        archive.field("transmitterPending", &transmitterPending)
        archive.field("timeoutPending", &timeoutPending)
        archive.variable("transmitQueue", &transmitQueue, limit: Self.fifoSize)
        archive.field("shifting", &shifting)
        archive.variable("receiveQueue", &receiveQueue, limit: Self.fifoSize)
        archive.variable("input", &input, limit: Self.inputLimit)
        archive.field("lineLevel", &lineLevel)
        archive.field("idlePolls", &idlePolls)
    }
}

extension UART16550: NamedRegisters {
    package var deviceName: String { "UART" }

    package func registerName(port: UInt16) -> String? {
        switch port &- base {
        case Register.data: "data"
        case Register.interruptEnable: "interrupt enable"
        case Register.interruptIdentification: "interrupt identification"
        case Register.lineControl: "line control"
        case Register.modemControl: "modem control"
        case Register.lineStatus: "line status"
        case Register.modemStatus: "modem status"
        case Register.scratch: "scratch"
        default: nil
        }
    }
}
