import Glibc

/// A field of the machine's state that two machines hold different values of.
package struct FieldDifference {
    /// The dotted path, as in `processor.gpr`.
    package let path: String
    package let mine: [UInt8]
    package let other: [UInt8]

    /// The fields in which two parts of machines differ, each given by its visit. They must be of the same shape.
    package static func between(
        _ mine: (StateArchive) -> Void, _ other: (StateArchive) -> Void
    ) -> [FieldDifference] {
        let (first, second) = (StateArchive(recordsLayout: true), StateArchive(recordsLayout: true))
        mine(first)
        other(second)
        func fields(_ archive: StateArchive) -> [StateArchive.Field] {
            archive.layout.filter { !$0.path.hasPrefix("memory.ram") }
        }
        return zip(fields(first), fields(second)).compactMap { field, otherField in
            let (value, otherValue) = (first.bytes[field.range], second.bytes[otherField.range])
            guard value != otherValue else { return nil }
            return FieldDifference(path: field.path, mine: Array(value), other: Array(otherValue))
        }
    }
}

extension Machine {
    /// The fields, other than RAM, in which this machine differs from `other` of the same configuration.
    package func differences(from other: Machine) -> [FieldDifference] {
        FieldDifference.between({ self.visit($0) }, { other.visit($0) })
    }

    /// Guest-physical addresses of the 4-KB pages of RAM that differ from those of `other`, which has as much RAM.
    package func differingPages(from other: Machine) -> [UInt64] {
        var pages: [UInt64] = []
        let others = other.memory.ramBytes
        memory.forEachRAMPage { address, bytes in
            // Both are whole pages inside the machines' RAM.
            let isEqual = memcmp(bytes.baseAddress!, others.baseAddress! + Int(address), bytes.count) == 0
            if !isEqual { pages.append(address) }
        }
        return pages
    }
}
