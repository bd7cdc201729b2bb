import CCalibrate
import Glibc
import Replayer

/// The CPU that this runs on.
struct HostCPU {
    /// As /proc/cpuinfo has it.
    let model: String
    let vendor: String
    /// Whether the host is itself a virtual machine, and of what kind; nil if it is not.
    let hypervisor: String?

    init() {
        var registers: [UInt32] = [0, 0, 0, 0]
        func text(_ words: [UInt32]) -> String {
            let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) } }
            return String(decoding: bytes.filter { (0x20..<0x7f).contains($0) }, as: UTF8.self)
        }
        calibrate_cpuid(0, &registers)
        vendor = text([registers[1], registers[3], registers[2]])
        var model = ""
        for leaf in UInt32(0x8000_0002)...0x8000_0004 {
            calibrate_cpuid(leaf, &registers)
            model += text(registers)
        }
        model = model.split(separator: " ").joined(separator: " ")
        self.model = model.isEmpty ? vendor : model
        calibrate_cpuid(1, &registers)
        if registers[2] >> 31 & 1 == 1 {
            calibrate_cpuid(0x4000_0000, &registers)
            let name = text(Array(registers[1...]))
            hypervisor = Self.hypervisors[name] ?? (name.isEmpty ? "an unnamed hypervisor" : name)
        } else {
            hypervisor = nil
        }
    }

    /// By what CPUID leaf 40000000h says.
    private static let hypervisors = [
        "KVMKVMKVM": "KVM", "Microsoft Hv": "Hyper-V", "VMwareVMware": "VMware", "XenVMMXenVMM": "Xen",
        "TCGTCGTCGTCG": "QEMU's TCG",
    ]

    /// The published table whose CPU is nearest.
    var nearest: String { vendor == "AuthenticAMD" || vendor == "HygonGenuine" ? "zen3" : "skylake" }
}

/// Makes a cost table out of what was measured: measured rows over those of the nearest published table.
struct HostTable {
    private(set) var table: CostTable
    /// What was measured, and which rows came of it.
    private(set) var uses: [String: [Primitive]] = [:]
    private let measured: String
    private let measurements: HostMeasurements

    /// - Parameters:
    ///   - clock: MHz of the time-stamp counter.
    ///   - date: of the measurement, for the sources.
    init(_ cpu: HostCPU, _ measurements: HostMeasurements, clock: Double, date: String) {
        self.measurements = measurements
        table = BuiltInCosts.table(cpu.nearest)!
        measured = "measured on \(cpu.model), \(date)"
        table.name = CostTables.host
        table.title =
            "\(cpu.model), measured on \(date) in ticks of its time-stamp counter; what user mode cannot measure is "
            + "\(cpu.nearest)'s"
        table.clock = (clock * 10).rounded() / 10
        table.checks = []
        takeInstructions(isVirtual: cpu.hypervisor != nil)
        takeMemory()
        takeKernelBounds()
        takeExits(cpu)
    }

    // MARK: Rows

    /// A row that is what was measured.
    private mutating func input(_ primitive: Primitive, _ range: CostRange?, _ what: String, _ names: [String]) {
        guard let range else { return }
        set(primitive, range, .input, "\(measured): \(what)", names)
    }

    /// A row for which only bounds were measured.
    private mutating func bounds(
        _ primitive: Primitive, _ low: Double, _ high: Double, _ what: String, _ names: [String]
    ) {
        let high = max(low, high)
        let range = CostRange(low, (max(low, 0.001) * high).squareRoot(), high)
        set(
            primitive, range, .estimate, "bounds \(measured): \(what); typical is the geometric mean", names)
    }

    private mutating func set(
        _ primitive: Primitive, _ range: CostRange, _ role: Cost.Role, _ source: String, _ names: [String]
    ) {
        func rounded(_ value: Double) -> Double { value < 100 ? (value * 100).rounded() / 100 : value.rounded() }
        let ordered = [range.low, range.typical, range.high].sorted().map(rounded)
        table[primitive] = Cost(
            primitive: primitive, value: CostRange(ordered[0], ordered[1], ordered[2]), role: role, source: source)
        for name in names { uses[name, default: []].append(primitive) }
    }

