/// How the processor executes. Both engines stop at the same positions with the same state.
package enum Engine: String, CaseIterable {
    /// Executes decoded instructions one by one: the reference.
    case interpreter
    /// Turns hot blocks into host code, in which innocuous instructions run directly and sensitive ones are calls.
    case translator
}

// What tests need to know of the engine and to set. Nothing that a guest can see depends on it.
extension Processor {
    /// How often a block is entered before it is translated.
    package var translationThreshold: UInt16 {
        get { translator?.threshold ?? 0 }
        set { translator?.threshold = newValue }
    }

    /// Whether the host gave memory for translated code, so that the translator does translate.
    package var translates: Bool { translator != nil }

    /// Blocks decoded so far.
    package var decodedBlocks: UInt64 { blocks.built }

    /// Blocks translated so far.
    package var translatedBlocks: UInt64 { translator?.translated ?? 0 }
}
