import CEngine
import Testing
import VMM

/// Decoded code follows the bytes it was decoded from.
struct DecodingTests {
    /// 0F 04 is no instruction. The handler of #UD makes 0F A2 (CPUID) of it and returns to it.
    @Test(arguments: [0x1000, 0x1ffe, 0x1fff] as [UInt64])
    func rejectedEncodingIsWatchedAsAWhole(_ address: UInt64) {
        let bench = RealModeBench()
        let byte = address + 1
        bench.memory.write(6 * 4, [0x00, 0x09, 0, 0])
        // MOV byte [byte], A2; IRET
        bench.memory.write(0x900, [0xc6, 0x06, UInt8(byte & 0xff), UInt8(byte >> 8), 0xa2, 0xcf])
        bench.cpu.setGPR(Register.rax, 0x8000_0000)
        #expect(bench.run([0x0f, 0x04], at: address) == nil)
        #expect(bench.cpu.gpr(Register.rax) == 0x8000_0008)
    }
}
