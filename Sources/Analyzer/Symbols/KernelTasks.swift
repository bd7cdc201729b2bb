import CEngine
import CZydis
import VMM

/// Which process a guest's kernel is running.
package struct KernelTasks {
    private static let nameSize = 16
    private let kernel: GuestKernel
    /// Where the pointer to the running task lies, in the processor's own area.
    private let current: UInt64
    private let offsets: Offsets

    /// A task at one moment.
    package struct Task: Hashable {
        package var name: String
        /// Zero if the kernel does not tell where it is.
        package var pid: UInt64
        /// Runs in the kernel alone, in whatever address space there is; nil if that is not known.
        package var isKernelThread: Bool?

        package init(name: String, pid: UInt64, isKernelThread: Bool?) {
            self.name = name
            self.pid = pid
            self.isKernelThread = isKernelThread
        }
    }

    /// Nil if neither the kernel's symbols nor its code say where its tasks are.
    package init?(_ kernel: GuestKernel) {
        guard
            let pointer = kernel.address("pcpu_hot") ?? kernel.address("current_task") ?? Self.pointerInCode(kernel),
            let offsets = Self.offsets(kernel)
        else { return nil }
        self.kernel = kernel
        current = pointer
        self.offsets = offsets
    }

    /// A table of functions alone does not have the pointer, but getpid begins by loading it: the first access to
    /// memory there by way of FS or GS without any register.
    private static func pointerInCode(_ kernel: GuestKernel) -> UInt64? {
        guard let start = kernel.address("__do_sys_getpid") ?? kernel.address("sys_getpid") else { return nil }
        let is64 = kernel.kallsyms.wordSize == 8
        let code = kernel.pages.bytes(start, count: 64)
        var decoder = ZydisDecoder()
        ZydisDecoderInit(
            &decoder, is64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
            is64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32)
        var place = 0
        var instruction = ZydisDecodedInstruction()
        var operands = [ZydisDecodedOperand](repeating: ZydisDecodedOperand(), count: Int(ZYDIS_MAX_OPERAND_COUNT))
        while place < code.count {
            let status = code.withUnsafeBytes {
                ZydisDecoderDecodeFull(
                    &decoder, $0.baseAddress.unsafelyUnwrapped + place, ZyanUSize(code.count - place), &instruction,
                    &operands)
            }
            guard status & 0x8000_0000 == 0 else { return nil }
            for operand in operands[..<Int(instruction.operand_count_visible)]
            where operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.base == ZYDIS_REGISTER_NONE
                && operand.mem.index == ZYDIS_REGISTER_NONE
                && (operand.mem.segment == ZYDIS_REGISTER_FS || operand.mem.segment == ZYDIS_REGISTER_GS)
            {
                let address = UInt64(bitPattern: operand.mem.disp.value)
                return is64 ? address : address & 0xFFFF_FFFF
            }
            place += Int(instruction.length)
        }
        return nil
    }

    /// Where a task has its name, number and memory.
    private struct Offsets {
        var name: Int
        var memory: Int?
        /// Where its number may be, and the same number again 4 bytes later, that of its group.
        var numbers: [Int]
    }

    /// By the kernel's types, or by what the first task looks like.
    private static func offsets(_ kernel: GuestKernel) -> Offsets? {
        if let btf = kernel.btf, let name = btf.offset(of: "comm", in: "task_struct") {
            return Offsets(
                name: name, memory: btf.offset(of: "mm", in: "task_struct"),
                numbers: [btf.offset(of: "pid", in: "task_struct")].compactMap { $0 })
        }
        let image = kernel.physicalImage.clamped(to: 0..<UInt64(kernel.pages.ram.count))
        let bytes = UnsafeRawBufferPointer(
            rebasing: kernel.pages.ram[Int(image.lowerBound)..<Int(image.upperBound)])
        for text in ["swapper/0\0\0\0\0\0\0\0", "swapper\0\0\0\0\0\0\0\0\0"] {
            let wanted = Array(text.utf8)
            for place in stride(from: largestTask, to: bytes.count - wanted.count, by: 4)
            where bytes[place] == wanted[0] && bytes[place..<place + wanted.count].elementsEqual(wanted) {
                if let found = firstTask(kernel, bytes, name: place) { return found }
            }
        }
        return nil
    }

    private static let largestTask = 8192

    /// The first task is its own parent, so that its address stands twice in a row before its name, and leads back.
    private static func firstTask(_ kernel: GuestKernel, _ bytes: UnsafeRawBufferPointer, name: Int) -> Offsets? {
        let size = kernel.kallsyms.wordSize
        func word(_ place: Int) -> UInt64 {
            size == 8
                ? bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)
                : UInt64(bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self))
        }
        for parent in stride(from: name / size * size - largestTask, to: name / size * size - size, by: size) {
            let address = word(parent)
            guard address == word(parent + size), kernel.image.contains(address) else { continue }
            let task = Int(address - kernel.image.lowerBound)
            guard task < parent, name - task < largestTask else { continue }
            // Its number and its group's lie before, perhaps with a word between.
            let numbers = [parent - task - 8, parent - task - 8 - size]
            return Offsets(name: name - task, memory: nil, numbers: numbers)
        }
        return nil
    }

    /// The task that `machine`'s processor runs now.
    package func running(_ machine: Machine) -> Task? {
        let pages = kernel.moved(to: GuestPages(machine)).pages
        guard let pointer = pointer(machine, pages), let task = pages.word(pointer), task != 0,
            let name = pages.text(task &+ UInt64(offsets.name), longest: Self.nameSize), !name.isEmpty,
            name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0xFFFD })
        else { return nil }
        let memory = offsets.memory.flatMap { pages.word(task &+ UInt64($0)) }
        return Task(name: name, pid: number(of: task, pages), isKernelThread: memory.map { $0 == 0 })
    }

    private static let largestNumber: UInt64 = 1 << 22

    private func number(of task: UInt64, _ pages: GuestPages) -> UInt64 {
        func number(_ offset: Int) -> UInt64? { pages.number(task &+ UInt64(offset), size: 4) }
        if offsets.numbers.count == 1 { return number(offsets.numbers[0]) ?? 0 }
        return offsets.numbers.lazy.compactMap { offset -> UInt64? in
            guard let found = number(offset), found == number(offset + 4), found <= Self.largestNumber else {
                return nil
            }
            return found
        }.first ?? 0
    }

    /// Where the pointer to the running task is: in the processor's area, if the kernel has such.
    private func pointer(_ machine: Machine, _ pages: GuestPages) -> UInt64? {
        let mask: UInt64 = kernel.kallsyms.wordSize == 8 ? .max : 0xFFFF_FFFF
        if let areas = kernel.address("__per_cpu_offset") { return pages.word(areas).map { (current &+ $0) & mask } }
        let cpu = machine.processor.cpu.pointee
        if kernel.kallsyms.wordSize == 8 {
            let area = cpu.cpl == 0 ? cpu.segments.5.base : cpu.kernelGSBase
            return current &+ area
        }
        // The kernel's FS, whichever segment is loaded now.
        guard let low = pages.number(cpu.gdtr.base &+ Self.areaDescriptor, size: 8) else { return nil }
        let area = (low >> 16) & 0xFF_FFFF | (low >> 56) << 24
        return (current &+ area) & mask
    }

    /// Where a 32-bit kernel's table has the descriptor of the processor's area.
    private static let areaDescriptor: UInt64 = 0xD8
}
