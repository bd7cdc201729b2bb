import Testing
import VMM

/// A boot sector that reads the second sector of the disk by INT 13h and prints the text in it by INT 10h.
private let bootSector: [UInt8] =
    padded(
        [
            0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, 0xFC, 0xFB,  // DS, ES, SS = 0; STI
            0xB8, 0x01, 0x02, 0xB9, 0x02, 0x00, 0x30, 0xF6, 0xBB, 0x00, 0x7E, 0xCD, 0x13,  // read sector 2 to 0:7E00
            0xBE, 0x00, 0x7E, 0xAC, 0x84, 0xC0, 0x74, 0x09,  // next character, until 0
            0xB4, 0x0E, 0xBB, 0x07, 0x00, 0xCD, 0x10, 0xEB, 0xF2, 0xF4, 0xEB, 0xFD,  // print it; HLT at the end
        ], to: 510) + [0x55, 0xAA]

/// Prints the text that follows it in its own sector.
private let discBootCode: [UInt8] = [
    0x31, 0xC0, 0x8E, 0xD8, 0xFC, 0xFB, 0xBE, 0x1A, 0x7C, 0xAC, 0x84, 0xC0, 0x74, 0x09,
    0xB4, 0x0E, 0xBB, 0x07, 0x00, 0xCD, 0x10, 0xEB, 0xF2, 0xF4, 0xEB, 0xFD,
]

private func padded(_ bytes: [UInt8], to size: Int) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: size - bytes.count)
}

private func text(_ string: String) -> [UInt8] { Array(string.utf8) + [0] }

/// A 64-KB ROM whose code at F000:E000 runs after reset.
private func rom(_ code: [UInt8]) -> [UInt8] {
    let jump: [UInt8] = [0xEA, 0x00, 0xE0, 0x00, 0xF0]
    return padded(padded(padded([], to: 0xE000) + code, to: 0xFFF0) + jump, to: 0x1_0000)
}

private func configuration(
    firmware: [UInt8], vgaROM: [UInt8] = [], chipset: MachineConfiguration.Chipset = .apic
) throws -> MachineConfiguration {
    var configuration = MachineConfiguration(
        cpu: CPUModel.named("x86-64", apic: chipset == .apic)!,
        boot: .firmware(try FirmwareImage(firmware), vgaROM: vgaROM))
    configuration.chipset = chipset
    configuration.memorySize = 32 << 20
    return configuration
}

private func seaBIOS(
    _ image: String = "bios-256k.bin", chipset: MachineConfiguration.Chipset = .apic
) throws -> MachineConfiguration {
    try configuration(
        firmware: DebianGuests.bytes(image), vgaROM: DebianGuests.bytes("vgabios-stdvga.bin"), chipset: chipset)
}

/// Runs until `text` is on the screen or 40 million counts have passed, in machines restored from a snapshot every so
/// many counts if `snapshots` says so, and returns the last machine.
private func run(
    _ configuration: MachineConfiguration, until text: String, snapshots: UInt64? = nil
) throws -> Machine {
    var machine = try Machine(configuration)
    let limit: UInt64 = 40_000_000
    let step: UInt64 = 500_000
    while machine.clock.count < limit, !machine.devices.screen.contains(where: { $0.contains(text) }) {
        if case .ended = machine.run(until: machine.clock.count / step * step + step) { break }
        guard let snapshots, machine.clock.count % snapshots == 0 else { continue }
        let fresh = try Machine(configuration)
        try fresh.restore(machine.snapshot())
        #expect(fresh.firstDifference(from: machine.snapshot()) == nil)
        machine = fresh
    }
    return machine
}

struct FirmwareTests {
    @Test(.needsDebianGuests, arguments: ["bios.bin", "bios-256k.bin"], MachineConfiguration.Chipset.allCases)
    func seaBIOSFindsNothingToBoot(image: String, chipset: MachineConfiguration.Chipset) throws {
        let machine = try run(seaBIOS(image, chipset: chipset), until: "No bootable device")
        #expect(machine.devices.screen.contains("No bootable device."))
        #expect(machine.devices.screen.count == 25)
    }

