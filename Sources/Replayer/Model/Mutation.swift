/// A defect that a model can be given on purpose, so that tests can see an audit or a cross-check find it.
package enum Mutation: String, CaseIterable {
    /// Shadow paging.
    case shadowUpdateLost, shadowOutlivesTable, hiddenFaultUncharged, invalidationSkipped, rootSwitchSkipped
    /// The virtual interrupt flag.
    case flagNotSet, deliveredWhileMasked
    /// Batches.
    case batchNeverSent, flushLostBeforeUse
    /// Charges.
    case walkCountedTwice, walkNotCounted, exitUncounted, hypercallUncounted, exceptionUncounted, entryUncounted
    case returnUncounted, deviceAccessUncounted, translationCountedTwice, interruptUncounted, firstTouchUncounted
}
