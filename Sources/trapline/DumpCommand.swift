import Analyzer
import ArgumentParser
import CEngine
import Replayer
import Tracer
import VMM

/// `trapline dump`: the events of a range, or the guest at a position.
struct DumpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dump",
        abstract: "Print a trace's events, or the guest's state at a position.",
        discussion: """
            Events come one a line: number, count, ring, kind, address, operand, value, detail, bytes of string I/O. \
            With --json each line is an object. --at runs the guest to a position first, from the last checkpoint.

            Example: trapline dump boot.tline --kind cpuid --limit 10
            """)

    @Argument(help: ArgumentHelp("The trace.", valueName: "file"), completion: .file())
    var trace: String
    @Option(
        help: ArgumentHelp("First position of the events.", valueName: "position"),
        transform: { try PositionArgument($0) })
    var from: PositionArgument?
    @Option(
        help: ArgumentHelp("Position before which the events end.", valueName: "position"),
        transform: { try PositionArgument($0) })
    var to: PositionArgument?
    @Option(
        help: ArgumentHelp("Only events of these kinds, with commas, such as cpuid,portIn.", valueName: "kinds"),
        transform: { try EventKinds($0) })
    var kind: EventKinds?
    @Option(help: ArgumentHelp("Only events in this ring, 0 to 3.", valueName: "n"))
    var ring: UInt8?
    @Option(
        help: ArgumentHelp("Only events at these addresses, such as 0x1000-0x1fff.", valueName: "first-last"),
        transform: { try NumberRange($0) })
    var site: NumberRange?
    @Option(
        help: ArgumentHelp("Only accesses to these ports, such as 0x3f8-0x3ff.", valueName: "first-last"),
        transform: { try NumberRange($0) })
    var port: NumberRange?
    @Option(
        help: ArgumentHelp("Only events that pass this, as in analyze.", valueName: "filter"),
        transform: { try AnalyzeCommand.filter($0) })
    var filter: Filter?
    @Option(help: ArgumentHelp("At most so many lines.", valueName: "n"))
    var limit: UInt64?
    @Flag(help: "Print what came from outside, instead of the events.")
    var inputs = false
    @Flag(help: "Write JSON.")
    var json = false

    @Option(
        help: ArgumentHelp("Show the guest at this position.", valueName: "position"),
        transform: { try PositionArgument($0) })
    var at: PositionArgument?
    @Flag(help: "With --at: the registers.")
    var regs = false
    @Flag(help: "With --at: the words on the stack.")
    var stack = false
    @Option(
        help: ArgumentHelp("With --at: memory at a linear address.", valueName: "address,length"),
        transform: { try MemoryArgument($0) })
    var mem: [MemoryArgument] = []
    @Flag(help: "With --at: the instructions from there on.")
    var disassemble = false
    @Option(
        help: ArgumentHelp("Where an image is that the trace does not hold.", valueName: "role=file"),
        transform: { try ImageArgument($0) })
    var image: [ImageArgument] = []

    mutating func validate() throws {
        if at == nil, regs || stack || disassemble || !mem.isEmpty {
            throw ValidationError("--regs, --stack, --mem and --disassemble need --at")
        }
        if let ring, ring > 3 { throw ValidationError("--ring is \(ring), expected 0 to 3") }
    }

    func run() throws {
        let reader = try OpenTrace.reader(trace)
        if let at {
            let text = try OpenTrace.describing(trace) { () throws(TraceError) in
                try GuestView(reader, at: at.count(in: reader), ImageFiles(image)).text(self)
            }
            FileDescriptor.standardOutput.writeAll(Array(text.utf8))
            return
        }
        try OpenTrace.describing(trace) { () throws(TraceError) in
            if inputs { try printInputs(reader) } else { try printEvents(reader) }
        }
    }

    // MARK: Events

    private func printEvents(_ reader: TraceReader) throws(TraceError) {
        guard reader.manifest.detail != .inputs else {
            throw .unusable("the trace holds no events; replay it with --record FILE --detail events to have them")
        }
        let first = try from?.count(in: reader) ?? 0
        let last = try to?.count(in: reader) ?? .max
        let blocks = reader.blocks(.events)
        let start = blocks.last { $0.header.firstCount < first } ?? blocks.first
        let cursor = try EventCursor(reader, from: start?.header.firstItem ?? 0)
        let (matches, limit) = (try test(), limit ?? .max)
        var printer = EventPrinter(asJSON: json)
        var lines: UInt64 = 0
        var isWanted = false
        while lines < limit, let record = try cursor.next() {
            if record.kind == EventKind.payload.rawValue {
                if isWanted { printer.payload(record) }
                continue
            }
            if isWanted {
                printer.endLine()
                lines += 1
                isWanted = false
            }
            // Positions inside a repeated instruction can lie behind its own.
            if record.count >= last, record.count - last > 1_000_000 { break }
            isWanted = lines < limit && record.count >= first && record.count < last && matches(record)
            if isWanted, !printer.event(record, number: cursor.number) { return }
        }
        if isWanted { printer.endLine() }
        printer.flush()
    }

    /// What an event must be. The options are read once: reading one costs more than looking at an event.
    private func test() throws(TraceError) -> (EventRecord) -> Bool {
        let (kind, ring, site, port) = (kind?.numbers, ring, site?.range, port?.range)
        let ports = [EventKind.portIn.rawValue, EventKind.portOut.rawValue]
        var passes: (EventRecord) -> Bool = { _ in true }
        do {
            if let filter { passes = try filter.predicate() }
        } catch {
            throw .unusable("\(error)")
        }
        return { record in
            if let kind, !kind.contains(record.kind) { return false }
            if let ring, record.ring != ring { return false }
            if let site, !site.contains(record.address) { return false }
            if let port, !ports.contains(record.kind) || !port.contains(record.operand) { return false }
            return passes(record)
        }
    }

    private func printInputs(_ reader: TraceReader) throws(TraceError) {
        let (first, entries) = try reader.journal()
        var text = ""
        for (index, entry) in entries.enumerated() {
            let kind = JournalEntry.Kind(rawValue: entry.kind).map { "\($0)" } ?? "kind \(entry.kind)"
            let bytes = entry.bytes.map { EventPrinter.hex(UInt64($0), 2) }.joined()
            if json {
                text +=
                    JSON.object([
                        ("entry", .integer(first + UInt64(index))), ("count", .integer(entry.position.count)),
                        ("virtual_ns", .integer(entry.position.nanoseconds)), ("kind", .string(kind)),
                        ("bytes", .string(bytes)),
                    ]).text + "\n"
            } else {
                text +=
                    "\(first + UInt64(index)) \(entry.position.count) \(entry.position.nanoseconds) \(kind) \(bytes)\n"
            }
        }
        FileDescriptor.standardOutput.writeAll(Array(text.utf8))
    }
}

