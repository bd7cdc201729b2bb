import Testing
import VMM

/// A small image that passes for a 32-bit Linux kernel of protocol 2.12.
private func bzImage(payload: Int = 600, xloadflags: UInt16 = 0) -> [UInt8] {
    var image = [UInt8](repeating: 0, count: 1024 + payload)
    func set(_ offset: Int, _ value: UInt64, _ size: Int) {
        for index in 0..<size { image[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
    }
    set(0x1F1, 1, 1)
    set(0x1F4, UInt64((payload + 15) / 16), 4)
    set(0x1FE, 0xAA55, 2)
    set(0x200, 0x66EB, 2)
    set(0x202, 0x5372_6448, 4)
    set(0x206, 0x20C, 2)
    set(0x211, 1, 1)
    set(0x22C, 0x7FFF_FFFF, 4)
    set(0x230, 0x1000, 4)
    set(0x234, 1, 1)
    set(0x236, UInt64(xloadflags), 2)
    set(0x238, 255, 4)
    set(0x24C, UInt64(payload), 4)
    set(0x258, 0x10_0000, 8)
    set(0x260, 0x20_0000, 4)
    for index in 1024..<image.count { image[index] = UInt8(truncatingIfNeeded: index) }
    return image
}

/// A multiboot image whose header gives the addresses, or an ELF32 one.
private func multiboot(elf: Bool) -> [UInt8] {
    var words = [UInt32](repeating: 0x9090_9090, count: 64)
    let flags: UInt32 = elf ? 3 : 0x1_0003
    let header = elf ? 21 : 0
    words[header...header + 2] = [0x1BAD_B002, flags, 0 &- (0x1BAD_B002 &+ flags)]
    if elf {
        words[0..<13] = [
            0x464C_457F, 0x0001_0101, 0, 0, 0x0003_0002, 1, 0x10_0054, 52, 0, 0, 0x0020_0034, 0x0028_0001, 0,
        ]
        words[13..<21] = [1, 0, 0x10_0000, 0x10_0000, 256, 512, 7, 4096]
    } else {
        words[3..<8] = [0x10_0000, 0x10_0000, 0, 0x10_0200, 0x10_0020]
    }
    return words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } }
}

private func ignoringBootErrors(_ body: () throws -> Void) throws {
    do { try body() } catch is BootError {}
}

struct BootTests {
    let map = MemoryMap(memorySize: 16 << 20)

