/// Why an analysis cannot be made or asked: one sentence.
package struct AnalysisError: Error, Equatable, CustomStringConvertible {
    package let description: String

    package init(_ sentence: String) { description = sentence }
}
