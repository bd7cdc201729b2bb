import CEngine

/// What switches to a task; decides nesting and busy bits (SDM volume 3, 7.3). Raw values appear in events.
package enum TaskSwitchSource: UInt32 {
    case jump, call, interrupt, interruptReturn
}

/// How far a task switch came.
package enum TaskSwitchResult {
    /// A fault in the old task: nothing has changed.
    case rejected
    /// The new task runs. A fault may be pending already, which belongs to it.
    case switched
}

/// Layout of a task-state segment: byte offsets (SDM volume 3, 7.2.1 and 7.6).
private struct TaskLayout {
    let is32: Bool

    /// The last byte that must be inside the limit.
    var lastByte: UInt64 { is32 ? 0x67 : 0x2b }
    var word: UInt64 { is32 ? 4 : 2 }
    static let link: UInt64 = 0
    static let cr3: UInt64 = 0x1c
    static let trap: UInt64 = 0x64
    var instructionPointer: UInt64 { is32 ? 0x20 : 0x0e }
    var flags: UInt64 { instructionPointer + word }
    func register(_ number: Int) -> UInt64 { flags + word * UInt64(number + 1) }
    func segment(_ index: Int) -> UInt64 { register(8) + word * UInt64(index) }
    /// A 16-bit TSS has no FS and GS.
    var segmentCount: Int { is32 ? 6 : 4 }
    var ldt: UInt64 { segment(segmentCount) }
}

/// What a task switch reads from the new TSS before anything changes.
private struct TaskImage {
    var cr3: UInt32 = 0
    var instructionPointer: UInt64 = 0
    var flags: UInt64 = 0
    var registers = [UInt64](repeating: 0, count: 8)
    var segments = [UInt16](repeating: 0, count: 6)
    var ldt: UInt16 = 0
    var trap = false
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: From instructions

    /// JMP or CALL to a TSS descriptor or a task gate.
    package func transferToTask(
        _ kind: FarTransferKind, _ selector: UInt16, _ descriptor: Descriptor, _ op: OperationPointer
    ) -> Next {
        let code = Selector.code(selector)
        guard descriptor.dpl >= max(pointee.cpl, Selector.rpl(selector)) else {
            return generalProtection(code, at: op)
        }
        guard descriptor.isPresent else { return fault(ExceptionVector.np, code: code, at: op) }
        var task = (selector: selector, descriptor: descriptor)
        if descriptor.type == SystemType.taskGate {
            guard let target = taskBehind(descriptor) else { return leave(at: op) }
            task = target
        }
        let next = truncateRIP(rip(after: op))
        let source: TaskSwitchSource = kind == .jump ? .jump : .call
        return finishTaskSwitch(switchTask(to: task.selector, task.descriptor, source, returnRIP: next), op)
    }

    /// IRET with NT set: back to the task that the current TSS links to.
    package func returnFromTask(_ op: OperationPointer) -> Next {
        let base = pointee.segments.7.base
        guard let link = readSystem(UInt16.self, linear: systemAddress(base, TaskLayout.link)) else {
            return leave(at: op)
        }
        let code = Selector.code(link)
        guard link & Selector.local == 0, !Selector.isNull(link) else {
            return fault(ExceptionVector.ts, code: code, at: op)
        }
        guard let descriptor = readDescriptor(link, vector: ExceptionVector.ts) else { return leave(at: op) }
        let isBusy = descriptor.type == SystemType.tss16Busy || descriptor.type == SystemType.tss32Busy
        guard descriptor.isSystem, isBusy else { return fault(ExceptionVector.ts, code: code, at: op) }
        guard descriptor.isPresent else { return fault(ExceptionVector.np, code: code, at: op) }
        let next = truncateRIP(rip(after: op))
        let result = switchTask(to: link, descriptor, .interruptReturn, returnRIP: next)
        if result == .switched { pointee.nmiBlocked = false }
        return finishTaskSwitch(result, op)
    }

    private func finishTaskSwitch(_ result: TaskSwitchResult, _ op: OperationPointer) -> Next {
        guard result == .switched else { return leave(at: op) }
        pointee.count = count(before: op) &+ 1
        return nil
    }

    /// The available TSS that a task gate leads to.
    package func taskBehind(_ gate: Descriptor, ext: UInt32 = 0) -> (selector: UInt16, descriptor: Descriptor)? {
        let selector = gate.gateSelector
        let code = Selector.code(selector, ext: ext)
        guard selector & Selector.local == 0 else {
            setFault(ExceptionVector.gp, code: code)
            return nil
        }
        guard let descriptor = readDescriptor(selector, ext: ext) else { return nil }
        let isAvailable = descriptor.type == SystemType.tss16Available || descriptor.type == SystemType.tss32Available
        guard descriptor.isSystem, isAvailable else {
            setFault(ExceptionVector.gp, code: code)
            return nil
        }
        guard descriptor.isPresent else {
            setFault(ExceptionVector.np, code: code)
            return nil
        }
        return (selector, descriptor)
    }

