import CEngine
import VMM

/// A processor in real mode with nothing around it but 1 MB of RAM: runs a few instructions, says which exception ended
/// them. All segments have base 0; code is at 0x1000, and each vector's handler is a HLT.
final class RealModeBench {
    let memory = GuestMemory(size: 1 << 20)
    let processor: Processor
    private let clock = VirtualClock()
    var cpu: CPU { processor.cpu }

    static let code: UInt64 = 0x1000
    private static let handlers: UInt64 = 0x800, stack: UInt64 = 0x8000

    init(model: String = "x86-64") {
        processor = Processor(
            memory: memory, ports: PortBus(), mmio: MMIOBus(), clock: clock, model: CPUModel.named(model)!)
        for vector in UInt64(0)..<32 {
            let handler = Self.handlers + vector * 4
            memory.write(vector * 4, [UInt8(handler & 0xff), UInt8(handler >> 8), 0, 0])
            memory.write(handler, [0xf4])
        }
        for index in 0..<6 {
            cpu.segment(index).pointee = SegmentRegister(
                base: 0, limit: 0xffff, selector: 0, attributes: index == SegmentIndex.cs ? 0x9b : 0x93)
        }
        cpu.pointee.idtr = DescriptorTable(base: 0, limit: 0x3ff)
        cpu.pointee.cr0 = CR0.et | CR0.ne
        cpu.pointee.cr4 = CR4.osfxsr | CR4.osxmmexcpt
        cpu.initializeX87()
    }

    /// Executes `bytes` at `address`, at most 100 counts. Returns the vector of the exception that
    /// ended it, or nil if the end of `bytes` was reached.
    func run(_ bytes: [UInt8], at address: UInt64 = RealModeBench.code) -> UInt8? {
        memory.write(address, bytes + [0xf4])
        cpu.pointee.rip = address
        cpu.pointee.halted = false
        cpu.setGPR(Register.rsp, Self.stack)
        cpu.updateMode()
        processor.modeChanged()
        guard processor.run(until: clock.count &+ 100) == .halted else { return 0xff }
        let rip = cpu.pointee.rip
        return rip > Self.handlers && rip <= Self.handlers + 32 * 4 ? UInt8((rip - 1 - Self.handlers) / 4) : nil
    }
}

extension GuestMemory {
    func write(_ address: UInt64, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { write(address, from: $0) }
    }

    func read(_ address: UInt64, count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { read(address, into: $0) }
        return bytes
    }
}
