import Glibc

/// Memory for generated code, mapped twice: written at one address and executed at another, so that no address is ever
/// both. Freed with the object, which must outlive whatever runs in it.
final class CodeMemory {
    /// Where code is written.
    let writable: UnsafeMutableRawPointer
    /// Where the same bytes are executed.
    let executable: UnsafeRawPointer
    let size: Int

    /// Nil where the host refuses executable memory.
    init?(size: Int) {
        let file = syscall(Int(SYS_memfd_create), "trapline-code", 0)
        guard file >= 0 else { return nil }
        let descriptor = Int32(file)
        defer { close(descriptor) }
        guard ftruncate(descriptor, size) == 0 else { return nil }
        let first = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let first, first != MAP_FAILED else { return nil }
        let second = mmap(nil, size, PROT_READ | PROT_EXEC, MAP_SHARED, descriptor, 0)
        guard let second, second != MAP_FAILED else {
            munmap(first, size)
            return nil
        }
        writable = first
        executable = UnsafeRawPointer(second)
        self.size = size
    }

    deinit {
        munmap(writable, size)
        munmap(UnsafeMutableRawPointer(mutating: executable), size)
    }

    /// Where the code written at `place` is executed.
    func run(_ place: UnsafeRawPointer) -> UnsafeRawPointer { executable + (place - UnsafeRawPointer(writable)) }
}
