import CHostCPU
import DifferentialSupport
import Glibc

/// Reads the command line; prints the usage and ends on a word that is none.
func parseOptions() -> Options {
    var options = Options()
    var words = CommandLine.arguments.dropFirst()
    func value() -> String {
        guard let word = words.popFirst() else { usage() }
        return word
    }
    func number() -> Int {
        guard let number = Int(value()), number >= 0 else { usage() }
        return number
    }
    while let word = words.popFirst() {
        switch word {
        case "--seed": options.seed = UInt64(number())
        case "--cases": options.casesPerForm = number()
        case "--filter", "--form": options.filter = value()
        case "--case": options.onlyCase = number()
        case "--mode":
            guard let mode = CodeMode(rawValue: number()) else { usage() }
            options.modes = [mode]
        case "--shard":
            let parts = value().split(separator: "/").compactMap { Int($0) }
            guard parts.count == 2, parts[1] > 0 else { usage() }
            (options.shard, options.shards) = (parts[0], parts[1])
        case "--show": options.shown = number()
        case "--host-only": options.hostOnly = true
        case "--list": options.listsForms = true
        case "--file": options.caseFiles.append(value())
        default: usage()
        }
    }
    return options
}

func usage() -> Never {
    print(
        """
        usage: hostdiff [--seed N] [--cases N] [--mode 64|32|16] [--filter TEXT] [--case N] [--shard I/N] [--show N]
                        [--list] [--host-only] [--file CASES]…
        Runs every instruction form that the CPU model has on the host CPU and on the engine and compares the results.
        """)
    exit(2)
}

func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func readCases(_ path: String) -> [String] {
    guard let file = fopen(path, "r") else {
        print("hostdiff: cannot read \(path)")
        exit(2)
    }
    defer { fclose(file) }
    var lines: [String] = []
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    while getline(&line, &capacity, file) > 0, let text = line.map({ String(cString: $0) }) {
        let trimmed = text.split(separator: "#", omittingEmptySubsequences: false)[0]
            .split(whereSeparator: \.isWhitespace).joined(separator: " ")
        if !trimmed.isEmpty { lines.append(trimmed) }
    }
    free(line)
    return lines
}

/// Runs the files of cases, which each must be well-formed.
func runFiles(_ options: Options, _ runner: Runner) {
    for path in options.caseFiles {
        for line in readCases(path) {
            do {
                let test = try CaseText.parse(line)
                if hostcpu_has_ldt() || !test.usesLDT { runner.run(test, line: line) }
            } catch {
                print("hostdiff: \(path): not a case: \(line)")
                exit(2)
            }
        }
    }
}

func runForms(_ options: Options, _ runner: Runner) {
    var number = 0
    /// Whether the next form of this name is asked for.
    func isWanted(_ name: String) -> Bool {
        guard options.filter.isEmpty || name.contains(options.filter) else { return false }
        number += 1
        guard number % options.shards == options.shard else { return false }
        if options.listsForms { print(name) }
        return !options.listsForms
    }
    var excluded: [String: Set<String>] = [:]
    for mode in options.modes {
        if mode == .bits16 && !hostcpu_has_ldt() {
            print("excluded: 16-bit code: the host's kernel makes no 16-bit segments")
            continue
        }
        let generator = FormGenerator.forms(mode)
        for (reason, names) in generator.excluded { excluded[reason.text, default: []].formUnion(names) }
        for form in generator.ordered where isWanted(form.name) { runner.run(form) }
        for forms in [[], generator.ordered] {
            let undefined = UndefinedEncodings(mode: mode, decoder: Decoder(mode), lockedForms: forms)
            if isWanted(undefined.name) { runner.run(undefined) }
        }
    }
    guard options.filter.isEmpty, options.shard == 0 else { return }
    for (reason, names) in excluded.sorted(by: { $0.key < $1.key }) {
        print("excluded: \(names.sorted().joined(separator: " ")): \(reason)")
    }
}

setlinebuf(stdout)
let options = parseOptions()
if let failure = hostcpu_start() {
    print("hostdiff: \(failure)")
    exit(2)
}
let side: Side = options.hostOnly ? RecordedSide() : EngineSide()
let runner = Runner(options, other: side)
let start = now()
if options.caseFiles.isEmpty { runForms(options, runner) } else { runFiles(options, runner) }
if !options.listsForms { runner.printSummary(seconds: now() - start) }
exit(runner.mismatches == 0 ? 0 : 1)
