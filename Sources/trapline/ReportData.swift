import Analyzer
import Replayer
import Tracer
import VMM

/// What the report page shows, as JSON. The same trace, costs and choices give the same bytes.
struct ReportData {
    let costs: CostAnalysis
    let reader: TraceReader
    let options: AnalysisOptions
    let model: ModelOptions
    let places: ReportPlaces

    init(
        _ costs: CostAnalysis, _ reader: TraceReader, _ options: AnalysisOptions, _ model: ModelOptions
    ) throws {
        self.costs = costs
        self.reader = reader
        self.options = options
        self.model = model
        places = try ReportPlaces(costs)
    }

    private var result: ModelResult { costs.result }

    var json: JSON {
        get throws {
            .object([
                ("trace", .string(String(options.trace.split(separator: "/").last ?? ""))),
                ("machine", try machine),
                (
                    "costs",
                    .object([
                        ("name", .string(result.costs.name)), ("title", .string(result.costs.title)),
                        ("mhz", .number(result.costs.clock)),
                    ])
                ),
                ("choices", .array(choices.map { .string($0) })),
                ("width", .integer(UInt64(result.width))),
                ("native", .cycles(result.nativeCycles)), ("delay", .cycles(result.delayCycles)),
                ("boot", .cycles(result.bootCycles)), ("idle", .number(result.idleCycles.rounded())),
                ("strategies", .array(result.entries.map { strategy($0) })),
                ("flame", try ReportFlame(costs, places).json),
                ("sites", try places.json(code: code())),
                ("timeline", try timeline),
                ("devices", try places.devices()),
                ("curves", .array(StrategyCatalog.all.compactMap { curve($0.name) })),
            ])
        }
    }

    // MARK: What ran

