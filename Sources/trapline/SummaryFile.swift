import Analyzer
import Foundation

/// A trace's summary as JSON: the baseline that `analyze --summary` saves and `diff` takes.
enum SummaryFile {
    static let format = "trapline-summary-1"
    private static let mostPlaces = 4 << 20

    static func json(_ summary: TraceSummary) -> JSON {
        .object([
            ("format", .string(format)), ("counts", .integer(summary.counts)),
            ("samples", .integer(summary.samples)),
            (
                "places",
                .array(
                    summary.places.sorted { $0.key < $1.key }.map { place, samples in
                        .object([
                            ("name", .string(place.name)), ("kind", .string(place.kind)),
                            ("ring", .integer(UInt64(place.ring))), ("samples", .integer(samples)),
                        ])
                    })
            ),
        ])
    }

    private struct Contents: Decodable {
        struct Place: Decodable {
            var name: String
            var kind: String
            var ring: UInt8
            var samples: UInt64
        }

        var format: String
        var counts: UInt64
        var places: [Place]
    }

    static func parse(_ bytes: [UInt8], path: String) throws(CommandError) -> TraceSummary {
        guard let contents = try? JSONDecoder().decode(Contents.self, from: Data(bytes)), contents.format == format,
            contents.places.count <= mostPlaces
        else { throw .badFile(path: path, reason: "neither a trace nor a summary that analyze --summary saved") }
        var places: [TraceSummary.Place: UInt64] = [:]
        for place in contents.places {
            let key = TraceSummary.Place(name: place.name, kind: place.kind, ring: place.ring)
            places[key, default: 0] &+= place.samples
        }
        return TraceSummary(places: places, counts: contents.counts)
    }
}
