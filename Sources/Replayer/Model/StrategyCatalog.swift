/// Every strategy, in the order of results.
package enum StrategyCatalog {
    package static let all: [Strategy.Type] = [
        Native.self, Nops.self, TrapAndEmulate.self, BinaryTranslation.self, VTxShadow.self, VTxEPT.self, SVMNPT.self,
        L4Paravirt.self, L4InPlace.self, XenParavirt.self, XenInPlace.self, PVM.self,
    ]

    package static func named(_ name: String) -> Strategy.Type? { all.first { $0.name == name } }
}
