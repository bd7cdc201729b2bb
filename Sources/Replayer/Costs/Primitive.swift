/// What a cost table prices. A strategy charges multiples of these and never a number of cycles of its own, so the same
/// run can be priced by any table, and the difference of two strategies is exact in each of them.
package enum Primitive: UInt8, CaseIterable {
    // MARK: The bare machine

    /// An instruction that is not one of those below.
    case instruction
    case cli, sti, pushf, popf
    /// IRET, to the same ring or an outer one.
    case iret
    /// RET, JMP or CALL to another segment.
    case farTransfer
    /// INT n: delivery through a gate to an inner ring, without the IRET.
    case softwareInterrupt
    case syscall, sysret, sysenter, sysexit, swapgs
    case readControl
    /// MOV to CR0, CR4 or CR8.
    case writeControl
    /// MOV to CR3, without the TLB refills that follow.
    case writeCR3
    case readDebug, writeDebug, clts
    /// LMSW and SMSW.
    case machineStatusWord
    /// LGDT and LIDT.
    case loadDescriptorTable
    /// LLDT and LTR.
    case loadSystemSegment
    /// SGDT, SIDT, SLDT and STR.
    case storeDescriptorTable
    case segmentLoad, segmentStore
    /// LAR, LSL, VERR, VERW and ARPL.
    case segmentInspection
    case invlpg, wbinvd, rdmsr, wrmsr, rdtsc, rdpmc, cpuid
    /// HLT, without the idle time.
    case hlt
    case pause
    /// IN or OUT, without the bus.
    case portInstruction
    /// MONITOR, MWAIT, XGETBV, XSETBV, RSM.
    case rareInstruction
    /// A task switch through a gate or a TSS.
    case taskSwitch
    /// Delivery of an exception to ring 0, without the IRET.
    case exceptionDelivery
    /// Delivery of an external interrupt, with the acknowledge cycle.
    case interruptDelivery
    /// A store or load that hits the first-level cache.
    case memoryAccess
    /// CALL and RET of a pair that predicts well.
    case callReturn
    /// One byte of padding NOPs.
    case nopByte
    /// One memory reference of a page walk.
    case walkReference
    /// An access to a device on an ISA-like bus: ports and their devices.
    case portBus
    /// An access to memory-mapped registers on PCI or beyond.
    case mmioBus
    /// An access to the local APIC, which is on the processor's die.
    case localAPICAccess

    // MARK: Trap and emulate, and what deprivileges the guest

    /// The fault of a deprivileged instruction into the VMM and the return from there: both directions of the hardware.
    case trapRoundTrip
    /// Fetching, decoding and dispatching the faulting instruction in software.
    case decode
    /// Emulating one simple sensitive instruction on the virtual CPU's state.
    case emulate
    /// Building an exception or interrupt frame for the guest's kernel, in software.
    case reflect
    /// What an address-space switch without tags costs afterwards in TLB refills, the CR3 loads included.
    case spaceSwitch

    // MARK: Shadow paging

    /// Walking the guest's tables in software and entering one translation into the shadow.
    case shadowFill
    /// Applying one store to a guest's table to the shadow.
    case shadowUpdate
    /// Write-protecting a frame that became a page table, or dropping the shadow of one that no longer is.
    case shadowProtect
    /// Dropping one shadow entry.
    case shadowDrop
    /// Switching to the shadow of another root: finding it by the guest's CR3.
    case shadowRoot

    // MARK: Binary translation

    /// Translating one instruction of the guest's kernel.
    case translateInstruction
    /// What an indirect branch or a return costs more through the translation lookup.
    case translationLookup
    /// A callout from translated code to the VMM and back.
    case callout
    /// A sensitive instruction's emulation inline in translated code.
    case inlineEmulation

    // MARK: Hardware virtualization

    /// VM exit and VM entry: both directions of the hardware.
    case exitRoundTrip
    /// The hypervisor's own work for an exit: saving registers, finding the handler.
    case exitSoftware
    /// TLB refills after a VM exit where entries have no tags; none where they have.
    case exitRefill
    /// Injecting an event at VM entry.
    case injection
    /// Resolving an EPT or NPT violation: allocating a page and entering it.
    case nestedFill
    /// From the hypervisor to a device model in user space and back.
    case userModel

    // MARK: Para-virtualization

    /// A hypercall from kernel to hypervisor and back, without its work.
    case hypercall
    /// One further call of a multicall.
    case multicallEntry
    /// Validating and making one page-table update.
    case mmuUpdate
    /// Validating one entry of a page table that is being pinned.
    case validateEntry
    /// The hypervisor's bookkeeping for a hypercall that is neither of these.
    case hypercallWork
    /// An upcall: the hypervisor builds the frame and enters the guest's event handler.
    case upcall
    /// Bouncing an entry into the guest's kernel through the hypervisor.
    case bounce
    /// A notification through an event channel.
    case eventChannel

    // MARK: In place

    /// A few instructions of the in-place VMM on its variables, without a call.
    case wedgeInline
    /// A call into the in-place VMM that saves registers, works, and returns.
    case wedgeCall
    /// The register model of a device in the in-place VMM.
    case wedgeDevice

    // MARK: L4

    /// An IPC to another address space, one way.
    case ipcOtherSpace
    /// An IPC within the address space, one way.
    case ipcSameSpace
    /// One message register of an IPC.
    case messageRegister
    /// Unmapping one page.
    case unmap
    /// Exchanging the registers of a thread.
    case exchangeRegisters

    // MARK: PVM

    /// A switch between guest user and guest kernel by the switcher, without the hypervisor.
    case directSwitch
    /// A switch from the guest to the hypervisor and back.
    case pvmSwitch

    // MARK: Devices

    /// The model of a device in the VMM or hypervisor, for one access.
    case deviceModel
    /// A request put into a shared ring.
    case ringEntry

    /// The unit of its values.
    package var unit: CostUnit {
        switch self {
        case .portBus, .mmioBus: .nanoseconds
        default: .cycles
        }
    }

    /// Its name in cost tables.
    package var name: String { "\(self)" }

    package init?(name: String) {
        guard let found = Self.byName[name] else { return nil }
        self = found
    }

    private static let byName = Dictionary(uniqueKeysWithValues: allCases.map { ($0.name, $0) })
}

/// What a cost is counted in. The bus does not scale with the clock, so its accesses are seeded in nanoseconds.
package enum CostUnit: String {
    case cycles, nanoseconds
}
