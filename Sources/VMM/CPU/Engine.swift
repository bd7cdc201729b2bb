/// How the processor executes. Both engines stop at the same positions with the same state.
package enum Engine: String, CaseIterable {
    /// Executes decoded instructions one by one: the reference.
    case interpreter
    /// Turns hot blocks into host code, in which innocuous instructions run directly and sensitive ones are calls.
    case translator
}
