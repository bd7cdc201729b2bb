import CEngine
import Testing
import VMM

private let ud: UInt8 = 6
private let nm: UInt8 = 7
private let gp: UInt8 = 13
private let mf: UInt8 = 16
private let xm: UInt8 = 19

/// When x87, MMX and SSE instructions may execute (SDM volume 3, 2.5 and 13.1).
struct FloatingPointAvailabilityTests {
    private static let x87: [[UInt8]] = [[0xd9, 0xe8], [0xdb, 0xe3], [0xd9, 0xd0]]  // FLD1, FNINIT, FNOP
    private static let mmx: [[UInt8]] = [[0x0f, 0xfc, 0xc0], [0x0f, 0x77]]  // PADDB, EMMS
    private static let sse: [[UInt8]] = [[0x0f, 0x58, 0xc0], [0x66, 0x0f, 0x6f, 0xc0]]  // ADDPS, MOVDQA
    private static let fxsave: [UInt8] = [0x0f, 0xae, 0x06, 0x00, 0x40]
    private static let wait: [UInt8] = [0x9b]
    /// MOVNTI and SFENCE touch no such state.
    private static let always: [[UInt8]] = [[0x0f, 0xc3, 0x06, 0x00, 0x40], [0x0f, 0xae, 0xf8]]

    private func vector(_ code: [UInt8], cr0: UInt64, osfxsr: Bool = true) -> UInt8? {
        let bench = RealModeBench()
        bench.cpu.pointee.cr0 |= cr0
        if !osfxsr { bench.cpu.pointee.cr4 = 0 }
        return bench.run(code)
    }

    @Test func usableState() {
        for code in Self.x87 + Self.mmx + Self.sse + Self.always + [Self.fxsave, Self.wait] {
            #expect(vector(code, cr0: CR0.mp) == nil)
        }
    }

