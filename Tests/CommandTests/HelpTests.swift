import Foundation
import Testing

/// What the subcommands say about themselves.
struct HelpTests {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    static let sample = repository + "/traces/v1-builtin-paging.tline"

    /// The command's own description of its subcommands, as completions and the manual page are made of it.
    private struct Help: Decodable {
        struct Argument: Decodable {
            struct Name: Decodable {
                let kind: String
                let name: String
            }
            let kind: String
            let names: [Name]?
            let abstract: String?
            let valueName: String?
            let shouldDisplay: Bool

            /// As it is written in a command line.
            var spelling: String {
                guard let name = names?.first(where: { $0.kind == "long" }) else { return "<\(valueName ?? "")>" }
                return "--" + name.name
            }
        }
        struct Command: Decodable {
            let commandName: String
            let abstract: String?
            let arguments: [Argument]?
            let subcommands: [Command]?
        }
        let command: Command
    }

    private static func subcommands() throws -> [Help.Command] {
        let run = try CommandRun(["--experimental-dump-help"])
        let help = try JSONDecoder().decode(Help.self, from: Data(run.output.utf8))
        return (help.command.subcommands ?? []).filter { $0.commandName != "help" }
    }

    /// The command lines of a help text's examples.
    private func examples(_ name: String) throws -> [String] {
        let words = try CommandRun([name, "--help"]).output.components(separatedBy: "\n\n")
        return words.filter { $0.hasPrefix("Example: ") }.map {
            $0.dropFirst("Example: ".count).split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
    }

    @Test func everyOptionIsDescribedByASentence() throws {
        let commands = try Self.subcommands()
        #expect(commands.count >= 16)
        for command in commands {
            let name = command.commandName
            let help = try CommandRun([name, "--help"])
            #expect(help.code == 0 && help.errors.isEmpty, "\(name)")
            #expect(command.abstract?.hasSuffix(".") == true, "\(name)")
            for argument in (command.arguments ?? []) where argument.shouldDisplay {
                let abstract = try #require(argument.abstract, "\(name) \(argument.spelling) has no help")
                #expect(abstract.hasSuffix(".") && abstract.count > 8, "\(name) \(argument.spelling): \(abstract)")
                #expect(help.output.contains(argument.spelling), "\(name) \(argument.spelling)")
            }
            // A line of help fits a terminal, and is not broken where the source was.
            for line in help.output.split(separator: "\n") where !line.contains("USAGE") {
                #expect(line.count <= 80 || line.hasPrefix("USAGE"), "\(name): \(line)")
            }
        }
    }

    /// Each subcommand's example works as it stands there; the built-in guest takes the place of a kernel, a sample
    /// that of a recorded boot. Through a pipe no output has an escape byte.
    @Test func everyExampleRunsAndItsOutputIsPlain() throws {
        let folder = try TemporaryFolder()
        for name in ["boot", "before", "after"] {
            try FileManager.default.copyItem(atPath: Self.sample, toPath: "\(folder.path)/\(name).tline")
        }
        for command in try Self.subcommands() {
            let name = command.commandName
            let examples = try examples(name)
            #expect(!examples.isEmpty, "\(name) has no example")
            for example in examples {
                #expect(example.hasPrefix("trapline \(name)"), "\(example)")
                // It takes seconds, and says nothing else on a busy host.
                if name == "calibrate" { continue }
                let line = example.replacingOccurrences(of: " --kernel vmlinuz --initrd initrd.gz", with: "")
                    .replacingOccurrences(of: " --append \"console=ttyS0\"", with: "")
                let run = try CommandRun(
                    shell: """
                        cd '\(folder.path)' && export XDG_CACHE_HOME="$PWD/cache" TERM=xterm && \
                        trapline() { '\(CommandRun.executable.path)' "$@" </dev/null; } && \(line)
                        """)
                #expect(run.code == 0, "\(line): \(run.errors)")
                #expect(!(run.output + run.errors).utf8.contains(0x1B), "\(line) writes an escape byte")
            }
        }
    }

    /// The manual page has every subcommand and option, and the shells take the completions.
    @Test func theManualAndTheCompletionsAreComplete() throws {
        let folder = try TemporaryFolder()
        let run = try CommandRun(
            shell: """
                cd '\(Self.repository)' && '\(CommandRun.executable.path)' --experimental-dump-help |
                    swift scripts/manual.swift 'January 1, 2026'
                """)
        #expect(run.code == 0, "\(run.errors)")
        let requests: Set<Substring> = [
            "Dd", "Dt", "Os", "Sh", "Ss", "Nm", "Nd", "Ar", "Op", "Pp", "Dl", "Bl", "It", "El", "Ev", "Pa", "Bd", "Ed",
        ]
        for line in run.output.split(separator: "\n") {
            // A line that begins with a dot is a request of mdoc, or it would be lost.
            let request = line.split(separator: " ")[0].dropFirst()
            #expect(!line.hasPrefix(".") || requests.contains(request), "\(line)")
        }
        let page = run.output.replacingOccurrences(of: "\\-", with: "-")
        for command in try Self.subcommands() {
            let start = try #require(page.range(of: ".Ss \"trapline \(command.commandName) "), "\(command.commandName)")
            let end = page.range(of: "\n.S", range: start.upperBound..<page.endIndex)?.lowerBound ?? page.endIndex
            for argument in (command.arguments ?? []) where argument.shouldDisplay && argument.spelling != "--help" {
                let isThere = page[start.upperBound..<end].contains(".It \"" + argument.spelling)
                #expect(isThere, "\(command.commandName) \(argument.spelling)")
            }
        }
        for shell in ["bash", "zsh", "fish"] {
            let script = try CommandRun(["--generate-completion-script", shell])
            #expect(script.code == 0 && script.output.contains("what-if"), "\(shell)")
            let path = try folder.file(shell, Array(script.output.utf8))
            let check = try CommandRun(shell: "command -v \(shell) >/dev/null || exit 0; \(shell) -n '\(path)'")
            #expect(check.code == 0, "\(shell): \(check.errors)")
        }
    }
}

/// What the documentation tells users to type.
struct ReadmeTests {
    @Test func everyCommandOfTheReadmeAndTheTutorialRuns() throws {
        let run = try CommandRun(
            shell: "TRAPLINE='\(CommandRun.executable.path)' '\(HelpTests.repository)/scripts/readme' builtin 2>&1")
        #expect(run.code == 0, "\(run.output)")
    }
}
