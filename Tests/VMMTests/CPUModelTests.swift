import CEngine
import CZydis
import Testing
import VMM

/// What the CPU models identify themselves as.
struct CPUModelTests {
    private func processor(_ name: String, apic: Bool = true) throws -> Processor {
        let model = try #require(CPUModel.named(name, apic: apic))
        return Processor(
            memory: GuestMemory(size: 1 << 20), ports: PortBus(), mmio: MMIOBus(), clock: VirtualClock(), model: model)
    }

    private func text(_ words: [UInt32]) -> String {
        let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    @Test(arguments: [("x86-64", "AuthenticAMD"), ("x86-64-intel", "GenuineIntel"), ("pentium4", "GenuineIntel")])
    func vendorAndBrand(_ name: String, _ vendor: String) throws {
        let processor = try processor(name)
        let first = processor.model.cpuid(0, subleaf: 0, processor.cpu)
        #expect(text([first.ebx, first.edx, first.ecx]) == vendor)
        let brand = (0x8000_0002...0x8000_0004).flatMap { (leaf: UInt32) -> [UInt32] in
            let answer = processor.model.cpuid(leaf, subleaf: 0, processor.cpu)
            return [answer.eax, answer.ebx, answer.ecx, answer.edx]
        }
        #expect(text(brand).hasPrefix("Trapline Virtual CPU"))
        #expect(processor.model.cpuid(1, subleaf: 0, processor.cpu).eax == processor.model.signature)
        #expect(processor.cpu.gpr(Register.rdx) == UInt64(processor.model.signature))
    }

    @Test(arguments: CPUModel.names)
    func apicFollowsTheChipsetAndItsEnableBit(_ name: String) throws {
        let with = try processor(name)
        let without = try processor(name, apic: false)
        #expect(with.model.cpuid(1, subleaf: 0, with.cpu).edx & CPUIDFeature.apic != 0)
        #expect(without.model.cpuid(1, subleaf: 0, without.cpu).edx & CPUIDFeature.apic == 0)
        with.cpu.pointee.apicBase &= ~APICBase.enable
        #expect(with.model.cpuid(1, subleaf: 0, with.cpu).edx & CPUIDFeature.apic == 0)
    }

    @Test func leavesBeyondTheLastFollowTheVendor() throws {
        let amd = try processor("x86-64")
        let intel = try processor("pentium4")
        #expect(amd.model.cpuid(0x4000_0000, subleaf: 0, amd.cpu) == CPUIDAnswer())
        let last = intel.model.cpuid(2, subleaf: 0, intel.cpu)
        #expect(intel.model.cpuid(0x4000_0000, subleaf: 0, intel.cpu) == last)
    }

    @Test func longModeIsOfTheSixtyFourBitModelsOnly() throws {
        for name in CPUModel.names {
            let processor = try processor(name)
            let features = processor.model.cpuid(0x8000_0001, subleaf: 0, processor.cpu).edx
            #expect((features & CPUIDFeature.longMode != 0) == (name != "pentium4"))
        }
        #expect(CPUModel.named("486") == nil)
    }

    /// Mnemonic and operand size in bits of 64-bit code; nil if it is no instruction, or not yet one.
    private func decode(_ bytes: [UInt8], _ name: String) throws -> (mnemonic: ZydisMnemonic, bits: Int)? {
        let decoder = ModelDecoder(
            ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, model: try #require(CPUModel.named(name)))
        var instruction = ZydisDecodedInstruction()
        let operands = UnsafeMutablePointer<ZydisDecodedOperand>.allocate(capacity: Int(ZYDIS_MAX_OPERAND_COUNT))
        defer { operands.deallocate() }
        let status = bytes.withUnsafeBytes { decoder.decode($0, &instruction, operands) }
        return status & 0x8000_0000 == 0 ? (instruction.mnemonic, Int(instruction.operand_width)) : nil
    }

    /// On either host: `Tests/cases/vendors.txt` shows the same for the host's vendor alone.
    @Test func vendorsDecodeDifferently() throws {
        // 66, with repeat prefixes and REX.W, before Jcc, RET, JMP and LOOP.
        for (bytes, amd): ([UInt8], Int) in [
            ([0x66, 0x75, 0x02], 16), ([0x66, 0xf3, 0xc3], 16), ([0x66, 0xff, 0xe3], 16), ([0x66, 0xe2, 0x02], 16),
            ([0x66, 0x48, 0xc3], 64), ([0xc3], 64),
        ] {
            #expect(try decode(bytes, "x86-64")?.bits == amd)
            #expect(try decode(bytes, "x86-64-intel")?.bits == 64)
        }
        #expect(try decode([0xf3, 0x41, 0x90], "x86-64")?.mnemonic == ZYDIS_MNEMONIC_XCHG)
        #expect(try decode([0xf3, 0x41, 0x90], "x86-64-intel")?.mnemonic == ZYDIS_MNEMONIC_PAUSE)
        #expect(try decode([0xf3, 0x40, 0x90], "x86-64")?.mnemonic == ZYDIS_MNEMONIC_PAUSE)
    }
}