    private func number(_ memory: GuestMemory, _ address: UInt64, _ size: Int) -> UInt64 {
        memory.load(size, at: address).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    @Test func linuxIsLoadedAsTheProtocolSays() throws {
        let memory = GuestMemory(size: map.memorySize)
        let kernel = try LinuxKernel(bzImage())
        let initrd = [UInt8](repeating: 0x5A, count: 5000)
        let entry = try kernel.load(into: memory, map: map, initrd: initrd, commandLine: "quiet", rsdp: 0xF_1230)
        #expect(entry.mode == .protected32)
        #expect(entry.rip == 0x10_0000)
        let page = entry.rsi
        #expect(memory.load(600, at: 0x10_0000) == Array(bzImage()[1024...]))
        #expect(number(memory, page + 0x202, 4) == 0x5372_6448)
        #expect(number(memory, page + 0x1E8, 1) == 5)
        let commandLine = number(memory, page + 0x228, 4)
        #expect(memory.load(6, at: commandLine) == Array("quiet\0".utf8))
        let initrdAddress = number(memory, page + 0x218, 4)
        #expect(initrdAddress % 4096 == 0)
        #expect(initrdAddress + 5000 <= map.memorySize && initrdAddress + 5000 + 4096 > map.memorySize)
        #expect(memory.load(5000, at: initrdAddress) == initrd)
        #expect(number(memory, page + 0x70, 8) == 0xF_1230)
        // The usable ranges of the e820 table add up to RAM without the area from the EBDA to 1 MB.
        var usable: UInt64 = 0
        for index in 0..<5 where number(memory, page + 0x2D0 + UInt64(index) * 20 + 16, 4) == 1 {
            usable += number(memory, page + 0x2D0 + UInt64(index) * 20 + 8, 8)
        }
        #expect(usable == map.memorySize - (0x10_0000 - 0x9_FC00))
    }

    @Test func a64BitKernelIsEnteredInLongMode() throws {
        let memory = GuestMemory(size: map.memorySize)
        let kernel = try LinuxKernel(bzImage(xloadflags: 1))
        let entry = try kernel.load(into: memory, map: map, initrd: [], commandLine: "", rsdp: 0)
        #expect(entry.mode == .long64)
        #expect(entry.rip == 0x10_0200)
    }

    @Test func badLinuxInputsHaveTheirOwnErrors() throws {
        let memory = GuestMemory(size: map.memorySize)
        let kernel = try LinuxKernel(bzImage())
        func error(_ body: () throws -> Void) -> BootError? {
            do { try body() } catch { return error as? BootError }
            return nil
        }
        let tooBig = [UInt8](repeating: 0, count: 15 << 20)
        #expect(
            error { _ = try kernel.load(into: memory, map: map, initrd: tooBig, commandLine: "", rsdp: 0) }
                == .initrdDoesNotFit(bytes: 15 << 20, room: 0x30_0000..<16 << 20))
        let long = String(repeating: "x", count: 256)
        #expect(
            error { _ = try kernel.load(into: memory, map: map, initrd: [], commandLine: long, rsdp: 0) }
                == .commandLineTooLong(bytes: 256, limit: 255))
        var old = bzImage()
        old[0x206] = 1
        #expect(error { _ = try LinuxKernel(old) } == .protocolTooOld(version: 0x201, oldest: 0x202))
        #expect(BootError.protocolTooOld(version: 0x201, oldest: 0x202).description.contains("2.01"))
        var large = bzImage()
        large[0x263] = 0x7F
        #expect(
            error {
                _ = try LinuxKernel(large).load(into: memory, map: map, initrd: [], commandLine: "", rsdp: 0)
            } != nil)
    }

    @Test(arguments: [false, true]) func multibootInformationPointsToEverything(elf: Bool) throws {
        let memory = GuestMemory(size: map.memorySize)
        let kernel = try MultibootKernel(multiboot(elf: elf))
        let module = MultibootKernel.Module(bytes: [1, 2, 3], commandLine: "mod a")
        let entry = try kernel.load(into: memory, map: map, modules: [module], commandLine: "kernel x")
        #expect(entry.rax == 0x2BAD_B002)
        #expect(entry.rip == (elf ? 0x10_0054 : 0x10_0020))
        #expect(memory.load(256, at: 0x10_0000) == multiboot(elf: elf))
        #expect(memory.load(256, at: 0x10_0100) == [UInt8](repeating: 0, count: 256))
        let information = entry.rbx
        let flags: UInt64 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
        #expect(number(memory, information, 4) & flags == flags)
        #expect(memory.load(9, at: number(memory, information + 16, 4)) == Array("kernel x\0".utf8))
        #expect(number(memory, information + 20, 4) == 1)
        let table = number(memory, information + 24, 4)
        let start = number(memory, table, 4)
        #expect(start % 4096 == 0 && number(memory, table + 4, 4) == start + 3)
        #expect(memory.load(3, at: start) == [1, 2, 3])
        #expect(memory.load(6, at: number(memory, table + 8, 4)) == Array("mod a\0".utf8))
        #expect(number(memory, information + 8, 4) == (16 << 10) - 1024)
    }

    @Test func firmwareMustBeWholeBlocks() throws {
        for size in [0, 1, 65535, 65537, 17 << 20] {
            #expect(throws: BootError.firmwareSize(size)) { _ = try FirmwareImage([UInt8](repeating: 0, count: size)) }
        }
        let memory = GuestMemory(size: map.memorySize)
        var bytes = [UInt8](repeating: 0, count: 256 << 10)
        bytes[bytes.count - 1] = 0xAB
        bytes[128 << 10] = 0xCD
        try FirmwareImage(bytes).install(in: memory)
        memory.setLegacyArea(pages: 0xE0...0xFF, read: .rom, write: .rom)
        func byte(_ address: UInt64) -> UInt8? {
            memory.readPage(address).map { ($0 + Int(address & 0xFFF)).load(as: UInt8.self) }
        }
        #expect(byte(0xFFFF_FFFF) == 0xAB)
        #expect(byte(0xF_FFFF) == 0xAB)
        #expect(byte(0xE_0000) == 0xCD)
        #expect(byte(0xFFFC_0000) == 0)
    }

    /// No image, however cut or changed, does more than end with an error.
    @Test func damagedImagesAreErrors() throws {
        let seed: UInt64 = 0x5EED_B007
        print("boot image mutations: seed \(seed)")
        var state = seed
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(truncatingIfNeeded: state >> 33) % bound
        }
        let memory = GuestMemory(size: map.memorySize)
        func tryLoad(_ image: [UInt8]) throws {
            try ignoringBootErrors {
                _ = try LinuxKernel(image).load(into: memory, map: map, initrd: [1], commandLine: "a", rsdp: 0)
            }
            try ignoringBootErrors {
                _ = try MultibootKernel(image).load(into: memory, map: map, modules: [], commandLine: "a")
            }
            try ignoringBootErrors { _ = try FirmwareImage(image) }
        }
        for image in [bzImage(), multiboot(elf: false), multiboot(elf: true), BuiltinGuest.kernel] {
            for length in 0..<image.count { try tryLoad(Array(image[..<length])) }
            for _ in 0..<2000 {
                var changed = image
                for _ in 0...random(4) { changed[random(min(changed.count, 0x280))] = UInt8(random(256)) }
                try tryLoad(changed)
            }
        }
    }

    @Test func everyTruncationOfAKernelIsAnError() {
        let image = bzImage()
        for length in 0..<image.count - 15 {
            #expect(throws: BootError.self) { _ = try LinuxKernel(Array(image[..<length])) }
        }
    }
}

