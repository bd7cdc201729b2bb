/// Which process a guest's kernel is running.
package struct KernelTasks {
    private static let nameSize = 16
    private let kernel: GuestKernel
    /// Where the pointer to the running task lies.
    private let current: UInt64
    private let nameOffset: Int
    private let pidOffset: Int?
    private let memoryOffset: Int?

    /// A task at one moment.
    package struct Task: Hashable {
        package var name: String
        /// Zero if the kernel does not tell where it is.
        package var pid: UInt64
        /// Runs in the kernel alone, in whatever address space there is.
        package var isKernelThread: Bool

        package init(name: String, pid: UInt64, isKernelThread: Bool) {
            self.name = name
            self.pid = pid
            self.isKernelThread = isKernelThread
        }
    }

    /// Nil if the kernel's symbols do not say where its tasks are.
    package init?(_ kernel: GuestKernel) {
        guard let pointer = kernel.address("pcpu_hot") ?? kernel.address("current_task"),
            let offsets = Self.offsets(kernel)
        else { return nil }
        if let areas = kernel.address("__per_cpu_offset") {
            guard let area = kernel.pages.word(areas) else { return nil }
            current = (pointer &+ area) & (kernel.kallsyms.wordSize == 8 ? .max : 0xFFFF_FFFF)
        } else {
            // A kernel for one processor has no areas per processor.
            guard kernel.image.contains(pointer) else { return nil }
            current = pointer
        }
        self.kernel = kernel
        (nameOffset, pidOffset, memoryOffset) = offsets
    }

    /// Where a task has its name, number and memory. The name can be found without the kernel's types: the first task
    /// has always been called swapper.
    private static func offsets(_ kernel: GuestKernel) -> (name: Int, pid: Int?, memory: Int?)? {
        if let btf = kernel.btf, let name = btf.offset(of: "comm", in: "task_struct") {
            return (name, btf.offset(of: "pid", in: "task_struct"), btf.offset(of: "mm", in: "task_struct"))
        }
        guard let first = kernel.address("init_task") else { return nil }
        let bytes = kernel.pages.bytes(first, count: 16384)
        for text in ["swapper/0\0\0\0\0\0\0\0", "swapper\0\0\0\0\0\0\0\0\0"] {
            let wanted = Array(text.utf8)
            let place = bytes.indices.first { place in
                place + wanted.count <= bytes.count && bytes[place] == wanted[0]
                    && bytes[place..<place + wanted.count].elementsEqual(wanted)
            }
            if let place { return (place, nil, nil) }
        }
        return nil
    }

    /// The task that runs on the processor now.
    package func running() -> Task? {
        guard let task = kernel.pages.word(current), task != 0,
            let name = kernel.pages.text(task &+ UInt64(nameOffset), longest: Self.nameSize), !name.isEmpty,
            name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0xFFFD })
        else { return nil }
        let pid = pidOffset.flatMap { kernel.pages.number(task &+ UInt64($0), size: 4) } ?? 0
        let memory = memoryOffset.flatMap { kernel.pages.word(task &+ UInt64($0)) }
        return Task(name: name, pid: pid, isKernelThread: memory == 0)
    }
}
