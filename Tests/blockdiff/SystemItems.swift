import DifferentialSupport
import VMM

// What only a machine has: services of the kernel, privileged and sensitive instructions, and faults on purpose.
extension ProgramGenerator {
    func addSystemItem() {
        switch random.below(100) {
        case 0..<30: addService()
        case 30..<36: addFlagsInstruction()
        case 36..<44: addPort()
        case 44..<50: addTimeOrIdentity()
        case 50..<57: addModelSpecificRegister()
        case 57..<66: addControlRegister()
        case 66..<74: addSegmentLoad()
        case 74..<80: addDescriptorRead()
        case 80..<85: addExceptionOnPurpose()
        case 85..<90: addFloatControl()
        default: addMadeCode()
        }
    }

    private func addService() {
        let service = KernelImage.Service(rawValue: random.below(KernelImage.Service.allCases.count))!
        // Single steps and mode changes make programs short.
        let isRare = [.toggleTF, .toggleAC, .changeMode].contains(service)
        if isRare && random.chance(70) { return addService() }
        if service == .invalidate { addMove(7, chooseTarget(1, reaches: .low32)) }
        add([0xcd, 0x80 | UInt8(service.rawValue)], .service)
    }

    private func addFlagsInstruction() {
        switch random.below(6) {
        case 0: add([0xfa], .system)
        case 1: add([0xfb], .system)
        case 2: add([0x9c], .system)
        case 3: add([0xf4], .system)
        default:
            var flags: UInt64 = 2 | random.next() & RFlags.arithmetic
            if random.chance(80) { flags |= RFlags.if }
            if random.chance(6) { flags |= RFlags.df }
            if random.chance(3) { flags |= RFlags.tf }
            if random.chance(3) { flags |= RFlags.ac }
            if random.chance(2) { flags |= RFlags.nt }
            if random.chance(30) { flags |= RFlags.iopl }
            if random.chance(20) { flags |= RFlags.id }
            add([0x68] + littleEndian(flags, 4), .system)
            add([0x9d], .system)
        }
    }

    private func addPort() {
        addMove(2, UInt64(TestDevice.ports.lowerBound) + UInt64(random.below(4)))
        if random.chance(70) { addMove(0, UInt64(random.below(256))) }
        add([random.pick([0xec, 0xed, 0xee, 0xef])], .system)
        known[0] = nil
    }

    private func addTimeOrIdentity() {
        switch random.below(5) {
        case 0...1: add([0x0f, 0x31], .system)
        case 2: add([0x0f, 0x01, 0xf9], .system)
        case 3: add([0xf3, 0x90], .system)
        default:
            addMove(0, random.pick([0, 1, 2, 4, 0x8000_0000, 0x8000_0001, 0x8000_0008]))
            add([0x0f, 0xa2], .system)
        }
        for number in 0..<4 { known[number] = nil }
    }

    private func addModelSpecificRegister() {
        let register = random.pick([0xc000_0100, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0x10, 0xc000_0103, 0x1b])
        addMove(1, UInt64(register))
        if random.chance(40) {
            add([0x0f, 0x32], .system)
        } else {
            addMove(2, 0)
            addMove(0, Linear.fsBase + UInt64(random.below(64) * 8))
            add([0x0f, 0x30], .system)
        }
        (known[0], known[2]) = (nil, nil)
    }

    private func addControlRegister() {
        known[0] = nil
        switch random.below(8) {
        case 0...1:
            add([0x0f, 0x20, 0xd8], .system)
            add([0x0f, 0x22, 0xd8], .system)
        case 2:
            add([0x0f, 0x20, 0xc0], .system)
            add(random.chance(50) ? [0x0c, 0x08] : [0x24, 0xf7], .system)  // TS on or off
            add([0x0f, 0x22, 0xc0], .system)
        case 3: add([0x0f, 0x06], .system)
        case 4: add([0x0f, 0x01, 0xe0], .system)
        case 5:
            add([0x0f, 0x20, 0xe0], .system)
            add([0x34, 0x80], .system)  // PGE
            add([0x0f, 0x22, 0xe0], .system)
        default: add([0x0f, 0x01] + absolute(7, chooseTarget(1, reaches: .low)), .system)
        }
    }

    private func addSegmentLoad() {
        let data = setting.isUser ? Selector.userData : Selector.kernelData
        let selector = random.pick([data, data, Selector.userData, Selector.based, Selector.constant, 0])
        if is64 && random.chance(15) {
            add([0x0f, 0x01, 0xf8], .system)  // SWAPGS
            return
        }
        if random.chance(30) {
            addMove(0, UInt64(setting.stackSelector))
            add([0x8e, 0xd0], .system)
            return
        }
        addMove(0, UInt64(selector))
        add([0x8e, 0xc0 | random.pick([0, 3, 4, 5]) << 3], .system)
    }

    private func addDescriptorRead() {
        let selector = random.pick([8, 0x10, 0x18, 0x23, 0x2b, 0x33, 0x38, 0x4b, 0x53, 0x100])
        known[0] = nil
        switch random.below(7) {
        case 0: add([0x0f, 0x01] + absolute(0, chooseTarget(10, reaches: .low)), .system)
        case 1: add([0x0f, 0x01] + absolute(1, chooseTarget(10, reaches: .low)), .system)
        case 2: add([0x0f, 0x00, 0xc0 | UInt8(random.below(2)) << 3], .system)
        case 3, 4:
            addMove(1, UInt64(selector))
            add([0x0f, UInt8(2 + random.below(2)), 0xc1], .system)
        default:
            addMove(1, UInt64(selector))
            add([0x0f, 0x00, 0xe1 | UInt8(random.below(2)) << 3], .system)
        }
    }

    private func addExceptionOnPurpose() {
        switch random.below(5) {
        case 0: add([0x0f, 0x0b], .system)
        case 1:
            addMove(1, 0)
            add([0xf7, 0xf1], .system)
        case 2: add(is64 ? [0x0f, 0x05] : [0xce], .system)  // SYSCALL or INTO
        case 3: add([0xcd, UInt8(random.below(256)) & 0x7f | 0x20], .system)
        default: add([0x0f, 0x0b], .system)
        }
    }

    private func addFloatControl() {
        let isX87 = random.chance(40)
        let value = isX87 ? UInt64(random.x87Control()) : UInt64(random.mxcsr(random: true))
        add([0x68] + littleEndian(value, 4), .setUp)
        add(isX87 ? [0xd9, 0x2c, 0x24] : [0x0f, 0xae, 0x14, 0x24], .system)
        add((is64 ? [0x48] : []) + [0x8d, 0x64, 0x24, is64 ? 8 : 4], .setUp)  // LEA RSP,[RSP+8]
    }

    /// Writes ADD EAX,imm; RET to memory and calls it.
    private func addMadeCode() {
        let place = Linear.made + UInt64(random.below(4) * 0x3f8)
        let value = random.next()
        add([0xc7] + absolute(0, place) + [0x05] + littleEndian(value, 3), .selfModifying)
        add([0x66, 0xc7] + absolute(0, place + 4) + littleEndian(value, 1) + [0xc3], .selfModifying)
        addMove(2, place)
        add([0xff, 0xd2], .branch)
        known[0] = nil
    }
}