    // MARK: The switch

    /// Switches to the task of a checked TSS descriptor. `returnRIP` is what the old task will continue at;
    /// `errorCode` is pushed on the new task's stack.
    package func switchTask(
        to selector: UInt16, _ descriptor: Descriptor, _ source: TaskSwitchSource, returnRIP: UInt64,
        errorCode: UInt32? = nil, ext: UInt32 = 0
    ) -> TaskSwitchResult {
        let layout = TaskLayout(is32: descriptor.type & 8 != 0)
        let nests = source == .call || source == .interrupt
        let oldSelector = pointee.segments.7.selector
        guard UInt64(descriptor.limit) >= layout.lastByte else {
            _ = reject(ExceptionVector.ts, Selector.code(selector, ext: ext))
            return .rejected
        }
        guard let image = readTask(descriptor.base, layout),
            !nests || canWriteSystem(linear: systemAddress(descriptor.base, TaskLayout.link), size: 2),
            canSaveTask(),
            source == .call || source == .interrupt || markBusy(false, tssAt: taskAddress(oldSelector)),
            saveTask(returnRIP, leavingNested: source == .interruptReturn),
            source == .interruptReturn || markBusy(true, tssAt: descriptor.address),
            !nests || writeSystem(oldSelector, linear: systemAddress(descriptor.base, TaskLayout.link))
        else { return .rejected }

        emit(
            .taskSwitch, address: nextLinearAddress, operand: UInt64(oldSelector), value: UInt64(selector),
            detail: source.rawValue)
        pointee.segments.7 = descriptor.register(selector)
        pointee.segments.7.attributes |= SystemType.busy
        pointee.cr0 |= CR0.ts
        pointee.dr.7 &= ~DebugControl.localEnables
        loadTaskRegisters(image, nests: nests)
        if loadTaskSegments(image, layout, ext: ext) { enterTask(image, errorCode, layout, ext: ext) }
        updateMode()
        return .switched
    }

    /// Linear address of the running task's descriptor in the GDT.
    private func taskAddress(_ selector: UInt16) -> UInt64 {
        systemAddress(pointee.gdtr.base, UInt64(selector & 0xfff8))
    }

    private func readTask(_ base: UInt64, _ layout: TaskLayout) -> TaskImage? {
        func word(_ offset: UInt64) -> UInt64? {
            let address = systemAddress(base, offset)
            if layout.is32 { return readSystem(UInt32.self, linear: address).map { UInt64($0) } }
            return readSystem(UInt16.self, linear: address).map { UInt64($0) }
        }
        func selector(_ offset: UInt64) -> UInt16? { readSystem(UInt16.self, linear: systemAddress(base, offset)) }
        var image = TaskImage()
        guard let rip = word(layout.instructionPointer), let flags = word(layout.flags),
            let ldt = selector(layout.ldt)
        else { return nil }
        (image.instructionPointer, image.flags, image.ldt) = (rip, flags, ldt)
        for number in 0..<8 {
            guard let value = word(layout.register(number)) else { return nil }
            // A 16-bit TSS leaves the upper halves undefined; they are set, as on the processors that do so.
            image.registers[number] = layout.is32 ? value : value | 0xffff_0000
        }
        for index in 0..<layout.segmentCount {
            guard let value = selector(layout.segment(index)) else { return nil }
            image.segments[index] = value
        }
        guard layout.is32 else { return image }
        guard let cr3 = readSystem(UInt32.self, linear: systemAddress(base, TaskLayout.cr3)),
            let trap = selector(TaskLayout.trap)
        else { return nil }
        image.cr3 = cr3
        image.trap = trap & 1 != 0
        return image
    }

    /// Layout of the running task's TSS.
    private var currentLayout: TaskLayout { TaskLayout(is32: pointee.segments.7.attributes & 8 != 0) }

    private func canSaveTask() -> Bool {
        let layout = currentLayout
        let first = layout.instructionPointer
        return canWriteSystem(linear: systemAddress(pointee.segments.7.base, first), size: Int(layout.ldt - first))
    }

    private func saveTask(_ returnRIP: UInt64, leavingNested: Bool) -> Bool {
        let layout = currentLayout
        let base = pointee.segments.7.base
        func save(_ value: UInt64, _ offset: UInt64) -> Bool {
            let address = systemAddress(base, offset)
            return layout.is32
                ? writeSystem(UInt32(truncatingIfNeeded: value), linear: address)
                : writeSystem(UInt16(truncatingIfNeeded: value), linear: address)
        }
        let flags = leavingNested ? rflags & ~RFlags.nt : rflags
        guard save(returnRIP, layout.instructionPointer), save(flags, layout.flags) else { return false }
        for number in 0..<8 {
            guard save(gpr(number), layout.register(number)) else { return false }
        }
        for index in 0..<layout.segmentCount {
            let address = systemAddress(base, layout.segment(index))
            guard writeSystem(segment(index).pointee.selector, linear: address) else { return false }
        }
        return true
    }

