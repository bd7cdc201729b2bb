import CBlockGuest
import CEngine
import DifferentialSupport
import Glibc
import VMM

/// What programs find at a port and in a page of memory: reads tell the exact count, writes interrupt.
final class TestDevice: PortDevice, MMIODevice {
    static let ports: ClosedRange<UInt16> = 0x510...0x517
    unowned var world: World!

    func readPort(_ port: UInt16, size: Int) -> UInt32 { UInt32(truncatingIfNeeded: world.clock.count &* 0x9e37) }

    func writePort(_ port: UInt16, _ value: UInt32, size: Int) {
        switch port & 7 {
        case 0: world.interrupt(UInt8(truncatingIfNeeded: value) & 15 | 0xe0)
        case 1: world.processor.stopSoon()
        case 2:
            // As a device that arms a timer: the run loop must look again when to stop.
            world.timer = world.clock.count + UInt64(value & 63)
            world.processor.stopSoon()
        default: break
        }
    }

    func readMMIO(_ offset: UInt64, size: Int) -> UInt64 { world.clock.count &* 0x9e37_79b9 ^ offset }

    func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int) {
        if value & 7 == 0 { writePort(UInt16(value >> 3 & 3), UInt32(truncatingIfNeeded: value >> 8), size: 4) }
    }
}

/// Keeps the events of a case.
final class EventRecorder: EventSink {
    private(set) var events: [EventRecord] = []
    private static let most = 50_000

    func receive(_ new: UnsafeBufferPointer<EventRecord>) {
        if events.count < Self.most { events += new.map(Self.comparable) }
    }

    /// Without the state that the translator leaves out of the events of delay loops.
    private static func comparable(_ event: EventRecord) -> EventRecord {
        switch EventKind(rawValue: event.kind) {
        case .rdtsc, .rdtscp, .pause:
            var event = event
            event.flags &= EventFlags.hasPayload
            return event
        default: return event
        }
    }

    /// The first event in which two recorders differ, as text.
    func firstDifference(_ other: EventRecorder) -> String? {
        for index in 0..<max(events.count, other.events.count) {
            let mine = index < events.count ? Self.text(events[index]) : "none"
            let others = index < other.events.count ? Self.text(other.events[index]) : "none"
            if mine != others { return "event \(index): \(mine), \(others)" }
        }
        return nil
    }

    func equals(_ other: EventRecorder) -> Bool {
        guard events.count == other.events.count else { return false }
        return events.withUnsafeBytes { mine in
            other.events.withUnsafeBytes { memcmp(mine.baseAddress ?? $0.baseAddress!, $0.baseAddress!, $0.count) == 0 }
        }
    }

    private static func text(_ event: EventRecord) -> String {
        let kind = EventKind(rawValue: event.kind).map { "\($0)" } ?? "\(event.kind)"
        let numbers = [event.address, event.operand, event.value].map { hex($0) }.joined(separator: " ")
        return "\(kind) at \(event.count) \(numbers) ring \(event.ring) size \(event.size) detail \(hex(event.detail))"
    }
}

/// A processor with memory and a device, for one engine. Runs one case after the other, each from the same start.
final class World {
    let processor: Processor
    let clock = VirtualClock()
    let memory = GuestMemory(size: Physical.memory)
    let engine: Engine
    var timer: UInt64?
    private var vector: UInt8 = 0
    private var wakes = 0
    private let device = TestDevice()
    private let pristine: [UInt8]
    /// The first byte of RAM, which `memory` owns.
    private let ram: UnsafeMutableRawPointer
    private static let model = testedModel
    private var kernels: [Setting: KernelImage] = [:]
    private var a20 = true
    /// What receives the events of a case that watches them.
    private(set) var recorder: EventRecorder?
    /// What marks the return addresses of such a case.
    private(set) var marks: CallMarks?

    /// How a run goes on.
    enum State: Equatable { case running, ended, halted, shutdown, unsupported, stuck }
    private(set) var state = State.running

