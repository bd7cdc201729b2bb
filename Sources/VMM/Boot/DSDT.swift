/// The differentiated system description of this machine: one processor, one PCI bus with its interrupt routing,
/// the legacy devices that a guest cannot find otherwise, and how to switch off.
enum DSDT {
    /// Device number of the PIIX on PCI bus 0.
    static let isaBridgeDevice: UInt64 = 1
    private static let links = ["LNKA", "LNKB", "LNKC", "LNKD"]
    private static let routes = ["PRQA", "PRQB", "PRQC", "PRQD"]
    /// ISA interrupts offered for PCI.
    private static let pciInterrupts: [UInt32] = [5, 10, 11]

    /// The definition block, without the table header.
    static func definitionBlock() -> [UInt8] {
        [
            AML.scope("\\_PR", [AML.processor("CPU0", id: 0)]),
            AML.scope("\\_SB", [hostBridge] + linkMethods + links.indices.map(link)),
            // SLP_TYP of S5 for PM1a and PM1b, then two reserved values.
            AML.define("\\_S5", AML.package([0, 0, 0, 0].map(AML.integer))),
        ].flatMap { $0 }
    }

    private static var hostBridge: [UInt8] {
        AML.device(
            "PCI0",
            [
                AML.define("_HID", AML.eisaID("PNP0A03")),
                AML.define("_ADR", AML.integer(0)),
                AML.define("_UID", AML.integer(0)),
                AML.define(
                    "_CRS",
                    AML.resources([
                        AML.window(.bus, 0...0xFF, size: 2),
                        AML.io(PCIBus.addressPort, count: 8),
                        AML.window(.io, 0...0x0CF7, size: 2),
                        AML.window(.io, 0x0D00...0xFFFF, size: 2),
                        AML.window(.memory(cacheable: true), 0x000A_0000...0x000B_FFFF, size: 4),
                        AML.window(.memory(cacheable: false), 0xC000_0000...0xFEBF_FFFF, size: 4),
                    ])),
                AML.define("_PRT", interruptRouting),
                isaBridge,
            ])
    }

    /// Pin to link device for every slot but the host bridge's; the wiring is `PIIX3.pirq`.
    private static var interruptRouting: [UInt8] {
        AML.package(
            (1...31).flatMap { device in
                (0..<4).map { pin in
                    let link = links[PIIX3.pirq(device: device, pin: pin + 1)]
                    return AML.package([
                        AML.integer(UInt64(device) << 16 | 0xFFFF), AML.integer(UInt64(pin)), AML.name(link),
                        AML.integer(0),
                    ])
                }
            })
    }

    private static var isaBridge: [UInt8] {
        AML.device(
            "ISA",
            [
                AML.define("_ADR", AML.integer(isaBridgeDevice << 16)),
                AML.operationRegion(
                    "PIRQ", space: AML.pciConfigSpace, offset: UInt64(PIIX3.pirqRoute0), length: UInt64(routes.count)),
                AML.byteFields(of: "PIRQ", routes),
                legacy("RTC", "PNP0B00", [AML.io(0x70, count: 2), AML.irq(8)]),
                legacy("KBD", "PNP0303", [AML.io(0x60, count: 1), AML.io(0x64, count: 1), AML.irq(1)]),
                legacy("MOU", "PNP0F13", [AML.irq(12)]),
                legacy("COM1", "PNP0501", [AML.io(0x3F8, count: 8), AML.irq(4)], uid: 1),
            ])
    }

    private static func legacy(_ name: String, _ id: String, _ resources: [[UInt8]], uid: UInt64? = nil) -> [UInt8] {
        AML.device(
            name,
            [
                AML.define("_HID", AML.eisaID(id)),
                uid.map { AML.define("_UID", AML.integer($0)) } ?? [],
                AML.define("_STA", AML.integer(0x0F)),
                AML.define("_CRS", AML.resources(resources)),
            ])
    }

    // MARK: Interrupt link devices

    /// IQST gives a link's status from its routing register, IQCR its current interrupt.
    private static var linkMethods: [[UInt8]] {
        let disabled = AML.integer(0x80)
        return [
            AML.method(
                "IQST", arguments: 1,
                [
                    AML.when(AML.and(disabled, AML.arg0), [AML.returning(AML.integer(0x09))]),
                    AML.returning(AML.integer(0x0B)),
                ]),
            AML.method(
                "IQCR", arguments: 1, serialized: true,
                [
                    AML.define("PRR0", AML.resources([AML.interrupt([0])])),
                    AML.dwordField(of: AML.name("PRR0"), at: 5, "PRRI"),
                    AML.when(AML.isLess(AML.arg0, disabled), [AML.store(AML.arg0, in: AML.name("PRRI"))]),
                    AML.returning(AML.name("PRR0")),
                ]),
        ]
    }

    private static func link(_ index: Int) -> [UInt8] {
        let route = AML.name("\\_SB.PCI0.ISA." + routes[index])
        return AML.device(
            links[index],
            [
                AML.define("_HID", AML.eisaID("PNP0C0F")),
                AML.define("_UID", AML.integer(UInt64(index))),
                AML.define("_PRS", AML.resources([AML.interrupt(pciInterrupts)])),
                AML.method("_STA", [AML.returning(AML.name("IQST") + route)]),
                AML.method("_DIS", [AML.or(route, AML.integer(0x80), in: route)]),
                AML.method("_CRS", [AML.returning(AML.name("IQCR") + route)]),
                AML.method(
                    "_SRS", arguments: 1, serialized: true,
                    [
                        AML.dwordField(of: AML.arg0, at: 5, "PRRI"), AML.store(AML.name("PRRI"), in: route),
                    ]),
            ])
    }
}