    private func loadTaskRegisters(_ image: TaskImage, nests: Bool) {
        pointee.rip = image.instructionPointer
        setRFlags(nests ? image.flags | RFlags.nt : image.flags)
        for number in 0..<8 { setGPR(number, image.registers[number]) }
        for index in 0..<6 {
            segment(index).pointee.selector = image.segments[index]
            segment(index).pointee.attributes = 0
        }
        pointee.segments.6 = SegmentRegister(base: 0, limit: 0, selector: image.ldt, attributes: 0)
        if image.trap { pointee.pendingDebug |= DebugStatus.taskSwitch }
    }

    // MARK: In the new task

    private func loadTaskSegments(_ image: TaskImage, _ layout: TaskLayout, ext: UInt32) -> Bool {
        if layout.is32 && pointee.cr0 & CR0.pg != 0 {
            guard loadCR3(UInt64(image.cr3)) else { return reject(ExceptionVector.gp, ext) }
        }
        pointee.cpl = isVirtual8086 ? 3 : Selector.rpl(image.segments[SegmentIndex.cs])
        guard loadTaskLDT(image.ldt, ext: ext) else { return false }
        if isVirtual8086 {
            for index in 0..<6 { loadRealSegment(index, image.segments[index]) }
            return true
        }
        guard loadTaskCode(image.segments[SegmentIndex.cs], ext: ext),
            loadTaskStack(image.segments[SegmentIndex.ss], ext: ext)
        else { return false }
        for index in SegmentIndex.es...SegmentIndex.gs where index != SegmentIndex.cs && index != SegmentIndex.ss {
            guard loadTaskData(index, image.segments[index], ext: ext) else { return false }
        }
        return true
    }

    private func loadTaskLDT(_ selector: UInt16, ext: UInt32) -> Bool {
        if Selector.isNull(selector) { return true }
        let code = Selector.code(selector, ext: ext)
        guard selector & Selector.local == 0 else { return reject(ExceptionVector.ts, code) }
        guard let descriptor = readDescriptor(selector, vector: ExceptionVector.ts, ext: ext) else { return false }
        guard descriptor.isSystem, descriptor.type == SystemType.ldt, descriptor.isPresent else {
            return reject(ExceptionVector.ts, code)
        }
        pointee.segments.6 = descriptor.register(selector)
        return true
    }

    private func loadTaskCode(_ selector: UInt16, ext: UInt32) -> Bool {
        let code = Selector.code(selector, ext: ext)
        guard !Selector.isNull(selector) else { return reject(ExceptionVector.ts, ext) }
        guard let descriptor = readDescriptor(selector, vector: ExceptionVector.ts, ext: ext) else { return false }
        let rpl = Selector.rpl(selector)
        guard descriptor.isCode, descriptor.isConforming ? descriptor.dpl <= rpl : descriptor.dpl == rpl else {
            return reject(ExceptionVector.ts, code)
        }
        guard descriptor.isPresent else { return reject(ExceptionVector.np, code) }
        guard markAccessed(descriptor) else { return false }
        pointee.segments.1 = descriptor.register(selector)
        return true
    }

    private func loadTaskStack(_ selector: UInt16, ext: UInt32) -> Bool {
        guard let descriptor = stackDescriptor(selector, cpl: pointee.cpl, vector: ExceptionVector.ts, ext: ext),
            markAccessed(descriptor)
        else { return false }
        pointee.segments.2 = descriptor.register(selector)
        return true
    }

    private func loadTaskData(_ index: Int, _ selector: UInt16, ext: UInt32) -> Bool {
        if Selector.isNull(selector) {
            setNullSegment(index, selector)
            return true
        }
        let code = Selector.code(selector, ext: ext)
        guard let descriptor = readDescriptor(selector, vector: ExceptionVector.ts, ext: ext) else { return false }
        let privilege = max(pointee.cpl, Selector.rpl(selector))
        guard descriptor.isReadable, descriptor.isCode && descriptor.isConforming || privilege <= descriptor.dpl else {
            return reject(ExceptionVector.ts, code)
        }
        guard descriptor.isPresent else { return reject(ExceptionVector.np, code) }
        guard markAccessed(descriptor) else { return false }
        segment(index).pointee = descriptor.register(selector)
        return true
    }

    /// The last checks, and the error code of the exception that switched tasks.
    private func enterTask(_ image: TaskImage, _ errorCode: UInt32?, _ layout: TaskLayout, ext: UInt32) {
        if let errorCode {
            let pointer = gpr(Register.rsp)
            var frame = StackFrame(self, pointee.segments.2, pointer: pointer, cpl: pointee.cpl, ext: ext)
            guard frame.push(UInt64(errorCode), size: layout.is32 ? 4 : 2) else { return }
            setGPR(Register.rsp, frame.rsp)
        }
        if image.instructionPointer > UInt64(pointee.segments.1.limit) { setFault(ExceptionVector.gp, code: ext) }
    }
}
