/// Finds a text in a stream of bytes, wherever the stream is cut (Knuth, Morris and Pratt).
struct TextMatcher {
    private let pattern: [UInt8]
    /// For each length of a matched prefix, the length of its longest proper prefix that is also its suffix.
    private let fallback: [Int]
    private var matched = 0

    init(_ text: String) {
        pattern = Array(text.utf8)
        var fallback = [Int](repeating: 0, count: pattern.count + 1)
        var length = 0
        for index in 1..<max(pattern.count, 1) {
            while length > 0, pattern[index] != pattern[length] { length = fallback[length] }
            if pattern[index] == pattern[length] { length += 1 }
            fallback[index + 1] = length
        }
        self.fallback = fallback
    }

    /// Takes the next byte.
    /// - Returns: whether the text ends with it.
    mutating func feed(_ byte: UInt8) -> Bool {
        guard !pattern.isEmpty else { return false }
        while matched > 0, pattern[matched] != byte { matched = fallback[matched] }
        if pattern[matched] == byte { matched += 1 }
        guard matched == pattern.count else { return false }
        matched = fallback[matched]
        return true
    }
}
