import DifferentialSupport

// How blocks end.
extension ProgramGenerator {
    private func relative(_ block: Int, at position: Int) -> Reference {
        Reference(form: .relative32, position: position, target: .block(block))
    }

    /// RET, with or without bytes to pop.
    /// - Returns: whether control may run on into the next block.
    func addReturn() -> Bool {
        if random.chance(70) { add([0xc3], .branch) } else { add([0xc2, UInt8(random.below(3) * 8), 0], .branch) }
        return false
    }

    /// - Returns: whether control may run on into the next block.
    func addBranch(from number: Int, of count: Int) -> Bool {
        let target = chooseTarget(from: number, of: count)
        if target <= number && (forHost || random.chance(94)) { addFuel(exit: count) }
        switch random.below(forHost ? 84 : 100) {
        case 0..<12: return true
        case 12..<45:
            add([0x0f, 0x80 | UInt8(random.below(16)), 0, 0, 0, 0], .branch, [relative(target, at: 2)])
            return true
        case 45..<55:
            add([0xe9, 0, 0, 0, 0], .branch, [relative(target, at: 1)])
            return false
        case 55..<58:
            add([0xeb, 0], .branch)
            return true
        case 58..<62: addRegisterJump(target)
        case 62..<67: addMemoryJump(target)
        case 67..<71:
            add(
                [0x68, 0, 0, 0, 0], .branch,
                [Reference(form: .absolute32, position: 1, target: .block(target))])
            add([0xc3], .branch)
        case 71..<80:
            addLoop(target)
            return true
        case 80..<84:
            // A short conditional branch over the next instruction, which is a branch itself.
            add([0x70 | UInt8(random.below(16)), 5], .branch)
            add([0xe9, 0, 0, 0, 0], .branch, [relative(target, at: 1)])
            return true
        case 84..<90: addFarReturn(target)
        case 90..<95: addInterruptReturn(target)
        default:
            guard !is64 else {
                addFarReturn(target)
                return false
            }
            add(
                [0xea, 0, 0, 0, 0] + littleEndian(UInt64(chooseCodeSelector()), 2), .branch,
                [Reference(form: .absolute32, position: 1, target: .block(target))])
        }
        return false
    }

    private func chooseTarget(from number: Int, of count: Int) -> Int {
        switch random.below(10) {
        case 0..<4: min(number + 1 + random.below(3), count)
        case 4..<5: number
        case 5..<8: max(number - random.below(5), 0)
        default: random.below(count + 1)
        }
    }

    /// Goes to the exit when a counter in memory runs out: with the flags changed, or with RCX changed instead.
    private func addFuel(exit: Int) {
        if random.chance(40) {
            add([0xff] + absolute(1, Linear.fuel), .branch)  // DEC
            add([0x0f, 0x84, 0, 0, 0, 0], .branch, [relative(exit, at: 2)])
            return
        }
        let wide: [UInt8] = is64 ? [0x48] : []
        add(wide + [0x8b] + absolute(1, Linear.fuel), .branch)
        add(wide + [0x8d, 0x49, 0xff], .branch)  // LEA RCX,[RCX-1]
        add(wide + [0x89] + absolute(1, Linear.fuel), .branch)
        add([0xe3, 2], .branch)
        add([0xeb, 5], .branch)
        add([0xe9, 0, 0, 0, 0], .branch, [relative(exit, at: 1)])
        known[1] = nil
    }

    /// LOOP and its relatives reach 127 bytes, so they jump to a jump.
    private func addLoop(_ target: Int) {
        if random.chance(50) { addMove(1, UInt64(random.below(4))) }
        add((random.chance(10) ? [0x67] : []) + [0xe0 | UInt8(random.below(4)), 2], .branch)
        add([0xeb, 5], .branch)
        add([0xe9, 0, 0, 0, 0], .branch, [relative(target, at: 1)])
    }

    private func addRegisterJump(_ target: Int) {
        let register = UInt8(random.pick([0, 2, 3, 6, 7]))
        if is64 && random.chance(60) {
            // LEA register,[RIP+…] stays in the window that runs.
            add(
                [0x48, 0x8d, 0x05 | register << 3, 0, 0, 0, 0], .branch, [relative(target, at: 3)])
        } else {
            add(
                [0xb8 | register, 0, 0, 0, 0], .branch,
                [Reference(form: .absolute32, position: 1, target: .block(target))])
        }
        add([0xff, 0xe0 | register], .branch)
    }

    private func addMemoryJump(_ target: Int) {
        let place = Linear.pointers + UInt64(random.below(16) * 8)
        let head: [UInt8] = (is64 ? [0x48, 0xc7] : [0xc7]) + absolute(0, place)
        add(
            head + [0, 0, 0, 0], .branch,
            [Reference(form: .absolute32, position: head.count, target: .block(target))])
        add([0xff] + absolute(4, place), .branch)
    }

    private func chooseCodeSelector() -> UInt16 {
        if let other = setting.otherCodeSelector, random.chance(35) { return other }
        return setting.codeSelector
    }

    private func addFarReturn(_ target: Int) {
        add([0x6a, UInt8(chooseCodeSelector())], .branch)
        add([0x68, 0, 0, 0, 0], .branch, [Reference(form: .absolute32, position: 1, target: .block(target))])
        add(is64 ? [0x48, 0xcb] : [0xcb], .branch)
    }

    private func addInterruptReturn(_ target: Int) {
        if is64 {
            add([0x6a, UInt8(setting.stackSelector)], .branch)
            add([0x54], .branch)
        }
        add([0x9c], .branch)
        add([0x6a, UInt8(chooseCodeSelector())], .branch)
        add([0x68, 0, 0, 0, 0], .branch, [Reference(form: .absolute32, position: 1, target: .block(target))])
        add(is64 ? [0x48, 0xcf] : [0xcf], .branch)
    }
}
