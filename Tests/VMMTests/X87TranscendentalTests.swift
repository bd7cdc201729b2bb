import CEngine
import Testing
import VMM

/// x87 transcendental functions against the exactly rounded result.
///
/// Each row: instruction, control word, ST(0), ST(1), result. The results were computed with 90 decimal digits; angles
/// are reduced by the 66-bit pi of SDM volume 1, 8.3.8.
private let transcendentals = """
    f2xm1 77f 3fd8:9c80317800000000 0000:0000000000000000 3fd7:d8f4c3e20861e05d
    f2xm1 f7f 3ffe:9a3d1fa7bc8960a9 0000:0000000000000000 3ffe:84b1f32cd4e95d31
    f2xm1 37f bff9:87a0ca6e00000000 0000:0000000000000000 bff8:baf21ad39ec41ae1
    f2xm1 77f 3ffe:b2e706298fadc1a6 0000:0000000000000000 3ffe:9f89ce1148371920
    f2xm1 77f bfb9:96da1dac72ff5d2a 0000:0000000000000000 bfb8:d120138a261a7248
    f2xm1 b7f 3fcc:ec307511b2b9437a 0000:0000000000000000 3fcc:a3b6c4a25d4c4164
    f2xm1 b7f bfe6:97be31111a2a73ed 0000:0000000000000000 bfe5:d25c417c19190e3a
    f2xm1 37f bff3:c3b7a3a69a8dca03 0000:0000000000000000 bff3:87a4b41b3f87beef
    f2xm1 b7f bfde:ec1b8ca1f91e1d4c 0000:0000000000000000 bfde:a3a8469b72c7fb5e
    fsin 37f bfe8:91ce5dd2a0000000 0000:0000000000000000 bfe8:91ce5dd29fff81df
    fsin b7f bffd:99db3ad0ddd1dfb2 0000:0000000000000000 bffd:978d1e3ffab40b3e
    fsin 37f c01c:b5a240ae5af30553 0000:0000000000000000 3ffc:b92250afb4c36dd7
    fsin f7f 3fd7:88bd64072bcfbe01 0000:0000000000000000 3fd7:88bd64072bcfbe00
    fsin b7f bfdf:a3d70628ece66fa2 0000:0000000000000000 bfdf:a3d70628ece66fa1
    fsin b7f bfc7:8e51f30dc6a7ee39 0000:0000000000000000 bfc7:8e51f30dc6a7ee38
    fsin f7f 3feb:b602f8ac10f1bc81 0000:0000000000000000 3feb:b602f8ac10b4661a
    fsin 77f 3fe4:a491f0b2ea1fca65 0000:0000000000000000 3fe4:a491f0b2ea1fc9af
    fsin f7f bff9:c34308bc89fa6a68 0000:0000000000000000 bff9:c33e4d0df024ee2e
    fcos 37f bfce:8000000000000000 0000:0000000000000000 3fff:8000000000000000
    fcos f7f 3fcb:a080000000000000 0000:0000000000000000 3ffe:ffffffffffffffff
    fcos 37f bfc4:877409a977d21e02 0000:0000000000000000 3fff:8000000000000000
    fcos b7f 3fee:c03987108976e334 0000:0000000000000000 3ffe:ffffffffb7d4d43d
    fcos 77f bfe4:80d4af5974273ca3 0000:0000000000000000 3ffe:fffffffffffffdf9
    fcos 77f c003:deda4e161b3dbd5c 0000:0000000000000000 bffe:e9fc729a0adcc122
    fcos 37f c026:a95b4715c333e861 0000:0000000000000000 3ffe:fe917524c7834e52
    fcos 37f 3fea:84fc400000000000 0000:0000000000000000 3ffe:ffffffffffdd7573
    fcos 77f 402b:c000000000000000 0000:0000000000000000 bffe:d31be4f8d1aa9d94
    fptan f7f bfe4:f264accc79ac1b1e 0000:0000000000000000 bfe4:f264accc79ac1fa4
    fptan b7f bfdc:8a0f4efbedcd465e 0000:0000000000000000 bfdc:8a0f4efbedcd465e
    fptan 77f 3ffc:a65e688eabf3ad39 0000:0000000000000000 3ffc:a7d926ce20862302
    fptan 77f bfe0:85628059568cc69b 0000:0000000000000000 bfe0:85628059568cc69c
    fptan b7f 4036:a18ff6b6b5351000 0000:0000000000000000 4000:930b10a8e59c3c88
    fptan 77f bfde:c74a493b3ceddf2d 0000:0000000000000000 bfde:c74a493b3ceddf2e
    fptan f7f bfe2:922fe15ae1e3db63 0000:0000000000000000 bfe2:922fe15ae1e3db72
    fptan f7f 3ff0:9800000000000000 0000:0000000000000000 3ff0:980000011dcaaaad
    fptan f7f 3fcf:8dde29a6baa4b71a 0000:0000000000000000 3fcf:8dde29a6baa4b71a
    fpatan 77f 3fe7:d6dc8907ba6c34ab 3fe9:b0b187ef310c0c00 3fff:a349301c222c4130
    fpatan 37f 401c:f66ecb15474ebc19 4004:ceda8bbb71710434 3fe6:d6e263e40c4b9703
    fpatan f7f bfe1:ffd0f9d5a6f2f7b8 3ff0:ed2662e917e011b7 3fff:c910eec88ccf6321
    fpatan f7f bffa:fb3a4e3e7c52fa17 3ff9:aa25a8880f02bad0 4000:b42a4c2ec292252b
    fpatan 77f c00f:ec4a37ea490617f2 4000:8e46d534c88a618e 4000:c90f8d8f9c9e9b26
    fpatan f7f c006:b7bb3eec4bf50b52 3fe4:8f9aea4b8acd4e10 4000:c90fdaa214e74f7a
    fpatan 37f 3feb:eb5cf46780bacd64 bfe5:82010c62f5800000 bff8:8d6644bf6c0398f3
    fpatan 37f bfe8:dca02eecacdabacc 4007:91d63f78e3e9de99 3fff:c90fdaa3a4b141d9
    fpatan 77f 4002:a8499b926b5252e3 400e:c2c18a62ef48e8d5 3fff:c908f0f7f5697746
    fyl2x 37f 3fff:abf3e3fc21813d25 3fef:edd4253b50f0fd0a 3fee:ca91360275aaf5bc
    fyl2x b7f 3fff:8000000000022c41 4002:919c4ea3e1805081 3fd4:e43a96d401a65ab3
    fyl2x b7f 027f:ce9e1a11fcbb4e59 bff1:d12dbc9aaaf91531 3fff:c8ffb137df796b48
    fyl2x b7f 3fff:be0f051b1b66b5a9 4000:9ad620ab48212ddb 3fff:b09b54b5c8a4b57a
    fyl2x b7f 3fff:800000000010beb2 3ffc:a260772317a0df49 3fd1:f52aa3ac133d2bdb
    fyl2x 77f 4000:8d3aed99711c21c9 400d:9ca3c44802780000 400d:b2de1c9199fffaac
    fyl2x f7f 3fff:8000000000000047 bffa:db9962c6e61fecc0 bfc2:afbbad374482d725
    fyl2x 77f 1fcc:a790cebdbfddc3d9 bff6:a999b735dd56cc94 4003:aaa5f4f6e20d6448
    fyl2x 37f 3fff:8000000dd613d3b3 3ffa:dd334cc7ab7f089a 3fe0:89fbe35f26e316bd
    fyl2xp1 37f 3ff3:f87f2425dbccc477 3ff9:d20eac174e20fd1a 3fef:930c5d8496e72333
    fyl2xp1 f7f bfdc:b170f437a8f7ef5a c001:f7860b5011c58ef0 3fdf:f7847457b06c17ba
    fyl2xp1 b7f bfe3:fb2ca025adf4e62d 3ffb:9d8709660710d430 bfe0:defae96e72927061
    fyl2xp1 f7f bfe5:9bc044fc09cb3942 400b:d04d281fc9535b63 bff2:b6d5969d8e347458
    fyl2xp1 f7f 3ff0:939b462de645f120 3ff7:ecf27e7685197ff4 3fe9:c519512c9e098bdd
    fyl2xp1 b7f bfe3:f2e9702d11e9cdaa bffe:a9d3c2e6505cc686 3fe3:e87b8eab6bd60b2e
    fyl2xp1 77f bfde:e88c7015aab97e49 c003:b11c6eb62095eef6 3fe3:e81c2d0d0e30877d
    fyl2xp1 b7f 3fb9:91b0e1d99d9262af c010:b5ce884149732d6c bfcb:954587691caa23d2
    fyl2xp1 37f bfd4:f118e36477097749 bff5:cb323e357922bac2 3fcc:8a0ada9339b4d534
    """

