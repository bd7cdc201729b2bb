import CHostCPU
import DifferentialSupport
import VMM

/// Makes programs, runs them in both engines, and keeps the score.
final class Runner {
    private let options: Options
    private let comparer: Comparer
    private let pools: [CodeMode: FormPool]
    private let host: HostRun?
    private var coverage = Coverage()
    private(set) var failures = 0
    private static let stepEvery = 16
    /// A program takes milliseconds; one that takes this long hangs.
    private static let secondsPerProgram: UInt32 = 60
    private static let secondsWithBug: UInt32 = 5

    init(_ options: Options) {
        self.options = options
        // The child that runs programs on the host is made while this process is small.
        host = options.bug == nil ? HostRun() : nil
        comparer = Comparer(interpreter: World(.interpreter), translator: World(.translator, bug: options.bug))
        pools = [.bits64: FormPool(.bits64), .bits32: FormPool(.bits32)]
    }

    // MARK: Random programs

    func runPrograms() {
        if let number = options.onlyProgram { return runProgram(number) }
        var number = options.shard
        while coverage.blocks < options.blocks / options.shards, failures < options.mostFailures {
            runProgram(number)
            number += options.shards
        }
    }

    private func makeProgram(_ number: Int) -> (program: Program, forHost: Bool) {
        var random = Random(options.seed, UInt64(number), 0x70)
        let setting = options.setting ?? random.pick(Setting.allCases)
        let forHost = (setting == .user64 || setting == .compatUser) && random.chance(50)
        let pool = pools[setting.is64Bit ? .bits64 : .bits32]!
        let generator = ProgramGenerator(setting: setting, pool: pool, forHost: forHost, random: random)
        return (generator.make(), forHost)
    }

    private func runProgram(_ number: Int) {
        let (program, forHost) = makeProgram(number)
        guard let test = program.link() else { return }
        hostcpu_program_note("--seed \(options.seed) --program \(number)")
        hostcpu_program_watch(options.bug == nil ? Self.secondsPerProgram : Self.secondsWithBug)
        if options.printsProgram { print(CaseText.write(test)) }
        let difference = comparer.run(test, checksAll: number % 16 == 0) { [self] in coverage.countStop(test, $0) }
        coverage.count(test, comparer.interpreter)
        if let difference {
            fail("--seed \(options.seed) --program \(number)", program, difference) { [comparer] in comparer.run($0) }
        } else if number % Self.stepEvery < options.shards {
            step(test, program, number)
        }
        if forHost, difference == nil { runOnHost(test, program, number) }
    }

    private func runOnHost(_ test: Case, _ program: Program, _ number: Int) {
        guard let host else { return }
        let world = comparer.interpreter
        let spoils = options.spoilsHost
        switch host.run(test, world, spoils: options.spoilsHost) {
        case .unfit: break
        case .equal: coverage.hostPrograms += 1
        case .different(let lines):
            fail("--seed \(options.seed) --program \(number), host CPU", program, lines) {
                if case .different(let lines) = host.run($0, world, spoils: spoils) { lines } else { nil }
            }
        }
    }

    private func fail(
        _ name: String, _ program: Program, _ difference: [String], _ run: (Case) -> [String]?
    ) {
        failures += 1
        hostcpu_program_watch(0)
        print("MISMATCH blockdiff \(name)")
        for line in difference { print("  \(line)") }
        guard options.shrinks else { return }
        let small = withoutActuallyEscaping(run) { run in Shrinker { run($0) != nil }.shrink(program) }
        guard let test = small.link(), let again = run(test) else { return }
        print("smallest program found that fails (blockdiff --file runs it again):")
        print(CaseText.write(test))
        for line in again { print("  \(line)") }
    }

    // MARK: Cases

    func run(_ test: Case, name: String) {
        if options.traces { comparer.trace(test) }
        var difference = comparer.run(test)
        coverage.count(test, comparer.interpreter)
        if difference == nil { difference = comparer.step(test) }
        guard let difference else { return }
        failures += 1
        print("MISMATCH \(name)")
        for line in difference { print("  \(line)") }
    }

    // MARK: Statistics

    /// Runs a program once more, an instruction at a time, which must come to the same end, and notes what it executes.
    private func step(_ test: Case, _ program: Program, _ number: Int) {
        var byOffset: [UInt64: Item] = [:]
        var items: [Int: Item] = [:]
        for block in program.blocks { for item in block.items { items[item.id] = item } }
        for line in test.lines { byOffset[UInt64(line.offset)] = items[line.item] }
        let pool = pools[test.setting.is64Bit ? .bits64 : .bits32]!
        coverage.stepped += 1
        let difference = comparer.step(test) { world in
            let offset = world.processor.cpu.pointee.rip &- Linear.low
            guard let item = byOffset[offset] else { return }
            if case .form(let number) = item.kind { coverage.formsExecuted.insert(pool.forms[number].name) }
            if offset / 4096 != (offset + UInt64(item.bytes.count) - 1) / 4096 { coverage.crossingInstructions += 1 }
        }
        guard let difference else { return }
        fail("--seed \(options.seed) --program \(number), stopping at each count", program, difference) { [comparer] in
            _ = comparer.run($0, checksAll: false)
            return comparer.step($0)
        }
    }

    func printSummary(seconds: Double) {
        let processor = comparer.translator.processor
        if options.caseFiles.isEmpty {
            print(coverage.text(decoded: processor.decodedBlocks, translated: processor.translatedBlocks))
        }
        print(
            "blockdiff: \(coverage.blocks) blocks of \(coverage.programs) programs, \(failures) mismatches, "
                + "seed \(options.seed), \(Int(seconds)) s")
    }
}
