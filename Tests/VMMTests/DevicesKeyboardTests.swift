import Testing
import VMM

@Suite struct KeyboardControllerTests {
    let bench = DeviceBench()
    let controller: KeyboardController

    init() {
        controller = KeyboardControllerTests.makeController(bench)
        bench.clearLog()
    }

    static func makeController(_ bench: DeviceBench) -> KeyboardController {
        let a20 = bench.add(A20Gate { [unowned bench] in bench.note("A20=\($0)") })
        let controller = bench.add(
            KeyboardController(
                clock: bench.clock, queue: bench.queue, keyboardInterrupt: bench.line("IRQ1"),
                mouseInterrupt: bench.line("IRQ12"), a20: a20))
        controller.onReset = { [unowned bench] in bench.note("reset \($0)") }
        controller.attach(to: bench.ports)
        bench.hostAction = { action in
            switch action & 3 {
            case 0: controller.type("aB3\n")
            case 1: controller.moveMouse(x: Int32(action >> 8 % 900) - 400, y: -3, buttons: UInt8(action >> 4 & 7))
            default:
                controller.key(Key.allCases[Int(action >> 8 % UInt64(Key.allCases.count))], down: action & 4 != 0)
            }
        }
        return controller
    }

    private func command(_ value: UInt8) { bench.write(0x64, value) }
    private func data(_ value: UInt8) { bench.write(0x60, value) }
    /// Everything that comes out of port 0x60.
    private func drain() -> [UInt8] {
        var bytes: [UInt8] = []
        while bench.read(0x64) & 1 != 0, bytes.count < 100 { bytes.append(bench.read(0x60)) }
        return bytes
    }

    @Test func controllerCommands() {
        for (value, answer) in [(0xAA, 0x55), (0xA9, 0), (0xAB, 0), (0xA4, 0xF1), (0xC0, 0xA0)] as [(UInt8, UInt8)] {
            command(value)
            #expect(drain() == [answer])
        }
        command(0x60)
        data(0x65)
        command(0x20)
        #expect(drain() == [0x65])
        command(0x75)
        data(0x99)
        command(0x35)
        #expect(drain() == [0x99])
        command(0xA8)
        command(0x20)
        #expect(drain() == [0x45])
        #expect(bench.read(0x64) & 0x1C == 0x1C)
        command(0x60)
        data(0x00)
        #expect(bench.read(0x64) & 0x0C == 0, "system flag follows the command byte; the last write was data")
    }

    @Test func a20AndReset() {
        command(0xD1)
        data(0xDD)
        command(0xD0)
        #expect(drain().map { $0 & 3 } == [1])
        command(0xDF)
        command(0xFE)
        #expect(bench.log.filter { !$0.contains("IRQ") } == ["0: A20=false", "0: A20=true", "0: reset processor"])
    }

    @Test func keyboardCommands() {
        data(0xF2)
        #expect(drain() == [0xFA, 0xAB, 0x41], "translated")
        command(0x60)
        data(0x05)
        data(0xF2)
        #expect(drain() == [0xFA, 0xAB, 0x83])
        data(0xFF)
        #expect(drain() == [0xFA, 0xAA])
        data(0xED)
        #expect(drain() == [0xFA])
        data(0x05)
        #expect(drain() == [0xFA] && controller.leds == 5)
        data(0xEE)
        #expect(drain() == [0xEE])
        data(0xF0)
        data(0x00)
        #expect(drain() == [0xFA, 0xFA, 0x02])
        data(0xF3)
        data(0x00)
        #expect(drain() == [0xFA, 0xFA])
        data(0x01)
        #expect(drain() == [0xFE])
    }

    @Test func scanCodeSets() {
        func press(_ key: Key) -> [UInt8] {
            controller.key(key, down: true)
            controller.key(key, down: false)
            return drain()
        }
        #expect(press(.a) == [0x1E, 0x9E])
        #expect(press(.up) == [0xE0, 0x48, 0xE0, 0xC8])
        #expect(press(.f7) == [0x41, 0xC1])
        #expect(press(.pause) == [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5])
        command(0x60)
        data(0x05)
        #expect(press(.a) == [0x1C, 0xF0, 0x1C])
        #expect(press(.printScreen) == [0xE0, 0x12, 0xE0, 0x7C, 0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12])
        data(0xF0)
        data(0x01)
        _ = drain()
        #expect(press(.right) == [0xE0, 0x4D, 0xE0, 0xCD])
        data(0xF0)
        data(0x03)
        _ = drain()
        #expect(press(.right) == [0x6A, 0xF0, 0x6A])
        data(0xF5)
        #expect(drain() == [0xFA] && press(.a) == [])
    }

