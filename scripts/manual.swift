// Turns what `trapline --experimental-dump-help` prints, on standard input, into the manual page, in mdoc.
// The argument is the page's date.
import Foundation

struct Help: Decodable {
    let command: Command
}

struct Command: Decodable {
    let commandName: String
    let abstract: String?
    let discussion: String?
    let shouldDisplay: Bool
    let arguments: [Argument]?
    let subcommands: [Command]?
}

struct Argument: Decodable {
    struct Name: Decodable {
        let kind: String
        let name: String
    }
    let kind: String
    let names: [Name]?
    let abstract: String?
    let allValues: [String]?
    let defaultValue: String?
    let valueName: String?
    let isOptional: Bool
    let isRepeating: Bool
    let shouldDisplay: Bool
    let sectionTitle: String?
}

/// A line of text: a backslash is none of roff's, and a dot or a quote at its beginning starts no request.
func text(_ line: String) -> String {
    let escaped = line.replacingOccurrences(of: "\\", with: "\\e").replacingOccurrences(of: "-", with: "\\-")
    return escaped.hasPrefix(".") || escaped.hasPrefix("'") ? "\\&" + escaped : escaped
}

/// One argument of a request.
func word(_ word: String) -> String {
    "\"" + text(word).replacingOccurrences(of: "\"", with: "\"\"") + "\""
}

func spelling(_ name: Argument.Name) -> String { (name.kind == "long" ? "--" : "-") + name.name }

func item(_ argument: Argument) -> [String] {
    let value = argument.kind == "flag" ? "" : " <\(argument.valueName ?? "value")>"
    let names = (argument.names ?? []).map(spelling).joined(separator: ", ")
    var sentences = [argument.abstract ?? ""]
    if let values = argument.allValues, !values.isEmpty {
        sentences.append("Values: \(values.joined(separator: ", ")).")
    }
    if let standard = argument.defaultValue { sentences.append("The default is \(standard).") }
    let head = argument.kind == "positional" ? "<\(argument.valueName ?? "value")>" : names + value
    return [".It " + word(head)] + sentences.filter { !$0.isEmpty }.map(text)
}

func paragraphs(_ discussion: String) -> [String] {
    discussion.components(separatedBy: "\n\n").flatMap { paragraph -> [String] in
        guard let example = paragraph.components(separatedBy: "Example: ").dropFirst().first else {
            return [".Pp"] + paragraph.components(separatedBy: "\n").map(text)
        }
        return [".Pp", "Example:", ".Dl " + text(example.trimmingCharacters(in: .whitespacesAndNewlines))]
    }
}

func section(_ command: Command) -> [String] {
    let arguments = (command.arguments ?? []).filter { $0.shouldDisplay && $0.names?.last?.name != "help" }
    let positional = arguments.filter { $0.kind == "positional" }
    let usage = positional.map { $0.isOptional ? "[<\($0.valueName ?? "value")>]" : "<\($0.valueName ?? "value")>" }
    let required = arguments.filter { $0.kind == "option" && !$0.isOptional }.map { option in
        spelling(option.names?.first ?? .init(kind: "long", name: "")) + " <\(option.valueName ?? "value")>"
    }
    let words = ["trapline", command.commandName, "[options]"] + required + usage
    var lines = [".Ss " + word(words.joined(separator: " ")), text(command.abstract ?? "")]
    if let discussion = command.discussion { lines += paragraphs(discussion) }
    let titles = arguments.map { $0.sectionTitle ?? "" }.reduce(into: [String]()) { titles, title in
        if !titles.contains(title) { titles.append(title) }
    }
    for title in titles.sorted() {
        lines += title.isEmpty ? [".Pp"] : [".Pp", text(title + ":")]
        lines += [".Bl -tag -width indent"]
        lines += arguments.filter { ($0.sectionTitle ?? "") == title }.flatMap(item) + [".El"]
    }
    return lines
}

let help = try JSONDecoder().decode(Help.self, from: FileHandle.standardInput.readDataToEndOfFile())
let date = CommandLine.arguments.dropFirst().first ?? "January 1, 2026"
let commands = (help.command.subcommands ?? []).filter { $0.shouldDisplay && $0.commandName != "help" }
var page = [
    ".Dd \(date)", ".Dt TRAPLINE 1", ".Os", ".Sh NAME", ".Nm trapline",
    ".Nd record a kernel's boot, replay it, and show what virtualization strategies would cost", ".Sh SYNOPSIS",
    ".Nm", ".Ar subcommand", ".Op Ar options", ".Sh DESCRIPTION", text(help.command.abstract ?? ""),
    "What the guest prints on its first serial port is standard output; the command's own words go to standard error.",
    ".Sh SUBCOMMANDS",
]
for command in commands { page += section(command) }
page += [
    ".Sh ENVIRONMENT", ".Bl -tag -width indent", ".It Ev XDG_CACHE_HOME",
    "The folder below which stores of analyzed traces and the table of the host are kept;",
    text("~/.cache if not set."),
    ".El",
    ".Sh EXIT STATUS",
    "0 after the guest's power\\-off, or success; 2 after bad input; 10 to 30 for the other outcomes, which",
    ".Pa docs/exit\\-codes.md", "lists.",
    ".Sh EXAMPLES", ".Bd -literal",
    text("trapline record -o boot.tline --kernel vmlinuz --initrd initrd.gz"), text("trapline compare boot.tline"),
    text("trapline report boot.tline"), ".Ed",
]
print(page.filter { !$0.isEmpty }.joined(separator: "\n"))