struct InitramfsOverlayTests {
    /// Reads a newc archive back: (path, mode, contents) up to the trailer.
    private func read(_ bytes: [UInt8], from start: Int) -> [(path: String, mode: Int, contents: [UInt8])] {
        var entries: [(String, Int, [UInt8])] = []
        var offset = start
        while offset + 110 <= bytes.count {
            func field(_ index: Int) -> Int {
                Int(String(decoding: bytes[offset + 6 + index * 8..<offset + 14 + index * 8], as: UTF8.self), radix: 16)
                    ?? -1
            }
            guard bytes[offset..<offset + 6].elementsEqual("070701".utf8) else { return [] }
            let nameEnd = offset + 110 + field(11)
            let path = String(decoding: bytes[offset + 110..<nameEnd - 1], as: UTF8.self)
            if path == "TRAILER!!!" { return entries }
            let data = (nameEnd + 3) & ~3
            entries.append((path, field(1), Array(bytes[data..<data + field(6)])))
            offset = (data + field(6) + 3) & ~3
        }
        return []
    }

    @Test func overlayFollowsTheInitrdAndReadsBack() {
        var overlay = InitramfsOverlay([
            .init(path: "etc", mode: 0o040755), .init(path: "etc/motd", mode: 0o100644, contents: Array("hello".utf8)),
            .init(path: "link", mode: 0o120777, contents: Array("etc/motd".utf8)),
        ])
        overlay.addCommand("exit 3", is64Bit: true)
        let initrd: [UInt8] = [1, 2, 3, 4, 5]
        let bytes = overlay.appended(to: initrd)
        #expect(Array(bytes[..<5]) == initrd)
        let entries = read(bytes, from: 8)
        #expect(entries.map(\.path) == ["etc", "etc/motd", "link", "init", ".trapline", ".trapline/command"])
        #expect(entries[1].contents == Array("hello".utf8))
        #expect(entries[2].mode == 0o120777)
        #expect(entries[3].mode == 0o100755)
        #expect(entries[3].contents.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2]))
        #expect(entries[5].contents == Array("exit 3\n".utf8))
    }

    @Test func nothingToAddLeavesTheInitrdAlone() {
        #expect(InitramfsOverlay().appended(to: [1, 2, 3]) == [1, 2, 3])
    }
}

struct OutcomeTests {
    @Test func exitCodesAreDistinctAndEvenButForTheGuestsOwn() {
        let outcomes: [Outcome] = [
            .reset, .halted, .tripleFault, .unsupported, .limit, .timeout, .failText, .divergence, .interrupted,
        ]
        #expect(Set(outcomes.map(\.exitCode)).count == outcomes.count)
        #expect(outcomes.allSatisfy { $0.exitCode % 2 == 0 && $0.exitCode > 2 })
        #expect(Outcome.powerOff.exitCode == 0 && Outcome.stopText.exitCode == 0)
        for value in UInt8.min...UInt8.max {
            #expect(Outcome.debugExit(value).exitCode == (Int32(value) * 2 + 1) & 0xFF)
        }
    }
}