    @Test func heldKeyRepeats() {
        controller.key(.x, down: true)
        #expect(drain() == [0x2D])
        bench.advance(499_999_999)
        #expect(drain() == [])
        bench.advance(1)
        #expect(drain() == [0x2D])
        bench.advance(91_666_667)
        #expect(drain() == [0x2D])
        controller.key(.x, down: false)
        _ = drain()
        bench.advance(1_000_000_000)
        #expect(drain() == [])
    }

    @Test func typesText() {
        controller.type("aB\n")
        var bytes: [UInt8] = []
        for _ in 0..<10 {
            bench.advance(10_000_000)
            bytes += drain()
        }
        #expect(bytes == [0x1E, 0x9E, 0x2A, 0x30, 0xB0, 0xAA, 0x1C, 0x9C])
    }

    @Test func everyASCIICharacterHasAKey() {
        #expect((0x20...0x7E).allSatisfy { Key.typing(UInt8($0)) != nil })
        #expect(Key.typing(0x80) == nil)
    }

    @Test func eachByteIsAnEdge() {
        var edges: [String] { bench.log.filter { $0.contains("IRQ1=") } }
        controller.key(.a, down: true)
        controller.key(.a, down: false)
        #expect(edges.last == "0: IRQ1=true")
        bench.clearLog()
        _ = bench.read(0x60)
        #expect(edges.first == "0: IRQ1=false" && edges.last == "0: IRQ1=true")
        _ = bench.read(0x60)
        #expect(edges.last == "0: IRQ1=false")
    }

    @Test func mouse() {
        command(0x60)
        data(0x47)
        func send(_ bytes: UInt8...) -> [UInt8] {
            bytes.flatMap { byte -> [UInt8] in
                command(0xD4)
                data(byte)
                #expect(bench.read(0x64) & 0x21 == 0x21)
                return drain()
            }
        }
        #expect(send(0xFF) == [0xFA, 0xAA, 0x00])
        #expect(send(0xF2) == [0xFA, 0x00])
        #expect(send(0xF3, 200, 0xE8, 3, 0xE7) == [0xFA, 0xFA, 0xFA, 0xFA, 0xFA])
        #expect(send(0xE9) == [0xFA, 0x10, 3, 200])
        controller.moveMouse(x: 1, y: 1, buttons: 0)
        #expect(drain() == [], "reporting is off")
        #expect(send(0xF6, 0xF4) == [0xFA, 0xFA])
        controller.moveMouse(x: 5, y: -6, buttons: 1)
        #expect(bench.log.last { $0.contains("IRQ12") }?.hasSuffix("true") == true)
        #expect(drain() == [0x29, 0x05, 0xFA])
        controller.moveMouse(x: 300, y: 0, buttons: 1)
        #expect(drain() == [0x09, 0xFF, 0x00, 0x09, 0x2D, 0x00])
        command(0xD3)
        data(0x5A)
        #expect(bench.read(0x64) & 0x21 == 0x21 && drain() == [0x5A])
    }

    @Test func disabledDevicesWait() {
        command(0xAD)
        controller.key(.a, down: true)
        #expect(drain() == [])
        command(0xAE)
        #expect(drain() == [0x1E])
        for _ in 0..<30 { controller.key(.b, down: true) }
        #expect(drain().last == 0xFF, "overrun, translated")
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func fuzz(seed: UInt64) {
        fuzzDevice(
            seed: seed, ports: [0x60, 0x60, 0x64], hot: [0xD4, 0xF4, 0x60, 0x20, 0xAE, 0xA8, 0x47, 0xF2, 0xFF, 0xED]
        ) {
            let bench = DeviceBench()
            _ = KeyboardControllerTests.makeController(bench)
            return bench
        }
    }
}