/// Lines of events on standard output.
private struct EventPrinter {
    private static let flushSize = 1 << 16
    private let asJSON: Bool
    private var text = ""
    private var bytes = ""

    init(asJSON: Bool) { self.asJSON = asJSON }

    static func hex(_ value: UInt64, _ digits: Int = 1) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }

    /// Begins an event's line.
    /// - Returns: whether anybody still reads.
    mutating func event(_ record: EventRecord, number: UInt64) -> Bool {
        let kind = EventText.name(record.kind)
        if asJSON {
            text +=
                "{\"event\": \(number), \"count\": \(record.count), \"ring\": \(record.ring), \"kind\": \"\(kind)\", "
                + "\"address\": \"0x\(Self.hex(record.address))\", \"operand\": \"0x\(Self.hex(record.operand))\", "
                + "\"value\": \"0x\(Self.hex(record.value))\", \"detail\": \(record.detail), \"size\": \(record.size)"
        } else {
            text +=
                "\(number) \(record.count) \(record.ring) \(kind) \(Self.hex(record.address)) "
                + "\(Self.hex(record.operand)) \(Self.hex(record.value)) \(record.detail)"
        }
        return text.utf8.count < Self.flushSize || flush()
    }

    mutating func payload(_ record: EventRecord) {
        for index in 0..<min(Int(record.size), 16) {
            let word = index < 8 ? record.operand : record.value
            bytes += Self.hex((word >> UInt64(index % 8 * 8)) & 0xff, 2)
        }
    }

    mutating func endLine() {
        if asJSON {
            text += bytes.isEmpty ? "}\n" : ", \"bytes\": \"\(bytes)\"}\n"
        } else {
            text += bytes.isEmpty ? "\n" : " \(bytes)\n"
        }
        bytes = ""
    }

    @discardableResult
    mutating func flush() -> Bool {
        defer { text = "" }
        return FileDescriptor.standardOutput.writeAll(Array(text.utf8))
    }
}

