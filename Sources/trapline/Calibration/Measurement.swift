import CCalibrate
import Glibc
import Replayer

/// Repeated runs of one thing, in ticks of the time-stamp counter.
struct Measurement {
    let name: String
    /// The 5th percentile, the median and the 95th percentile.
    let ticks: CostRange

    init(_ name: String, _ ticks: CostRange) {
        self.name = name
        self.ticks = ticks
    }

    init(_ name: String, samples: [Double]) {
        let sorted = samples.sorted()
        func percentile(_ part: Double) -> Double { sorted[Int((Double(sorted.count - 1) * part).rounded())] }
        self.init(name, CostRange(percentile(0.05), percentile(0.5), percentile(0.95)))
    }
}

/// Times what user mode can run. Everything happens on one CPU, in a few seconds.
struct HostMeasurements {
    /// Runs of each thing.
    private static let runs = 101
    /// Ticks that one run should take: long against reading the counter, short against the host's timer interrupts.
    private static let runTicks: UInt64 = 1_000_000

    private(set) var all: [Measurement] = []
    /// Why a virtual machine of the host's own could not be timed; nil if it was.
    private(set) var kvmFailure: String?
    private let progress: (Double) -> Void
    private static let steps = Double(CALIBRATE_LOOPS.rawValue + 12)

    init(progress: @escaping (Double) -> Void) {
        self.progress = progress
        calibrate_pin(1)
        measureLoops()
        measureMemory()
        measureKernel()
        measureKVM()
        calibrate_pin(0)
    }

    subscript(name: String) -> CostRange? { all.first { $0.name == name }?.ticks }

    private mutating func note(_ name: String, _ samples: [Double]) {
        guard !samples.isEmpty else { return }
        all.append(Measurement(name, samples: samples))
        progress(min(Double(all.count) / Self.steps, 1))
    }

    /// Runs `body` with a number of iterations that takes about `runTicks`.
    /// - Returns: ticks of one iteration in each run, nothing if a run took none.
    private func samples(runs: Int = Self.runs, maximum: UInt32 = 1 << 20, _ body: (UInt32) -> UInt64) -> [Double] {
        var iterations: UInt32 = 1
        var ticks = body(1)
        while ticks > 0, ticks < Self.runTicks / 4, iterations < maximum {
            iterations *= 2
            ticks = body(iterations)
        }
        guard ticks > 0 else { return [] }
        let wanted = Double(iterations) * Double(Self.runTicks) / Double(ticks)
        iterations = UInt32(max(1, min(wanted, Double(maximum))))
        var found: [Double] = []
        for _ in 0..<runs {
            let ticks = body(iterations)
            guard ticks > 0 else { return [] }
            found.append(Double(ticks) / Double(iterations))
        }
        return found
    }

    // MARK: Instructions

    private mutating func measureLoops() {
        let empty = samples { calibrate_loop(CALIBRATE_EMPTY, $0) }
        let loop = Measurement("", samples: empty).ticks.typical
        let repetitions = Double(CALIBRATE_REPETITIONS)
        func once(_ kind: calibrate_loop, per divisor: Double = 1) -> [Double] {
            samples { calibrate_loop(kind, $0) }.map { max($0 - loop, 0) / repetitions / divisor }
        }
        note("instruction of a mix that hits the caches", once(CALIBRATE_MIX, per: Double(CALIBRATE_MIX_INSTRUCTIONS)))
        note("pushf", once(CALIBRATE_PUSHF))
        note("pushf and popf", once(CALIBRATE_PUSHF_POPF))
        note("rdtsc", once(CALIBRATE_RDTSC))
        note("cpuid leaf 0", once(CALIBRATE_CPUID_0))
        note("cpuid leaf 1", once(CALIBRATE_CPUID_1))
        note("pause", once(CALIBRATE_PAUSE))
        note("call and return", once(CALIBRATE_CALL_RETURN))
        note("nop", once(CALIBRATE_NOP))
        note("byte of a 9-byte nop", once(CALIBRATE_LONG_NOP, per: 9))
        note("load", once(CALIBRATE_LOAD))
        note("store", once(CALIBRATE_STORE))
        note("load latency", once(CALIBRATE_LOAD_LATENCY))
        note("lar", once(CALIBRATE_LAR))
        note("lsl", once(CALIBRATE_LSL))
        note("verr", once(CALIBRATE_VERR))
        note("verw", once(CALIBRATE_VERW))
        note("segment load", once(CALIBRATE_SEGMENT_LOAD))
        note("segment store", once(CALIBRATE_SEGMENT_STORE))
    }

