/// A device whose registers are memory-mapped.
package protocol MMIODevice: AnyObject {
    /// Reads `size` (1, 2, 4 or 8) bytes at `offset` from the start of the device's range.
    func readMMIO(_ offset: UInt64, size: Int) -> UInt64
    /// Writes the low `size` bytes of `value` at `offset`.
    func writeMMIO(_ offset: UInt64, _ value: UInt64, size: Int)
}

/// Routes guest-physical accesses that are not RAM or ROM. Reads from nowhere give ones, writes to nowhere are lost.
package final class MMIOBus {
    private struct Region {
        var range: Range<UInt64>
        var device: any MMIODevice
    }

    /// Sorted by start; they do not overlap.
    private var regions: [Region] = []

    package init() {}

    /// Maps `device` at `range` of guest-physical addresses.
    /// - Returns: false, and nothing changes, if the range overlaps another device's.
    @discardableResult
    package func map(_ device: any MMIODevice, _ range: Range<UInt64>) -> Bool {
        guard !regions.contains(where: { $0.range.overlaps(range) }) else { return false }
        let place = regions.firstIndex { $0.range.lowerBound > range.lowerBound } ?? regions.count
        regions.insert(Region(range: range, device: device), at: place)
        return true
    }

    /// Removes every mapping of `device`.
    package func unmap(_ device: any MMIODevice) {
        regions.removeAll { $0.device === device }
    }

    /// Lets go of every device, as `PortBus.detachAll`.
    package func unmapAll() { regions.removeAll() }

    /// The device at an address and where its range is, if there is one.
    package func device(at address: UInt64) -> (device: any MMIODevice, range: Range<UInt64>)? {
        regions.first { $0.range.contains(address) }.map { ($0.device, $0.range) }
    }

    package func read(_ address: UInt64, size: Int) -> UInt64 {
        guard let region = region(at: address, size) else { return size == 8 ? ~0 : (1 << (size * 8)) - 1 }
        return region.device.readMMIO(address - region.range.lowerBound, size: size)
    }

    package func write(_ address: UInt64, _ value: UInt64, size: Int) {
        guard let region = region(at: address, size) else { return }
        region.device.writeMMIO(
            address - region.range.lowerBound, size == 8 ? value : value & ((1 << (size * 8)) - 1), size: size)
    }

    private func region(at address: UInt64, _ size: Int) -> Region? {
        regions.first { $0.range.contains(address) && address + UInt64(size) <= $0.range.upperBound }
    }
}
