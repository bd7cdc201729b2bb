import Replayer
import Tracer
import VMM

/// A trace with what is known of its guest: the machine at the last checkpoint, its kernel and its symbols.
package final class TraceAnalysis {
    /// Where the physical load address is in a Linux boot image, and since which protocol version.
    private static let preferredAddress = 0x258
    private static let protocolVersion = 0x206

    package let reader: TraceReader
    /// Builds a replay that does not verify.
    package let makeReplay: () throws(TraceError) -> Replay
    /// The machine as it was at the last checkpoint; nil if the trace's machine cannot be built here.
    package let machine: Machine?
    package let kernel: GuestKernel?
    package let symbols: SymbolTable
    package let registers: RegisterMap
    /// What could not be had, and why; for a warning.
    package private(set) var notes: [String] = []

    /// `symbolFiles` come first where they name an address that the kernel names, too.
    package init(
        _ reader: TraceReader, symbolFiles: [SymbolFile] = [],
        makeReplay: @escaping () throws(TraceError) -> Replay
    ) throws {
        self.reader = reader
        self.makeReplay = makeReplay
        var machine: Machine?
        var failure: String?
        do throws(TraceError) {
            let replay = try makeReplay()
            try replay.begin(at: reader.reach.position.count)
            machine = replay.machine
        } catch {
            failure = "the guest's memory cannot be looked at, so there are no symbols: \(error.description)"
        }
        self.machine = machine
        let kernel = machine.flatMap { GuestKernel($0) }
        self.kernel = kernel
        registers = RegisterMap(machine)
        var found: [Symbol] = []
        for file in symbolFiles { found += try file.symbols(for: kernel) }
        if found.isEmpty {
            symbols = kernel?.symbols ?? SymbolTable([])
        } else {
            symbols = SymbolTable(found + (kernel?.symbols.symbols ?? []))
        }
        if let failure { notes.append(failure) }
    }

    /// What tells events of the guest's phases apart.
    package var phases: PhaseMap { PhaseMap(boot: reader.manifest.boot, kernel: kernel) }

    /// What tells which process ran when.
    package func watchProcesses() -> ProcessWatch {
        let guest = kernel.map { SampledGuest($0, makeReplay) }
        return ProcessWatch(start: reader.manifest.start.count, guest: guest)
    }

    /// How far the kernel lies from where it was linked; nil if the boot image does not say where that is.
    package var slide: Int64? {
        guard let kernel, let machine, case .linux(let image, _, _) = machine.configuration.boot else { return nil }
        let bytes = image.bytes
        guard bytes.count > Self.preferredAddress + 8, bytes[Self.protocolVersion] >= 0x0A else { return nil }
        let preferred = (0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[Self.preferredAddress + $1]) }
        return kernel.slide(preferred: preferred)
    }

    /// The symbol of an instruction's address. Before its page tables the kernel runs at physical addresses.
    package func symbolIndex(_ address: UInt64, _ phase: Phase) -> (index: Int, offset: UInt64)? {
        var address = address
        if phase == .kernel, let kernel, kernel.physicalImage.contains(address) { address &+= kernel.imageDelta }
        guard let index = symbols.index(of: address) else { return nil }
        return (index, address - symbols.symbols[index].address)
    }
}
