import CEngine
import Glibc

/// Memory for generated code, mapped twice: written at one address and executed at another, so that no address is ever
/// both. Freed with the object, which must outlive whatever runs in it.
final class CodeMemory {
    /// Where code is written.
    let writable: UnsafeMutableRawPointer
    /// Where the same bytes are executed, in the lower 2 GB of the address space.
    let executable: UnsafeRawPointer
    let size: Int

    /// Nil where the host refuses executable memory.
    init?(size: Int) {
        let mapping = code_mapping_create(size)
        guard let writable = mapping.writable, let executable = mapping.executable else { return nil }
        self.writable = writable
        self.executable = UnsafeRawPointer(executable)
        self.size = size
    }

    deinit {
        munmap(writable, size)
        munmap(UnsafeMutableRawPointer(mutating: executable), size)
    }

    /// Where the code written at `place` is executed.
    func run(_ place: UnsafeRawPointer) -> UnsafeRawPointer { executable + (place - UnsafeRawPointer(writable)) }
}
