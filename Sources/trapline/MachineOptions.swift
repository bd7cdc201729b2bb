import ArgumentParser
import VMM

/// The options that say what machine runs and what is booted on it, shared by the commands that run one.
struct MachineOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Kernel: a Linux bzImage or a multiboot ELF.", valueName: "file"), completion: .file())
    var kernel: String?
    @Option(
        help: ArgumentHelp("Initial RAM disk; for multiboot kernels modules, separated by commas.", valueName: "file"),
        completion: .file())
    var initrd: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("The kernel's command line.", valueName: "text"))
    var append: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Run a shell command in the guest; its status becomes the outcome. The initrd must have a shell.",
            valueName: "command"))
    var exec: String?
    @Option(
        help: ArgumentHelp("Add the files below a directory to the initrd.", valueName: "directory"),
        completion: .directory)
    var overlay: String?
    @Option(help: ArgumentHelp("RAM, 16M to 3G.", valueName: "size"), transform: { try MemorySize($0) })
    var memory = MemorySize(bytes: MachineConfiguration.defaultMemorySize)
    @Option(
        help: ArgumentHelp("Hard disk: a raw image, which is never written.", valueName: "file"), completion: .file())
    var disk: String?
    @Option(help: ArgumentHelp("CD-ROM: an ISO image.", valueName: "file"), completion: .file())
    var cdrom: String?
    @Option(help: ArgumentHelp("Firmware: a raw image, a multiple of 64 KB.", valueName: "file"), completion: .file())
    var firmware: String?
    @Option(
        help: ArgumentHelp("The display's option ROM, for firmware to run.", valueName: "file"), completion: .file())
    var vgaRom: String?
    @Option(help: ArgumentHelp("CPU model: \(CPUModel.names.joined(separator: ", ")).", valueName: "name"))
    var cpu = CPUName.standard
    @Option(help: ArgumentHelp("Interrupt controllers: apic or xtpic.", valueName: "name"))
    var chipset = MachineConfiguration.Chipset.apic
    @Option(
        help: ArgumentHelp("Instructions per microsecond of virtual time.", valueName: "n"),
        transform: { try InstructionRate($0) })
    var instructionsPerUs = InstructionRate(perMicrosecond: 1000)
    @Option(
        help: ArgumentHelp("What the guest's clock shows at power-on, UTC.", valueName: "YYYY-MM-DDTHH:MM:SS"),
        transform: { try StartDate($0) })
    var startDate = StartDate(seconds: RTC.defaultStartDate)
    @Option(help: ArgumentHelp("What a reset by the guest does: exit or continue.", valueName: "action"))
    var reset = ResetAction.exit

    /// Reads the files and puts the machine's description together.
    func configuration() throws(CommandError) -> MachineConfiguration {
        var configuration = MachineConfiguration(cpu: cpu.model(apic: chipset == .apic), boot: try bootSource())
        configuration.memorySize = memory.bytes
        configuration.chipset = chipset
        configuration.instructionsPerMicrosecond = instructionsPerUs.perMicrosecond
        configuration.startDate = startDate.seconds
        configuration.continuesAfterReset = reset == .continue
        if let disk { configuration.disk = try DiskImage(disk) }
        if let cdrom { configuration.cdrom = try DiskImage(cdrom) }
        return configuration
    }
}

enum ResetAction: String, ExpressibleByArgument, CaseIterable { case exit, `continue` }

extension MachineConfiguration.Chipset: ExpressibleByArgument {}

/// A CPU model by its name.
struct CPUName: ExpressibleByArgument {
    static let standard = CPUName(name: CPUModel.names[0])
    static var allValueStrings: [String] { CPUModel.names }
    private let name: String

    private init(name: String) { self.name = name }

    init?(argument: String) {
        guard CPUModel.names.contains(argument) else { return nil }
        name = argument
    }

    /// The model; each name in `CPUModel.names` has one.
    func model(apic: Bool) -> CPUModel { CPUModel.named(name, apic: apic)! }

    var defaultValueDescription: String { name }
}

/// An amount of RAM: a number with K, M or G; without a letter it is in megabytes.
struct MemorySize: CustomStringConvertible {
    let bytes: UInt64

    init(bytes: UInt64) { self.bytes = bytes }

    init(_ argument: String) throws {
        let units: [Character: UInt64] = ["k": 1 << 10, "m": 1 << 20, "g": 1 << 30]
        let unit = argument.last.flatMap { units[Character($0.lowercased())] }
        guard let number = UInt64(unit == nil ? argument : String(argument.dropLast())) else {
            throw ValidationError("expected a number with K, M or G")
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: unit ?? 1 << 20)
        guard !overflow, MachineConfiguration.memoryRange.contains(bytes), bytes % (1 << 20) == 0 else {
            throw ValidationError("expected 16M to 3G, in whole megabytes")
        }
        self.bytes = bytes
    }

    var description: String { "\(bytes >> 20)M" }
}

/// How fast virtual time passes.
struct InstructionRate: CustomStringConvertible {
    let perMicrosecond: UInt64
    private static let range: ClosedRange<UInt64> = 1...1_000_000

    init(perMicrosecond: UInt64) { self.perMicrosecond = perMicrosecond }

    init(_ argument: String) throws {
        guard let number = UInt64(argument), Self.range.contains(number) else {
            throw ValidationError("expected a number from \(Self.range.lowerBound) to \(Self.range.upperBound)")
        }
        perMicrosecond = number
    }

    var description: String { "\(perMicrosecond)" }
}

/// A date and time of day, UTC, as seconds since 1970.
struct StartDate: CustomStringConvertible {
    let seconds: UInt64

    init(seconds: UInt64) { self.seconds = seconds }

    init(_ argument: String) throws {
        let parts = argument.split(omittingEmptySubsequences: false) { "-T:".contains($0) }.map { UInt64($0) }
        let numbers = parts.compactMap { $0 }
        guard numbers.count == parts.count, numbers.count == 3 || numbers.count == 6,
            let seconds = Self.seconds(numbers[0], numbers[1], numbers[2], Array(numbers[3...]))
        else { throw ValidationError("expected a date from 1970 to 2099 such as 2025-01-01 or 2025-01-01T12:00:00") }
        self.seconds = seconds
    }

    private static func seconds(_ year: UInt64, _ month: UInt64, _ day: UInt64, _ time: [UInt64]) -> UInt64? {
        let time = time.isEmpty ? [0, 0, 0] : time
        guard (1970...2099).contains(year), (1...12).contains(month), (1...31).contains(day), time[0] < 24,
            time[1] < 60,
            time[2] < 60
        else { return nil }
        // Days before the month in a year that begins with March, so that a leap day is the last.
        let shiftedYear = month > 2 ? year : year - 1
        let shiftedMonth = (month + 9) % 12
        let leapDays = shiftedYear / 4 - shiftedYear / 100 + shiftedYear / 400
        let days = 365 * shiftedYear + leapDays + (153 * shiftedMonth + 2) / 5 + day - 1 - 719_468
        return days * 86_400 + time[0] * 3600 + time[1] * 60 + time[2]
    }

    var description: String { "2025-01-01" }
}
