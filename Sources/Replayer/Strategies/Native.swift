import VMM

/// The bare machine: what all else is compared with.
final class Native: Strategy {
    override class var name: String { "native" }
    override class var summary: String { "the guest on the bare machine; nothing is added" }
}
