import CEngine

// A kernel that is started directly finds the machine as firmware would have left it.
extension Devices {
    /// Where the ACPI tables go; the root pointer follows them.
    private static let tablesAddress: UInt64 = MemoryMap.biosSegment
    /// Addresses for base address registers: between the largest RAM and the chipset's own registers.
    private static let pciMemory: Range<UInt32> = 0xE000_0000..<0xFEB0_0000
    private static let pciPorts: Range<UInt16> = 0xC000..<0xF000
    /// ISA interrupts of the four PIRQ lines, as SeaBIOS routes them.
    private static let pirqInterrupts: [UInt32] = [10, 10, 11, 11]

    /// Leaves the devices ready for a kernel, with the BIOS data area and the ACPI tables in memory.
    /// - Returns: the guest-physical address of the ACPI root pointer.
    func prepareDirectBoot() -> UInt64 {
        hostBridge.shadowAll()
        powerManagement.openRegisters()
        ide.enableChannels()
        vga.presetTextMode()
        pci.assignResources(memory: Self.pciMemory, io: Self.pciPorts)
        routePCIInterrupts()
        interrupts.prepareDirectBoot(ports)
        storeBIOSData()
        return storeACPITables()
    }

    /// Routes the PIRQ lines, makes their interrupts level-triggered, and tells each function its interrupt.
    private func routePCIInterrupts() {
        for (pirq, irq) in Self.pirqInterrupts.enumerated() {
            isaBridge.function.write(PIIX3.pirqRoute0 + pirq, irq, size: 1)
        }
        let levelTriggeredHigh: UInt32 = 0x0E  // 9, 10, 11
        ports.write(0x4D1, levelTriggeredHigh, size: 1)
        for device in 0..<32 {
            for number in 0..<8 {
                guard let function = pci.function(device: device, function: number) else { continue }
                let pin = Int(function[PCIConfig.interruptPin])
                guard (1...4).contains(pin), function !== powerManagement.function else { continue }
                let irq = Self.pirqInterrupts[PIIX3.pirq(device: device, pin: pin)]
                function.write(PCIConfig.interruptLine, irq, size: 1)
            }
        }
    }

    /// The words of the BIOS data area that kernels read, and the size of the extended one.
    private func storeBIOSData() {
        var data = GuestBlock(size: 256)
        data.set(0x00, UInt16(UART16550.com1Base))
        data.set(0x0E, UInt16(MemoryMap.ebda >> 4))
        data.set(0x10, UInt16(0x0226))  // one serial port, a mouse, 80-column colour, a coprocessor
        data.set(0x13, UInt16(MemoryMap.lowerKilobytes))
        data.set(0x49, UInt8(3))
        data.set(0x4A, UInt16(80))
        data.set(0x63, UInt16(0x3D4))
        data.set(0x84, UInt8(24))
        data.set(0x85, UInt16(16))
        memory.store(data.bytes, at: 0x400)
        memory.store([1], at: MemoryMap.ebda)
    }

    private func storeACPITables() -> UInt64 {
        let tables = acpiTables
        let root = (Self.tablesAddress + UInt64(tables.blockSize) + 15) & ~15
        memory.store(tables.block(at: UInt32(Self.tablesAddress)), at: Self.tablesAddress)
        memory.store(tables.rootPointer(forBlockAt: UInt32(Self.tablesAddress)), at: root)
        return root
    }
}

extension Processor {
    private static let writeBack: UInt64 = 6
    private static let mtrrEnable: UInt64 = 1 << 11
    private static let mtrrFixedEnable: UInt64 = 1 << 10
    private static let mtrrValid: UInt64 = 1 << 11

    /// Memory types as firmware sets them: the PCI hole uncached by a variable range, the display area by the fixed
    /// ones, everything else write-back.
    func prepareMemoryTypes() {
        let (holeBase, holeSize): (UInt64, UInt64) = (0xC000_0000, 0x4000_0000)
        cpu_mtrr_variable(cpu, 0).pointee = holeBase
        cpu_mtrr_variable(cpu, 1).pointee = ((1 << model.physicalAddressBits) - holeSize) | Self.mtrrValid
        let allWriteBack: UInt64 = 0x0606_0606_0606_0606
        cpu_mtrr_fixed(cpu, 0).pointee = allWriteBack
        cpu_mtrr_fixed(cpu, 1).pointee = allWriteBack
        for index in 3..<11 as Range<Int32> { cpu_mtrr_fixed(cpu, index).pointee = allWriteBack }
        cpu.pointee.mtrrDefaultType = Self.mtrrEnable | Self.mtrrFixedEnable | Self.writeBack
    }
}