    @Test func taskSwitched() {
        for code in Self.x87 + Self.mmx + Self.sse + [Self.fxsave] { #expect(vector(code, cr0: CR0.ts) == nm) }
        #expect(vector(Self.wait, cr0: CR0.ts) == nil)
        #expect(vector(Self.wait, cr0: CR0.ts | CR0.mp) == nm)
        for code in Self.always { #expect(vector(code, cr0: CR0.ts) == nil) }
    }

    @Test func emulated() {
        for code in Self.x87 + [Self.fxsave] { #expect(vector(code, cr0: CR0.em) == nm) }
        for code in Self.mmx + Self.sse { #expect(vector(code, cr0: CR0.em | CR0.ts) == ud) }
        #expect(vector(Self.wait, cr0: CR0.em) == nil)
    }

    @Test func withoutOSFXSR() {
        for code in Self.sse { #expect(vector(code, cr0: 0, osfxsr: false) == ud) }
        for code in Self.x87 + Self.mmx + Self.always { #expect(vector(code, cr0: 0, osfxsr: false) == nil) }
    }
}

/// Unmasked exceptions.
struct FloatingPointExceptionTests {
    /// FLDCW [0x4000]; FLD1; FLDZ; FDIVP.
    private static let divideByZero: [UInt8] = [0xd9, 0x2e, 0x00, 0x40, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9]

    private func bench() -> RealModeBench {
        let bench = RealModeBench()
        bench.memory.write(0x4000, [0x7b, 0x03])  // zero divide unmasked
        return bench
    }

    @Test func x87ExceptionsWaitForTheNextInstruction() {
        let bench = bench()
        #expect(bench.run(Self.divideByZero) == nil)
        #expect(bench.cpu.pointee.fsw & 0x80ff == 0x8084)
        #expect(bench.cpu.pointee.fsw >> 11 & 7 == 6, "nothing popped")
        #expect(bench.cpu.pointee.fip == 0x1008)
        #expect(bench.cpu.pointee.fop == 0x6f9)
        #expect(bench.run([0xdf, 0xe0]) == nil, "FNSTSW does not wait")
        #expect(bench.cpu.gpr(Register.rax) & 0x80 != 0)
        #expect(bench.run([0x0f, 0x58, 0xc0]) == nil, "nor does SSE")
        for waiting in [[0x9b], [0xd9, 0xe8], [0x0f, 0xfc, 0xc0], [0xd9, 0x2e, 0, 0x40]] as [[UInt8]] {
            #expect(bench.run(waiting) == mf)
        }
        #expect(bench.run([0xdb, 0xe2, 0x9b]) == nil, "FNCLEX")
    }

    @Test func withoutNumericErrorTheInterruptControllerIsTold() {
        let bench = bench()
        var asserted = 0
        bench.processor.assertFERR = { asserted += 1 }
        bench.cpu.pointee.cr0 &= ~CR0.ne
        #expect(bench.run(Self.divideByZero) == nil)
        #expect(asserted == 0)
        #expect(bench.run([0x9b]) == nil)
        #expect(asserted == 1)
    }

    @Test func unmaskingMakesAnOldExceptionPending() {
        let bench = bench()
        #expect(bench.run([0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9]) == nil)
        #expect(bench.cpu.pointee.fsw & 0x80ff == 0x04)
        #expect(bench.run([0xd9, 0x2e, 0x00, 0x40, 0x9b]) == mf)
    }

    @Test func sseExceptionsFaultAndKeepTheDestination() {
        for handled in [true, false] {
            let bench = RealModeBench()
            if !handled { bench.cpu.pointee.cr4 = CR4.osfxsr }
            bench.cpu.pointee.mxcsr = 0x1d80  // zero divide unmasked
            cpu_xmm(bench.cpu, 0).pointee = XMMRegister(low: 0x3f80_0000_3f80_0000, high: 5)
            cpu_xmm(bench.cpu, 1).pointee = XMMRegister(low: 0x3f80_0000_0000_0000, high: 0x3f80_0000_3f80_0000)
            #expect(bench.run([0x0f, 0x5e, 0xc1]) == (handled ? xm : ud), "DIVPS")
            #expect(bench.cpu.pointee.mxcsr == 0x1d86, "the denormal lane is reported too")
            #expect(cpu_xmm(bench.cpu, 0).pointee.high == 5)
        }
    }
}

/// Images of the state in memory.
struct FloatingPointImageTests {
    @Test func environmentShowsTags() {
        let bench = RealModeBench()
        // FLD1, FLDZ, then 0 / 0 for a NaN; FNSTENV [0x4000].
        #expect(bench.run([0xd9, 0xe8, 0xd9, 0xee, 0xd9, 0xee, 0xd8, 0xf0, 0xd9, 0x36, 0x00, 0x40]) == nil)
        let image = bench.memory.read(0x4000, count: 14)
        #expect(image[0...1] == [0x7f, 0x03])
        #expect(image[2...3] == [0x01, 0x28])
        #expect(image[4...5] == [0xff, 0x1b], "R7 valid, R6 zero, R5 special")
        #expect(bench.run([0xdb, 0xe3, 0xd9, 0x26, 0x00, 0x40]) == nil, "FNINIT, FLDENV")
        #expect(bench.cpu.pointee.fsw == 0x2801)
        #expect(bench.cpu.pointee.ftw == 0x03ff, "only emptiness is kept")
    }

    @Test func fastSaveAndRestore() {
        let bench = RealModeBench()
        #expect(bench.run([0xd9, 0xeb, 0xd9, 0xe8, 0x0f, 0xae, 0x06, 0x00, 0x40]) == nil, "FLDPI, FLD1, FXSAVE")
        let image = bench.memory.read(0x4000, count: 512)
        #expect(image[0...4] == [0x7f, 0x03, 0x00, 0x30, 0xc0])
        #expect(image[24...31] == [0x80, 0x1f, 0, 0, 0xff, 0xff, 0, 0])
        #expect(image[32...41] == [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f])
        #expect(image[48...57] == [0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40])
        let saved = (bench.cpu.pointee.fsw, bench.cpu.pointee.ftw)
        cpu_xmm(bench.cpu, 3).pointee = XMMRegister(low: 1, high: 2)
        #expect(bench.run([0xdb, 0xe3, 0x0f, 0xae, 0x0e, 0x00, 0x40]) == nil, "FNINIT, FXRSTOR")
        #expect((bench.cpu.pointee.fsw, bench.cpu.pointee.ftw) == saved)
        #expect(cpu_xmm(bench.cpu, 3).pointee.low == 0)
    }

    @Test func fastImagesAreChecked() {
        let bench = RealModeBench()
        #expect(bench.run([0x0f, 0xae, 0x06, 0x08, 0x40]) == gp, "FXSAVE to 8 modulo 16")
        bench.memory.write(0x4000 + 24, [0x80, 0x1f, 1, 0])
        #expect(bench.run([0x0f, 0xae, 0x0e, 0x00, 0x40]) == gp, "FXRSTOR of a reserved MXCSR bit")
        #expect(bench.run([0x0f, 0xae, 0x16, 0x18, 0x40]) == gp, "LDMXCSR of one")
        #expect(bench.cpu.pointee.mxcsr == 0x1f80)
        #expect(bench.run([0x0f, 0x28, 0x06, 0x08, 0x40]) == gp, "MOVAPS from 8 modulo 16")
    }

    @Test func mmxInstructionsTakeOverTheRegisters() {
        let bench = RealModeBench()
        #expect(bench.run([0xd9, 0xe8, 0x0f, 0x6f, 0x0e, 0x00, 0x40]) == nil, "FLD1, MOVQ mm1, [0x4000]")
        #expect(bench.cpu.pointee.fsw & 0x3800 == 0)
        #expect(bench.cpu.pointee.ftw == 0)
        #expect(cpu_fpr(bench.cpu, 1).pointee.signExponent == 0xffff)
        #expect(bench.run([0x0f, 0x77]) == nil, "EMMS")
        #expect(bench.cpu.pointee.ftw == 0xffff)
    }
}

/// RCPPS and RSQRTPS: the engine's own definition, within the SDM's relative error of 1.5 * 2^-12.
struct ApproximationTests {
    private func run(_ opcode: UInt8, _ value: Float) -> Float {
        let bench = RealModeBench()
        cpu_xmm(bench.cpu, 1).pointee = XMMRegister(low: UInt64(value.bitPattern), high: 0)
        #expect(bench.run([0xf3, 0x0f, opcode, 0xc1]) == nil)
        #expect(bench.cpu.pointee.mxcsr == 0x1f80, "no exception flags")
        return Float(bitPattern: UInt32(truncatingIfNeeded: cpu_xmm(bench.cpu, 0).pointee.low))
    }

    @Test func errorIsBounded() {
        let bound = 1.5 / 4096.0
        for step in 0..<400 {
            let significand = 1 + Float(step) / 400 + Float(step % 7) * 1e-6
            for exponent in [-126, -125, -64, -1, 0, 1, 2, 63, 64, 125] {
                let value = Float(sign: .plus, exponent: exponent, significand: significand)
                #expect(abs(Double(run(0x53, value)) * Double(value) - 1) < bound)
                let root = Double(run(0x52, value))
                #expect(abs(root * root * Double(value) - 1) < 2 * bound)
            }
        }
    }

    @Test func specialOperands() {
        #expect(run(0x53, 0) == .infinity && run(0x53, -0.0) == -.infinity)
        #expect(run(0x53, .leastNonzeroMagnitude) == .infinity, "denormals count as zero")
        #expect(run(0x53, .infinity) == 0 && run(0x53, .greatestFiniteMagnitude) == 0)
        #expect(run(0x53, .nan).isNaN && run(0x52, .nan).isNaN)
        #expect(run(0x52, -1).bitPattern == 0xffc0_0000)
        #expect(run(0x52, -0.0) == -.infinity && run(0x52, .infinity) == 0)
        #expect(run(0x52, 4) == 0.5 && run(0x53, 4) == 0.25)
    }
}
