import CEngine

/// An exception, interrupt or software interrupt on its way to its handler.
private struct Delivery {
    var vector: UInt8
    /// Pushed for the handler, in protected mode.
    var errorCode: UInt32?
    var software = SoftwareInterrupt.none
    /// The address that the handler returns to.
    var returnRIP: UInt64
    /// RF is set in the saved flags, so that an instruction breakpoint does not hit twice.
    var setsRF = false

    /// EXT bit of faults met on the way: the event came from outside the program.
    var ext: UInt32 {
        software == SoftwareInterrupt.none || software == SoftwareInterrupt.int1 ? 1 : 0
    }
    /// Gates check the privilege of INT n, INT3 and INTO.
    var checksPrivilege: Bool { ext == 0 }
    /// Error code of a fault about the gate itself.
    var gateCode: UInt32 { UInt32(vector) << 3 | 2 | ext }
}

/// DR6 bits (SDM volume 3, 17.2.3).
package enum DebugStatus {
    /// Bits that always read as one.
    package static let fixed: UInt64 = 0xffff_0ff0
    package static let breakpoints: UInt64 = 0xf
    /// MOV to or from a debug register while DR7.GD was set; a single step; a task switch.
    package static let accessDetected: UInt64 = 1 << 13, singleStep: UInt64 = 1 << 14, taskSwitch: UInt64 = 1 << 15
}

/// DR7 bits (SDM volume 3, 17.2.4).
package enum DebugControl {
    /// The bit that always reads as one, and all that can be written.
    package static let fixed: UInt64 = 1 << 10, writable: UInt64 = 0xffff_23ff
    package static let generalDetect: UInt64 = 1 << 13
    /// L0 to L3 and LE, which a task switch clears.
    package static let localEnables: UInt64 = 0x155
}

extension UnsafeMutablePointer where Pointee == CPUState {
    // MARK: What the run loop calls

    /// Delivers the recorded fault, or the software interrupt recorded in the same way: `rip` is that of its
    /// instruction. A fault on the way becomes a further one, a double fault or shutdown (SDM volume 3, 6.15).
    package func deliverFault() {
        var delivery = takeFault()
        if delivery.software == SoftwareInterrupt.none { reportException(delivery) }
        while !deliver(delivery) {
            let next = takeFault()
            reportException(next)
            if delivery.vector == ExceptionVector.df {
                pointee.pending |= PendingFlags.shutdown
                return
            }
            delivery =
                isDoubleFault(delivery, next)
                ? Delivery(vector: ExceptionVector.df, errorCode: 0, returnRIP: next.returnRIP) : next
            if delivery.vector == ExceptionVector.df { reportException(delivery) }
        }
    }

    /// Delivers a maskable interrupt that the interrupt controller has given.
    package func deliverInterrupt(vector: UInt8) {
        let shadow = UInt32(pointee.interruptShadow)
        emit(.interruptDelivered, address: nextLinearAddress, operand: UInt64(vector), value: rflags, detail: shadow)
        deliverExternal(vector)
    }

    /// Delivers a non-maskable interrupt; further ones wait for IRET.
    package func deliverNMI() {
        pointee.nmiPending = false
        pointee.nmiBlocked = true
        let vector = ExceptionVector.nmi
        emit(.interruptDelivered, address: nextLinearAddress, operand: UInt64(vector), value: rflags)
        deliverExternal(vector)
    }

    /// Delivers the debug traps collected in `pendingDebug`.
    package func deliverDebugTrap() {
        setFault(ExceptionVector.db)
        let trap = takeFault()
        reportException(trap)
        if !deliver(trap) { deliverFault() }
    }

    private func deliverExternal(_ vector: UInt8) {
        if !deliver(Delivery(vector: vector, returnRIP: pointee.rip)) { deliverFault() }
    }

    // MARK: Classes of exceptions

    /// Takes the recorded fault out of the state block, with its effects on CR2 or DR6 and DR7.
    private func takeFault() -> Delivery {
        pointee.pending &= ~PendingFlags.fault
        let vector = pointee.faultVector
        var delivery = Delivery(
            vector: vector, errorCode: pointee.faultHasCode ? pointee.faultCode : nil,
            software: pointee.faultIsSoftware, returnRIP: pointee.rip)
        pointee.faultIsSoftware = SoftwareInterrupt.none
        if delivery.software != SoftwareInterrupt.none {
            delivery.returnRIP = pointee.faultAddress
            if delivery.software != SoftwareInterrupt.int1 { return delivery }
        }
        switch vector {
        case ExceptionVector.pf:
            pointee.cr2 = pointee.faultAddress
        case ExceptionVector.db:
            let status = pointee.dr.6 & ~DebugStatus.breakpoints
            pointee.dr.6 = status | pointee.pendingDebug | DebugStatus.fixed
            pointee.dr.7 &= ~DebugControl.generalDetect
            pointee.pendingDebug = 0
        default: break
        }
        let isTrap = vector == ExceptionVector.db || vector == ExceptionVector.df || vector == ExceptionVector.mc
        delivery.setsRF = !isTrap
        return delivery
    }

