/// A device on the I/O port bus.
package protocol PortDevice: AnyObject {
    /// Reads `size` (1, 2 or 4) bytes at `port`. `size` is never wider than the device registered for.
    func readPort(_ port: UInt16, size: Int) -> UInt32
    /// Writes the low `size` bytes of `value` at `port`.
    func writePort(_ port: UInt16, _ value: UInt32, size: Int)
}

/// Routes port accesses to devices. An access wider than the device's width is split into accesses of that
/// width at consecutive ports, as the ISA bus does; reads from nowhere give ones, writes to nowhere are lost.
package final class PortBus {
    private struct Slot {
        var device: (any PortDevice)?
        var width: Int
    }

    @exclusivity(unchecked) private var slots: [Slot] = [Slot(device: nil, width: 4)]
    @exclusivity(unchecked) private var map = [UInt8](repeating: 0, count: 65536)

    package init() {}

    /// Attaches `device` to `ports`. `width` is the widest access that it takes, 1, 2 or 4 bytes.
    /// - Precondition: no other device holds any of the ports.
    package func attach(_ device: any PortDevice, _ ports: ClosedRange<UInt16>, width: Int) {
        precondition(ports.allSatisfy { map[Int($0)] == 0 }, "two devices claim ports \(ports)")
        let slot = slots.firstIndex { $0.device === device && $0.width == width } ?? slots.count
        precondition(slot < 256)
        if slot == slots.count { slots.append(Slot(device: device, width: width)) }
        for port in ports { map[Int(port)] = UInt8(slot) }
    }

    /// Detaches whatever holds `ports`, for a relocatable base register.
    package func detach(_ ports: ClosedRange<UInt16>) {
        for port in ports { map[Int(port)] = 0 }
    }

    /// Lets go of every device. Devices that hold the bus, such as a bus behind a bridge, would keep it and be kept.
    package func detachAll() {
        slots = [Slot(device: nil, width: 4)]
        for port in map.indices { map[port] = 0 }
    }

    /// Whether no device holds any of `ports`.
    package func isFree(_ ports: ClosedRange<UInt16>) -> Bool {
        ports.allSatisfy { map[Int($0)] == 0 }
    }

    /// The device at a port, if there is one.
    package func device(at port: UInt16) -> (any PortDevice)? { slots[Int(map[Int(port)])].device }

    package func read(_ port: UInt16, size: Int) -> UInt32 {
        let slot = slots[Int(map[Int(port)])]
        if size <= slot.width {
            guard let device = slot.device else { return size == 4 ? ~0 : (1 << (size * 8)) - 1 }
            return device.readPort(port, size: size)
        }
        var value: UInt32 = 0
        for part in stride(from: 0, to: size, by: slot.width) {
            value |= read(port &+ UInt16(part), size: slot.width) << (part * 8)
        }
        return value
    }

    package func write(_ port: UInt16, _ value: UInt32, size: Int) {
        let slot = slots[Int(map[Int(port)])]
        if size <= slot.width {
            slot.device?.writePort(port, size == 4 ? value : value & ((1 << (size * 8)) - 1), size: size)
            return
        }
        for part in stride(from: 0, to: size, by: slot.width) {
            write(port &+ UInt16(part), value >> (part * 8), size: slot.width)
        }
    }
}
