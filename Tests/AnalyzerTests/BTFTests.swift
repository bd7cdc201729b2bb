import Analyzer
import Testing

struct BTFTests {
    /// Builds a description of types: strings, and words of types.
    private struct Builder {
        var strings: [UInt8] = [0]
        var types: [UInt32] = []

        mutating func name(_ text: String) -> UInt32 {
            defer { strings += Array(text.utf8) + [0] }
            return UInt32(strings.count)
        }

        var bytes: [UInt8] {
            func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
            let size = UInt32(types.count * 4)
            return [0x9F, 0xEB, 1, 0] + [24, 0, size, size, UInt32(strings.count)].flatMap(word) + types.flatMap(word)
                + strings
        }
    }

    private static let structure: UInt32 = 4 << 24

    private func sample() -> [UInt8] {
        var builder = Builder()
        // 1: int; 2: struct inner { int a; int b; }; 3: typedef inner_t; 4: struct task { int x; struct {inner_t c; } }
        builder.types += [builder.name("int"), 1 << 24, 4, 32]
        builder.types += [builder.name("inner"), Self.structure | 2, 8]
        builder.types += [builder.name("a"), 1, 0, builder.name("b"), 1, 32]
        builder.types += [builder.name("inner_t"), 8 << 24, 2]
        builder.types += [0, Self.structure | 1, 8, builder.name("c"), 3, 0]
        builder.types += [builder.name("task"), Self.structure | 2, 20]
        builder.types += [builder.name("x"), 1, 0, 0, 4, 64]
        return builder.bytes
    }

    @Test func membersAreFound() throws {
        let btf = try #require(BTF(sample()))
        #expect(btf.offset(of: "x", in: "task") == 0)
        #expect(btf.offset(of: "c", in: "task") == 8)
        #expect(btf.offset(of: "c.b", in: "task") == 12)
        #expect(btf.offset(of: "b", in: "inner") == 4)
        #expect(btf.size(of: "task") == 20)
        #expect(btf.offset(of: "d", in: "task") == nil)
        #expect(btf.offset(of: "x", in: "nothing") == nil)
    }

    /// A structure of unnamed ones, each of them itself, has more members than anybody can look at.
    @Test func typesThatContainThemselvesEnd() throws {
        var builder = Builder()
        let count: UInt32 = 1000
        builder.types += [builder.name("task"), Self.structure | count, 8]
        for _ in 0..<count { builder.types += [0, 1, 0] }
        #expect(try #require(BTF(builder.bytes)).offset(of: "x", in: "task") == nil)
    }

    @Test func damageIsSeen() {
        #expect(BTF([]) == nil)
        let bytes = sample()
        for length in bytes.indices { _ = BTF(Array(bytes[..<length])) }
        for place in bytes.indices {
            var changed = bytes
            changed[place] ^= 0xFF
            _ = BTF(changed)?.offset(of: "c.b", in: "task")
        }
    }
}
