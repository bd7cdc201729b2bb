/// What a drive's commands do. The registers, the data port and the timing are `IDEDrive`'s.
protocol IDECommandSet: Archivable {
    /// The cylinder registers after a reset, which tell the kinds of drives apart.
    var signature: (middle: UInt8, high: UInt8) { get }
    /// The status register after a reset.
    var statusAfterReset: UInt8 { get }
    /// Forgets a command under way and returns to power-on settings.
    func reset()
    /// Starts a command. It ends with one of `IDEDrive`'s `offer`, `request`, `wantDMA` or `finish`.
    func execute(_ command: UInt8, on drive: IDEDrive)
    /// The host has read or filled the whole block in `drive.buffer`.
    func blockDone(on drive: IDEDrive)
    /// Moves all data of the DMA command under way through `master`.
    func transfer(through master: IDEBusMaster, on drive: IDEDrive)
}

/// One drive on an IDE cable: its command block registers, its data buffer and the time that it takes.
///
/// Each step of a command (a block of data ready, a command finished, a DMA transfer) takes `stepNanoseconds` of
/// virtual time with BSY set, so that an interrupt never arrives inside the access that caused it.
final class IDEDrive: Archivable {
    static let stepNanoseconds: UInt64 = 1_000
    /// The largest block: what an ATAPI byte count can say, rounded up.
    static let largestBlock = 1 << 16

    /// Registers with two levels, for 48-bit commands: the last byte written and the one before.
    struct Deep {
        var current: UInt8 = 0
        var previous: UInt8 = 0

        mutating func push(_ value: UInt8) {
            previous = current
            current = value
        }
    }

    var features = Deep()
    var count = Deep()
    var lbaLow = Deep()
    var lbaMiddle = Deep()
    var lbaHigh = Deep()
    /// The device register without the drive selection.
    var device: UInt8 = 0
    var error: UInt8 = 0
    private(set) var status: UInt8 = 0
    private(set) var interruptPending = false
    private(set) var wantsDMA = false

    /// The block of data between the drive and the data port.
    private(set) var buffer: [UInt8] = []
    private var position = 0
    private var dataGoesToHost = false
    /// The status to show once BSY clears.
    private var nextStatus: UInt8 = 0
    private var transferArmed = false

    let commands: any IDECommandSet
    private let clock: VirtualClock
    private var timer: EventQueue.Timer!
    /// Called when `interruptPending` may have changed.
    var onInterrupt: () -> Void = {}
    /// Gives the bus master while it is started, nil otherwise.
    var activeMaster: () -> IDEBusMaster? = { nil }

    init(name: String, commands: any IDECommandSet, clock: VirtualClock, queue: EventQueue) {
        self.commands = commands
        self.clock = clock
        timer = queue.makeTimer(name) { [unowned self] in self.stepDone() }
        reset()
    }

    // MARK: Reset

    /// What a hardware or software reset or DEVICE RESET leaves behind.
    func reset() {
        timer.cancel()
        interruptPending = false
        wantsDMA = false
        transferArmed = false
        buffer = []
        position = 0
        commands.reset()
        setSignature()
        error = ATAError.diagnosticsPassed
        status = commands.statusAfterReset
        onInterrupt()
    }

    /// While software reset is held the drive is busy.
    func holdInReset() {
        reset()
        status = ATAStatus.busy
    }

    func setSignature() {
        count = Deep(current: 1)
        lbaLow = Deep(current: 1)
        lbaMiddle = Deep(current: commands.signature.middle)
        lbaHigh = Deep(current: commands.signature.high)
        device = 0
    }

    // MARK: Commands

    var isBusy: Bool { status & ATAStatus.busy != 0 }

    func start(_ command: UInt8) {
        let occupied = status & (ATAStatus.busy | ATAStatus.dataRequest) != 0
        guard !occupied || command == ATACommand.deviceReset else { return }
        interruptPending = false
        onInterrupt()
        error = 0
        commands.execute(command, on: self)
    }

    /// Ends a command; `error` is the content of the error register, zero for success.
    func finish(error: UInt8 = 0) {
        wantsDMA = false
        self.error = error
        after(ATAStatus.idle | (error != 0 ? ATAStatus.error : 0))
    }

    func abort() { finish(error: ATAError.aborted) }

