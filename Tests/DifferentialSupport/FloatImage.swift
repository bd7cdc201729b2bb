import CEngine
import VMM

/// Floating-point state between FXSAVE64 images and the engine's registers.
package enum FloatImage {
    package static func load(_ image: UnsafeRawPointer, into cpu: CPU) {
        func field<T>(_ offset: Int, _ type: T.Type = T.self) -> T { image.load(fromByteOffset: offset, as: T.self) }
        cpu.pointee.fcw = field(FXImage.fcw)
        cpu.pointee.fsw = field(FXImage.fsw)
        cpu.pointee.mxcsr = field(FXImage.mxcsr)
        (cpu.pointee.fop, cpu.pointee.fip, cpu.pointee.fdp, cpu.pointee.fcs, cpu.pointee.fds) = (0, 0, 0, 0, 0)
        let abridged = field(FXImage.ftw, UInt8.self)
        let top = Int(cpu.pointee.fsw >> 11 & 7)
        var tags: UInt16 = 0
        for index in 0..<8 {
            let physical = (top + index) & 7
            let significand = field(FXImage.st(index), UInt64.self)
            let signExponent = field(FXImage.st(index) + 8, UInt16.self)
            cpu_fpr(cpu, Int32(physical)).pointee = X87Register(
                significand: significand, signExponent: signExponent, pad: (0, 0, 0))
            if abridged >> physical & 1 == 0 { tags |= 3 << UInt16(physical * 2) }
        }
        cpu.pointee.ftw = tags
        for index in 0..<16 {
            cpu_xmm(cpu, Int32(index)).pointee = XMMRegister(
                low: field(FXImage.xmm(index)), high: field(FXImage.xmm(index) + 8))
        }
    }

    package static func save(_ cpu: CPU, to image: UnsafeMutableRawPointer) {
        func set<T>(_ value: T, _ offset: Int) { image.storeBytes(of: value, toByteOffset: offset, as: T.self) }
        set(cpu.pointee.fcw, FXImage.fcw)
        set(cpu.pointee.fsw, FXImage.fsw)
        set(cpu.pointee.mxcsr, FXImage.mxcsr)
        let top = Int(cpu.pointee.fsw >> 11 & 7)
        var abridged: UInt8 = 0
        for index in 0..<8 {
            let physical = (top + index) & 7
            let register = cpu_fpr(cpu, Int32(physical)).pointee
            set(register.significand, FXImage.st(index))
            set(register.signExponent, FXImage.st(index) + 8)
            if cpu.pointee.ftw >> UInt16(physical * 2) & 3 != 3 { abridged |= 1 << UInt8(physical) }
        }
        set(abridged, FXImage.ftw)
        for index in 0..<16 {
            set(cpu_xmm(cpu, Int32(index)).pointee.low, FXImage.xmm(index))
            set(cpu_xmm(cpu, Int32(index)).pointee.high, FXImage.xmm(index) + 8)
        }
    }
}