    private mutating func takeInstructions(isVirtual: Bool) {
        let hits = "instruction of a mix that hits the caches"
        let misses = "instruction of a mix that misses"
        if let low = measurements[hits]?.low, let high = measurements[misses]?.high {
            bounds(
                .instruction, low, high,
                "an instruction of a loop that hits the caches, and of one that misses them and the branch prediction",
                [hits, misses])
        }
        input(.pushf, measurements["pushf"], "PUSHF", ["pushf"])
        if let pair = measurements["pushf and popf"], let push = measurements["pushf"]?.typical {
            let range = CostRange(max(pair.low - push, 0), max(pair.typical - push, 0), max(pair.high - push, 0))
            input(.popf, range, "PUSHF and POPF, less PUSHF", ["pushf and popf"])
        }
        input(.rdtsc, measurements["rdtsc"], "RDTSC", ["rdtsc"])
        input(.pause, measurements["pause"], "PAUSE", ["pause"])
        input(.callReturn, measurements["call and return"], "CALL and RET", ["call and return"])
        input(.segmentLoad, measurements["segment load"], "MOV to ES", ["segment load"])
        input(.segmentStore, measurements["segment store"], "MOV from ES", ["segment store"])
        // On a virtual host CPUID is an exit, which says nothing about the instruction.
        if !isVirtual, let zero = measurements["cpuid leaf 0"], let one = measurements["cpuid leaf 1"] {
            let range = CostRange(min(zero.low, one.low), one.typical, max(zero.high, one.high))
            input(.cpuid, range, "CPUID leaves 0 and 1", ["cpuid leaf 0", "cpuid leaf 1"])
        }
        if let short = measurements["nop"], let long = measurements["byte of a 9-byte nop"] {
            let range = CostRange(min(long.low, short.low), short.typical, short.high)
            input(.nopByte, range, "NOP; low is a byte of nine-byte ones", ["nop", "byte of a 9-byte nop"])
        }
        let inspections = ["lar", "lsl", "verr", "verw"].compactMap { measurements[$0] }
        if inspections.count == 4 {
            let middle = inspections.map(\.typical).sorted()
            let range = CostRange(
                inspections.map(\.low).min()!, (middle[1] + middle[2]) / 2, inspections.map(\.high).max()!)
            input(.segmentInspection, range, "LAR, LSL, VERR and VERW", ["lar", "lsl", "verr", "verw"])
        }
    }

    private mutating func takeMemory() {
        if let load = measurements["load"], let store = measurements["store"], let chain = measurements["load latency"]
        {
            input(
                .memoryAccess, CostRange(min(load.low, store.low), store.typical, max(chain.high, store.typical)),
                "low a load, typical a store, high a load that waits for another", ["load", "store", "load latency"])
        }
        if let refill = measurements["TLB refill"], refill.typical > 0 {
            // From a walk whose upper levels are cached to one that reads all four.
            bounds(
                .walkReference, refill.typical / 4, refill.typical,
                "a TLB refill as one reference and as four, on an idle machine whose tables are in its caches",
                ["TLB refill"])
        }
    }

    /// What goes through the host's kernel bounds the hardware's part from above.
    private mutating func takeKernelBounds() {
        if let call = measurements["system call"] {
            for primitive in [Primitive.syscall, .sysret] {
                let low = min(table[primitive].value.low, call.typical / 2)
                bounds(
                    primitive, low, call.typical / 2, "high is half of a system call of the host's kernel",
                    ["system call"])
            }
        }
        let signals = ["SIGSEGV round trip", "SIGFPE round trip"]
        let least = signals.compactMap { measurements[$0]?.typical }.min()
        for primitive in [Primitive.exceptionDelivery, .trapRoundTrip] {
            // The least of the round trips of signals bounds the exception that begins them.
            guard let least, least < table[primitive].value.high else { continue }
            bounds(
                primitive, min(table[primitive].value.low, least), least,
                "high is a signal's round trip through the host's kernel", signals)
        }
        if let process = measurements["switch of processes by pipes"], let call = measurements["system call"] {
            let high = max(process.typical - 2 * call.typical, 0)
            bounds(
                .spaceSwitch, min(table[.spaceSwitch].value.low, high), high,
                "high is a switch of processes less its two system calls", ["switch of processes by pipes"])
        }
    }

    private mutating func takeExits(_ cpu: HostCPU) {
        guard let exit = measurements["KVM exit handled in the kernel"] else { return }
        let nested = cpu.hypervisor.map { "; the host is a guest of \($0), so its KVM is nested or emulated" } ?? ""
        let hardware = table[.exitRoundTrip].value.typical
        let share = hardware / (hardware + table[.exitSoftware].value.typical)
        let parts = [(Primitive.exitRoundTrip, share), (.exitSoftware, 1 - share)]
        for (primitive, part) in parts {
            set(
                primitive, CostRange(exit.low * part, exit.typical * part, exit.high * part), .estimate,
                "\(measured): an exit for CPUID that KVM handles is \(JSONText.decimal(exit.typical.rounded())), "
                    + "divided as in \(cpu.nearest)\(nested)", ["KVM exit handled in the kernel"])
        }
        if let user = measurements["KVM exit handled in user space"] {
            let range = CostRange(
                max(user.low - exit.typical, 0), max(user.typical - exit.typical, 0), max(user.high - exit.typical, 0))
            input(
                .userModel, range, "an exit for OUT that user space handles, less one that KVM handles\(nested)",
                ["KVM exit handled in user space"])
        }
    }
}
