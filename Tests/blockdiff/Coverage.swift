import VMM

/// What the programs of a run have covered.
struct Coverage {
    var programs = 0
    var blocks = 0
    var instructions: UInt64 = 0
    var hostPrograms = 0
    var settings: [Setting: Int] = [:]
    var ends: [String: Int] = [:]
    var faults = [Int](repeating: 0, count: 256)
    /// Faults of instructions that are not the first of their block.
    var faultsInside = 0
    var interrupts = 0
    var services = 0
    var stops = 0
    /// Stops at an instruction that is not the first of its block.
    var stopsInside = 0
    var modifiedPrograms = 0
    var modifiedInstructions = 0
    // Of programs that were stepped through, too.
    var stepped = 0
    var formsExecuted: Set<String> = []
    var crossingInstructions: UInt64 = 0

    mutating func count(_ test: Case, _ world: World) {
        programs += 1
        blocks += test.blockStarts.count
        instructions += world.clock.count
        settings[test.setting, default: 0] += 1
        ends["\(world.state)", default: 0] += 1
        for (vector, rip) in world.log {
            switch vector {
            case 0x80..<0x90: services += 1
            case 0..<0x20 where vector != 3:
                faults[Int(vector)] += 1
                let offset = rip &- Linear.low
                if offset < UInt64(Physical.codeBytes), !test.blockStarts.contains(Int(offset)) { faultsInside += 1 }
            case 0xe0...0xff: interrupts += 1
            default: break
            }
        }
        var modified = 0
        for line in test.lines {
            let changed = line.bytes.indices.contains {
                world.byte(Physical.code + UInt64(line.offset + $0)) != line.bytes[$0]
            }
            if changed { modified += 1 }
        }
        if modified > 0 { modifiedPrograms += 1 }
        modifiedInstructions += modified
    }

    /// Notes a stop on the way.
    mutating func countStop(_ test: Case, _ world: World) {
        stops += 1
        let offset = world.processor.cpu.pointee.rip &- Linear.low
        if offset < UInt64(Physical.codeBytes), !test.blockStarts.contains(Int(offset)) { stopsInside += 1 }
    }

    /// What the run has covered, of which the translator decoded and translated so many blocks.
    func text(decoded: UInt64, translated: UInt64) -> String {
        let settings = settings.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.key.rawValue) \($0.value)" }
        let ends = ends.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        let faults = faults.enumerated().filter { $0.1 > 0 }.map { "\(Self.name($0.0)) \($0.1)" }
        return """
            programs: \(settings.joined(separator: ", "))
            ends: \(ends.joined(separator: ", "))
            faults recorded: \(faults.joined(separator: ", ")); \(faultsInside) inside a block
            interrupts \(interrupts), services \(services), stops \(stops), of them inside a block \(stopsInside)
            self-modification: \(modifiedInstructions) instructions of \(modifiedPrograms) programs were changed
            stepped through \(stepped) programs: \(formsExecuted.count) forms executed, \
            \(crossingInstructions) executions of instructions that cross a page
            on the host CPU too: \(hostPrograms) programs
            blocks generated \(blocks), decoded \(decoded), translated \(translated); \(instructions) instructions
            """
    }

    private static func name(_ vector: Int) -> String {
        let names = [
            0: "#DE", 1: "#DB", 2: "NMI", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS", 11: "#NP",
            12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 19: "#XM",
        ]
        return names[vector] ?? "\(vector)"
    }
}