    init(_ engine: Engine, bug: TranslatorBug? = nil) {
        self.engine = engine
        let ports = PortBus()
        let mmio = MMIOBus()
        processor = Processor(
            memory: memory, ports: ports, mmio: mmio, clock: clock, model: Self.model, engine: engine,
            bug: bug)
        ram = memory.ramBytes.baseAddress!
        ports.attach(device, TestDevice.ports, width: 4)
        mmio.map(device, Physical.device..<Physical.device + pageSize)
        let archive = StateArchive()
        processor.archive(archive)
        pristine = archive.bytes
        device.world = self
        processor.acknowledgeInterrupt = { [unowned self] in
            processor.setInterruptLine(false)
            return vector
        }
    }

    /// Asserts INTR.
    func interrupt(_ vector: UInt8) {
        self.vector = vector
        processor.setInterruptLine(true)
    }

    func kernel(_ setting: Setting) -> KernelImage {
        if let kernel = kernels[setting] { return kernel }
        let kernel = KernelImage(setting)
        kernels[setting] = kernel
        return kernel
    }

    // MARK: Loading

    /// Puts everything as it is before the case runs.
    func load(_ test: Case) {
        if recorder != nil { processor.attach(nil) }
        if !a20 { processor.setA20(true) }
        a20 = true
        loadMemory(test)
        memory.frames.update(repeating: 0, count: Int(Physical.memory / pageSize))
        processor.archive(StateArchive(restoring: pristine))
        processor.translationThreshold = test.threshold
        (state, timer, wakes, vector) = (.running, nil, 0, 0)
        clock.count = 0
        loadSystemState(test.setting)
        loadProgramState(test)
        processor.cpu.updateMode()
        processor.pagingChanged()
        processor.modeChanged()
        recorder = test.watchesEvents ? EventRecorder() : nil
        if recorder != nil { processor.attach(recorder) }
        if recorder != nil || marks != nil {
            marks = recorder == nil ? nil : CallMarks(memory)
            processor.keep(marks)
        }
        processor.clearEventCounts()
    }

    private func loadMemory(_ test: Case) {
        let kernel = kernel(test.setting)
        // Nothing that a user's program is meant to do reaches further.
        let touched = test.setting.isUser ? Physical.end : Physical.memory
        memset(ram, 0, Int(touched))
        memset(ram + Int(Physical.large), 0, Int(Physical.largeEnd - Physical.large))
        put(kernel.bytes, 0)
        let resume = test.resume
        resume.withUnsafeBytes { put($0, UInt64(BLOCKGUEST_RESUME)) }
        let code = test.code
        put(code, Physical.code)
        put(Array(code[Int(pageSize)..<2 * Int(pageSize)]), Physical.alternateCode)
        for line in test.alternates { put(line.bytes, Physical.alternateCode - pageSize + UInt64(line.offset)) }
        if test.codeIsWritable {
            for entry in kernel.codeEntries {
                let byte = ram.load(fromByteOffset: Int(entry), as: UInt8.self)
                ram.storeBytes(of: byte | UInt8(PageTables.Bits.writable), toByteOffset: Int(entry), as: UInt8.self)
            }
        }
        Pristine.bytes.withUnsafeBytes { all in
            let start = Int(test.stateSeed % 4096) * 8
            let data = UnsafeRawBufferPointer(rebasing: all[start..<start + Int(Physical.end - Physical.stack)])
            put(data, Physical.stack)
        }
        let fuel = Physical.data + (Linear.fuel - Linear.low - Linear.data)
        ram.storeBytes(of: test.fuel, toByteOffset: Int(fuel), as: UInt64.self)
    }

    private func put(_ bytes: [UInt8], _ address: UInt64) { bytes.withUnsafeBytes { put($0, address) } }

    private func put(_ bytes: UnsafeRawBufferPointer, _ address: UInt64) {
        precondition(address + UInt64(bytes.count) <= Physical.memory)
        (ram + Int(address)).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    }