/// The guest at a position of a trace.
private struct GuestView {
    private static let stackWords = 16
    private static let instructions = 12
    private static let longestInstruction = 15
    private let replay: Replay

    init(_ reader: TraceReader, at count: UInt64, _ files: ImageFiles) throws(TraceError) {
        var options = Replay.Options()
        options.verifies = false
        replay = try Replay(
            reader, options, file: { image throws(TraceError) in try files.bytes(image) },
            disk: { image throws(TraceError) in try files.disk(image) })
        try replay.begin(at: count)
        if case .diverged(let divergence) = try replay.run(to: TracePosition(count: count, nanoseconds: 0)) {
            throw .unusable(divergence.sentence)
        }
    }

    private var processor: Processor { replay.machine.processor }
    private var cpu: CPU { processor.cpu }

    func text(_ command: DumpCommand) -> String {
        let everything = !command.regs && !command.stack && !command.disassemble && command.mem.isEmpty
        if command.json { return json(command, everything).text + "\n" }
        var text = "at count \(replay.position.count), \(replay.position.nanoseconds) ns\n"
        if command.regs || everything { text += FaultReport(processor).text }
        if command.stack || everything {
            for (address, word) in stackWords { text += "\(EventPrinter.hex(address))  \(EventPrinter.hex(word))\n" }
        }
        if command.disassemble || everything { text += instructions.map { $0 + "\n" }.joined() }
        for wanted in command.mem {
            let bytes = processor.inspect(linear: wanted.address, count: wanted.length)
            for start in stride(from: 0, to: max(bytes.count, 1), by: 16) {
                let row = bytes[start..<min(start + 16, bytes.count)]
                text += "\(EventPrinter.hex(wanted.address &+ UInt64(start)))  "
                let shown = row.map { EventPrinter.hex(UInt64($0), 2) }.joined(separator: " ")
                text += row.isEmpty ? "(not mapped)" : shown
                text += "\n"
            }
        }
        return text
    }

    private func json(_ command: DumpCommand, _ everything: Bool) -> JSON {
        var members: [(String, JSON)] = [
            ("count", .integer(replay.position.count)), ("virtual_ns", .integer(replay.position.nanoseconds)),
        ]
        if command.regs || everything { members.append(("registers", .object(registers))) }
        if command.stack || everything {
            members.append(("stack", .array(stackWords.map { .string("0x" + EventPrinter.hex($0.1)) })))
        }
        if command.disassemble || everything {
            members.append(("instructions", .array(instructions.map { .string($0) })))
        }
        let memory = command.mem.map { wanted in
            JSON.object([
                ("address", .string("0x" + EventPrinter.hex(wanted.address))),
                (
                    "bytes",
                    .string(
                        processor.inspect(linear: wanted.address, count: wanted.length)
                            .map { EventPrinter.hex(UInt64($0), 2) }.joined())
                ),
            ])
        }
        if !memory.isEmpty { members.append(("memory", .array(memory))) }
        return .object(members)
    }