struct X87TranscendentalTests {
    private static let opcodes: [Substring: [UInt8]] = [
        "f2xm1": [0xd9, 0xf0], "fyl2x": [0xd9, 0xf1], "fptan": [0xd9, 0xf2], "fpatan": [0xd9, 0xf3],
        "fyl2xp1": [0xd9, 0xf9], "fsin": [0xd9, 0xfe], "fcos": [0xd9, 0xff],
    ]

    /// A register from its 20 hexadecimal digits.
    private func register(_ text: Substring) -> X87Register {
        let parts = text.split(separator: ":")
        return X87Register(
            significand: UInt64(parts[1], radix: 16)!, signExponent: UInt16(parts[0], radix: 16)!, pad: (0, 0, 0))
    }

    @Test(arguments: transcendentals.split(separator: "\n").map(String.init))
    func isCorrectlyRounded(_ row: String) throws {
        let fields = row.split(separator: " ")
        let bench = RealModeBench()
        let cpu = bench.cpu
        cpu.pointee.fcw = UInt16(fields[1], radix: 16)!
        cpu_fpr(cpu, 0).pointee = register(fields[2])
        cpu_fpr(cpu, 1).pointee = register(fields[3])
        cpu.pointee.ftw = 0xfff0
        #expect(bench.run(try #require(Self.opcodes[fields[0]])) == nil)
        let pushed = fields[0] == "fptan"
        let isBinary = ["fyl2x", "fpatan", "fyl2xp1"].contains(fields[0])
        let top = Int(cpu.pointee.fsw >> 11 & 7)
        #expect(top == (pushed ? 7 : isBinary ? 1 : 0))
        let result = cpu_fpr(cpu, isBinary ? 1 : 0).pointee
        let expected = register(fields[4])
        #expect(result.significand == expected.significand)
        #expect(result.signExponent == expected.signExponent)
        #expect(cpu.pointee.fsw & 0x3f == 0x20, "inexact")
        if pushed { #expect(cpu_fpr(cpu, 7).pointee.signExponent == 0x3fff) }
    }

    @Test func anglesOutOfRangeStay() {
        for opcode in [UInt8(0xfe), 0xff, 0xfb, 0xf2] {
            let bench = RealModeBench()
            cpu_fpr(bench.cpu, 0).pointee = register("403e:8000000000000000")
            bench.cpu.pointee.ftw = 0xfffc
            #expect(bench.run([0xd9, opcode]) == nil)
            #expect(bench.cpu.pointee.fsw == 0x400, "C2 and nothing else")
            #expect(cpu_fpr(bench.cpu, 0).pointee.signExponent == 0x403e)
        }
    }

    /// A long remainder takes steps until C2 is clear; their sequence does not depend on the host.
    @Test func remainderTakesSteps() {
        let bench = RealModeBench()
        cpu_fpr(bench.cpu, 0).pointee = register("40c7:deadbeefcafebabe")
        cpu_fpr(bench.cpu, 1).pointee = register("3fff:b504f333f9de6484")
        bench.cpu.pointee.ftw = 0xfff0
        var steps = 0
        repeat {
            #expect(bench.run([0xd9, 0xf8]) == nil)
            steps += 1
        } while bench.cpu.pointee.fsw & 0x400 != 0 && steps < 10
        #expect(steps == 4)
        #expect(cpu_fpr(bench.cpu, 0).pointee.signExponent == 0x3ffe)
        #expect(cpu_fpr(bench.cpu, 0).pointee.significand == 0x9170_b55b_3a98_4988)
    }
}
