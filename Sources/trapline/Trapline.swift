import Analyzer
import ArgumentParser
import Glibc

/// The command and its subcommands, one file each.
struct Trapline: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trapline",
        abstract: "Boots unmodified x86 guests on a deterministic machine, records and replays them.",
        subcommands: [
            RunCommand.self, RecordCommand.self, ReplayCommand.self, InfoCommand.self, DumpCommand.self,
            VerifyCommand.self, StripCommand.self, CompareCommand.self, StrategiesCommand.self,
            CostsCommand.self, CalibrateCommand.self, AnalyzeCommand.self, ReportCommand.self,
            DiffCommand.self, ExportCommand.self, SQLCommand.self,
        ])
}

@main
enum Main {
    static func main() {
        // A reader that goes away is noticed where its output is written.
        signal(SIGPIPE, SIG_IGN)
        // So is a file that may not grow further.
        signal(SIGXFSZ, SIG_IGN)
        do {
            var command = try Trapline.parseAsRoot(QEMUSpelling.rewrite(Array(CommandLine.arguments.dropFirst())))
            try command.run()
        } catch let error as CommandError {
            StandardError.say(error.description)
            exit(CommandError.exitCode)
        } catch let error as AnalysisError {
            StandardError.say(error.description)
            exit(CommandError.exitCode)
        } catch let code as ExitCode {
            exit(code.rawValue)
        } catch {
            leave(error)
        }
    }

    /// Ends after help was asked for, or arguments could not be understood.
    private static func leave(_ error: any Error) -> Never {
        if Trapline.exitCode(for: error).isSuccess {
            print(Trapline.fullMessage(for: error))
            exit(0)
        }
        StandardError.say(Trapline.message(for: error))
        exit(CommandError.exitCode)
    }
}