    private var registers: [(String, JSON)] {
        let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + (8..<16).map { "r\($0)" }
        func value(_ number: UInt64) -> JSON { .string("0x" + EventPrinter.hex(number)) }
        var members = names.enumerated().map { ($1, value(cpu.gpr($0))) }
        members += [("rip", value(cpu.pointee.rip)), ("rflags", value(cpu.rflags))]
        for (index, name) in ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"].enumerated() {
            members.append((name, value(UInt64(cpu.segment(index).pointee.selector))))
        }
        members += [
            ("cr0", value(cpu.pointee.cr0)), ("cr2", value(cpu.pointee.cr2)), ("cr3", value(cpu.pointee.cr3)),
            ("cr4", value(cpu.pointee.cr4)), ("efer", value(cpu.pointee.efer)),
            ("cpl", .integer(UInt64(cpu.pointee.cpl))),
        ]
        return members
    }

    /// Address and word of what is on the stack, as far as it is mapped.
    private var stackWords: [(UInt64, UInt64)] {
        let size = cpu.is64Bit ? 8 : cpu.pointee.mode & ModeKey.stack32 != 0 ? 4 : 2
        let base = cpu.is64Bit ? 0 : cpu.pointee.segments.2.base
        let start = (base &+ (cpu.gpr(Register.rsp) & cpu.pointee.stackMask)) & cpu.pointee.linearMask
        return (0..<Self.stackWords).compactMap { index in
            let address = start &+ UInt64(index * size)
            let bytes = processor.inspect(linear: address, count: size)
            guard bytes.count == size else { return nil }
            return (address, bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) })
        }
    }

    private var instructions: [String] {
        let disassembler = Disassembler()
        var rip = cpu.pointee.rip
        var linear = processor.instructionAddress
        var lines: [String] = []
        while lines.count < Self.instructions {
            let bytes = processor.inspect(linear: linear, count: Self.longestInstruction)
            guard !bytes.isEmpty else { break }
            let line = disassembler.line(bytes, rip: rip, bits: Disassembler.codeSize(cpu))
            let code = line.bytes.map { EventPrinter.hex(UInt64($0), 2) }.joined()
            lines.append("\(EventPrinter.hex(rip))  \(code)  \(line.text.isEmpty ? "(bad)" : line.text)")
            guard !line.text.isEmpty else { break }
            rip &+= UInt64(line.bytes.count)
            linear &+= UInt64(line.bytes.count)
        }
        return lines
    }
}

/// Names of event kinds, separated by commas.
struct EventKinds {
    let numbers: Set<UInt8>

    init(_ argument: String) throws {
        var numbers: Set<UInt8> = []
        for name in argument.split(separator: ",") {
            guard let kind = EventKind.recorded.first(where: { "\($0)" == name })
            else {
                let names = EventKind.recorded.map { "\($0)" }
                throw ValidationError("\(name) is no kind of event; there are \(names.joined(separator: ", "))")
            }
            numbers.insert(kind.rawValue)
        }
        self.numbers = numbers
    }
}

/// A number, or two with a hyphen; hexadecimal ones begin with 0x.
struct NumberRange {
    let range: ClosedRange<UInt64>

    init(_ argument: String) throws {
        let ends = argument.split(separator: "-", omittingEmptySubsequences: false).map { Self.number($0) }
        guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last else {
            throw ValidationError("expected a number or two such as 0x1000-0x1fff")
        }
        range = first...last
    }

    static func number(_ text: Substring) -> UInt64? {
        text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    }
}

/// A linear address and a number of bytes.
struct MemoryArgument {
    let address: UInt64
    let length: Int

    init(_ argument: String) throws {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = NumberRange.number(parts[0]), let length = NumberRange.number(parts[1]),
            (1...1 << 20).contains(length)
        else { throw ValidationError("expected an address and a length up to 1048576, such as 0x1000,64") }
        self.address = address
        self.length = Int(length)
    }
}
