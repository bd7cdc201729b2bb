import DifferentialSupport
import VMM

/// Makes programs, runs them in both engines, and keeps the score.
final class Runner {
    private let options: Options
    private let comparer: Comparer
    private let pools: [CodeMode: FormPool]
    private var coverage = Coverage()
    private(set) var failures = 0
    private static let stepEvery = 16

    init(_ options: Options) {
        self.options = options
        comparer = Comparer(interpreter: World(.interpreter), translator: World(.translator))
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
        let forHost = (setting == .user64 || setting == .compatUser) && random.chance(40)
        let pool = pools[setting.is64Bit ? .bits64 : .bits32]!
        let generator = ProgramGenerator(setting: setting, pool: pool, forHost: forHost, random: random)
        return (generator.make(), forHost)
    }

    private func runProgram(_ number: Int) {
        let (program, _) = makeProgram(number)
        guard let test = program.link() else { return }
        if options.printsProgram { print(CaseText.write(test)) }
        let difference = comparer.run(test, checksAll: number % 16 == 0)
        coverage.count(test, comparer.interpreter)
        if let difference {
            fail("--seed \(options.seed) --program \(number)", program, difference)
        } else if number % Self.stepEvery < options.shards {
            step(test, program)
        }
    }

    private func fail(_ name: String, _ program: Program, _ difference: [String]) {
        failures += 1
        print("MISMATCH blockdiff \(name)")
        for line in difference { print("  \(line)") }
        guard options.shrinks else { return }
        let small = Shrinker { [comparer] in comparer.run($0) != nil }.shrink(program)
        guard let test = small.link(), let again = comparer.run(test) else { return }
        print("smallest program found that fails (blockdiff --file runs it again):")
        print(CaseText.write(test))
        for line in again { print("  \(line)") }
    }

    // MARK: Cases

    func run(_ test: Case, name: String) {
        let difference = comparer.run(test)
        coverage.count(test, comparer.interpreter)
        guard let difference else { return }
        failures += 1
        print("MISMATCH \(name)")
        for line in difference { print("  \(line)") }
    }

    // MARK: Statistics

    /// Runs a program once more, an instruction at a time, which must come to the same end, and notes what it executes.
    private func step(_ test: Case, _ program: Program) {
        let world = comparer.translator
        let (end, state) = (comparer.interpreter.digest, comparer.interpreter.state)
        var byOffset: [UInt64: Item] = [:]
        var items: [Int: Item] = [:]
        for block in program.blocks { for item in block.items { items[item.id] = item } }
        for line in test.lines { byOffset[UInt64(line.offset)] = items[line.item] }
        let pool = pools[test.setting.is64Bit ? .bits64 : .bits32]!
        world.load(test)
        var events = test.events.filter { $0.count < test.limit }[...]
        coverage.stepped += 1
        while world.state == .running, world.clock.count < test.limit {
            let offset = world.processor.cpu.pointee.rip &- Linear.low
            if let item = byOffset[offset] {
                if case .form(let number) = item.kind { coverage.formsExecuted.insert(pool.forms[number].name) }
                if offset / 4096 != (offset + UInt64(item.bytes.count) - 1) / 4096 {
                    coverage.crossingInstructions += 1
                }
            }
            world.run(until: world.clock.count + 1)
            while let event = events.first, event.count <= world.clock.count, world.state == .running {
                world.happen(event)
                events.removeFirst()
            }
        }
        if world.digest != end || world.state != state {
            failures += 1
            print("MISMATCH blockdiff: stepping comes to another end; seed \(options.seed)")
            print(CaseText.write(test))
        }
    }

    func printSummary(seconds: Double) {
        if options.caseFiles.isEmpty { print(coverage.text) }
        print(
            "blockdiff: \(coverage.blocks) blocks of \(coverage.programs) programs, \(failures) mismatches, "
                + "seed \(options.seed), \(Int(seconds)) s")
    }
}
