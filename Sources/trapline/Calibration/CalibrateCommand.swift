import ArgumentParser
import CCalibrate
import Glibc
import Replayer

/// `trapline calibrate`: a cost table of the host.
struct CalibrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "calibrate",
        abstract: "Measure this host into a cost table, which --costs host uses.",
        discussion: """
            It takes some seconds and wants an idle machine. Times are ticks of the time-stamp counter, which runs at \
            its own rate whatever the CPU's is. What user mode cannot measure is taken from the nearest published table.

            Example: trapline calibrate -o host.json
            """)

    @Option(
        name: .shortAndLong, help: ArgumentHelp("Write the table here instead of the cache folder.", valueName: "file"),
        completion: .file())
    var output: String?
    @Flag(help: "Write JSON.")
    var json = false

    func run() throws {
        let path = output ?? CostTables.hostPath
        if output == nil { try Self.makeFolder(of: path) }
        let file = try OutputFile(path)
        let cpu = HostCPU()
        let clock = TickClock()
        let progress = ProgressLine("measuring")
        let measurements = HostMeasurements { progress.show($0) }
        progress.clear()
        let host = HostTable(cpu, measurements, clock: clock.megahertz, date: Self.date)
        try file.finish(host.table.json)
        let report = CalibrationReport(cpu: cpu, measurements: measurements, host: host, path: path)
        FileDescriptor.standardOutput.writeAll(Array((json ? report.json.document : report.text).utf8))
    }

    /// Today, as YYYY-MM-DD.
    private static var date: String {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
    }

    private static func makeFolder(of path: String) throws(CommandError) {
        let parts = path.split(separator: "/").dropLast()
        var folder = ""
        for part in parts {
            folder += "/" + part
            if mkdir(folder, 0o777) != 0, errno != EEXIST { throw .cannotWrite(path: folder, errno: errno) }
        }
    }
}

/// How fast the time-stamp counter runs, found from its beginning to its end.
private struct TickClock {
    private let ticks = calibrate_ticks()
    private let seconds = HostClock.seconds

    var megahertz: Double { Double(calibrate_ticks() - ticks) / (HostClock.seconds - seconds) / 1e6 }
}

/// What `calibrate` says.
struct CalibrationReport {
    let cpu: HostCPU
    let measurements: HostMeasurements
    let host: HostTable
    let path: String

    private func uses(_ name: String) -> [String] { host.uses[name, default: []].map(\.name) }

    var json: JSON {
        .object([
            ("model", .string(cpu.model)), ("hypervisor", cpu.hypervisor.map { .string($0) } ?? .null),
            ("tsc_mhz", .number(host.table.clock)), ("nearest", .string(cpu.nearest)), ("file", .string(path)),
            ("kvm", measurements.kvmFailure.map { .string($0) } ?? .null),
            (
                "measurements",
                .array(
                    measurements.all.map {
                        .object([
                            ("name", .string($0.name)), ("low", .number($0.ticks.low)),
                            ("typical", .number($0.ticks.typical)), ("high", .number($0.ticks.high)),
                            ("rows", .array(uses($0.name).map { .string($0) })),
                        ])
                    })
            ),
        ])
    }

    var text: String {
        var text = "\(cpu.model), time-stamp counter \(JSONText.decimal(host.table.clock)) MHz\n"
        if let hypervisor = cpu.hypervisor {
            text +=
                "It is a guest of \(hypervisor): what exits there (CPUID, some exceptions) and walks its tables shows\n"
        }
        text += "\n"
        let rows = measurements.all.map {
            [
                $0.name, RunResult.decimal($0.ticks.low), RunResult.decimal($0.ticks.typical),
                RunResult.decimal($0.ticks.high), uses($0.name).joined(separator: ", "),
            ]
        }
        text += TextColumns([["ticks of", "5%", "median", "95%", "rows"]] + rows, right: [1, 2, 3]).text
        if let failure = measurements.kvmFailure {
            text += "\n\(failure), so exits are those of \(cpu.nearest)\n"
        }
        text += "\nwritten to \(path)" + (path == CostTables.hostPath ? "; --costs host uses it" : "") + "\n"
        return text
    }
}