    private func loadSystemState(_ setting: Setting) {
        let cpu = processor.cpu
        let base = setting.kernelBase
        cpu.pointee.cr0 = CR0.pe | CR0.mp | CR0.et | CR0.ne | CR0.wp | CR0.am | CR0.pg
        cpu.pointee.cr4 = CR4.pge | CR4.osfxsr | CR4.osxmmexcpt | CR4.pse
        if setting.hasPAE { cpu.pointee.cr4 |= CR4.pae }
        cpu.pointee.efer = EFER.nxe | EFER.sce | (setting.isLong ? EFER.lme | EFER.lma : 0)
        cpu.pointee.cr3 = Physical.tables
        if setting.hasPAE && !setting.isLong {
            for index in 0..<4 {
                cpu_pdptr(cpu, Int32(index)).pointee = ram.load(
                    fromByteOffset: Int(Physical.tables) + index * 8, as: UInt64.self)
            }
        }
        cpu.pointee.idtr = DescriptorTable(
            base: base + UInt64(BLOCKGUEST_IDT), limit: setting.isLong ? 0xfff : 0x7ff)
        cpu.pointee.gdtr = DescriptorTable(base: base + UInt64(BLOCKGUEST_GDT), limit: 0x5f)
        cpu.segment(SegmentIndex.tr).pointee = SegmentRegister(
            base: base + UInt64(BLOCKGUEST_TSS), limit: 0x67, selector: Selector.task, attributes: 0x8b)
        cpu.segment(SegmentIndex.ldtr).pointee = SegmentRegister(base: 0, limit: 0, selector: 0, attributes: 0)
        cpu.pointee.lstar = base + UInt64(BLOCKGUEST_KERNEL) + UInt64(blockguest_syscall_offset())
        cpu.pointee.star = UInt64(Selector.userCode32) << 48 | UInt64(Selector.kernelCode64) << 32
        cpu.pointee.syscallMask = RFlags.tf | RFlags.if | RFlags.df
        cpu.pointee.kernelGSBase = Linear.fsBase
        cpu.pointee.tscOffset = 0
        for index in 0..<6 { setSegment(index, setting) }
        cpu.pointee.cpl = setting.cpl
    }

    private func setSegment(_ index: Int, _ setting: Setting) {
        let user: UInt16 = setting.isUser ? 0x60 : 0
        var segment = SegmentRegister(
            base: 0, limit: 0xffff_ffff, selector: setting.isUser ? Selector.userData : Selector.kernelData,
            attributes: 0xc093 | user)
        switch index {
        case SegmentIndex.cs:
            segment.selector = setting.codeSelector
            segment.attributes = (setting.is64Bit ? 0xa09b : 0xc09b) | user
        case SegmentIndex.fs:
            segment.base = Linear.fsBase
            segment.selector = setting.is64Bit ? 0 : Selector.based
            segment.attributes = 0xc0f3
        case SegmentIndex.gs:
            segment.base = Linear.gsBase
            segment.selector = setting.is64Bit ? 0 : Selector.based
            segment.attributes = 0xc0f3
        default: break
        }
        processor.cpu.segment(index).pointee = segment
    }

    private func loadProgramState(_ test: Case) {
        let cpu = processor.cpu
        for number in 0..<16 { cpu.setGPR(number, test.registers[number]) }
        cpu.setRFlags(test.rflags | RFlags.reserved1)
        cpu.pointee.rip = Linear.low + UInt64(test.entry)
        var random = Random(test.stateSeed, 0x66)
        withUnsafeTemporaryAllocation(byteCount: FXImage.bytes, alignment: 16) { image in
            random.fillFloatState(
                image.baseAddress!, lanes: random.pick([.integer, .float32, .float64]),
                needsMXCSR: random.chance(20) && !test.masksExceptions)
            if test.masksExceptions {
                image.storeBytes(of: 0x37f, toByteOffset: FXImage.fcw, as: UInt16.self)
                image.storeBytes(of: 0, toByteOffset: FXImage.fsw, as: UInt16.self)
            }
            FloatImage.load(UnsafeRawPointer(image.baseAddress!), into: cpu)
        }
    }

    // MARK: Running

    /// Runs to `count`, unless the program ends before.
    func run(until count: UInt64) {
        while state == .running, clock.count < count {
            switch processor.run(until: min(count, timer ?? .max)) {
            case .count:
                if let due = timer, clock.count >= due {
                    timer = nil
                    interrupt(0xef)
                }
            case .stopped: break
            case .halted: wake()
            case .shutdown: state = .shutdown
            case .unsupported: state = .unsupported
            }
        }
    }

    /// HLT with interrupts off is the end; otherwise an interrupt comes.
    private func wake() {
        guard processor.cpu.pointee.flags & RFlags.if != 0 else {
            state = .ended
            return
        }
        wakes += 1
        if wakes > 50 { state = .stuck } else { interrupt(0xe8) }
    }

