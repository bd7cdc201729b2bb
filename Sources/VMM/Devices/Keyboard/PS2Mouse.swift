/// A PS/2 mouse with two buttons and no wheel: it answers its command set, and nothing moves it.
package final class PS2Mouse: Archivable {
    private enum Command {
        static let scaling1: UInt8 = 0xE6, scaling2: UInt8 = 0xE7, resolution: UInt8 = 0xE8, statusRequest: UInt8 = 0xE9
        static let streamMode: UInt8 = 0xEA, readData: UInt8 = 0xEB, resetWrap: UInt8 = 0xEC, wrapMode: UInt8 = 0xEE
        static let remoteMode: UInt8 = 0xF0, identify: UInt8 = 0xF2, sampleRate: UInt8 = 0xF3, enable: UInt8 = 0xF4
        static let disable: UInt8 = 0xF5, defaults: UInt8 = 0xF6, resend: UInt8 = 0xFE, reset: UInt8 = 0xFF
    }
    private enum Reply { static let acknowledge: UInt8 = 0xFA, error: UInt8 = 0xFE, passed: UInt8 = 0xAA }
    private enum Status { static let scaling2: UInt8 = 1 << 4, enabled: UInt8 = 1 << 5, remote: UInt8 = 1 << 6 }
    private static let identity: UInt8 = 0
    private static let noMotion: [UInt8] = [1 << 3, 0, 0]
    private static let capacity = 16

    private var queue: [UInt8] = []
    private var pendingCommand: UInt8 = 0
    private var status: UInt8 = 0
    private var resolution: UInt8 = 2
    private var sampleRate: UInt8 = 100
    private var wraps = false
    private var lastSent: UInt8 = 0

    func reset() {
        queue = []
        pendingCommand = 0
        setDefaults()
    }

    private func setDefaults() {
        status = 0
        resolution = 2
        sampleRate = 100
        wraps = false
    }

    /// Takes a command or its argument from the controller.
    func receive(_ byte: UInt8) {
        if wraps && byte != Command.resetWrap && byte != Command.reset { return reply([byte]) }
        let command = pendingCommand
        pendingCommand = 0
        switch command {
        case Command.resolution:
            resolution = byte & 3
            reply([Reply.acknowledge])
        case Command.sampleRate:
            sampleRate = byte
            reply([Reply.acknowledge])
        default: self.command(byte)
        }
    }

    private func command(_ byte: UInt8) {
        var answer = [Reply.acknowledge]
        switch byte {
        case Command.scaling1: status &= ~Status.scaling2
        case Command.scaling2: status |= Status.scaling2
        case Command.resolution, Command.sampleRate: pendingCommand = byte
        case Command.statusRequest: answer += [status, resolution, sampleRate]
        case Command.streamMode: status &= ~Status.remote
        case Command.readData: answer += PS2Mouse.noMotion
        case Command.resetWrap: wraps = false
        case Command.wrapMode: wraps = true
        case Command.remoteMode: status |= Status.remote
        case Command.identify: answer.append(PS2Mouse.identity)
        case Command.enable: status |= Status.enabled
        case Command.disable: status &= ~Status.enabled
        case Command.defaults: setDefaults()
        case Command.resend: answer = [lastSent]
        case Command.reset:
            setDefaults()
            answer += [Reply.passed, PS2Mouse.identity]
        default: answer = [Reply.error]
        }
        reply(answer)
    }

    /// The next byte for the controller.
    func transmit() -> UInt8? {
        guard !queue.isEmpty else { return nil }
        lastSent = queue.removeFirst()
        return lastSent
    }

    private func reply(_ bytes: [UInt8]) {
        guard queue.count + bytes.count <= PS2Mouse.capacity else { return }
        queue += bytes
    }

    package func archive(_ archive: StateArchive) {
        archive.variable("queue", &queue, limit: PS2Mouse.capacity)
        archive.field("pendingCommand", &pendingCommand)
        archive.field("status", &status)
        archive.field("resolution", &resolution)
        archive.field("sampleRate", &sampleRate)
        archive.field("wraps", &wraps)
        archive.field("lastSent", &lastSent)
    }
}
