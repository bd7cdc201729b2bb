import CHostCPU
import DifferentialSupport
import Glibc

/// What to run.
struct Options {
    var seed: UInt64 = 1
    var casesPerForm = 500
    var modes = CodeMode.allCases
    /// Only forms whose name contains this.
    var filter = ""
    /// Only this case of each form.
    var onlyCase: Int?
    /// Every `shards`th form, from number `shard` on.
    var shard = 0, shards = 1
    /// Mismatches printed for each form.
    var shown = 2
    /// Run the host against itself, to check the test itself.
    var hostOnly = false
    var listsForms = false
    /// Files of cases to run instead of the forms.
    var caseFiles: [String] = []
}

/// Runs cases on both sides and keeps the score.
final class Runner {
    private let options: Options
    private let host = HostSide()
    private let other: Side
    private let decoders: [CodeMode: Decoder]
    private(set) var forms = 0, cases = 0, mismatches = 0
    private(set) var failedForms: [(name: String, count: Int)] = []
    /// How often each exception ended a case; 3 is the INT3 behind the instruction.
    private var vectors = [Int](repeating: 0, count: 32)
    /// Forms of which no case ran to its end, and which ought to run.
    private var alwaysFault: [String] = []
    private static let casesPerEncoding = 4
    /// A form takes milliseconds; one that takes this long loops.
    private static let secondsPerForm: UInt32 = 60

    init(_ options: Options, other: Side) {
        self.options = options
        self.other = other
        decoders = Dictionary(uniqueKeysWithValues: CodeMode.allCases.map { ($0, Decoder($0)) })
        host.start()
        if !options.hostOnly { other.start() }
    }

    /// Runs all cases of a form.
    func run(_ form: Form) {
        let generator = CaseGenerator(form: form, decoder: decoders[form.mode]!, hasLDT: hostcpu_has_ldt())
        let name = stableHash(form.name)
        var failures = 0
        var completed = 0
        var encoding = -1
        forms += 1
        hostcpu_note(form.name, 0)
        hostcpu_set_watchdog(Runner.secondsPerForm)
        for number in options.onlyCase.map({ $0..<$0 + 1 }) ?? 0..<options.casesPerForm {
            if number / Runner.casesPerEncoding != encoding {
                if encoding >= 0 { remove(generator.test) }
                encoding = number / Runner.casesPerEncoding
                var random = Random(options.seed, name, UInt64(encoding), 1)
                guard generator.chooseEncoding(&random) else {
                    print("no encoding: \(form.name)")
                    failures += 1
                    break
                }
                place(generator.test)
            }
            var random = Random(options.seed, name, UInt64(number), 2)
            hostcpu_note(nil, Int32(number))
            generator.chooseInputs(&random)
            let difference = compare(generator.test, generator.decoder)
            if host.output.pointee.vector == 3 { completed += 1 }
            guard let difference else { continue }
            failures += 1
            if failures <= options.shown {
                print("MISMATCH \(form.name), --seed \(options.seed) --form '\(form.name)' --case \(number)")
                describe(generator.test, generator.decoder, difference)
            }
        }
        remove(generator.test)
        if completed == 0 && !form.alwaysFaults { alwaysFault.append(form.name) }
        count(failures, form.name)
    }

    /// Runs one case that stands by itself.
    func run(_ test: TestCase, line: String) {
        let decoder = decoders[test.mode]!
        _ = test.bytes.withUnsafeBytes { decoder.decode($0) }
        place(test)
        if let difference = compare(test, decoder) {
            mismatches += 1
            failedForms.append((line, 1))
            print("MISMATCH \(line)")
            describe(test, decoder, difference)
        }
        remove(test)
    }

    /// Runs byte strings that are no instruction, or one that must not be locked: #UD on any CPU.
    func run(_ undefined: UndefinedEncodings) {
        hostcpu_note(undefined.name, 0)
        forms += 1
        var failures = 0
        for number in options.onlyCase.map({ $0..<$0 + 1 }) ?? 0..<options.casesPerForm {
            var random = Random(options.seed, stableHash(undefined.name), UInt64(number))
            hostcpu_note(nil, Int32(number))
            guard let test = undefined.makeCase(&random) else { continue }
            place(test)
            let difference = compare(test, nil)
            remove(test)
            guard let difference else { continue }
            failures += 1
            guard failures <= options.shown else { continue }
            print("MISMATCH \(undefined.name), --seed \(options.seed) --form '\(undefined.name)' --case \(number)")
            describe(test, nil, difference)
        }
        count(failures, undefined.name)
    }

    private func count(_ failures: Int, _ name: String) {
        guard failures > 0 else { return }
        mismatches += failures
        failedForms.append((name, failures))
    }

    private func place(_ test: TestCase) {
        host.place(test)
        if !options.hostOnly { other.place(test) }
    }

    private func remove(_ test: TestCase) {
        host.place(test, remove: true)
        if !options.hostOnly { other.place(test, remove: true) }
    }

    /// Runs a case on both sides; nil, or what differs.
    private func compare(_ test: TestCase, _ decoder: Decoder?) -> [String]? {
        cases += 1
        defer {
            host.restoreMemory()
            if !options.hostOnly { other.restoreMemory() }
        }
        let failure: String?
        if options.hostOnly {
            _ = host.run(test)
            (other as? RecordedSide)?.record(host)
            host.restoreMemory()
            failure = host.run(test)
        } else {
            _ = host.run(test)
            failure = other.run(test)
        }
        vectors[Int(host.output.pointee.vector & 31)] += 1
        if let failure { return [failure] }
        let vector = host.output.pointee.vector
        let masks = decoder.map { Masks($0, test, vector: vector) } ?? Masks()
        let comparison = Comparison(host: host, other: other, test: test, masks: masks)
        return comparison.agrees ? nil : comparison.differences
    }

    private func describe(_ test: TestCase, _ decoder: Decoder?, _ differences: [String]) {
        let assembly = decoder.map { $0.disassembly(at: test.input.pointee.rip) } ?? "no instruction"
        print("  \(CaseText.bytes(test.bytes))  \(assembly)")
        for line in differences { print("  \(line)") }
        print("  \(CaseText.text(test, withFloat: decoder?.usesFloatState ?? false))")
    }

    func printSummary(seconds: Double) {
        if options.caseFiles.isEmpty { print("compared to their precision only: \(Masks.approximate)") }
        let ends = vectors.enumerated().filter { $0.1 > 0 }.map { "\($0.0): \($0.1)" }.joined(separator: ", ")
        print("cases by the exception that ended them (3: ran to the end): \(ends)")
        if !alwaysFault.isEmpty { print("no case ran to its end: \(alwaysFault.joined(separator: "; "))") }
        for (name, count) in failedForms { print("failed: \(name): \(count)") }
        let rate = seconds > 0 ? Int(Double(cases) / seconds) : 0
        print(
            "hostdiff: \(forms) forms, \(cases) cases, \(mismatches) mismatches in \(failedForms.count) forms, "
                + "seed \(options.seed), \(Int(seconds)) s, \(rate) cases/s")
    }
}

/// The result of an earlier run on the host, for comparing the host with itself.
final class RecordedSide: Side {
    let output = UnsafeMutablePointer<HostState>.allocate(capacity: 1)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Window.dataBytes, alignment: 64)
    func writeCode(_ bytes: UnsafeRawBufferPointer, at offset: Int) {}
    func execute(_ test: TestCase) -> String? { nil }
    func record(_ side: Side) {
        output.update(from: side.output, count: 1)
        memory.copyMemory(from: side.memory, byteCount: Window.dataBytes)
    }
}