    /// Offers a block to the host.
    func offer(_ block: [UInt8]) {
        load(block, toHost: true)
        after(ATAStatus.idle | ATAStatus.dataRequest)
    }

    /// Asks the host for a block; the first block of an ATA write command and a packet come without interrupt.
    func request(_ size: Int, interrupt: Bool) {
        load([UInt8](repeating: 0, count: size), toHost: false)
        if interrupt {
            after(ATAStatus.idle | ATAStatus.dataRequest)
        } else {
            status = ATAStatus.idle | ATAStatus.dataRequest
        }
    }

    /// Asks for a DMA transfer, which starts as soon as the bus master does too.
    func wantDMA() {
        wantsDMA = true
        status = ATAStatus.busy
        armTransfer()
    }

    /// Ends a DMA command whose data have all been moved.
    func finishTransfer() {
        wantsDMA = false
        nextStatus = ATAStatus.idle
        showNextStatus()
    }

    /// Reports the result of diagnostics that `reset` has put into the registers.
    func diagnosticsDone() { after(commands.statusAfterReset) }

    /// Ends a command without interrupt, as a bus master that ran out of memory regions leaves it.
    func stall() {
        wantsDMA = false
        status = ATAStatus.idle
    }

    private func load(_ block: [UInt8], toHost: Bool) {
        buffer = block
        position = 0
        dataGoesToHost = toHost
    }

    private func after(_ status: UInt8) {
        self.status = ATAStatus.busy
        nextStatus = status
        timer.arm(at: clock.now &+ Self.stepNanoseconds)
    }

    /// Called when the drive or the bus master has become ready for DMA.
    func armTransfer() {
        guard wantsDMA, !transferArmed, activeMaster() != nil else { return }
        transferArmed = true
        timer.arm(at: clock.now &+ Self.stepNanoseconds)
    }

    private func stepDone() {
        if transferArmed {
            transferArmed = false
            // Stopped in the meantime: wait for the next start.
            if wantsDMA, let master = activeMaster() { commands.transfer(through: master, on: self) }
        } else {
            showNextStatus()
        }
    }

    private func showNextStatus() {
        status = nextStatus
        interruptPending = true
        onInterrupt()
    }

    // MARK: Ports

    func acknowledgeInterrupt() {
        guard interruptPending else { return }
        interruptPending = false
        onInterrupt()
    }

    func readData(size: Int) -> UInt32 {
        guard status & ATAStatus.dataRequest != 0, dataGoesToHost else { return 0 }
        var value: UInt32 = 0
        for index in 0..<size where position < buffer.count {
            value |= UInt32(buffer[position]) << (index * 8)
            position += 1
        }
        if position == buffer.count { endBlock() }
        return value
    }

    func writeData(_ value: UInt32, size: Int) {
        guard status & ATAStatus.dataRequest != 0, !dataGoesToHost else { return }
        for index in 0..<size where position < buffer.count {
            buffer[position] = UInt8(truncatingIfNeeded: value >> (index * 8))
            position += 1
        }
        if position == buffer.count { endBlock() }
    }

    private func endBlock() {
        status &= ~ATAStatus.dataRequest
        commands.blockDone(on: self)
    }

    // MARK: State

    func archive(_ archive: StateArchive) {
        archive.section("features") { Self.archive(archive, &features) }
        archive.section("count") { Self.archive(archive, &count) }
        archive.section("lbaLow") { Self.archive(archive, &lbaLow) }
        archive.section("lbaMiddle") { Self.archive(archive, &lbaMiddle) }
        archive.section("lbaHigh") { Self.archive(archive, &lbaHigh) }
        archive.field("device", &device)
        archive.field("error", &error)
        archive.field("status", &status)
        archive.field("interruptPending", &interruptPending)
        archive.field("wantsDMA", &wantsDMA)
        archive.variable("buffer", &buffer, limit: Self.largestBlock)
        archive.field("position", &position)
        if position < 0 || position > buffer.count { position = buffer.count }
        archive.field("dataGoesToHost", &dataGoesToHost)
        archive.field("nextStatus", &nextStatus)
        archive.field("transferArmed", &transferArmed)
        archive.section("commands") { commands.archive(archive) }
    }

    private static func archive(_ archive: StateArchive, _ register: inout Deep) {
        archive.field("current", &register.current)
        archive.field("previous", &register.previous)
    }
}