    func happen(_ event: Event) {
        switch event.kind {
        case .check: break
        case .interrupt(let vector): interrupt(vector)
        case .nmi: processor.raiseNMI()
        case .dma(let address, let bytes): bytes.withUnsafeBytes { memory.write(address, from: $0) }
        case .a20:
            a20.toggle()
            processor.setA20(a20)
        }
    }

    // MARK: Looking

    var digest: StateDigest { StateArchive.digest { processor.archive($0) } }

    /// The same without how many events there were: an instruction that is stopped between its repetitions counts as
    /// one again when it goes on.
    var digestWithoutEvents: StateDigest {
        processor.clearEventCounts()
        return digest
    }

    func byte(_ address: UInt64) -> UInt8 { ram.load(fromByteOffset: Int(address), as: UInt8.self) }

    /// Addresses and lengths of what programs are meant to change.
    static let active: [(start: UInt64, count: UInt64)] = [
        (start: 0, count: Physical.end), (start: Physical.large, count: Physical.largeEnd - Physical.large),
    ]

    /// Whether RAM is the same as the other world's: all of it, or where programs are meant to change it.
    func memoryEquals(_ other: World, all: Bool) -> Bool {
        let ranges: [(start: UInt64, count: UInt64)] = all ? [(start: UInt64(0), count: Physical.memory)] : Self.active
        return ranges.allSatisfy { memcmp(ram + Int($0.start), other.ram + Int($0.start), Int($0.count)) == 0 }
    }

    /// Copies guest-physical memory.
    func copyMemory(_ address: UInt64, count: UInt64, to target: UnsafeMutableRawPointer) {
        precondition(address + count <= Physical.memory)
        target.copyMemory(from: ram + Int(address), byteCount: Int(count))
    }

    /// Where `count` bytes at a guest-physical address first differ from others.
    func firstDifference(_ address: UInt64, _ other: UnsafeRawPointer, count: Int) -> Int? {
        guard memcmp(ram + Int(address), other, count) != 0 else { return nil }
        return (0..<count).first { byte(address + UInt64($0)) != other.load(fromByteOffset: $0, as: UInt8.self) }
    }

    /// The program's registers at its end in long mode, from the kernel's stack.
    var exitFrame: (rip: UInt64, rflags: UInt64, registers: [UInt64]) {
        func word(_ below: Int) -> UInt64 {
            ram.load(fromByteOffset: Int(BLOCKGUEST_STACK_TOP2) - below, as: UInt64.self)
        }
        var registers = (0..<16).map { processor.cpu.gpr($0) }
        (registers[4], registers[0], registers[1]) = (word(0x10), word(0x40), word(0x48))
        (registers[2], registers[3]) = (word(0x50), word(0x58))
        return (word(0x28), word(0x18), registers)
    }

    /// How many exceptions and interrupts the kernel has recorded.
    var logCount: UInt32 {
        ram.load(fromByteOffset: Int(BLOCKGUEST_PARAMETERS + BLOCKGUEST_LOG_COUNT), as: UInt32.self)
    }

    /// Records of the kernel's log: the vectors and where they happened.
    var log: [(vector: UInt8, rip: UInt64)] {
        let place = Int(BLOCKGUEST_PARAMETERS + BLOCKGUEST_LOG_COUNT)
        let count = min(Int(truncatingIfNeeded: ram.load(fromByteOffset: place, as: UInt32.self)), 128)
        return (0..<count).map {
            let record = ram + Int(BLOCKGUEST_LOG) + $0 * 64
            return (record.load(as: UInt8.self), record.load(fromByteOffset: 16, as: UInt64.self))
        }
    }
}

/// What memory holds before programs change it: the same in every run.
private enum Pristine {
    static let bytes: [UInt64] = {
        var random = Random(seed: 0x626c_6f63)
        return (0..<4096 + Int(Physical.end - Physical.stack) / 8).map { _ -> UInt64 in
            // Some of it looks like pointers.
            let value = random.next()
            return value & 15 == 0 ? Linear.low + Linear.data + (value >> 8 & 0x1ff8) : value
        }
    }()
}
