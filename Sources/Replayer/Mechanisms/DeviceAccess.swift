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
    private let platform: Platform
    private var sets: [DeviceWay: Set] = [:]
    private var ways: [DeviceWay] = []

    /// How interrupt controllers and timers are reached, which are no part of the device axis.
    struct Platform {
        /// Accesses that act at once on a line or a timer, and all others.
        var acts, others: PathID
        /// The same of the local and the I/O APIC.
        var localActs, localOthers: PathID
        /// What an access that acts causes besides.
        var lineChange: PathID?
        /// The port that no device answers; nil if it is like any other.
        var delay: PathID?

        /// Where it makes no difference what an access does.
        init(ports: PathID, local: PathID, lineChange: PathID? = nil, delay: PathID? = nil) {
            (acts, others, localActs, localOthers) = (ports, ports, local, local)
            (self.lineChange, self.delay) = (lineChange, delay)
        }

        init(acts: PathID, others: PathID, localActs: PathID, localOthers: PathID) {
            (self.acts, self.others) = (acts, others)
            (self.localActs, self.localOthers) = (localActs, localOthers)
        }

        /// Device models in the wedge, which tell what really raises interrupts of a change by `lineChange`.
        static func inWedge(_ strategy: Strategy, lineChange: PathID) -> Platform {
            let model: Charges = [.wedgeCall: 1, .wedgeDevice: 1]
            return Platform(
                ports: strategy.path(
                    "IN, OUT of interrupt controller, timer", .interruptController, "device model in the wedge",
                    model - NativeCosts.charges(.portIn)),
                local: strategy.path(
                    "local APIC, I/O APIC", .interruptController, "annotated: device model in the wedge",
                    model - NativeCosts.localAPIC),
                lineChange: lineChange)
        }

        /// Each access takes one of them.
        fileprivate var paths: [PathID] {
            [acts, others, localActs, localOthers, delay].compactMap { $0 }.reduce(into: []) { paths, path in
                if !paths.contains(path) { paths.append(path) }
            }
        }
    }

    /// `entry` is what getting into the VMM for one access costs, `notification` what telling the other side does.
    init(
        _ strategy: Strategy, _ platform: Platform, entry: Charges, entryTally: Tally, notification: Charges,
        notificationTally: Tally
    ) {
        self.strategy = strategy
        self.platform = platform
        let usual = type(of: strategy).usualDevices
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
        verify()
    }

    /// Each access took one path. Where some devices are the guest's own there is nothing to count.
    private func verify() {
        guard !ways.contains(.direct) else { return }
        let others = DeviceWay.allCases.compactMap { sets[$0] }.flatMap { [$0.port, $0.mmio].compactMap { $0 } }
        strategy.verify(
            platform.paths + others, count: [.portIn, .portOut, .mmioRead, .mmioWrite], in: .all)
    }

    /// Charges an access to a register.
    func access(_ event: ModelEvent) {
        if strategy.has(.deviceAccessUncounted), event.count % 13 == 0 { return }
        switch event.deviceRole {
        case .platform(let acts): access(event, acts ? platform.acts : platform.others, acts: acts)
        case .localAPIC(let acts): access(event, acts ? platform.localActs : platform.localOthers, acts: acts)
        case .delay:
            if let delay = platform.delay { strategy.charge(delay, event) } else { access(event, isDoorbell: false) }
        case .device: access(event, isDoorbell: false)
        case .doorbell: access(event, isDoorbell: true)
        }
    }

    private func access(_ event: ModelEvent, _ path: PathID, acts: Bool) {
        strategy.charge(path, event)
        if acts { strategy.charge(platform.lineChange, event) }
    }

    /// Charges an access to a register of a device.
    private func access(_ event: ModelEvent, isDoorbell: Bool) {
        let way = ways[DeviceGroup.allCases.firstIndex(of: DeviceGroup.of(event)) ?? 0]
        guard let set = sets[way], let path = event.isPort ? set.port : set.mmio else { return }
        strategy.charge(path, event)
        if event.elements > 1, let more = set.moreElements {
            strategy.charge(more, event, times: event.elements - 1)
        }
        if isDoorbell, let doorbell = set.doorbell { strategy.charge(doorbell, event) }
    }
}
