import DifferentialSupport
import VMM

/// Runs a case in both engines and compares them where they stop.
struct Comparer {
    let interpreter: World
    let translator: World

    /// Nil if there is no difference; otherwise what differs, and at which count.
    /// - Parameter stopped: called with the interpreter's world at each stop on the way.
    func run(_ test: Case, checksAll: Bool = true, stopped: (World) -> Void = { _ in }) -> [String]? {
        interpreter.load(test)
        translator.load(test)
        var previous: UInt64 = 0
        for event in test.events where event.count < test.limit && event.count >= previous {
            previous = event.count
            if let difference = advance(to: event.count, all: false) { return difference }
            guard interpreter.state == .running else { break }
            stopped(interpreter)
            interpreter.happen(event)
            translator.happen(event)
        }
        return advance(to: test.limit, all: checksAll)
    }

    private func advance(to count: UInt64, all: Bool) -> [String]? {
        interpreter.run(until: count)
        translator.run(until: count)
        let isEqual =
            interpreter.state == translator.state && interpreter.clock.count == translator.clock.count
            && interpreter.timer == translator.timer && interpreter.digest == translator.digest
            && interpreter.memoryEquals(translator, all: all) && eventsAreEqual && firstMark == nil
        return isEqual ? nil : differences(count)
    }

    /// Runs a case once more, stopping after each count, which must make no difference; the other world has run it.
    /// - Parameter stopped: called before each instruction.
    func step(_ test: Case, stopped: (World) -> Void = { _ in }) -> [String]? {
        let world = translator
        world.load(test)
        var events = test.events.filter { $0.count < test.limit }[...]
        while world.state == .running, world.clock.count < test.limit {
            stopped(world)
            world.run(until: world.clock.count + 1)
            while let event = events.first, event.count <= world.clock.count, world.state == .running {
                world.happen(event)
                events.removeFirst()
            }
        }
        let isEqual =
            world.digestWithoutEvents == interpreter.digestWithoutEvents && world.memoryEquals(interpreter, all: false)
        return isEqual && world.state == interpreter.state ? nil : differences(test.limit)
    }

    /// Prints what the interpreter executes of a case, with the registers before each instruction.
    func trace(_ test: Case) {
        interpreter.load(test)
        let disassembler = Disassembler()
        while interpreter.state == .running, interpreter.clock.count < test.limit {
            let cpu = interpreter.processor.cpu
            let line = disassembler.next(interpreter.processor)
            let registers = (0..<(test.setting.isLong ? 16 : 8)).map { hex(cpu.gpr($0)) }.joined(separator: " ")
            print("\(interpreter.clock.count) \(hex(line.rip)) \(line.text) | \(registers) fl \(hex(cpu.rflags))")
            interpreter.run(until: interpreter.clock.count + 1)
        }
    }

    private var eventsAreEqual: Bool {
        guard let mine = interpreter.recorder, let others = translator.recorder else { return true }
        interpreter.processor.flushEvents()
        translator.processor.flushEvents()
        return mine.equals(others)
    }

    /// The first address at which one engine has marked a return address and the other has not.
    private var firstMark: UInt64? {
        guard let mine = interpreter.marks, let others = translator.marks else { return nil }
        return mine.firstDifference(others, below: Physical.end)
    }

    private func differences(_ count: UInt64) -> [String] {
        func place(_ world: World) -> String {
            "\(world.state) at count \(world.clock.count), rip \(hex(world.processor.cpu.pointee.rip))"
        }
        var lines = ["on the way to count \(count): interpreter \(place(interpreter)), translator \(place(translator))"]
        let fields = FieldDifference.between(
            { self.interpreter.processor.archive($0) }, { self.translator.processor.archive($0) })
        for field in fields.prefix(20) { lines.append(text(field)) }
        if let mine = interpreter.recorder, let others = translator.recorder,
            let difference = mine.firstDifference(others)
        {
            lines.append(difference)
        }
        if let firstMark { lines.append("the mark of a return address at \(hex(firstMark))") }
        let differing = (0..<Physical.memory).lazy.filter { self.interpreter.byte($0) != self.translator.byte($0) }
        for address in differing.prefix(16) {
            lines.append(
                "memory \(hex(address)): \(hex(interpreter.byte(address))) \(hex(translator.byte(address)))")
        }
        return lines
    }

    private func text(_ field: FieldDifference) -> String {
        let first = zip(field.mine, field.other).enumerated().first { $1.0 != $1.1 }?.offset ?? 0
        let start = first & ~7
        func part(_ bytes: [UInt8]) -> String {
            bytes.dropFirst(start).prefix(8).reversed().map { ($0 < 16 ? "0" : "") + hex($0) }.joined()
        }
        return "\(field.path)\(start > 0 ? "[\(start / 8)]" : ""): \(part(field.mine)) \(part(field.other))"
    }
}
