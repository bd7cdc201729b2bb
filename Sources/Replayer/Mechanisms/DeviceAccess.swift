import VMM

/// How a strategy reaches devices.
package enum DeviceWay: String, CaseIterable {
    /// The guest drives the device itself.
    case direct
    /// Each access enters the VMM, which has a model of the device.
    case emulated
    /// The register model lives in the in-place VMM and tells the other side in batches.
    case inPlace = "inplace"
    /// A virtual driver with shared rings and notifications.
    case virtual
}

/// The ways chosen with `--devices`.
package struct DevicePolicy {
    package var general: DeviceWay?
    package var groups: [DeviceGroup: DeviceWay] = [:]

    package init() {}

    func way(_ group: DeviceGroup, usual: DeviceWay) -> DeviceWay { groups[group] ?? general ?? usual }
}

/// What accesses to device registers cost under a strategy.
package final class DeviceAccess {
    /// A path for each kind of access.
    private struct Set {
        var port, moreElements, mmio: PathID?
        var doorbell: PathID?
    }

    // It owns this, and so outlives it.
    private unowned(unsafe) let strategy: Strategy
    private let usual: DeviceWay
    private var sets: [DeviceWay: Set] = [:]
    private var ways: [DeviceWay] = []

    /// `entry` is what getting into the VMM for one access costs, `notification` what telling the other side does.
    init(
        _ strategy: Strategy, usual: DeviceWay, entry: Charges, entryTally: Tally, notification: Charges,
        notificationTally: Tally
    ) {
        self.strategy = strategy
        self.usual = usual
        let port = NativeCosts.charges(.portIn)
        let mmio = NativeCosts.charges(.mmioRead)
        let element: Charges = [.memoryAccess: 1]
        let policy = strategy.setting.devices
        ways = DeviceGroup.allCases.map { policy.way($0, usual: usual) }
        for way in DeviceWay.allCases where ways.contains(way) {
            var set = Set()
            func path(_ event: String, _ mechanism: String, _ charges: Charges, _ tally: Tally = .none) -> PathID {
                strategy.path(event, .device, mechanism, charges, tally)
            }
            switch way {
            case .direct: break
            case .emulated:
                let model = entry + [.deviceModel: 1]
                set.port = path("IN, OUT of a device", "into the VMM, device model", model - port, entryTally)
                set.mmio = path("MMIO of a device", "into the VMM, device model", model - mmio, entryTally)
            case .inPlace:
                let model: Charges = [.wedgeDevice: 1]
                set.port = path("IN, OUT of a device", "register model in the in-place VMM", model - port)
                set.mmio = path("MMIO of a device", "register model in the in-place VMM", model - mmio)
                set.doorbell = path(
                    "a device operation", "notification of the device's driver", notification, notificationTally)
            case .virtual:
                set.port = path("IN, OUT of a device", "replaced by the virtual driver", .none - port)
                set.mmio = path("MMIO of a device", "replaced by the virtual driver", .none - mmio)
                set.doorbell = path(
                    "a device operation", "entry in the shared ring, notification",
                    notification + [.ringEntry: 1], notificationTally)
            }
            if way != .direct {
                set.moreElements = path(
                    "further elements of a string access", "copied by the model", element - port)
            }
            sets[way] = set
        }
    }

    /// The paths of accesses to registers, each of which takes one; nil if some devices are the guest's own.
    var accessPaths: [PathID]? {
        guard !ways.contains(.direct) else { return nil }
        return DeviceWay.allCases.compactMap { sets[$0] }.flatMap { [$0.port, $0.mmio].compactMap { $0 } }
    }

    /// Charges an access to a register of a device.
    func access(_ event: ModelEvent, isDoorbell: Bool) {
        let way = ways[DeviceGroup.allCases.firstIndex(of: DeviceGroup.of(event)) ?? 0]
        guard let set = sets[way], let path = event.isPort ? set.port : set.mmio else { return }
        strategy.charge(path, event)
        if event.elements > 1, let more = set.moreElements {
            strategy.charge(more, event, times: event.elements - 1)
        }
        if isDoorbell, let doorbell = set.doorbell { strategy.charge(doorbell, event) }
    }
}
