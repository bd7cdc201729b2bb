/// What an interrupt message on the APIC bus asks for (Intel SDM volume 3, section 11.6.1).
package struct InterruptMessage: Equatable {
    /// The delivery mode field of the ICR, of an LVT entry and of a redirection entry.
    package enum DeliveryMode: UInt8 {
        case fixed = 0
        case lowestPriority = 1
        case smi = 2
        case reserved = 3
        case nmi = 4
        case initialize = 5
        case startUp = 6
        case external = 7
    }
    /// The APIC ID or logical destination.
    package var destination: UInt8
    /// `destination` is logical rather than physical.
    package var isLogical: Bool
    package var mode: DeliveryMode
    package var vector: UInt8
    package var isLevelTriggered: Bool

    package init(
        destination: UInt8, isLogical: Bool = false, mode: DeliveryMode, vector: UInt8, isLevelTriggered: Bool = false
    ) {
        self.destination = destination
        self.isLogical = isLogical
        self.mode = mode
        self.vector = vector
        self.isLevelTriggered = isLevelTriggered
    }
}

/// What the local APIC tells the processor and the I/O APIC.
package struct LocalAPICOutputs {
    /// `pendingVector` or `acceptsPIC` may have changed.
    package var onInterruptPending: () -> Void = {}
    package var onNMI: () -> Void = {}
    package var onSMI: () -> Void = {}
    package var onINIT: () -> Void = {}
    /// A start-up message with its vector, the page of the code to run.
    package var onStartUp: (UInt8) -> Void = { _ in }
    /// A level-triggered interrupt with this vector was ended.
    package var onEOI: (UInt8) -> Void = { _ in }
    /// The base address or the enable bit changed; see `mmioRange`.
    package var onRelocate: () -> Void = {}

    package init() {}
}

