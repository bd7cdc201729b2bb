import DifferentialSupport
import Glibc
import VMM

func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func readFile(_ path: String) -> String {
    guard let file = fopen(path, "r") else {
        print("blockdiff: cannot read \(path)")
        exit(2)
    }
    defer { fclose(file) }
    var text = ""
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    while getline(&line, &capacity, file) > 0, let line { text += String(cString: line) }
    free(line)
    return text
}

setlinebuf(stdout)
let options = Options.parse()
let runner = Runner(options)
let start = now()
if options.caseFiles.isEmpty {
    runner.runPrograms()
} else {
    for path in options.caseFiles {
        do {
            runner.run(try CaseText.read(readFile(path)), name: path)
        } catch {
            print("blockdiff: \(path): \(error)")
            exit(2)
        }
    }
}
runner.printSummary(seconds: now() - start)
exit(runner.failures == 0 ? 0 : 1)