    // MARK: Memory

    /// Lines of the pointer chases: each in a page of its own they are twice what the TLBs of the tables' CPUs hold,
    /// and the second-level cache holds them all.
    private static let lines = 4096

    private mutating func measureMemory() {
        let span = Self.lines * 4096
        guard let memory = PageMemory(bytes: span) else { return }
        let instructions = Double(CALIBRATE_MISSING_INSTRUCTIONS)
        note(
            "instruction of a mix that misses",
            samples { calibrate_missing_mix(memory.bytes, UInt32(span), $0) }.map { $0 / instructions })
        // The same number of lines, once side by side and once each in a page of its own and at another place in it.
        memory.link((0..<Self.lines).map { $0 * 64 })
        let dense = samples { calibrate_chase(memory.chain, $0) }
        memory.link((0..<Self.lines).map { $0 * 4096 + $0 % 64 * 64 })
        let spread = samples { calibrate_chase(memory.chain, $0) }
        let inside = Measurement("", samples: dense).ticks.typical
        note("load within the TLB", dense)
        note("TLB refill", spread.map { max($0 - inside, 0) })
    }

    // MARK: The host's kernel

    private mutating func measureKernel() {
        note("system call", samples { calibrate_system_calls($0) })
        note("SIGSEGV round trip", samples { calibrate_signals(SIGSEGV, $0) })
        note("SIGFPE round trip", samples { calibrate_signals(SIGFPE, $0) })
        note("SIGILL round trip", samples { calibrate_signals(SIGILL, $0) })
        // Two switches a trip; a process of its own for each run is dear, so there are fewer.
        note("switch of processes by pipes", samples(runs: 21) { calibrate_round_trips($0) }.map { $0 / 2 })
    }

    private mutating func measureKVM() {
        guard let machine = calibrate_kvm_open() else {
            kvmFailure = "/dev/kvm cannot be used: \(CommandError.text(errno))"
            return
        }
        defer { calibrate_kvm_close(machine) }
        // A run without exits but the last, to take off.
        func exits(_ out: Int32) -> [Double] {
            let base = samples(maximum: 1) { calibrate_kvm_run(machine, out, $0) }
            guard !base.isEmpty else { return [] }
            let once = Measurement("", samples: base).ticks.typical
            return samples(maximum: 4096) { iterations in
                let ticks = calibrate_kvm_run(machine, out, iterations + 1)
                return ticks > UInt64(once) ? ticks - UInt64(once) : 0
            }
        }
        let inKernel = exits(0)
        guard !inKernel.isEmpty else {
            kvmFailure = "a machine of /dev/kvm does not run: \(CommandError.text(errno))"
            return
        }
        note("KVM exit handled in the kernel", inKernel)
        note("KVM exit handled in user space", exits(1))
    }
}

/// Memory of small pages, each of which exists.
private final class PageMemory {
    private let base: UnsafeMutableRawPointer
    private let size: Int

    init?(bytes: Int) {
        guard let base = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            base != MAP_FAILED
        else { return nil }
        self.base = base
        size = bytes
        // Large pages would hide what is to be measured.
        madvise(base, bytes, MADV_NOHUGEPAGE)
        for offset in stride(from: 0, to: bytes, by: 4096) {
            base.storeBytes(
                of: UInt64(truncatingIfNeeded: offset &* 0x9e37_79b9), toByteOffset: offset, as: UInt64.self)
        }
    }

    deinit { munmap(base, size) }

    var bytes: UnsafePointer<UInt8> { UnsafePointer(base.assumingMemoryBound(to: UInt8.self)) }

    var chain: UnsafePointer<UnsafeMutableRawPointer?> {
        UnsafePointer(base.assumingMemoryBound(to: UnsafeMutableRawPointer?.self))
    }

    /// Makes one ring of all these offsets, in an order that no prefetcher follows.
    func link(_ offsets: [Int]) {
        // A permutation that is one cycle (Sattolo's), the same one each time.
        var order = offsets
        var state: UInt64 = 1
        for index in stride(from: order.count - 1, to: 0, by: -1) {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            order.swapAt(index, Int(state >> 33) % index)
        }
        // Whatever the order is, the ring begins where the chase does.
        let ring = [offsets[0]] + order.filter { $0 != offsets[0] }
        for (index, offset) in ring.enumerated() {
            let target = base + ring[(index + 1) % ring.count]
            base.storeBytes(of: target, toByteOffset: offset, as: UnsafeMutableRawPointer.self)
        }
    }
}
