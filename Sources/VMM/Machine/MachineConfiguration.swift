/// What starts on the machine.
package enum BootSource {
    case linux(LinuxKernel, initrd: [UInt8], commandLine: String)
    case multiboot(MultibootKernel, modules: [MultibootKernel.Module], commandLine: String)
    /// Execution begins at the reset vector. `vgaROM` is the display's option ROM, offered in its PCI ROM window.
    case firmware(FirmwareImage, vgaROM: [UInt8])
}

/// Everything that decides what a machine is. Two machines of one configuration, given the same input at the same
/// positions, do the same.
package struct MachineConfiguration {
    package enum Chipset: String, CaseIterable {
        /// Local APIC and I/O APIC, announced by CPUID and the ACPI tables.
        case apic
        /// The two 8259A alone.
        case xtpic
    }

    /// Bytes of RAM that can be asked for; they come in whole MB.
    package static let memoryRange: ClosedRange<UInt64> = 16 << 20...3 << 30
    package static let defaultMemorySize: UInt64 = 256 << 20

    package var memorySize: UInt64 = defaultMemorySize
    package var chipset = Chipset.apic
    package var cpu: CPUModel
    /// How the processor executes; nothing that the guest can see depends on it.
    package var engine = Engine.translator
    /// Counts per microsecond of virtual time.
    package var instructionsPerMicrosecond: UInt64 = 1000
    /// What the real-time clock shows at power-on, in seconds since 1970, UTC.
    package var startDate = RTC.defaultStartDate
    package var boot: BootSource
    package var disk: (any BlockSource)?
    package var cdrom: (any BlockSource)?
    /// A guest's request for a reset restarts it; otherwise it ends the run.
    package var continuesAfterReset = false

    package init(cpu: CPUModel, boot: BootSource) {
        self.cpu = cpu
        self.boot = boot
    }
}