    @Test(.needsDebianGuests) func aBootSectorReadsAndPrints() throws {
        var configuration = try seaBIOS()
        configuration.disk = MemoryImage(bootSector + text("Read from sector two"))
        let machine = try run(configuration, until: "sector two")
        #expect(machine.devices.screen.contains("Read from sector two"))
    }

    @Test(.needsDebianGuests) func aDiscBoots() throws {
        // El Torito: a boot record in sector 17 names the catalog, whose default entry names the code's sector.
        let bootRecord =
            padded([0] + Array("CD001".utf8) + [1] + Array("EL TORITO SPECIFICATION".utf8), to: 0x47) + [18]
        let validation = padded([1], to: 28) + [0xAA, 0x55, 0x55, 0xAA]
        let entry: [UInt8] = [0x88, 0, 0, 0, 0, 0, 4, 0, 19]
        let sectors = [bootRecord, validation + entry, discBootCode + text("Started from the disc")]
        var configuration = try seaBIOS()
        configuration.cdrom = MemoryImage(padded([], to: 17 * 2048) + sectors.flatMap { padded($0, to: 2048) })
        let machine = try run(configuration, until: "from the disc")
        #expect(machine.devices.screen.contains("Started from the disc"))
    }

    @Test(.needsDebianGuests) func snapshotsOnTheWayChangeNothing() throws {
        let (plain, restored) = (
            try run(seaBIOS(), until: "No bootable device"),
            try run(seaBIOS(), until: "No bootable device", snapshots: 1_000_000)
        )
        #expect(plain.clock.count == restored.clock.count)
        #expect(plain.digest == restored.digest)
    }

    @Test func codeFollowsTheShadowRegisters() throws {
        // A function returns 1 from ROM; after the ROM is copied to the RAM behind it, where the function returns 2, it
        // is called before and after reads are sent to RAM. The results end as the bit pairs of the debug exit value.
        let machine = try Machine(
            configuration(
                firmware: rom([
                    0xB8, 0x00, 0xF0, 0x8E, 0xD8, 0x8E, 0xC0, 0x31, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x70, 0xFC,
                    0xE8, 0x36, 0x00, 0x88, 0xC3,  // call, BL = result
                    0x66, 0xB8, 0x58, 0x00, 0x00, 0x80, 0xBA, 0xF8, 0x0C, 0x66, 0xEF, 0xBA, 0xFD, 0x0C,
                    0xB0, 0x20, 0xEE,  // PAM0: writes to RAM
                    0x31, 0xF6, 0x31, 0xFF, 0xB9, 0x00, 0x80, 0xF3, 0xA5, 0xC6, 0x06, 0x49, 0xE0, 0x02,
                    0xE8, 0x12, 0x00, 0xC0, 0xE0, 0x02, 0x08, 0xC3,
                    0xB0, 0x30, 0xEE,  // PAM0: reads from RAM too
                    0xE8, 0x07, 0x00, 0xC0, 0xE0, 0x04, 0x08, 0xD8, 0xE6, 0xF4,
                    0xB0, 0x01, 0xC3,  // the function
                ])))
        #expect(machine.run(until: 1_000_000) == .ended(.debugExit(0b10_01_01)))
    }

    @Test func aTraceShowsInstructionsAndChangesNothing() throws {
        // MOV AX,1234h; INC AX; JMP $
        let image = try configuration(firmware: rom([0xB8, 0x34, 0x12, 0x40, 0xEB, 0xFE]))
        let (plain, traced) = (try Machine(image), try Machine(image))
        var lines: [String] = []
        traced.trace = InstructionTrace(1..<4) { lines.append($0) }
        #expect(plain.run(until: 10_000) == .limit)
        #expect(traced.run(until: 10_000) == .limit)
        #expect(plain.digest == traced.digest)
        try #require(lines.count == 3)
        #expect(lines[0].hasPrefix("1 f000:0000e000 b83412 mov ax, 0x1234 | ax=00000000 "))
        #expect(lines[1].hasPrefix("2 f000:0000e003 40 inc ax | ax=00001234 "))
        #expect(lines[2].contains("ebfe jmp 0xE004 | ax=00001235 ") && lines[2].hasSuffix("gs=0000\n"))
    }
}
