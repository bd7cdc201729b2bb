import Foundation
import Testing

/// The commands that look into a trace, and what they say to bad input.
struct AnalyzeCommandTests {
    private let folder: TemporaryFolder
    private let trace: String

    init() throws {
        folder = try TemporaryFolder()
        trace = folder.path + "/t.tline"
        let run = try CommandRun(["record", "-o", trace, "--stdin", "none"])
        #expect(run.code == 0, "\(run.errors)")
    }

    private func run(_ arguments: [String]) throws -> CommandRun {
        try CommandRun(arguments + ["--db", folder.path + "/db.sqlite"])
    }

    @Test func tablesAreShown() throws {
        for by in ["site", "symbol", "instruction", "operand", "device", "process", "pid", "ring", "phase"] {
            let text = try run(["analyze", trace, "--by", by])
            #expect(text.code == 0, "\(text.errors)")
            #expect(text.output.contains("samples%"))
            let json = try run(["analyze", trace, "--by", by, "--json"])
            let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
            #expect((object?["rows"] as? [Any])?.isEmpty == false, "\(by)")
        }
        let devices = try run(["analyze", trace, "--filter", "device=UART", "--by", "device"])
        #expect(devices.output.contains("line status"))
        let code = try run(["analyze", trace, "--filter", "kind=cpuid", "--top", "1", "--disassemble"])
        #expect(code.output.contains("cpuid\n"))
        let part = try run(["analyze", trace, "--by", "ring", "--between", "50%", "100%"])
        #expect(part.code == 0, "\(part.errors)")
    }

    @Test func strategiesAreShownBySite() throws {
        let text = try run(["analyze", trace, "--strategy", "vtx-ept"])
        #expect(text.code == 0, "\(text.errors)")
        #expect(text.output.contains("Modelled cycles that vtx-ept adds"))
        let json = try run(["analyze", trace, "--strategy", "xen-paravirt", "--costs", "zen3", "--json"])
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect(object?["costs"] as? String == "zen3")
        #expect(object?["modelled"] as? Bool == true)
    }