    private var machine: JSON {
        get throws {
            let manifest = reader.manifest
            let meta = costs.store.meta
            func text(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
            return .object([
                ("kernel", text(meta["kernel"])), ("command_line", .string(manifest.commandLine)),
                ("cpu", .string(manifest.cpu)), ("chipset", .string(manifest.chipset.rawValue)),
                ("memory", .integer(manifest.memorySize)), ("outcome", text(meta["outcome"])),
                ("counts", .integer(costs.store.endCount - costs.store.startCount)),
                ("virtual_ns", .integer(reader.reach.position.nanoseconds)),
                ("events", .integer(UInt64(meta["events"] ?? "") ?? 0)),
                ("complete", .bool(reader.isComplete)),
                ("verified_events", .integer(costs.model.verifiedEvents)),
                ("verified_digests", .integer(costs.model.verifiedDigests)),
                ("note", text(meta["note"])),
                (
                    "images",
                    .array(
                        manifest.images.map {
                            .object([
                                ("role", .string($0.role.rawValue)),
                                ("name", .string(String($0.path.split(separator: "/").last ?? ""))),
                                ("bytes", .integer($0.size)),
                            ])
                        })
                ),
            ])
        }
    }

    private var choices: [String] {
        var choices = model.devices.map { "devices \($0)" }
        if model.includeWaits { choices.append("delay loops count as work") }
        if model.extended { choices.append("the in-place tool covers what the 2005 one lacked") }
        if model.trapTimestamp { choices.append("RDTSC traps under trap-and-emulate") }
        return choices
    }

    // MARK: Strategies

    private func strategy(_ entry: ModelResult.Entry) -> JSON {
        let type = StrategyCatalog.named(entry.name)
        let counts = costs.model.counts.strategies.first { $0.name == entry.name }
        func count(_ value: Int64) -> JSON { .signed(value) }
        return .object([
            ("name", .string(entry.name)), ("summary", .string(type?.summary ?? "")),
            ("applicable", .bool(entry.notApplicable == nil)),
            ("hypothetical", .array(entry.hypothetical.map { .string($0) })),
            ("added", .cycles(entry.cyclesAdded)), ("ratio", .ratio(entry.ratio)),
            (
                "ratioText",
                .array(
                    [entry.ratio.low, entry.ratio.typical, entry.ratio.high].map { .string(ModelText.ratio($0)) })
            ),
            ("estimated", .number(entry.estimatedShare)),
            ("switches", count(entry.tally.worldSwitches)), ("hypercalls", count(entry.tally.hypercalls)),
            ("faults", count(entry.tally.hiddenFaults)), ("ipcs", count(entry.tally.ipcs)),
            ("same", .array(result.indistinguishable(from: entry).map { .string($0.name) })),
            ("notes", .array((type?.notes ?? []).map { .string($0) })),
            ("waitAdded", .cycles(entry.waitAdded)), ("bootAdded", .cycles(entry.bootAdded)),
            ("classes", .array(entry.byClass.map { .array([.string($0.eventClass.name), .cycles($0.cycles)]) })),
            ("paths", .array(entry.notApplicable == nil ? counts.map { paths($0) } ?? [] : [])),
        ])
    }

    private func paths(_ strategy: ModelCounts.OfStrategy) -> [JSON] {
        let kernel = Ledger.Part.kernel.rawValue
        return strategy.paths.indices.compactMap { index in
            let (path, times) = (strategy.paths[index], strategy.times[kernel][index])
            guard times != 0 else { return nil }
            var counts = PrimitiveCounts()
            counts.add(path.charges, times: times)
            return .object([
                ("event", .string(path.event)), ("class", .string(path.eventClass.name)),
                ("mechanism", .string(path.mechanism)), ("times", .signed(times)),
                ("cycles", .cycles(counts.cycles(result.costs))),
                ("estimated", .number(counts.estimatedShare(result.costs))),
            ])
        }
    }

    private func curve(_ name: String) -> JSON? {
        guard let curve = PatchCurve(name, costs.model.counts, result) else { return nil }
        let points = PatchCurve.points(upTo: curve.useful).map { curve.step($0) }
        return .object([
            ("strategy", .string(name)), ("sibling", .string(curve.sibling)),
            ("useful", .integer(UInt64(curve.useful))),
            (
                "points",
                .array(
                    points.map {
                        .object([
                            ("sites", .integer(UInt64($0.sites))), ("saved", .cycles($0.saved)),
                            ("share", $0.share.map { .number($0) } ?? .null), ("ratio", .ratio($0.ratio)),
                            ("ratioText", .string(ModelText.ratio($0.ratio.typical))),
                        ])
                    })
            ),
            (
                "first",
                .array(
                    curve.candidates.prefix(min(10, curve.useful)).map {
                        .array([.string(places.label($0.site)), .number($0.saved.typical.rounded())])
                    })
            ),
        ])
    }

    // MARK: Time and code

    private var timeline: JSON {
        get throws {
            let store = costs.store
            let series = costs.model.counts.strategies.map { strategy -> JSON in
                var values: [EventClass: [Double]] = [:]
                let prices = places.prices(strategy)
                for charge in strategy.timed {
                    let eventClass = strategy.paths[charge.path].eventClass
                    var row = values[eventClass] ?? [Double](repeating: 0, count: Int(StoredModel.parts))
                    if charge.part < row.count { row[charge.part] += Double(charge.times) * prices[charge.path] }
                    values[eventClass] = row
                }
                return .object(
                    EventClass.allCases.compactMap { eventClass in
                        values[eventClass].map { (eventClass.name, .array($0.map { .number($0.rounded()) })) }
                    })
            }
            return .object([
                ("start", .integer(costs.model.partStart)), ("before", .integer(store.startCount)),
                ("part", .integer(costs.model.partCounts)),
                ("parts", .integer(StoredModel.parts)), ("end", .integer(store.endCount)),
                ("perMicrosecond", .integer(reader.manifest.instructionsPerMicrosecond)),
                ("marks", try places.marks()), ("phases", try places.phases()),
                ("events", try places.eventsOverTime()), ("series", .array(series)),
            ])
        }
    }

    /// The instructions around each site that the page lists.
    private func code() throws -> [[Surroundings.Line]] {
        let progress = ProgressLine("reading code")
        var done = 0
        let requests = places.listed.map { places.codeRequest($0) }
        return try CodeReader(options.request.replayMaker(), requests) {
            done += 1
            progress.show(Double(done) / Double(requests.count))
            return EndingSignal.wasReceived
        }.lines
    }
}