    private func reportException(_ delivery: Delivery) {
        let value = delivery.vector == ExceptionVector.pf ? pointee.cr2 : pointee.rip
        emit(
            .exception, address: nextLinearAddress, operand: UInt64(delivery.vector), value: value,
            detail: delivery.errorCode ?? 0)
    }

    private func isContributory(_ vector: UInt8) -> Bool {
        vector == ExceptionVector.de || (ExceptionVector.ts...ExceptionVector.gp).contains(vector)
    }

    private func isDoubleFault(_ first: Delivery, _ second: Delivery) -> Bool {
        guard first.software == SoftwareInterrupt.none else { return false }
        let isPageFault = second.vector == ExceptionVector.pf
        if first.vector == ExceptionVector.pf { return isPageFault || isContributory(second.vector) }
        return isContributory(first.vector) && isContributory(second.vector)
    }

    // MARK: Delivery

    /// Enters the handler; false with a fault recorded, and then nothing else has changed.
    private func deliver(_ delivery: Delivery) -> Bool {
        guard isProtected ? deliverProtected(delivery) : deliverReal(delivery) else { return false }
        pointee.halted = false
        pointee.interruptShadow = 0
        pointee.count &+= 1
        return true
    }

    private func deliverReal(_ delivery: Delivery) -> Bool {
        let offset = UInt64(delivery.vector) * 4
        guard offset + 3 <= UInt64(pointee.idtr.limit) else { return reject(ExceptionVector.gp, delivery.gateCode) }
        guard let vector = readSystem(UInt32.self, linear: (pointee.idtr.base &+ offset) & 0xffff_ffff) else {
            return false
        }
        var frame = StackFrame(self)
        guard frame.push(savedFlags(delivery), size: 2), frame.push(UInt64(pointee.segments.1.selector), size: 2),
            frame.push(delivery.returnRIP, size: 2)
        else { return false }
        setGPR(Register.rsp, frame.rsp)
        pointee.flags &= ~(RFlags.if | RFlags.tf | RFlags.ac | RFlags.rf)
        loadRealSegment(SegmentIndex.cs, UInt16(truncatingIfNeeded: vector >> 16))
        pointee.rip = UInt64(vector & 0xffff)
        updateMode()
        return true
    }

    private func savedFlags(_ delivery: Delivery) -> UInt64 {
        delivery.setsRF ? rflags | RFlags.rf : rflags
    }

    private func deliverProtected(_ delivery: Delivery) -> Bool {
        if delivery.software == SoftwareInterrupt.intN && isVirtual8086 && iopl < 3 {
            return reject(ExceptionVector.gp, 0)
        }
        let size: UInt64 = isLongMode ? 16 : 8
        let offset = UInt64(delivery.vector) * size
        guard offset + size - 1 <= UInt64(pointee.idtr.limit) else {
            return reject(ExceptionVector.gp, delivery.gateCode)
        }
        let address = systemAddress(pointee.idtr.base, offset)
        guard let low = readSystem(UInt64.self, linear: address) else { return false }
        var gate = Descriptor(low: low, address: address)
        if isLongMode {
            guard let high = readSystem(UInt64.self, linear: address &+ 8) else { return false }
            gate.high = high & 0xffff_ffff
        }
        guard gateIsValid(gate), !delivery.checksPrivilege || gate.dpl >= pointee.cpl else {
            return reject(ExceptionVector.gp, delivery.gateCode)
        }
        guard gate.isPresent else { return reject(ExceptionVector.np, delivery.gateCode) }
        if gate.type == SystemType.taskGate { return deliverToTask(delivery, gate) }
        return deliverThroughGate(delivery, gate)
    }

    private func gateIsValid(_ gate: Descriptor) -> Bool {
        guard gate.isSystem else { return false }
        switch gate.type {
        case SystemType.interruptGate32, SystemType.trapGate32: return true
        case SystemType.taskGate, SystemType.interruptGate16, SystemType.trapGate16: return !isLongMode
        default: return false
        }
    }

    private func deliverToTask(_ delivery: Delivery, _ gate: Descriptor) -> Bool {
        guard let task = taskBehind(gate, ext: delivery.ext) else { return false }
        let flags = pointee.flags
        if delivery.setsRF { pointee.flags |= RFlags.rf }
        let result = switchTask(
            to: task.selector, task.descriptor, .interrupt, returnRIP: delivery.returnRIP,
            errorCode: delivery.errorCode, ext: delivery.ext)
        if result == .switched { return true }
        pointee.flags = flags
        return false
    }

