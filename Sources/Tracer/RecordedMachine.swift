import VMM

// From a machine's configuration to a manifest, and back.

extension TraceManifest {
    /// Describes `configuration`, but for its images.
    package init(_ configuration: MachineConfiguration, writer: String) {
        self.init()
        self.writer = writer
        engine = configuration.engine
        cpu = configuration.cpu.name
        chipset = configuration.chipset
        memorySize = configuration.memorySize
        instructionsPerMicrosecond = configuration.instructionsPerMicrosecond
        startDate = configuration.startDate
        continuesAfterReset = configuration.continuesAfterReset
        host = .current
        switch configuration.boot {
        case .linux(_, _, let line):
            boot = .linux
            commandLine = line
        case .multiboot(_, _, let line):
            boot = .multiboot
            commandLine = line
        case .firmware: boot = .firmware
        }
    }
}

/// The files that a machine's images came from, as far as they came from files.
package struct ImagePaths {
    package struct File {
        package var path: String
        /// How many bytes of the image are the file's.
        package var bytes: UInt64

        package init(path: String, bytes: UInt64) {
            self.path = path
            self.bytes = bytes
        }
    }

    /// In the order of the images of each role.
    package var files: [TraceImage.Role: [File]] = [:]

    package init() {}
}

extension ImageContents {
    /// The images of a machine. `embed` puts what can be had from files into the trace.
    package static func all(
        of configuration: MachineConfiguration, paths: ImagePaths, embed: Bool
    ) -> [ImageContents] {
        var images: [ImageContents] = []
        // Where a file lies matters only to a trace that needs it again.
        func name(_ path: String?) -> String {
            guard let path else { return "" }
            return embed ? String(path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...]) : path
        }
        func add(_ role: TraceImage.Role, _ bytes: [UInt8], commandLine: String = "") {
            let number = images.filter { $0.image.role == role }.count
            let files = paths.files[role] ?? []
            let file = number < files.count ? files[number] : nil
            images.append(
                ImageContents(
                    image: TraceImage(
                        role: role, size: UInt64(bytes.count), digest: TraceImage.digest(bytes), path: name(file?.path),
                        fileBytes: file?.bytes ?? 0, isEmbedded: embed || file == nil, commandLine: commandLine),
                    bytes: bytes))
        }
        func add(_ role: TraceImage.Role, _ source: any BlockSource) {
            let path = paths.files[role]?.first?.path
            images.append(
                ImageContents(
                    image: TraceImage(
                        role: role, size: source.byteCount, digest: StateDigest(high: 0, low: 0), path: name(path),
                        fileBytes: source.byteCount, isEmbedded: embed || path == nil), bytes: []))
        }
        switch configuration.boot {
        case .linux(let kernel, let initrd, _):
            add(.kernel, kernel.bytes)
            if !initrd.isEmpty { add(.initrd, initrd) }
        case .multiboot(let kernel, let modules, _):
            add(.kernel, kernel.bytes)
            for module in modules { add(.module, module.bytes, commandLine: module.commandLine) }
        case .firmware(let image, let rom):
            add(.firmware, image.bytes)
            if !rom.isEmpty { add(.vgaROM, rom) }
        }
        if let disk = configuration.disk { add(.disk, disk) }
        if let cdrom = configuration.cdrom { add(.cdrom, cdrom) }
        return images
    }
}

/// A disk as a trace holds it: what the recorded guest read, from the trace or, checked, from the image's file.
package final class TracedDisk: BlockSource {
    package let byteCount: UInt64
    private let reader: TraceReader
    private let image: Int
    private let file: (any BlockSource)?
    /// Where each chunk is: block and piece.
    private var places: [UInt64: (entry: Int, piece: Int)] = [:]
    private var entries: [IndexEntry] = []
    private var cached: (entry: Int, block: ImageBlock)?
    /// What could not be had, once that happened.
    package private(set) var failure: String?

    /// `file` is the image's own, for a trace that does not hold it.
    package init(_ reader: TraceReader, image: Int, file: (any BlockSource)?) throws(TraceError) {
        self.reader = reader
        self.image = image
        self.file = file
        byteCount = reader.manifest.images[image].size
        for entry in reader.blocks(.images) {
            let block = try ImageBlock.parse(reader.load(entry), images: reader.manifest.images)
            guard block.image == image else { continue }
            for (index, piece) in block.pieces.enumerated() where piece.offset % RecordedDisk.chunk == 0 {
                places[piece.offset / RecordedDisk.chunk] = (entries.count, index)
            }
            entries.append(entry)
        }
    }

    package func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < buffer.count {
            let position = offset &+ UInt64(done)
            guard position < byteCount else {
                UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0)
                return
            }
            let chunk = position / RecordedDisk.chunk
            let bytes = contents(of: chunk)
            let start = Int(position - chunk * RecordedDisk.chunk)
            let count = min(bytes.count - start, buffer.count - done)
            UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count]).copyBytes(
                from: bytes[start..<start + count])
            done += count
        }
    }

    private func contents(of chunk: UInt64) -> [UInt8] {
        let start = chunk * RecordedDisk.chunk
        let size = Int(min(RecordedDisk.chunk, byteCount - start))
        let name = reader.manifest.images[image].role.rawValue
        guard let place = places[chunk] else {
            fail("the guest reads byte \(start) of the \(name), which the recorded run did not")
            return [UInt8](repeating: 0, count: size)
        }
        do throws(TraceError) {
            if cached?.entry != place.entry {
                let block = try ImageBlock.parse(
                    reader.load(entries[place.entry]), images: reader.manifest.images)
                cached = (place.entry, block)
            }
            if let block = cached?.block, block.pieces[place.piece].length == size {
                if !block.isDigest {
                    let first = block.pieces[place.piece].place
                    return Array(block.data[first..<first + size])
                }
                return checked(chunk, size, block, place.piece, name)
            }
            fail("the \(name) has \(size) bytes at \(start), which the trace does not")
        } catch {
            fail(error.description)
        }
        return [UInt8](repeating: 0, count: size)
    }

    private func checked(_ chunk: UInt64, _ size: Int, _ block: ImageBlock, _ piece: Int, _ name: String) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        guard let file else {
            fail("the trace does not hold the \(name), and no file with it was given")
            return bytes
        }
        bytes.withUnsafeMutableBytes { file.read(chunk * RecordedDisk.chunk, into: $0) }
        if !bytes.withUnsafeBytes({ block.matches(piece, $0) }) {
            fail("the file of the \(name) differs at byte \(chunk * RecordedDisk.chunk) from the one that was recorded")
        }
        return bytes
    }

    private func fail(_ sentence: String) {
        if failure == nil { failure = sentence }
    }
}

