/// Makes a failing program smaller while it goes on failing.
struct Shrinker {
    /// Whether a case still fails.
    let fails: (Case) -> Bool
    private static let mostTries = 4000

    func shrink(_ program: Program) -> Program {
        var best = program
        var tries = 0
        func attempt(_ change: (inout Program) -> Void) -> Bool {
            guard tries < Self.mostTries else { return false }
            var candidate = best
            change(&candidate)
            guard let test = candidate.link() else { return false }
            tries += 1
            guard fails(test) else { return false }
            best = candidate
            return true
        }
        var progress = true
        while progress && tries < Self.mostTries {
            progress = false
            for count in [8, 4, 2, 1] {
                var index = 0
                while index < best.test.events.count {
                    let removed = attempt {
                        $0.test.events.removeSubrange(index..<min(index + count, $0.test.events.count))
                    }
                    if removed { progress = true } else { index += count }
                }
            }
            if shrinkItems(best, attempt) { progress = true }
            for number in 0..<16 where best.test.registers[number] != 0 && number != 4 {
                if attempt({ $0.test.registers[number] = 0 }) { progress = true }
            }
            var cut = best.test.limit / 2
            while cut > 0 {
                if cut < best.test.limit, attempt({ $0.test.limit -= cut }) { progress = true } else { cut /= 2 }
            }
            if best.test.fuel > 1, attempt({ $0.test.fuel /= 2 }) { progress = true }
            if best.test.threshold > 0, attempt({ $0.test.threshold = 0 }) { progress = true }
            if best.test.codeIsWritable, attempt({ $0.test.codeIsWritable = false }) { progress = true }
            if best.test.watchesEvents, attempt({ $0.test.watchesEvents = false }) { progress = true }
            if best.test.stateSeed != 0, attempt({ $0.test.stateSeed = 0 }) { progress = true }
            if best.blocks.contains(where: { $0.items.contains { $0.alternate != nil } }),
                attempt({ $0.dropAlternates() })
            {
                progress = true
            }
        }
        return best
    }

    /// Takes out runs of items, of all blocks together: long ones first.
    private func shrinkItems(_ program: Program, _ attempt: ((inout Program) -> Void) -> Bool) -> Bool {
        var progress = false
        var total = program.blocks.reduce(0) { $0 + $1.items.count } - 1
        var length = max(total / 2, 1)
        while length >= 1 {
            var start = 0
            while start < total {
                let range = start..<min(start + length, total)
                if attempt({ $0.removeItems(range) }) {
                    total -= range.count
                    progress = true
                } else {
                    start += length
                }
            }
            length /= 2
        }
        return progress
    }
}

extension Program {
    /// Takes items out by their number in the whole program; the blocks stay, so that branches keep their targets.
    mutating func removeItems(_ range: Range<Int>) {
        var number = 0
        for block in blocks.indices where blocks[block].items.last?.kind != .exit {
            blocks[block].items = blocks[block].items.filter { _ in
                number += 1
                return !range.contains(number - 1)
            }
        }
    }

    mutating func dropAlternates() {
        for block in blocks.indices {
            for item in blocks[block].items.indices { blocks[block].items[item].alternate = nil }
        }
    }
}