/// The local APIC of the one processor, in xAPIC mode (Intel SDM volume 3, chapter 11).
///
/// The timer counts a bus clock of 1 GHz, so that one count at divide 1 is one nanosecond. TSC-deadline mode and
/// x2APIC are not offered.
package final class LocalAPIC: MMIODevice, Archivable {
    /// Where the registers lie after power-on.
    package static let defaultBase: UInt64 = 0xFEE0_0000
    /// The bytes that the registers take.
    package static let registerSpace: UInt64 = 0x1000
    /// The input clock of the timer.
    package static let busHertz: UInt64 = 1_000_000_000
    /// Version 0x14, five LVT entries and one more.
    private static let version: UInt32 = 0x0005_0014

    /// Register offsets divided by 16.
    private enum Register {
        static let id: UInt64 = 0x02
        static let version: UInt64 = 0x03
        static let taskPriority: UInt64 = 0x08
        static let arbitrationPriority: UInt64 = 0x09
        static let processorPriority: UInt64 = 0x0A
        static let endOfInterrupt: UInt64 = 0x0B
        static let remoteRead: UInt64 = 0x0C
        static let logicalDestination: UInt64 = 0x0D
        static let destinationFormat: UInt64 = 0x0E
        static let spuriousVector: UInt64 = 0x0F
        static let inService: UInt64 = 0x10
        static let triggerMode: UInt64 = 0x18
        static let interruptRequest: UInt64 = 0x20
        static let errorStatus: UInt64 = 0x28
        static let interruptCommandLow: UInt64 = 0x30
        static let interruptCommandHigh: UInt64 = 0x31
        static let firstLVT: UInt64 = 0x32
        static let initialCount: UInt64 = 0x38
        static let currentCount: UInt64 = 0x39
        static let divideConfiguration: UInt64 = 0x3E
    }
    private enum BaseMSR {
        static let bootstrap: UInt64 = 1 << 8
        static let enable: UInt64 = 1 << 11
    }
    private enum ICR {
        static let writable: UInt32 = 0x000C_CFFF
        static let logical: UInt32 = 1 << 11
        static let assert: UInt32 = 1 << 14
        static let levelTriggered: UInt32 = 1 << 15
        static let noShorthand: UInt32 = 0
        static let allButSelf: UInt32 = 3
    }
    private enum ErrorBit {
        static let sendIllegalVector: UInt8 = 0x20
        static let receiveIllegalVector: UInt8 = 0x40
        static let illegalRegister: UInt8 = 0x80
    }
    private static let softwareEnable: UInt32 = 1 << 8
    private static let firstLegalVector: UInt8 = 16

    private var id: UInt8 = 0
    private var taskPriority: UInt8 = 0
    private var logicalDestination: UInt8 = 0
    private var destinationFormat: UInt8 = 0xF
    private var spurious: UInt32 = 0xFF
    private var inService = VectorSet()
    private var triggerMode = VectorSet()
    private var requested = VectorSet()
    private var errors: UInt8 = 0
    private var visibleErrors: UInt8 = 0
    private var interruptCommandLow: UInt32 = 0
    private var interruptCommandHigh: UInt32 = 0
    private var lvt = LocalVectorTable()
    private var timer = APICTimer()
    private var lint0 = false
    private var lint1 = false
    /// An ExtINT message came and the 8259A has not been acknowledged since.
    private var externalRequested = false
    /// IA32_APIC_BASE.
    package private(set) var baseMSR: UInt64

    private let clock: VirtualClock
    private let outputs: LocalAPICOutputs
    private var timerEvent: EventQueue.Timer!

    package init(clock: VirtualClock, queue: EventQueue, outputs: LocalAPICOutputs) {
        self.clock = clock
        self.outputs = outputs
        baseMSR = Self.defaultBase | BaseMSR.bootstrap | BaseMSR.enable
        timerEvent = queue.makeTimer("lapic.timer") { [unowned self] in
            timer.settle(clock.now)
            deliverLocal(.timer)
            armTimer()
        }
    }

    /// Back to the state after power-on, with the registers at their default address.
    package func reset() {
        baseMSR = Self.defaultBase | BaseMSR.bootstrap | BaseMSR.enable
        id = 0
        resetRegisters()
        outputs.onRelocate()
    }

    /// What an INIT does: everything but the APIC ID and the base address is as after power-on.
    package func initReset() { resetRegisters() }

    private func resetRegisters() {
        taskPriority = 0
        logicalDestination = 0
        destinationFormat = 0xF
        spurious = 0xFF
        inService = VectorSet()
        triggerMode = VectorSet()
        requested = VectorSet()
        errors = 0
        visibleErrors = 0
        interruptCommandLow = 0
        interruptCommandHigh = 0
        lvt = LocalVectorTable()
        timer = APICTimer()
        externalRequested = false
        armTimer()
        outputs.onInterruptPending()
    }

    // MARK: IA32_APIC_BASE

    /// Whether bit 11 of IA32_APIC_BASE is set.
    package var isGloballyEnabled: Bool { baseMSR & BaseMSR.enable != 0 }

    /// Where the registers are mapped now; nil while the APIC is disabled.
    package var mmioRange: Range<UInt64>? {
        guard isGloballyEnabled else { return nil }
        let base = baseMSR & ~(Self.registerSpace - 1)
        return base..<base + Self.registerSpace
    }

    /// WRMSR to IA32_APIC_BASE.
    /// - Parameter physicalBits: the processor's physical address width.
    /// - Returns: false, and nothing changes, if a reserved bit is set; that is #GP.
    package func writeBaseMSR(_ value: UInt64, physicalBits: Int) -> Bool {
        let base = (UInt64(1) << UInt64(min(max(physicalBits, 32), 52))) - Self.registerSpace
        guard value & ~(base | BaseMSR.bootstrap | BaseMSR.enable) == 0 else { return false }
        let wasEnabled = isGloballyEnabled
        baseMSR = value
        if isGloballyEnabled != wasEnabled { resetRegisters() }
        outputs.onRelocate()
        return true
    }

    // MARK: The processor's side

    private var isSoftwareEnabled: Bool { spurious & Self.softwareEnable != 0 }

    private var processorPriority: UInt8 {
        let service = UInt8(inService.highest ?? 0) & 0xF0
        return taskPriority & 0xF0 >= service ? taskPriority : service
    }

    /// The vector to deliver as soon as the processor takes interrupts, if its priority is above the processor's.
    package func pendingVector() -> UInt8? {
        guard isGloballyEnabled, isSoftwareEnabled, let vector = requested.highest,
            vector & 0xF0 > processorPriority & 0xF0
        else { return nil }
        return vector
    }

    /// The processor takes the interrupt: the vector moves from requested to in service. Without a request that is
    /// above the processor's priority it is the spurious vector, and nothing is in service.
    package func acknowledge() -> UInt8 {
        guard let vector = pendingVector() else { return UInt8(truncatingIfNeeded: spurious) }
        requested[vector] = false
        inService[vector] = true
        return vector
    }

    /// Whether an interrupt request of the 8259A reaches the processor: by the pin when the APIC is disabled, through
    /// LINT0 as ExtINT, or by an ExtINT message of the I/O APIC.
    package var acceptsPIC: Bool {
        guard isGloballyEnabled else { return true }
        return externalRequested || !lvt.isMasked(.lint0) && lvt.mode(.lint0) == .external
    }

    /// The processor has acknowledged the 8259A.
    package func externalInterruptTaken() { externalRequested = false }

    /// CR8: bits 7 to 4 of the task priority.
    package var cr8: UInt8 {
        get { taskPriority >> 4 }
        set { setTaskPriority(newValue << 4) }
    }

    /// Whether LINT0, which the timer can drive, is programmed to become an NMI.
    package var routesNMI: Bool { isGloballyEnabled && !lvt.isMasked(.lint0) && lvt.mode(.lint0) == .nmi }

    private func setTaskPriority(_ value: UInt8) {
        taskPriority = value
        outputs.onInterruptPending()
    }

    // MARK: Inputs

    /// The level of the LINT0 pin, the output of the 8259A.
    package func setLINT0(_ level: Bool) {
        guard level != lint0 else { return }
        lint0 = level
        if isGloballyEnabled { lineChanged(.lint0, level) }
    }

    /// The level of the LINT1 pin, NMI.
    package func setLINT1(_ level: Bool) {
        guard level != lint1 else { return }
        lint1 = level
        if isGloballyEnabled {
            lineChanged(.lint1, level)
        } else if level {
            outputs.onNMI()
        }
    }

    private func lineChanged(_ entry: LocalVectorTable.Entry, _ level: Bool) {
        if level { deliverLocal(entry) }
    }

    private func deliverLocal(_ entry: LocalVectorTable.Entry) {
        guard !lvt.isMasked(entry) else { return }
        let isLevel = lvt.isLevelTriggered(entry)
        switch entry == .timer || entry == .error ? .fixed : lvt.mode(entry) {
        case .fixed:
            if isLevel, lvt.hasRemoteIRR(entry) { return }
            if accept(lvt.vector(entry), isLevelTriggered: isLevel), isLevel { lvt.setRemoteIRR(entry, true) }
        case .nmi: outputs.onNMI()
        case .smi: outputs.onSMI()
        case .initialize: outputs.onINIT()
        case .external: outputs.onInterruptPending()
        default: break
        }
    }

    /// A message from the I/O APIC or from another bus agent.
    /// - Returns: whether it is meant for this processor and was accepted.
    @discardableResult
    package func receive(_ message: InterruptMessage) -> Bool {
        guard isGloballyEnabled, isDestination(message.destination, isLogical: message.isLogical) else { return false }
        return deliver(message)
    }

    private func isDestination(_ destination: UInt8, isLogical: Bool) -> Bool {
        if destination == 0xFF { return true }
        guard isLogical else { return destination == id }
        guard destinationFormat == 0 else { return destination & logicalDestination != 0 }
        return destination >> 4 == logicalDestination >> 4 && destination & logicalDestination & 0x0F != 0
    }

    private func deliver(_ message: InterruptMessage) -> Bool {
        switch message.mode {
        case .fixed, .lowestPriority: return accept(message.vector, isLevelTriggered: message.isLevelTriggered)
        case .nmi: outputs.onNMI()
        case .smi: outputs.onSMI()
        case .initialize: outputs.onINIT()
        case .startUp: outputs.onStartUp(message.vector)
        case .external:
            externalRequested = true
            outputs.onInterruptPending()
        case .reserved: return false
        }
        return true
    }

    /// Takes a vector into the request register.
    private func accept(_ vector: UInt8, isLevelTriggered: Bool) -> Bool {
        guard isSoftwareEnabled else { return false }
        guard vector >= Self.firstLegalVector else {
            report(ErrorBit.receiveIllegalVector)
            return false
        }
        requested[vector] = true
        triggerMode[vector] = isLevelTriggered
        outputs.onInterruptPending()
        return true
    }

    private func report(_ error: UInt8) {
        let isNew = errors & error == 0
        errors |= error
        // The error entry may itself hold an illegal vector; that is reported once.
        if isNew { deliverLocal(.error) }
    }

    // MARK: Registers

    package func readMMIO(_ offset: UInt64, size: Int) -> UInt64 {
        guard offset & 15 < 4 else { return 0 }
        return UInt64(readRegister(offset >> 4)) >> (offset & 3 &* 8)
    }

    package func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int) {
        guard size >= 4, offset & 15 == 0 else { return }
        writeRegister(offset >> 4, UInt32(truncatingIfNeeded: value))
    }

    private func readRegister(_ register: UInt64) -> UInt32 {
        switch register {
        case Register.id: return UInt32(id) << 24
        case Register.version: return Self.version
        case Register.taskPriority: return UInt32(taskPriority)
        case Register.arbitrationPriority: return UInt32(arbitrationPriority)
        case Register.processorPriority: return UInt32(processorPriority)
        case Register.endOfInterrupt, Register.remoteRead: return 0
        case Register.logicalDestination: return UInt32(logicalDestination) << 24
        case Register.destinationFormat: return UInt32(destinationFormat) << 28 | 0x0FFF_FFFF
        case Register.spuriousVector: return spurious
        case Register.inService..<Register.inService + 8: return inService.word(Int(register & 7))
        case Register.triggerMode..<Register.triggerMode + 8: return triggerMode.word(Int(register & 7))
        case Register.interruptRequest..<Register.interruptRequest + 8: return requested.word(Int(register & 7))
        case Register.errorStatus: return UInt32(visibleErrors)
        case Register.interruptCommandLow: return interruptCommandLow
        case Register.interruptCommandHigh: return interruptCommandHigh
        case Register.firstLVT..<Register.firstLVT + LocalVectorTable.count:
            return lvt[Int(register - Register.firstLVT)]
        case Register.initialCount: return timer.initial
        case Register.currentCount: return timer.current(clock.now)
        case Register.divideConfiguration: return timer.divideConfiguration
        default:
            report(ErrorBit.illegalRegister)
            return 0
        }
    }

    private var arbitrationPriority: UInt8 {
        let service = (inService.highest ?? 0) & 0xF0
        let request = (requested.highest ?? 0) & 0xF0
        let task = taskPriority & 0xF0
        return task >= request && task > service ? taskPriority : max(task, service, request)
    }

    private func writeRegister(_ register: UInt64, _ value: UInt32) {
        switch register {
        case Register.id: id = UInt8(value >> 24)
        case Register.taskPriority: setTaskPriority(UInt8(value & 0xFF))
        case Register.endOfInterrupt: endOfInterrupt()
        case Register.logicalDestination: logicalDestination = UInt8(value >> 24)
        case Register.destinationFormat: destinationFormat = UInt8(value >> 28)
        case Register.spuriousVector: writeSpuriousVector(value)
        case Register.errorStatus:
            visibleErrors = errors
            errors = 0
        case Register.interruptCommandLow:
            interruptCommandLow = value & ICR.writable
            sendInterrupt()
        case Register.interruptCommandHigh: interruptCommandHigh = value & 0xFF00_0000
        case Register.firstLVT..<Register.firstLVT + LocalVectorTable.count:
            writeLVT(LocalVectorTable.Entry(rawValue: Int(register - Register.firstLVT))!, value)
        case Register.initialCount:
            timer.start(value, clock.now)
            armTimer()
        case Register.divideConfiguration:
            timer.setDivide(value & 0x0B, clock.now)
            armTimer()
        case Register.version, Register.arbitrationPriority, Register.processorPriority, Register.remoteRead,
            Register.inService..<Register.inService + 24, Register.currentCount:
            break
        default: report(ErrorBit.illegalRegister)
        }
    }

    private func endOfInterrupt() {
        guard let vector = inService.highest else { return }
        inService[vector] = false
        if triggerMode[vector] {
            outputs.onEOI(vector)
            for (entry, level) in [(LocalVectorTable.Entry.lint0, lint0), (.lint1, lint1)]
            where lvt.hasRemoteIRR(entry) && lvt.vector(entry) == vector {
                lvt.setRemoteIRR(entry, false)
                if level { deliverLocal(entry) }
            }
        }
        outputs.onInterruptPending()
    }

    private func writeSpuriousVector(_ value: UInt32) {
        spurious = value & 0x3FF
        if !isSoftwareEnabled {
            lvt.maskAll()
            armTimer()
        }
        outputs.onInterruptPending()
    }

    private func writeLVT(_ entry: LocalVectorTable.Entry, _ value: UInt32) {
        if entry == .timer { timer.settle(clock.now) }
        lvt.write(entry, isSoftwareEnabled ? value : value | LocalVectorTable.mask)
        if entry == .timer {
            timer.setPeriodic(lvt.isPeriodic, clock.now)
            armTimer()
        } else if entry == .lint0, lint0, lvt.isLevelTriggered(.lint0) {
            deliverLocal(.lint0)
        }
        outputs.onInterruptPending()
    }

    private func armTimer() {
        if !lvt.isMasked(.timer), isSoftwareEnabled, let deadline = timer.expiry(clock.now) {
            timerEvent.arm(at: deadline)
        } else {
            timerEvent.cancel()
        }
    }

    /// The write to the ICR sends the message; with one processor it arrives here or nowhere.
    private func sendInterrupt() {
        let shorthand = interruptCommandLow >> 18
        let message = InterruptMessage(
            destination: UInt8(interruptCommandHigh >> 24),
            isLogical: interruptCommandLow & ICR.logical != 0,
            mode: InterruptMessage.DeliveryMode(rawValue: UInt8(interruptCommandLow >> 8 & 7))!,
            vector: UInt8(interruptCommandLow & 0xFF))
        let hasVector = message.mode == .fixed || message.mode == .lowestPriority
        if hasVector, message.vector < Self.firstLegalVector { return report(ErrorBit.sendIllegalVector) }
        let isDeassert = interruptCommandLow & (ICR.assert | ICR.levelTriggered) == ICR.levelTriggered
        if message.mode == .initialize, isDeassert { return }
        switch shorthand {
        case ICR.noShorthand:
            guard isDestination(message.destination, isLogical: message.isLogical) else { return }
        case ICR.allButSelf: return
        default: break
        }
        _ = deliver(message)
    }

    package func archive(_ archive: StateArchive) {
        archive.field("baseMSR", &baseMSR)
        archive.field("id", &id)
        archive.field("taskPriority", &taskPriority)
        archive.field("logicalDestination", &logicalDestination)
        archive.field("destinationFormat", &destinationFormat)
        archive.field("spurious", &spurious)
        archive.section("inService") { inService.archive(archive) }
        archive.section("triggerMode") { triggerMode.archive(archive) }
        archive.section("requested") { requested.archive(archive) }
        archive.field("errors", &errors)
        archive.field("visibleErrors", &visibleErrors)
        archive.field("interruptCommandLow", &interruptCommandLow)
        archive.field("interruptCommandHigh", &interruptCommandHigh)
        archive.section("lvt") { lvt.archive(archive) }
        archive.section("timer") { timer.archive(archive) }
        archive.field("lint0", &lint0)
        archive.field("lint1", &lint1)
        archive.field("externalRequested", &externalRequested)
        if archive.isRestoring { outputs.onRelocate() }
    }
}

