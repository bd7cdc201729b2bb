import CBlockGuest
import VMM

/// The part of memory that is the same for every program of a setting: descriptor tables, the kernel's code, page
/// tables and the services that programs ask for by INT.
struct KernelImage {
    /// RAM from 0 to `Physical.code`.
    private(set) var bytes = [UInt8](repeating: 0, count: Int(Physical.code))
    let setting: Setting
    /// Page-table entries of the code pages in the low window and in the second one.
    private(set) var codeEntries: [UInt64] = []
    private var tables: PageTables

    /// Numbers of the services, from vector 80h up.
    enum Service: Int, CaseIterable {
        case reloadCR3, exchangeData, exchangeDataInvalidating, changeMode, changeWindow, protectCode, exchangeCode
        case exchangeCodeReloading, toggleTS, toggleWP, toggleGlobal, toggleIF, invalidate, toggleTF, toggleAC, nothing
    }

    init(_ setting: Setting) {
        self.setting = setting
        tables = PageTables(setting)
        storeKernel()
        storeDescriptors()
        storeParameters()
        for window in [Linear.low, Linear.second] + (setting.isLong ? [Linear.high] : []) {
            for page in UInt64(0)..<4 { codeEntries.append(tables.leaf(window + page * pageSize)) }
        }
        replace(Physical.tables, tables.bytes)
    }

    private mutating func replace(_ address: UInt64, _ new: [UInt8]) {
        bytes.replaceSubrange(Int(address)..<Int(address) + new.count, with: new)
    }

    private mutating func store(_ value: UInt64, _ address: UInt64, count: Int = 8) {
        for index in 0..<count { bytes[Int(address) + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
    }

    private mutating func storeKernel() {
        let is64: Int32 = setting.isLong ? 1 : 0
        let code = UnsafeBufferPointer(start: blockguest_kernel(is64), count: blockguest_kernel_bytes(is64))
        replace(UInt64(BLOCKGUEST_KERNEL), Array(code))
        for vector in UInt64(0)..<256 {
            let handler =
                setting.kernelBase + UInt64(BLOCKGUEST_KERNEL) + vector * UInt64(BLOCKGUEST_STUB_BYTES)
            let isOpen = vector >= 0x80 || vector == 3 || vector == 4
            let selector = setting.isLong ? Selector.kernelCode64 : Selector.kernelCode32
            let gate =
                handler & 0xffff | UInt64(selector) << 16 | (isOpen ? 0xee : 0x8e) << 40
                | (handler >> 16 & 0xffff) << 48 | (setting.isLong ? 1 << 32 : 0)
            if setting.isLong {
                store(gate, UInt64(BLOCKGUEST_IDT) + vector * 16)
                store(handler >> 32, UInt64(BLOCKGUEST_IDT) + vector * 16 + 8)
            } else {
                store(gate, UInt64(BLOCKGUEST_IDT) + vector * 8)
            }
        }
    }

    private mutating func storeDescriptors() {
        for (selector, descriptor) in Selector.descriptors {
            store(descriptor, UInt64(BLOCKGUEST_GDT) + UInt64(selector & ~7))
        }
        let tss = UInt64(BLOCKGUEST_TSS)
        let base = setting.kernelBase
        if setting.isLong {
            store(base + UInt64(BLOCKGUEST_STACK_TOP), tss + 4)
            store(base + UInt64(BLOCKGUEST_STACK_TOP2), tss + 0x24)
        } else {
            store(base + UInt64(BLOCKGUEST_STACK_TOP), tss + 4, count: 4)
            store(UInt64(Selector.kernelData), tss + 8, count: 4)
        }
        store(0x68, tss + 0x66, count: 2)
    }

    private func parameter(_ offset: Int32) -> UInt64 { UInt64(BLOCKGUEST_PARAMETERS) + UInt64(offset) }

    private mutating func storeParameters() {
        store(100, parameter(BLOCKGUEST_LOG_LIMIT))
        store(Linear.low, parameter(BLOCKGUEST_CODE_BASE))
        store(setting.secondWindow, parameter(BLOCKGUEST_CODE_BASE2))
        store(UInt64(setting.codeSelector), parameter(BLOCKGUEST_MAIN_CS))
        store(UInt64(setting.stackSelector), parameter(BLOCKGUEST_MAIN_SS))
        store(Linear.stackStart, parameter(BLOCKGUEST_MAIN_STACK))
        for service in Service.allCases { storeService(service) }
    }

    private mutating func storeService(_ service: Service) {
        let page1 = Linear.low + Linear.data + DataPage.plain1 * pageSize
        let code1 = Linear.low + pageSize
        func entry(_ linear: UInt64) -> UInt64 { setting.kernelBase + tables.leaf(linear) }
        let dataChange = (DataPage.plain1 ^ DataPage.made) * pageSize
        let codeChange = (Physical.code + pageSize) ^ Physical.alternateCode
        let modeChange = UInt64(setting.codeSelector ^ (setting.otherCodeSelector ?? setting.codeSelector))
        let fields: (kind: Int32, address: UInt64, value: UInt64, linear: UInt64) =
            switch service {
            case .reloadCR3: (BLOCKGUEST_RELOAD_CR3, 0, 0, 0)
            case .exchangeData: (BLOCKGUEST_CHANGE, entry(page1), dataChange, 0)
            case .exchangeDataInvalidating: (BLOCKGUEST_CHANGE_INVLPG, entry(page1), dataChange, page1)
            case .changeMode: (BLOCKGUEST_XOR_CS, 0, modeChange, 0)
            case .changeWindow: (BLOCKGUEST_XOR_RIP, 0, Linear.low ^ setting.secondWindow, 0)
            case .protectCode: (BLOCKGUEST_CHANGE_INVLPG, entry(code1), PageTables.Bits.writable, code1)
            case .exchangeCode: (BLOCKGUEST_CHANGE_INVLPG, entry(code1), codeChange, code1)
            case .exchangeCodeReloading: (BLOCKGUEST_CHANGE_CR3, entry(code1), codeChange, 0)
            case .toggleTS: (BLOCKGUEST_XOR_CR0, 0, CR0.ts, 0)
            case .toggleWP: (BLOCKGUEST_XOR_CR0, 0, CR0.wp, 0)
            case .toggleGlobal: (BLOCKGUEST_XOR_CR4, 0, CR4.pge, 0)
            case .toggleIF: (BLOCKGUEST_XOR_FLAGS, 0, RFlags.if, 0)
            case .invalidate: (BLOCKGUEST_INVLPG_RDI, 0, 0, 0)
            case .toggleTF: (BLOCKGUEST_XOR_FLAGS, 0, RFlags.tf, 0)
            case .toggleAC: (BLOCKGUEST_XOR_FLAGS, 0, RFlags.ac, 0)
            case .nothing: (0, 0, 0, 0)
            }
        let place = parameter(BLOCKGUEST_SERVICES) + UInt64(service.rawValue) * 32
        store(UInt64(fields.kind), place)
        store(fields.address, place + 8)
        store(fields.value, place + 16)
        store(fields.linear, place + 24)
    }
}
