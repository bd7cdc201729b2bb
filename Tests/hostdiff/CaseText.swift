import CHostCPU
import DifferentialSupport

/// Cases as one line of text: code size, bytes, and the inputs that are not at their defaults, as in
/// `64 4801d8 rax=1 rflags=203 mem:20004010=00ff xmm1=2:1 st0=3fff:8000000000000000 at=100`.
enum CaseText {
    static let registerNames = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ]
    private static let segmentNames = ["es", "cs", "ss", "ds", "fs", "gs"]
    private static let flagNames: [(UInt64, String)] = [
        (0, "cf"), (2, "pf"), (4, "af"), (6, "zf"), (7, "sf"), (8, "tf"), (10, "df"), (11, "of"), (14, "nt"),
        (16, "rf"),
        (18, "ac"), (21, "id"),
    ]

    static func flags(_ rflags: UInt64) -> String {
        let names = flagNames.filter { rflags >> $0.0 & 1 != 0 }.map(\.1)
        return hex(rflags) + " (" + names.joined(separator: " ") + ")"
    }

    static func bytes(_ pointer: UnsafePointer<UInt8>, _ count: Int) -> String {
        bytes((0..<count).map { pointer[$0] })
    }

    static func bytes(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + hex($0) }.joined()
    }

    /// The low linear address of a byte of the backing memory.
    static func address(_ offset: Int) -> UInt64 {
        let mapping = Window.mappings.first { $0.page == offset / Window.pageSize }!
        return Window.low + mapping.offset + UInt64(offset % Window.pageSize)
    }

    private static func segments(_ input: HostState) -> [UInt16] {
        [input.es, input.cs, input.ss, input.ds, input.fs, input.gs]
    }

    // MARK: Writing

    static func text(_ test: TestCase, withFloat: Bool) -> String {
        let input = test.input.pointee
        var words = ["\(test.mode.rawValue)", bytes(test.bytes), "at=\(hex(test.codeOffset))", "rip=\(hex(input.rip))"]
        if let host = test.hostBytes { words.append("host=\(bytes(host))") }
        for (name, selector) in zip(segmentNames, segments(input)) where selector != 0 {
            words.append("\(name)=\(hex(selector))")
        }
        words.append("rflags=\(hex(input.rflags))")
        for (number, name) in registerNames.enumerated() where test.gpr[number] != 0 {
            words.append("\(name)=\(hex(test.gpr[number]))")
        }
        words += memory(test)
        if withFloat { words += float(test.fx) }
        return words.joined(separator: " ")
    }

    private static func memory(_ test: TestCase) -> [String] {
        var values: [Int: UInt8] = [:]
        for (offset, byte) in test.patches { values[offset] = byte }
        var words: [String] = []
        var previous = -2
        for offset in values.keys.sorted() {
            if offset != previous + 1 || offset % Window.pageSize == 0 { words.append("mem:\(hex(address(offset)))=") }
            words[words.count - 1] += bytes([values[offset]!])
            previous = offset
        }
        for range in test.ignoredMemory {
            words.append("\(range.afterFault ? "fault" : "ignore"):\(hex(range.address))=\(hex(range.count))")
        }
        return words
    }

    private static func float(_ fx: UnsafeMutableRawPointer) -> [String] {
        var words = [
            "fcw=\(hex(fx.load(fromByteOffset: FXImage.fcw, as: UInt16.self)))",
            "fsw=\(hex(fx.load(fromByteOffset: FXImage.fsw, as: UInt16.self)))",
            "ftw=\(hex(fx.load(fromByteOffset: FXImage.ftw, as: UInt8.self)))",
            "mxcsr=\(hex(fx.load(fromByteOffset: FXImage.mxcsr, as: UInt32.self)))",
        ]
        func pair(_ name: String, _ offset: Int) {
            let low = fx.load(fromByteOffset: offset, as: UInt64.self)
            let high = fx.load(fromByteOffset: offset + 8, as: UInt64.self)
            if low != 0 || high != 0 { words.append("\(name)=\(hex(high)):\(hex(low))") }
        }
        for index in 0..<8 { pair("st\(index)", FXImage.st(index)) }
        for index in 0..<16 { pair("xmm\(index)", FXImage.xmm(index)) }
        return words
    }

    // MARK: Reading

    struct Malformed: Error { let word: String }

    /// Reads a line that `text` wrote, or that a person did.
    static func parse(_ line: String) throws -> TestCase {
        let words = line.split(separator: " ").map(String.init)
        guard words.count >= 2, let size = Int(words[0]), let mode = CodeMode(rawValue: size) else {
            throw Malformed(word: line)
        }
        let test = TestCase(mode: mode)
        test.bytes = try parseBytes(words[1])
        setDefaults(test)
        for word in words.dropFirst(2) { try parse(word, into: test) }
        return test
    }

    /// Flat segments in 64- and 32-bit code, the window's in 16-bit code; the stack in the middle of its pages.
    static func setDefaults(_ test: TestCase) {
        let input = test.input
        input.pointee.rflags = 0x202
        let cs = [.bits64: HOST_CS64, .bits32: HOST_CS32, .bits16: HOST_LDT_CODE16][test.mode]!
        let data = UInt16(test.mode == .bits16 ? HOST_LDT_DATA16 : HOST_DS)
        input.pointee.cs = UInt16(cs)
        (input.pointee.ds, input.pointee.es, input.pointee.ss) = (data, data, data)
        if hostcpu_has_ldt() { (input.pointee.fs, input.pointee.gs) = (UInt16(HOST_LDT_FS), UInt16(HOST_LDT_GS)) }
        let base = test.mode == .bits16 ? 0 : Window.low
        input.pointee.rip = base + Window.code + UInt64(test.codeOffset)
        test.gpr[4] = base + Window.stack + 0x800
    }

    private static func parseBytes(_ text: String) throws -> [UInt8] {
        let digits = Array(text)
        guard digits.count % 2 == 0 else { throw Malformed(word: text) }
        return try stride(from: 0, to: digits.count, by: 2).map {
            guard let byte = UInt8(String(digits[$0...$0 + 1]), radix: 16) else { throw Malformed(word: text) }
            return byte
        }
    }

    private static func number(_ text: Substring) throws -> UInt64 {
        guard let value = UInt64(text, radix: 16) else { throw Malformed(word: String(text)) }
        return value
    }

    private static func parse(_ word: String, into test: TestCase) throws {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw Malformed(word: word) }
        let name = String(parts[0])
        let value = parts[1]
        let fx = test.fx
        if let index = registerNames.firstIndex(of: name) {
            test.gpr[index] = try number(value)
            return
        }
        if let index = segmentNames.firstIndex(of: name) {
            let selector = UInt16(truncatingIfNeeded: try number(value))
            return (UnsafeMutableRawPointer(test.input) + MemoryLayout<HostState>.offset(of: \HostState.es)!)
                .storeBytes(of: selector, toByteOffset: index * 2, as: UInt16.self)
        }
        switch name {
        case "host": test.hostBytes = try parseBytes(String(value))
        case "at": test.codeOffset = Int(truncatingIfNeeded: try number(value) & 0xfff)
        case "rip": test.input.pointee.rip = try number(value)
        case "rflags": test.input.pointee.rflags = try number(value)
        case "fcw":
            fx.storeBytes(of: UInt16(truncatingIfNeeded: try number(value)), toByteOffset: FXImage.fcw, as: UInt16.self)
        case "fsw":
            fx.storeBytes(of: UInt16(truncatingIfNeeded: try number(value)), toByteOffset: FXImage.fsw, as: UInt16.self)
        case "ftw":
            fx.storeBytes(of: UInt16(truncatingIfNeeded: try number(value)), toByteOffset: FXImage.ftw, as: UInt16.self)
        case "mxcsr":
            fx.storeBytes(
                of: UInt32(truncatingIfNeeded: try number(value)), toByteOffset: FXImage.mxcsr, as: UInt32.self)
        default: try parseWide(name, value, into: test)
        }
    }

    /// `mem:`, `ignore:`, `fault:`, `st` and `xmm` words.
    private static func parseWide(_ name: String, _ value: Substring, into test: TestCase) throws {
        if name.hasPrefix("mem:") {
            let address = try number(name.dropFirst(4))
            for (index, byte) in try parseBytes(String(value)).enumerated() {
                test.patch(address &+ UInt64(index), byte)
            }
        } else if name.hasPrefix("ignore:") || name.hasPrefix("fault:") {
            let address = try number(name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)[1])
            let count = Int(truncatingIfNeeded: try number(value) & 0xfff)
            test.ignoredMemory.append(.init(address: address, count: count, afterFault: name.hasPrefix("fault:")))
        } else {
            let halves = value.split(separator: ":")
            let isVector = name.hasPrefix("xmm")
            guard halves.count == 2, let index = Int(name.dropFirst(isVector ? 3 : 2)), index >= 0,
                isVector ? index < 16 : name.hasPrefix("st") && index < 8
            else { throw Malformed(word: name) }
            let offset = isVector ? FXImage.xmm(index) : FXImage.st(index)
            test.fx.storeBytes(of: try number(halves[1]), toByteOffset: offset, as: UInt64.self)
            test.fx.storeBytes(of: try number(halves[0]), toByteOffset: offset + 8, as: UInt64.self)
        }
    }
}
