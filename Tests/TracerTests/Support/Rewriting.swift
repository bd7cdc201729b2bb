import Foundation
import Tracer

/// Copies a trace with its blocks changed; checksums, lengths and the index are made right again.
func rewrite(_ reader: TraceReader, to path: String, _ change: (inout Block) -> Void) throws {
    let file = try TraceFileWriter(path)
    for entry in reader.blocks {
        var block = try reader.load(entry)
        change(&block)
        try file.append(block)
    }
    if reader.isComplete { try file.finish() }
}

func folderContents(_ path: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path).sorted()
}
