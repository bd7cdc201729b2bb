import CHostCPU
import CZydis
import DifferentialSupport
import Glibc

/// Compares what two sides made of a case.
struct Comparison {
    let host: Side
    let other: Side
    let test: TestCase
    let masks: Masks

    private static let codeVectors: Set<UInt32> = [8, 10, 11, 12, 13, 14, 17]
    private static let accessVectors: Set<UInt32> = [12, 13, 14, 17]
    /// RF is pushed by faults; the other bits are the user's. IF and IOPL belong to the kernel, and are always equal.
    private static let comparedFlags: UInt64 = 0x3f7fd7

    private static let userEnd: UInt64 = (1 << 47) - 4096

    private func floatImage(_ side: Side) -> UnsafeRawPointer { UnsafeRawPointer(side.output) }

    /// Whether everything that is defined agrees. `differences` tells what does not.
    var agrees: Bool {
        let a = host.output.pointee
        let b = other.output.pointee
        if masks.mayFault && (!errorsAgree || a.rip != b.rip) { return true }
        if !errorsAgree || a.rip != b.rip, masks.amd.allow(a, b, fsw: load(other, FXImage.fsw, as: UInt16.self)) {
            return true
        }
        let positionsAgree = a.rip == b.rip || masks.amd.ripMayStay && a.rip == test.input.pointee.rip
        guard errorsAgree, positionsAgree, flagsDiffer == 0, registers.allSatisfy({ registerDifference($0) == 0 })
        else {
            return false
        }
        return floatAgrees && memoryAgrees
    }

    private var registers: Range<Int> { 0..<16 }

    private func registerDifference(_ number: Int) -> UInt64 {
        let difference = host.output.generalRegisters[number] ^ other.output.generalRegisters[number]
        let width: UInt64 = test.mode == .bits64 || number >= 8 ? ~0 : 0xffff_ffff
        return difference & width & masks.registers[number]
    }

    private var flagsDiffer: UInt64 {
        (host.output.pointee.rflags ^ other.output.pointee.rflags) & Comparison.comparedFlags & masks.flags
    }

    private var errorsAgree: Bool {
        let a = host.output.pointee
        let b = other.output.pointee
        if masks.anyAccessFault, Comparison.accessVectors.contains(a.vector),
            Comparison.accessVectors.contains(b.vector)
        {
            return true
        }
        guard a.vector == b.vector else { return false }
        guard Comparison.codeVectors.contains(a.vector) else { return true }
        // Linux shows every fault above the user's addresses as one of protection.
        let present: UInt64 = a.vector == 14 && a.cr2 >= Comparison.userEnd ? 1 : 0
        return (a.errorCode | present) == (b.errorCode | present)
            && (a.vector != 14 || (a.cr2 ^ b.cr2) & masks.faultAddress == 0)
    }

    // MARK: Floating point

    private func load<T>(_ side: Side, _ offset: Int, as type: T.Type = T.self) -> T {
        floatImage(side).load(fromByteOffset: offset, as: T.self)
    }

    private func equal<T: Equatable>(_ offset: Int, _ type: T.Type) -> Bool {
        load(host, offset, as: T.self) == load(other, offset, as: T.self)
    }

    private var statusDiffers: UInt16 {
        let differing = load(host, FXImage.fsw, as: UInt16.self) ^ load(other, FXImage.fsw, as: UInt16.self)
        guard masks.tolerance == .transcendental else { return differing & masks.fsw }
        let isTiny = (0..<masks.results).contains(where: resultIsTiny)
        return differing & masks.fsw & ~(isTiny ? Status.approximate | Status.underflow : Status.approximate)
    }

    /// FSW bits that hang on the last bit of a result, and on whether it is tiny.
    private enum Status {
        static let approximate: UInt16 = 0x0220
        static let underflow: UInt16 = 0x8090
    }

    /// A result at the edge of the denormals, where the last bit decides about an underflow. An unmasked one
    /// multiplies the result by 2^24576 (SDM volume 1, 8.5.5).
    private func resultIsTiny(_ index: Int) -> Bool {
        let exponent = load(host, FXImage.st(index) + 8, as: UInt16.self) & 0x7fff
        let status = load(host, FXImage.fsw, as: UInt16.self)
        let isScaled = status & ~load(host, FXImage.fcw, as: UInt16.self) & 0x10 != 0
        return exponent <= 1 || isScaled && (exponent == 0x6000 || exponent == 0x6001)
    }

    private var floatAgrees: Bool {
        guard equal(FXImage.mxcsr, UInt32.self), (0..<16).allSatisfy(vectorAgrees) else { return false }
        return masks.ignoresX87
            || equal(FXImage.fcw, UInt16.self) && statusDiffers == 0
                && equal(FXImage.ftw, UInt8.self) && (0..<8).allSatisfy(stackAgrees)
    }

    private func stackAgrees(_ index: Int) -> Bool {
        let offset = FXImage.st(index)
        if equal(offset, UInt64.self) && equal(offset + 8, UInt16.self) { return true }
        guard masks.tolerance == .transcendental && index < 2 else { return false }
        return index < masks.results && resultIsTiny(index)
            || Tolerances.nearlyEqual80(floatImage(host) + offset, floatImage(other) + offset)
    }

