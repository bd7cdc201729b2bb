import CHostCPU
import DifferentialSupport
import Glibc

/// Something that runs a case: the host CPU, or the engine under test.
protocol Side: AnyObject {
    /// Registers, flags and exception after the case that ran last. Owned by the side.
    var output: UnsafeMutablePointer<HostState> { get }
    /// The window's data, constant and stack pages as they are now, `Window.dataBytes` of them. Owned by the side.
    var memory: UnsafeMutableRawPointer { get }
    /// Puts the bytes into the code page.
    func writeCode(_ bytes: UnsafeRawBufferPointer, at offset: Int)
    /// The bytes of a case that this side runs.
    func bytes(_ test: TestCase) -> [UInt8]
    /// Runs from `output`, which holds the inputs, until an exception; nil, or why it ended without one.
    func execute(_ test: TestCase) -> String?
}

extension Side {
    func bytes(_ test: TestCase) -> [UInt8] { test.bytes }

    /// Fills the code page with INT3 and the memory with what is there before a case.
    func start() {
        let fill = [UInt8](repeating: 0xcc, count: Window.pageSize)
        fill.withUnsafeBytes { writeCode($0, at: 0) }
        memory.copyMemory(from: Window.pristine, byteCount: Window.dataBytes)
    }

    /// Places or removes the instruction of a case; what passes the end of the page is cut off.
    func place(_ test: TestCase, remove: Bool = false) {
        let room = min(test.bytes.count, Window.pageSize - test.codeOffset)
        let bytes = remove ? [UInt8](repeating: 0xcc, count: room) : Array(bytes(test).prefix(room))
        bytes.withUnsafeBytes { writeCode($0, at: test.codeOffset) }
    }

    /// Runs a case whose instruction is in place.
    func run(_ test: TestCase) -> String? {
        output.update(from: test.input, count: 1)
        let bytes = memory.assumingMemoryBound(to: UInt8.self)
        for (offset, byte) in test.patches { bytes[offset] = byte }
        return execute(test)
    }

    /// Undoes what cases did to memory.
    func restoreMemory() {
        for page in 0..<Window.dataBytes / Window.pageSize {
            let offset = page * Window.pageSize
            if memcmp(memory + offset, Window.pristine + offset, Window.pageSize) != 0 {
                memcpy(memory + offset, Window.pristine + offset, Window.pageSize)
            }
        }
    }
}

/// The host CPU itself.
final class HostSide: Side {
    let output: UnsafeMutablePointer<HostState> = hostcpu_state()
    let memory = UnsafeMutableRawPointer(hostcpu_memory())

    func writeCode(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        (memory + Window.dataBytes + offset).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    }

    func bytes(_ test: TestCase) -> [UInt8] { test.hostBytes ?? test.bytes }

    func execute(_ test: TestCase) -> String? {
        hostcpu_run()
        return nil
    }
}
