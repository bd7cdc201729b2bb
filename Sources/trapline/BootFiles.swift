import Glibc
import Tracer
import VMM

extension MachineOptions {
    /// What the options ask to be booted, with its files read and checked.
    func bootSource() throws(CommandError) -> BootSource {
        if let kernel {
            guard firmware == nil else { throw .badCombination("give either --kernel or --firmware, not both") }
            return try kernelSource(kernel)
        }
        guard initrd == nil, append == nil, exec == nil, overlay == nil else {
            throw .badCombination("--initrd, --append, --exec and --overlay need --kernel")
        }
        if firmware != nil || disk != nil || cdrom != nil { return try firmwareSource() }
        return try Self.describing("the built-in guest") { () throws(BootError) in
            .multiboot(try MultibootKernel(BuiltinGuest.kernel), modules: [], commandLine: "")
        }
    }

    private func kernelSource(_ path: String) throws(CommandError) -> BootSource {
        let bytes = try read(path)
        guard !bytes.isEmpty else { throw .badFile(path: path, reason: "the file is empty") }
        if !LinuxKernel.isLinux(bytes), MultibootKernel.isMultiboot(bytes) {
            guard exec == nil, overlay == nil else {
                throw .badCombination("--exec and --overlay need a Linux kernel, \(path) is a multiboot kernel")
            }
            let kernel = try Self.describing(path) { () throws(BootError) in try MultibootKernel(bytes) }
            return .multiboot(kernel, modules: try modules(), commandLine: append ?? "")
        }
        let kernel = try Self.describing(path) { () throws(BootError) in try LinuxKernel(bytes) }
        let initrd = try self.initrd.map { path throws(CommandError) in try read(path) } ?? []
        guard exec == nil || !initrd.isEmpty else {
            throw .badCombination("--exec needs --initrd with a shell in it")
        }
        var files = InitramfsOverlay(
            try overlay.map { path throws(CommandError) in
                try OverlayDirectory.entries(path, limit: memory.bytes)
            } ?? [])
        if let exec { files.addCommand(exec, is64Bit: kernel.entryMode == .long64) }
        return .linux(kernel, initrd: files.appended(to: initrd), commandLine: append ?? Self.defaultCommandLine)
    }

    /// The first serial port is the console that a user sees.
    private static let defaultCommandLine = "console=ttyS0"

    /// "FILE WORDS…,FILE WORDS…"; a file whose name holds commas or spaces is taken as it is.
    private func modules() throws(CommandError) -> [MultibootKernel.Module] {
        guard let initrd else { return [] }
        if let bytes = try? read(initrd) { return [MultibootKernel.Module(bytes: bytes, commandLine: initrd)] }
        var modules: [MultibootKernel.Module] = []
        for part in initrd.split(separator: ",") {
            let path = part.prefix { $0 != " " }
            modules.append(MultibootKernel.Module(bytes: try read(String(path)), commandLine: String(part)))
        }
        return modules
    }

    private func firmwareSource() throws(CommandError) -> BootSource {
        guard let path = firmware ?? FirmwareFiles.standardFirmware else {
            throw .badCombination(
                "no firmware found in \(FirmwareFiles.folders.joined(separator: ", ")); name one with --firmware")
        }
        let bytes = try read(path, limit: UInt64(FirmwareImage.largest))
        let image = try Self.describing(path) { () throws(BootError) in try FirmwareImage(bytes) }
        guard let rom = vgaRom ?? FirmwareFiles.vgaROM(beside: path) else { return .firmware(image, vgaROM: []) }
        let romBytes = try read(rom, limit: FirmwareFiles.largestVGAROM)
        guard !romBytes.isEmpty else { throw .badFile(path: rom, reason: "the file is empty") }
        return .firmware(image, vgaROM: romBytes)
    }

    /// Reads a file that must fit into the guest's RAM, or into `limit` bytes.
    private func read(_ path: String, limit: UInt64? = nil) throws(CommandError) -> [UInt8] {
        let descriptor = try FileDescriptor.reading(path)
        defer { descriptor.close() }
        return try descriptor.readAll(path, limit: limit ?? memory.bytes)
    }

    /// Puts the file's name in front of what a loader says about it.
    private static func describing<T>(_ path: String, _ body: () throws(BootError) -> T) throws(CommandError) -> T {
        do {
            return try body()
        } catch {
            throw .badFile(path: path, reason: error.description)
        }
    }
}

/// Where SeaBIOS and its VGA BIOS are found when no firmware is named.
enum FirmwareFiles {
    static let folders = [".cache/guests", "/usr/share/seabios", "/usr/share/qemu"]
    static let largestVGAROM: UInt64 = 65536
    private static let vgaROMName = "vgabios-stdvga.bin"

    static var standardFirmware: String? { folders.map { "\($0)/bios-256k.bin" }.first(where: isReadable) }

    /// The VGA BIOS in the firmware's own folder, or else in one of the usual ones.
    static func vgaROM(beside firmware: String) -> String? {
        let folder = firmware.lastIndex(of: "/").map { String(firmware[..<$0]) } ?? "."
        return ([folder] + folders).map { "\($0)/\(vgaROMName)" }.first(where: isReadable)
    }

    private static func isReadable(_ path: String) -> Bool {
        guard let file = try? FileDescriptor.reading(path) else { return false }
        file.close()
        return true
    }
}

extension MachineOptions {
    /// Which files the images of `configuration`, which these options gave, came from.
    func imagePaths(_ configuration: MachineConfiguration) -> ImagePaths {
        var paths = ImagePaths()
        func note(_ role: TraceImage.Role, _ path: String?) {
            guard let path, let file = Self.file(path) else { return }
            paths.files[role, default: []].append(file)
        }
        switch configuration.boot {
        case .linux:
            note(.kernel, kernel)
            note(.initrd, initrd)
        case .multiboot(_, let modules, _):
            note(.kernel, kernel)
            for module in modules {
                let words = module.commandLine
                note(.module, Self.file(words) != nil ? words : String(words.prefix { $0 != " " }))
            }
        case .firmware(_, let rom):
            let path = firmware ?? FirmwareFiles.standardFirmware
            note(.firmware, path)
            if !rom.isEmpty { note(.vgaROM, vgaRom ?? FirmwareFiles.vgaROM(beside: path ?? "")) }
        }
        note(.disk, disk)
        note(.cdrom, cdrom)
        return paths
    }

    /// The regular file at `path` by its whole name, with its size.
    private static func file(_ path: String) -> ImagePaths.File? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, let whole = realpath(path, nil) else {
            return nil
        }
        defer { free(whole) }
        return ImagePaths.File(path: String(cString: whole), bytes: UInt64(status.st_size))
    }
}
