/// Finds the places of two traces that are the same place of the guest's code. Within a symbol, or within a guest
/// without symbols, sites are matched in the order of their addresses by kind and ring, so an instruction that was put
/// in or taken out moves what follows it without making it new.
struct SiteAlignment {
    /// The same place before and after; one is missing where it vanished or is new.
    typealias Pair = (before: TraceSummary.Place?, after: TraceSummary.Place?)

    /// Sites of one symbol up to which their order is used; the work grows with the square.
    private static let mostSites = 4096

    let pairs: [Pair]

    init(_ before: some Sequence<TraceSummary.Place>, _ after: some Sequence<TraceSummary.Place>) {
        let (left, right) = (Dictionary(grouping: before, by: \.group), Dictionary(grouping: after, by: \.group))
        var pairs: [Pair] = []
        for group in Set(left.keys).union(right.keys).sorted() {
            let first = (left[group] ?? []).sorted(by: TraceSummary.Place.isBefore)
            let second = (right[group] ?? []).sorted(by: TraceSummary.Place.isBefore)
            if first.count > Self.mostSites || second.count > Self.mostSites {
                pairs += Self.exact(first, second)
            } else {
                pairs += Self.inOrder(first, second)
            }
        }
        self.pairs = pairs
    }

    private static func exact(_ first: [TraceSummary.Place], _ second: [TraceSummary.Place]) -> [Pair] {
        let known = Set(second)
        let both = Set(first).intersection(known)
        return first.map { ($0, both.contains($0) ? $0 : nil) } + second.filter { !both.contains($0) }.map { (nil, $0) }
    }

    /// The longest common sequence of kinds and rings.
    private static func inOrder(_ first: [TraceSummary.Place], _ second: [TraceSummary.Place]) -> [Pair] {
        func isSame(_ left: Int, _ right: Int) -> Bool {
            first[left].kind == second[right].kind && first[left].ring == second[right].ring
        }
        // What is equal at both ends needs no table; in most symbols that is all.
        var start = 0
        while start < min(first.count, second.count), isSame(start, start) { start += 1 }
        var end = 0
        while end < min(first.count, second.count) - start,
            isSame(first.count - 1 - end, second.count - 1 - end)
        {
            end += 1
        }
        let (rows, columns) = (first.count - start - end, second.count - start - end)
        var length = [UInt16](repeating: 0, count: (rows + 1) * (columns + 1))
        for row in stride(from: rows - 1, through: 0, by: -1) {
            for column in stride(from: columns - 1, through: 0, by: -1) {
                let place = row * (columns + 1) + column
                length[place] =
                    isSame(start + row, start + column)
                    ? length[place + columns + 2] + 1 : max(length[place + columns + 1], length[place + 1])
            }
        }
        var pairs: [Pair] = (0..<start).map { (first[$0], second[$0]) }
        var (row, column) = (0, 0)
        while row < rows || column < columns {
            let place = row * (columns + 1) + column
            if row < rows, column < columns, isSame(start + row, start + column) {
                pairs.append((first[start + row], second[start + column]))
                row += 1
                column += 1
            } else if column == columns || (row < rows && length[place + columns + 1] >= length[place + 1]) {
                pairs.append((first[start + row], nil))
                row += 1
            } else {
                pairs.append((nil, second[start + column]))
                column += 1
            }
        }
        pairs += (0..<end).map { (first[first.count - end + $0], second[second.count - end + $0]) }
        return pairs
    }
}

extension TraceSummary.Place {
    /// The symbol, or nothing for a bare address; a name of another form is a group of its own.
    fileprivate var group: String {
        if name.hasPrefix("0x") { return "" }
        guard !name.hasPrefix("("), let plus = name.lastIndex(of: "+") else { return name }
        return String(name[..<plus])
    }

    /// The offset in the symbol, or the address.
    private var offset: UInt64 {
        if name.hasPrefix("0x") { return UInt64(name.dropFirst(2), radix: 16) ?? 0 }
        guard let plus = name.lastIndex(of: "+") else { return 0 }
        return UInt64(name[plus...].dropFirst(3), radix: 16) ?? 0
    }

    fileprivate static func isBefore(_ left: Self, _ right: Self) -> Bool {
        (left.offset, left.kind, left.ring, left.name) < (right.offset, right.kind, right.ring, right.name)
    }
}
