import CBlockGuest
import CEngine
import CHostCPU
import DifferentialSupport
import Glibc
import VMM

/// Runs user programs without faults on the host CPU, and compares it with the interpreter.
final class HostRun {
    /// Backing pages: code, stack and data, in this order.
    private enum Backing {
        static let code: UInt32 = 0
        static let stack: UInt32 = 4
        static let data: UInt32 = 6
        static let count = 14
    }

    private let state: UnsafeMutablePointer<HostState>
    /// The backing pages, which live as long as the process.
    private let memory: UnsafeMutableRawPointer

    /// Nil if the host does not let programs run this way; says why.
    init?() {
        let pages = Self.pages
        let list = UnsafeMutablePointer<HostPage>.allocate(capacity: pages.count)
        list.initialize(from: pages, count: pages.count)
        if let failure = hostcpu_program_start(list, pages.count, Backing.count) {
            print("not compared with the host CPU: \(String(cString: failure))")
            return nil
        }
        state = hostcpu_program_state()
        memory = UnsafeMutableRawPointer(hostcpu_program_memory())
    }

    /// What programs for the host use, in the low window and in the two others, where data pages are exchanged.
    private static let pages: [HostPage] = {
        var pages: [HostPage] = []
        func add(_ address: UInt64, _ page: UInt32, _ rights: Int32) {
            pages.append(HostPage(address: address, page: page, rights: rights))
        }
        for window in [Linear.low, Linear.second, Linear.high] {
            for page in UInt32(0)..<4 { add(window + UInt64(page) * pageSize, page, PROT_READ | PROT_EXEC) }
            for page in UInt32(0)..<2 {
                add(window + Linear.stack + UInt64(page) * pageSize, Backing.stack + page, PROT_READ | PROT_WRITE)
            }
            for page in [DataPage.plain0, DataPage.plain1, DataPage.made] {
                let isExchanged = window != Linear.low && page != DataPage.made
                let frame = UInt32(isExchanged ? page ^ 1 : page)
                add(window + Linear.data + page * pageSize, Backing.data + frame, PROT_READ | PROT_WRITE)
            }
        }
        return pages
    }()

    /// Whether the host has the page of a page fault, with the rights that the guest gives: string instructions may run
    /// on to pages that only the guest has, and only there data can be executed.
    private static func isMapped(_ fault: HostState) -> Bool {
        let isFetch = fault.errorCode & 0x10 != 0
        return !isFetch && pages.contains { $0.address == fault.cr2 & pageMask }
    }

    /// The guest's frames, and the backing pages that stand for them.
    private static let copies: [(frame: UInt64, backing: UInt32, count: UInt64)] = [
        (Physical.code, Backing.code, 4), (Physical.stack, Backing.stack, 2), (Physical.data, Backing.data, 8),
    ]
    /// Those that programs may change.
    private static let compared: [(frame: UInt64, backing: UInt32)] =
        (UInt64(0)..<2).map { (Physical.stack + $0 * pageSize, Backing.stack + UInt32($0)) }
        + [DataPage.plain0, DataPage.plain1, DataPage.made].map {
            (Physical.data + $0 * pageSize, Backing.data + UInt32($0))
        }

    enum Result {
        /// The program does not end by itself, or something faults.
        case unfit
        case equal
        case different([String])
    }

    /// - Parameter spoils: changes what the host gave, to see that it is compared.
    func run(_ test: Case, _ world: World, spoils: Bool = false) -> Result {
        world.load(test)
        for copy in Self.copies {
            world.copyMemory(copy.frame, count: copy.count * pageSize, to: memory + Int(copy.backing) * Int(pageSize))
        }
        load(test, world)
        world.run(until: test.limit)
        guard world.state == .ended, world.logCount == 1 else { return .unfit }
        guard hostcpu_program_run() else { return .different(["the host does not come back"]) }
        guard state.pointee.vector != 14 || Self.isMapped(state.pointee) else { return .unfit }
        if spoils { registers[3] ^= 1 << 7 }
        let differences = compare(test, world)
        return differences.isEmpty ? .equal : .different(differences)
    }

    private func load(_ test: Case, _ world: World) {
        let cpu = world.processor.cpu
        state.initialize(to: HostState())
        for number in 0..<16 { registers[number] = cpu.gpr(number) }
        state.pointee.rip = cpu.pointee.rip
        state.pointee.rflags = cpu.rflags | RFlags.if
        let data = UInt16(HOST_DS)
        (state.pointee.ds, state.pointee.es, state.pointee.ss) = (data, data, data)
        state.pointee.cs = UInt16(test.setting.is64Bit ? HOST_CS64 : HOST_CS32)
        FXImage.initialize(UnsafeMutableRawPointer(state))
        FloatImage.save(cpu, to: UnsafeMutableRawPointer(state))
    }

    /// RAX to R15, inside the shared state.
    private var registers: UnsafeMutablePointer<UInt64> {
        (UnsafeMutableRawPointer(state) + FXImage.bytes).assumingMemoryBound(to: UInt64.self)
    }

    // MARK: Comparing

    /// Flags that are compared: AF is undefined after too much.
    private static let flags = (RFlags.arithmetic & ~RFlags.af) | RFlags.df
    /// FSW without C0 to C3, of which most instructions leave some undefined.
    private static let fsw: UInt16 = 0xb8ff

    private func compare(_ test: Case, _ world: World) -> [String] {
        var lines: [String] = []
        func check(_ name: String, _ host: UInt64, _ engine: UInt64, _ mask: UInt64 = ~0) {
            if (host ^ engine) & mask != 0 { lines.append("\(name): host \(hex(host)), engine \(hex(engine))") }
        }
        check("vector", UInt64(state.pointee.vector), 3)
        let frame = world.exitFrame
        check("rip", state.pointee.rip, frame.rip)
        check("rflags", state.pointee.rflags, frame.rflags, Self.flags)
        let count = test.setting.is64Bit ? 16 : 8
        let width: UInt64 = test.setting.is64Bit ? ~0 : 0xffff_ffff
        for number in 0..<count {
            check("register \(number)", registers[number], frame.registers[number], width)
        }
        withUnsafeTemporaryAllocation(byteCount: FXImage.bytes, alignment: 16) { buffer in
            let image = buffer.baseAddress!
            FXImage.initialize(image)
            FloatImage.save(world.processor.cpu, to: image)
            let host = UnsafeRawPointer(state)
            func word<T: FixedWidthInteger>(_ name: String, _ offset: Int, _ mask: T) {
                check(
                    name, UInt64(host.load(fromByteOffset: offset, as: T.self)),
                    UInt64(image.load(fromByteOffset: offset, as: T.self)), UInt64(mask))
            }
            word("fcw", FXImage.fcw, UInt16.max)
            word("fsw", FXImage.fsw, Self.fsw)
            word("ftw", FXImage.ftw, UInt8.max)
            word("mxcsr", FXImage.mxcsr, UInt32.max)
            for index in 0..<8 {
                word("st\(index)", FXImage.st(index), UInt64.max)
                word("st\(index) exponent", FXImage.st(index) + 8, UInt16.max)
            }
            for index in 0..<count {
                word("xmm\(index) low", FXImage.xmm(index), UInt64.max)
                word("xmm\(index) high", FXImage.xmm(index) + 8, UInt64.max)
            }
        }
        for page in Self.compared {
            let host = memory + Int(page.backing) * Int(pageSize)
            if let offset = world.firstDifference(page.frame, host, count: Int(pageSize)) {
                lines.append("memory \(hex(page.frame + UInt64(offset)))")
            }
        }
        return lines
    }
}