extension LocalAPIC: NamedRegisters {
    package var deviceName: String { "local APIC" }

    package func registerName(offset: UInt64) -> String? {
        switch offset >> 4 {
        case Register.id: "ID"
        case Register.version: "version"
        case Register.taskPriority: "task priority"
        case Register.arbitrationPriority: "arbitration priority"
        case Register.processorPriority: "processor priority"
        case Register.endOfInterrupt: "end of interrupt"
        case Register.remoteRead: "remote read"
        case Register.logicalDestination: "logical destination"
        case Register.destinationFormat: "destination format"
        case Register.spuriousVector: "spurious vector"
        case Register.inService..<Register.triggerMode: "in service"
        case Register.triggerMode..<Register.interruptRequest: "trigger mode"
        case Register.interruptRequest..<Register.errorStatus: "interrupt request"
        case Register.errorStatus: "error status"
        case Register.interruptCommandLow: "interrupt command low"
        case Register.interruptCommandHigh: "interrupt command high"
        case Register.firstLVT..<Register.initialCount: "LVT \((offset >> 4) - Register.firstLVT)"
        case Register.initialCount: "initial count"
        case Register.currentCount: "current count"
        case Register.divideConfiguration: "divide configuration"
        default: nil
        }
    }

    package func registerStart(_ offset: UInt64) -> UInt64 { offset & ~0xF }
}
