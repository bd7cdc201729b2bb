import Glibc
import VMM

/// What to run.
struct Options {
    var seed: UInt64 = 1
    /// Programs end when this many blocks were generated.
    var blocks = 1_000_000
    var setting: Setting?
    var onlyProgram: Int?
    var shard = 0
    var shards = 1
    var caseFiles: [String] = []
    /// A bug for the translator to have.
    var bug: TranslatorBug?
    var printsProgram = false
    /// Print each instruction of a case from a file.
    var traces = false
    var shrinks = true
    /// Failures after which no more programs are run.
    var mostFailures = 3

    /// Reads the command line; prints the usage and ends on a word that is none.
    static func parse() -> Options {
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
            case "--blocks": options.blocks = number()
            case "--program": options.onlyProgram = number()
            case "--setting":
                guard let setting = Setting(rawValue: value()) else { usage() }
                options.setting = setting
            case "--bug":
                guard let bug = TranslatorBug(rawValue: value()) else { usage() }
                options.bug = bug
            case "--list-bugs":
                for bug in TranslatorBug.allCases { print(bug.rawValue) }
                exit(0)
            case "--shard":
                let parts = value().split(separator: "/").compactMap { Int($0) }
                guard parts.count == 2, parts[1] > 0 else { usage() }
                (options.shard, options.shards) = (parts[0], parts[1])
            case "--print": options.printsProgram = true
            case "--trace": options.traces = true
            case "--no-shrink": options.shrinks = false
            case "--failures": options.mostFailures = number()
            case "--file": options.caseFiles.append(value())
            default: usage()
            }
        }
        return options
    }

    private static func usage() -> Never {
        print(
            """
            usage: blockdiff [--seed N] [--blocks N] [--setting NAME] [--shard I/N] [--failures N] [--no-shrink]
                             [--program N [--print]] [--file CASE [--trace]]… [--bug NAME | --list-bugs]
            Runs random programs in the interpreter and in the translator, and on the host CPU those that it can run,
            and compares the states. Settings: \(Setting.allCases.map(\.rawValue).joined(separator: ", ")).
            """)
        exit(2)
    }
}