    /// What exits for itself alone costs the same in parts as in the whole.
    @Test func aStrategyOfAPart() throws {
        func cycles(_ part: [String]) throws -> Double {
            let filter = ["--filter", "kind=portIn,portOut,cpuid", "--top", "0", "--json"]
            let run = try run(["analyze", trace, "--strategy", "vtx-ept"] + filter + part)
            #expect(run.code == 0, "\(run.errors)")
            let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any]
            let rows = try #require(object?["rows"] as? [[String: Any]])
            return rows.compactMap { ($0["cycles"] as? [String: Double])?["typical"] }.reduce(0, +)
        }
        let whole = try cycles([])
        let halves = try [["0%", "50%"], ["50%", "100%"]].map { try cycles(["--between"] + $0) }
        #expect(whole > 0 && halves.allSatisfy { $0 > 0 })
        #expect(abs(halves[0] + halves[1] - whole) < 1, "\(halves) \(whole)")
        #expect(try cycles(["--between", "50%", "50%"]) == 0)
    }

    @Test func whatPatchingSavesIsACurve() throws {
        let json = try run(["analyze", trace, "--what-if", "patch-top=5", "--strategy", "vtx-ept", "--json"])
        #expect(json.code == 0, "\(json.errors)")
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        let strategies = try #require(object?["strategies"] as? [[String: Any]])
        let curve = try #require(strategies.first?["curve"] as? [[String: Any]])
        #expect(strategies.count == 1 && curve.compactMap { $0["sites"] as? Int } == [1, 2, 5])
        let sites = try #require(strategies.first?["sites"] as? [[String: Any]])
        let address = try #require(sites.first?["address"] as? String)
        let one = try run(["analyze", trace, "--what-if", "patch=\(address)", "--strategy", "vtx-ept"])
        #expect(one.code == 0 && one.output.contains("vtx-ept (xen-inplace)"), "\(one.errors)")
    }

    @Test func aReportIsOnePageAndAlwaysTheSame() throws {
        let (first, second) = (folder.path + "/first.html", folder.path + "/second.html")
        for path in [first, second] {
            let report = try run(["report", trace, "-o", path])
            #expect(report.code == 0 && report.output.isEmpty, "\(report.errors)")
        }
        let page = try String(contentsOfFile: first, encoding: .utf8)
        #expect(page == (try String(contentsOfFile: second, encoding: .utf8)))
        #expect(page.hasPrefix("<!doctype html>") && page.hasSuffix("</html>\n"))
        #expect(!page.contains("{{") && !page.contains(" src=") && page.utf8.count < 5_000_000)
    }

    @Test func aDifferenceHasAReport() throws {
        let path = folder.path + "/diff.html"
        let cache = "XDG_CACHE_HOME=\(folder.path)"
        let diff = try CommandRun(
            shell: "\(cache) \(CommandRun.executable.path) diff \(trace) \(trace) --report \(path)")
        #expect(diff.code == 0 && diff.output.isEmpty, "\(diff.errors)")
        #expect(try String(contentsOfFile: path, encoding: .utf8).contains("\"other\": {\"trace\""))
    }

    @Test func aTraceIsLikeItself() throws {
        let cache = folder.path + "/cache"
        let base = folder.path + "/base.json"
        #expect(try CommandRun(shell: "mkdir \(cache)").code == 0)
        func command(_ line: String) throws -> CommandRun {
            try CommandRun(shell: "XDG_CACHE_HOME=\(cache) \(CommandRun.executable.path) \(line)")
        }
        let same = try command("diff \(trace) \(trace) --threshold samples=0 --threshold new=0")
        #expect(same.code == 0, "\(same.errors)")
        #expect(same.output.isEmpty)
        #expect(try command("analyze \(trace) --summary \(base)").code == 0)
        #expect(try command("diff \(base) \(trace) --json").code == 0)
        // Another guest is another matter.
        let other = folder.path + "/other.tline"
        #expect(try command("record -o \(other) --stdin none --max-instructions 100000 2>/dev/null").code != 0)
        let junit = folder.path + "/junit.xml"
        let different = try command("diff \(base) \(other) --threshold samples=1 --junit \(junit)")
        #expect(different.code == 30, "\(different.errors)")
        #expect(different.errors.contains("more than 1.00%"))
        #expect(try String(contentsOfFile: junit, encoding: .utf8).contains("failures=\"1\""))
    }

    /// What fails after its file was opened leaves none behind.
    @Test(arguments: ["export T --format folded --stacks -o", "export T --format csv --symbols /nonexistent -o"])
    func nothingIsLeftOfAFailure(command: String) throws {
        let path = folder.path + "/out"
        let arguments = command.split(separator: " ").map { $0 == "T" ? trace : String($0) } + [path]
        let failed = try run(arguments)
        #expect(failed.code != 0)
        #expect(!FileManager.default.fileExists(atPath: path))
        try Data("old".utf8).write(to: URL(fileURLWithPath: path))
        #expect(try run(arguments).code != 0)
        #expect(FileManager.default.fileExists(atPath: path))
    }

    /// Stores that were not used for longest go when they are more than 2 GB together; the new one stays.
    @Test func theCacheOfStoresIsKeptSmall() throws {
        let cache = folder.path + "/trapline"
        let setUp = """
            mkdir \(cache) && cd \(cache) && truncate -s 1G old.sqlite new.sqlite && truncate -s 3G older.sqlite.17 \
            && touch -d 2001-01-01 older.sqlite.17 && touch -d 2002-01-01 old.sqlite && touch -d 2003-01-01 new.sqlite \
            && echo keep >notes
            """
        #expect(try CommandRun(shell: setUp).code == 0)
        let command = "XDG_CACHE_HOME=\(folder.path) \(CommandRun.executable.path) sql \(trace) 'SELECT 1'"
        for _ in 0..<2 {
            #expect(try CommandRun(shell: command).code == 0)
            let left = try FileManager.default.contentsOfDirectory(atPath: cache)
            #expect(left.count == 3 && left.contains("new.sqlite") && left.contains("notes"), "\(left)")
        }
    }

    @Test func storesAreAsked() throws {
        let json = try run(["sql", trace, "SELECT count(*) AS n FROM site", "--json"])
        #expect(json.code == 0, "\(json.errors)")
        let rows = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [[String: Int]]
        #expect(rows?.first?["n"] ?? 0 > 10)
        #expect(try run(["sql", trace, "SELECT 'a,b' AS x, NULL AS y", "--csv"]).output == "x,y\r\n\"a,b\",\r\n")
    }

    @Test(arguments: [
        (["sql", "T", "SELEC"], "SQL: near \"SELEC\": syntax error"),
        (["sql", "T", "DELETE FROM site"], "the statement would change the store"),
        (["analyze", "T", "--filter", "colour=red"], "the filter's column 1: colour is no key"),
        (["analyze", "T", "--filter", "kind=cpuid ring=four"], "the filter's column 17: expected a number"),
        (["analyze", "T", "--site", "0x1"], "no event of the trace is at 0x1"),
        (["analyze", "T", "--between", "5%"], "--between takes two positions"),
        (["analyze", "T", "--between", "60%", "40%"], "before its beginning"),
        (["analyze", "T", "--symbols", "/nonexistent/map"], "cannot read /nonexistent/map"),
        (["analyze", "T", "--symbols", "T"], "is no symbol; expected an address"),
        (["analyze", "/nonexistent/t.tline"], "cannot read /nonexistent/t.tline"),
        (["export", "T", "--format", "folded", "-o", "/nonexistent/out"], "cannot write /nonexistent/out"),
        (["export", "T", "--format", "sqlite"], "--format sqlite needs -o"),
        (["export", "T", "--format", "sqlite", "-o", "/nonexistent/out"], "cannot write /nonexistent/out"),
        (["export", "T", "--format", "paper"], "paper"),
        (["export", "T", "--format", "csv", "--stacks"], "--stacks goes with --format folded"),
        (["export", "T", "--format", "folded", "--stacks"], "there are no stacks"),
        (["analyze", "T", "--strategy", "magic"], "there is no strategy \"magic\""),
        (["analyze", "T", "--strategy", "pvm", "--by", "pid"], "tells processes apart by name"),
        (["analyze", "T", "--strategy", "pvm", "--filter", "pid=1"], "the filter cannot have pid"),
        (["analyze", "T", "--strategy", "native", "--what-if", "patch-top=3"], "native: there is nothing to rewrite"),
        (["analyze", "T", "--what-if", "patch-top=none"], "expected a number of sites"),
        (["analyze", "T", "--what-if", "patch=0x1"], "at 0x1 there is no instruction"),
        (["analyze", "T", "--what-if", "magic"], "expected patch-top=N or patch=ADDRESS"),
        (["analyze", "T", "--strategy", "vtx-ept", "--between", "2%", "1%"], "before its beginning"),
        (["analyze", "T", "--strategy", "pvm", "--audit"], "--audit goes with compare and replay"),
        (["report", "T", "-o", "/nonexistent/r.html"], "cannot write /nonexistent/r.html"),
        (["report", "/nonexistent/t.tline", "-o", "/dev/null"], "cannot read /nonexistent/t.tline"),
        (["report", "T", "-o", "/dev/full"], "cannot write /dev/full"),
        (["report", "T", "-o", "/dev/null", "--costs", "z80"], "there is no cost table or file \"z80\""),
        (["dump", "T", "--filter", "symbol=x"], "events do not hold a symbol"),
    ])
    func badInputIsOneSentence(arguments: [String], sentence: String) throws {
        let all = arguments.map { $0 == "T" ? trace : $0 }
        let run = arguments[0] == "dump" ? try CommandRun(all) : try run(all)
        #expect(run.code == 2, "\(arguments): \(run.errors)")
        #expect(run.errors.contains(sentence), "\(run.errors)")
        #expect(run.errors.split(separator: "\n").count == 1, "\(run.errors)")
        #expect(run.output.isEmpty)
    }

    @Test func storesThatDoNotFitAreRefused() throws {
        #expect(try run(["analyze", trace]).code == 0)
        let changed = try CommandRun(["record", "-o", trace, "--stdin", "none", "--max-instructions", "50000"])
        #expect(changed.code != 0)
        let stale = try run(["analyze", trace])
        #expect(stale.code == 2)
        #expect(stale.errors.contains("was made from another trace, or from this one before it changed"))
        let file = try folder.file("text", Array("no database".utf8))
        let other = try CommandRun(["analyze", trace, "--db", file])
        #expect(other.errors == "trapline: \(file) is no analysis store\n")
        #expect(try CommandRun(["analyze", trace, "--db", "/nonexistent/db"]).code == 2)
        #expect(try CommandRun(["diff", file, trace]).errors.contains("not a trace"))
    }

    @Test func aTraceOfInputsHasNothingToAnalyze() throws {
        let inputs = folder.path + "/inputs.tline"
        #expect(try CommandRun(["record", "-o", inputs, "--stdin", "none", "--detail", "inputs"]).code == 0)
        let run = try run(["analyze", inputs])
        #expect(run.code == 2)
        #expect(run.errors.contains("the trace holds no events; replay it with --record FILE --detail events"))
    }
}