    private func deliverThroughGate(_ delivery: Delivery, _ gate: Descriptor) -> Bool {
        let selector = gate.gateSelector
        let code = Selector.code(selector, ext: delivery.ext)
        guard !Selector.isNull(selector) else { return reject(ExceptionVector.gp, delivery.ext) }
        guard let descriptor = readDescriptor(selector, ext: delivery.ext) else { return false }
        let isInner = !descriptor.isConforming && descriptor.dpl < pointee.cpl
        guard descriptor.isCode, descriptor.dpl <= pointee.cpl,
            !isLongMode || (descriptor.isLong && !descriptor.isBig),
            !isVirtual8086 || (isInner && descriptor.dpl == 0)
        else { return reject(ExceptionVector.gp, code) }
        guard descriptor.isPresent else { return reject(ExceptionVector.np, code) }
        guard codeAllows(gate.gateOffset, descriptor) else { return reject(ExceptionVector.gp, delivery.ext) }
        let cpl = isInner ? descriptor.dpl : pointee.cpl
        guard markAccessed(descriptor),
            isLongMode
                ? enterLong(delivery, gate, isInner: isInner, cpl: cpl)
                : enterLegacy(delivery, gate, isInner: isInner, cpl: cpl)
        else { return false }
        setCS(selector, descriptor, cpl: cpl)
        var cleared = RFlags.tf | RFlags.nt | RFlags.rf | RFlags.vm
        if gate.type & 1 == 0 { cleared |= RFlags.if }
        pointee.flags &= ~cleared
        pointee.rip = gate.gateOffset
        updateMode()
        return true
    }

    /// Builds the frame of a 64-bit gate on the stack of the IST, of an inner ring or the current one, aligned to 16.
    private func enterLong(_ delivery: Delivery, _ gate: Descriptor, isInner: Bool, cpl: UInt8) -> Bool {
        var pointer = gpr(Register.rsp)
        if gate.gateIST != 0 || isInner {
            let tss = pointee.segments.7
            let offset = gate.gateIST != 0 ? 0x1c + 8 * UInt64(gate.gateIST) : 4 + 8 * UInt64(cpl)
            guard offset + 7 <= UInt64(tss.limit) else {
                return reject(ExceptionVector.ts, Selector.code(tss.selector, ext: delivery.ext))
            }
            guard let rsp = readSystem(UInt64.self, linear: tss.base &+ offset) else { return false }
            pointer = rsp
        }
        var frame = StackFrame(self, long: pointer & ~15, cpl: cpl, ext: delivery.ext)
        guard frame.push(UInt64(pointee.segments.2.selector), size: 8), frame.push(gpr(Register.rsp), size: 8),
            pushReturn(delivery, &frame, size: 8)
        else { return false }
        if isInner { setNullStackSegment(cpl: cpl) }
        setGPR(Register.rsp, frame.rsp)
        return true
    }

    private func enterLegacy(_ delivery: Delivery, _ gate: Descriptor, isInner: Bool, cpl: UInt8) -> Bool {
        let size = gate.type & 8 != 0 ? 4 : 2
        guard isInner else {
            var frame = StackFrame(self, ext: delivery.ext)
            guard pushReturn(delivery, &frame, size: size) else { return false }
            setGPR(Register.rsp, frame.rsp)
            return true
        }
        guard var stack = innerStack(cpl: cpl, ext: delivery.ext) else { return false }
        let fromVirtual8086 = isVirtual8086
        if fromVirtual8086 {
            guard stack.frame.push(UInt64(pointee.segments.5.selector), size: size),
                stack.frame.push(UInt64(pointee.segments.4.selector), size: size),
                stack.frame.push(UInt64(pointee.segments.3.selector), size: size),
                stack.frame.push(UInt64(pointee.segments.0.selector), size: size)
            else { return false }
        }
        guard stack.frame.push(UInt64(pointee.segments.2.selector), size: size),
            stack.frame.push(gpr(Register.rsp), size: size),
            pushReturn(delivery, &stack.frame, size: size), commit(stack, cpl: cpl)
        else { return false }
        if fromVirtual8086 {
            for index in SegmentIndex.es...SegmentIndex.gs where index != SegmentIndex.cs && index != SegmentIndex.ss {
                setNullSegment(index)
            }
        }
        return true
    }

    /// Flags, CS, RIP and the error code.
    private func pushReturn(_ delivery: Delivery, _ frame: inout StackFrame, size: Int) -> Bool {
        guard frame.push(savedFlags(delivery), size: size), frame.push(UInt64(pointee.segments.1.selector), size: size),
            frame.push(delivery.returnRIP, size: size)
        else { return false }
        guard let code = delivery.errorCode else { return true }
        return frame.push(UInt64(code), size: size)
    }
}
