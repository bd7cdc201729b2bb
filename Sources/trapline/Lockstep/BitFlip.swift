import ArgumentParser
import VMM

/// A fault put into the machine with the translator, to see that the comparison finds it: at a count, a bit of a
/// general register or of a byte of RAM changes. On the command line `COUNT:rcx:5` or `COUNT:0x1000:7`.
struct BitFlip {
    static let registerNames =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + (8..<16).map { "r\($0)" }

    private enum Place {
        case register(Int)
        case memory(UInt64)
    }

    let count: UInt64
    private let place: Place
    private let bit: UInt64

    init(_ argument: String) throws {
        let parts = argument.split(separator: ":").map(String.init)
        guard parts.count == 3, let count = UInt64(parts[0]), count > 0, let bit = UInt64(parts[2]), bit < 64 else {
            throw ValidationError("expected a count, a register or address, and a bit such as 1000:rcx:5")
        }
        (self.count, self.bit) = (count, bit)
        if let number = Self.registerNames.firstIndex(of: parts[1]) {
            place = .register(number)
        } else if parts[1].hasPrefix("0x"), let address = UInt64(parts[1].dropFirst(2), radix: 16) {
            place = .memory(address)
        } else {
            throw ValidationError("expected the name of a 64-bit register or a hexadecimal address")
        }
    }

    func apply(to machine: Machine) {
        switch place {
        case .register(let number):
            let cpu = machine.processor.cpu
            cpu.setGPR(number, cpu.gpr(number) ^ 1 << bit)
        case .memory(let address):
            // The buffer is the machine's RAM, and checks its bounds.
            let ram = machine.memory.ramBytes
            if address < UInt64(ram.count) { ram[Int(address)] ^= 1 << UInt8(bit & 7) }
        }
    }
}
