/// Every strategy, in the order of results.
package enum StrategyCatalog {
    package static let all: [Strategy.Type] = [
        Native.self, Nops.self, TrapAndEmulate.self, BinaryTranslation.self, VTxShadow.self, VTxEPT.self, SVMNPT.self,
        L4Paravirt.self, L4InPlace.self, XenParavirt.self, XenInPlace.self, PVM.self,
    ]

    /// A strategy without a guest, for its paths.
    package static func describe(
        _ type: Strategy.Type, devices: DevicePolicy = DevicePolicy(), options: StrategyOptions = StrategyOptions()
    ) -> Strategy {
        type.init(
            Strategy.Setting(
                context: GuestContext(GuestStart.none), devices: devices, options: options, mutation: nil))
    }

    package static func named(_ name: String) -> Strategy.Type? { all.first { $0.name == name } }
}
