import CBuiltinGuest

/// Programs of the project's own that run in a guest, assembled at build time.
package enum BuiltinGuest {
    /// The multiboot image that boots when nothing else is named.
    package static var kernel: [UInt8] { bytes(guest_kernel()) }

    /// The init program that runs `/.trapline/command` in a Linux guest.
    package static func initProgram(is64Bit: Bool) -> [UInt8] { bytes(is64Bit ? guest_init64() : guest_init32()) }

    /// The program's bytes are constants of the executable.
    private static func bytes(_ program: GuestProgram) -> [UInt8] {
        Array(UnsafeBufferPointer(start: program.bytes, count: program.count))
    }
}
