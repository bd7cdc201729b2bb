/// Guest-physical memory as a bus-mastering device sees it. Addresses outside RAM read as ones and swallow writes;
/// no address reaches host memory outside the guest's RAM.
package protocol DMAMemory: AnyObject {
    /// Fills `buffer` from guest-physical `address` on.
    func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    /// Stores `buffer` at guest-physical `address` on. Code the processor has decoded from there is dropped.
    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer)
}