    private func vectorAgrees(_ index: Int) -> Bool {
        let offset = FXImage.xmm(index)
        if equal(offset, UInt64.self) && equal(offset + 8, UInt64.self) { return true }
        return masks.tolerance == .approximation32
            && (0..<4).allSatisfy {
                Tolerances.nearlyEqual32(load(host, offset + $0 * 4), load(other, offset + $0 * 4))
            }
    }

    // MARK: Memory

    private var memoryAgrees: Bool {
        for range in test.ignoredMemory where !range.afterFault || host.output.pointee.vector != 3 {
            for index in 0..<UInt64(range.count) {
                guard let offset = Window.backing((range.address &+ index) & test.mode.linearMask),
                    offset < Window.dataBytes
                else { continue }
                (other.memory + offset).copyMemory(from: host.memory + offset, byteCount: 1)
            }
        }
        return memcmp(host.memory, other.memory, Window.dataBytes) == 0
    }

    // MARK: Report

    /// One line for each thing that differs: host first.
    var differences: [String] {
        let a = host.output.pointee
        let b = other.output.pointee
        var lines: [String] = []
        func line(_ name: String, _ a: String, _ b: String) { lines.append("\(name): host \(a), engine \(b)") }
        if !errorsAgree { line("exception", exception(a), exception(b)) }
        if a.rip != b.rip { line("rip", hex(a.rip), hex(b.rip)) }
        for number in registers where registerDifference(number) != 0 {
            line(
                CaseText.registerNames[number], hex(host.output.generalRegisters[number]),
                hex(other.output.generalRegisters[number]))
        }
        if flagsDiffer != 0 { line("rflags", CaseText.flags(a.rflags), CaseText.flags(b.rflags)) }
        if statusDiffers != 0 {
            line("fsw", hex(load(host, FXImage.fsw, as: UInt16.self)), hex(load(other, FXImage.fsw, as: UInt16.self)))
        }
        for (name, offset) in [("fcw", FXImage.fcw), ("ftw", FXImage.ftw)] where !equal(offset, UInt16.self) {
            line(name, hex(load(host, offset, as: UInt16.self)), hex(load(other, offset, as: UInt16.self)))
        }
        if !equal(FXImage.mxcsr, UInt32.self) {
            line(
                "mxcsr", hex(load(host, FXImage.mxcsr, as: UInt32.self)),
                hex(load(other, FXImage.mxcsr, as: UInt32.self)))
        }
        for index in 0..<8 where !stackAgrees(index) {
            line("st\(index)", float80(host, index), float80(other, index))
        }
        for index in 0..<16 where !vectorAgrees(index) {
            line("xmm\(index)", vector(host, index), vector(other, index))
        }
        if !memoryAgrees { lines += memoryDifferences }
        return lines
    }

    private func exception(_ state: HostState) -> String {
        guard Comparison.codeVectors.contains(state.vector) else { return "\(state.vector)" }
        return "\(state.vector)(\(hex(state.errorCode)))" + (state.vector == 14 ? " at \(hex(state.cr2))" : "")
    }

    private func float80(_ side: Side, _ index: Int) -> String {
        let offset = FXImage.st(index)
        return hex(load(side, offset + 8, as: UInt16.self)) + ":" + hex(load(side, offset, as: UInt64.self))
    }

    private func vector(_ side: Side, _ index: Int) -> String {
        let offset = FXImage.xmm(index)
        return hex(load(side, offset + 8, as: UInt64.self)) + ":" + hex(load(side, offset, as: UInt64.self))
    }

    /// Runs of bytes that differ, at most four.
    private var memoryDifferences: [String] {
        let a = host.memory.assumingMemoryBound(to: UInt8.self)
        let b = other.memory.assumingMemoryBound(to: UInt8.self)
        var lines: [String] = []
        var offset = 0
        while offset < Window.dataBytes && lines.count < 4 {
            guard a[offset] != b[offset] else {
                offset += 1
                continue
            }
            let count = min(16, Window.dataBytes - offset)
            let (x, y) = (CaseText.bytes(a + offset, count), CaseText.bytes(b + offset, count))
            lines.append("memory \(hex(CaseText.address(offset))): host \(x), engine \(y)")
            offset += count
        }
        return lines
    }
}

/// Agreement of results that the architecture defines only to a precision.
enum Tolerances {
    /// RCPPS and RSQRTPS: each side within 1.5 × 2^-12 of the true value (SDM volume 2).
    static func nearlyEqual32(_ a: UInt32, _ b: UInt32) -> Bool {
        if a == b { return true }
        let x = Float(bitPattern: a)
        let y = Float(bitPattern: b)
        guard x.isFinite && y.isFinite else { return x.isNaN && y.isNaN }
        // Near the limit, results may or may not be flushed to zero.
        if x.sign == y.sign && min(x.magnitude, y.magnitude) == 0 {
            return max(x.magnitude, y.magnitude) <= 0x1.01p-126
        }
        return abs(Double(x) - Double(y)) <= abs(Double(x)) * 0.00075
    }

    /// Transcendental functions: 2^-48 of the host's result.
    static func nearlyEqual80(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer) -> Bool {
        let x = a.load(as: Float80.self)
        let y = b.load(as: Float80.self)
        guard x.isFinite && y.isFinite else { return x.isNaN && y.isNaN || x == y }
        return x == y || (x - y).magnitude <= max(x.magnitude, .leastNormalMagnitude) * 0x1p-48
    }
}