extension TraceReader {
    /// The bytes of a boot image. `file` gives the contents of the image's own file, for a trace that does not hold it.
    package func imageBytes(
        _ number: Int, file: (TraceImage) throws(TraceError) -> [UInt8]
    ) throws(TraceError) -> [UInt8] {
        let image = manifest.images[number]
        guard image.size <= 4 << 30 else { throw .unusable("the \(image.role.rawValue) has \(image.size) bytes") }
        var bytes: [UInt8] = []
        if !image.isEmbedded {
            bytes = try file(image)
            guard UInt64(bytes.count) == image.fileBytes else {
                throw .unusable(
                    "\(image.path) has \(bytes.count) bytes, the recorded \(image.role.rawValue) had "
                        + "\(image.fileBytes)")
            }
        }
        for entry in blocks(.images) {
            let block = try ImageBlock.parse(load(entry), images: manifest.images)
            guard block.image == number else { continue }
            for piece in block.pieces where piece.offset == UInt64(bytes.count) && !block.isDigest {
                bytes += block.data[piece.place..<piece.place + piece.length]
            }
        }
        guard UInt64(bytes.count) == image.size, TraceImage.digest(bytes) == image.digest else {
            throw .unusable(
                image.isEmbedded
                    ? "the trace does not hold the whole \(image.role.rawValue)"
                    : "\(image.path) is not the \(image.role.rawValue) that was recorded")
        }
        return bytes
    }

    /// The configuration that the trace was recorded with, on `engine`. Files are asked for only if the trace does not
    /// hold its images.
    package func configuration(
        engine: Engine, file: (TraceImage) throws(TraceError) -> [UInt8],
        disk: (TraceImage) throws(TraceError) -> any BlockSource
    ) throws(TraceError) -> (configuration: MachineConfiguration, disks: [TracedDisk]) {
        guard let cpu = CPUModel.named(manifest.cpu, apic: manifest.chipset == .apic) else {
            throw .unusable("there is no CPU model \(manifest.cpu)")
        }
        var configuration = MachineConfiguration(cpu: cpu, boot: try bootSource(file))
        configuration.memorySize = manifest.memorySize
        configuration.chipset = manifest.chipset
        configuration.instructionsPerMicrosecond = manifest.instructionsPerMicrosecond
        configuration.startDate = manifest.startDate
        configuration.continuesAfterReset = manifest.continuesAfterReset
        configuration.engine = engine
        var disks: [TracedDisk] = []
        for (number, image) in manifest.images.enumerated() where image.role == .disk || image.role == .cdrom {
            let traced = try TracedDisk(self, image: number, file: image.isEmbedded ? nil : disk(image))
            disks.append(traced)
            if image.role == .disk { configuration.disk = traced } else { configuration.cdrom = traced }
        }
        return (configuration, disks)
    }

    private func bootSource(_ file: (TraceImage) throws(TraceError) -> [UInt8]) throws(TraceError) -> BootSource {
        func bytes(_ role: TraceImage.Role) throws(TraceError) -> [UInt8] {
            guard let number = manifest.images.firstIndex(where: { $0.role == role }) else { return [] }
            return try imageBytes(number, file: file)
        }
        do {
            switch manifest.boot {
            case .linux:
                return .linux(
                    try LinuxKernel(bytes(.kernel)), initrd: try bytes(.initrd), commandLine: manifest.commandLine)
            case .multiboot:
                var modules: [MultibootKernel.Module] = []
                for (number, image) in manifest.images.enumerated() where image.role == .module {
                    modules.append(
                        MultibootKernel.Module(
                            bytes: try imageBytes(number, file: file), commandLine: image.commandLine))
                }
                return .multiboot(
                    try MultibootKernel(bytes(.kernel)), modules: modules, commandLine: manifest.commandLine)
            case .firmware:
                return .firmware(try FirmwareImage(bytes(.firmware)), vgaROM: try bytes(.vgaROM))
            }
        } catch let error as TraceError {
            throw error
        } catch {
            throw .unusable("the trace's boot image cannot be used: \(error)")
        }
    }
}
