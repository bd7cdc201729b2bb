import VMM

/// Builds page tables of any format in an image of the frames from `Physical.tables` on.
struct PageTables {
    enum Bits {
        static let present: UInt64 = 1
        static let writable: UInt64 = 2
        static let user: UInt64 = 4
        static let large: UInt64 = 0x80
        static let global: UInt64 = 0x100
        static let noExecute: UInt64 = 1 << 63
    }

    private let setting: Setting
    private(set) var bytes = [UInt8](repeating: 0, count: Int(Physical.tablesEnd - Physical.tables))
    private var used: UInt64 = 1

    init(_ setting: Setting) {
        self.setting = setting
        if setting.hasPAE && !setting.isLong {
            // The four page-directory pointers take only P of the bits that the tables below them have.
            for index in UInt64(0)..<4 { store(allocate() | Bits.present, at: Physical.tables + index * 8) }
        }
        mapAll()
    }

    var root: UInt64 { Physical.tables }

    private mutating func allocate() -> UInt64 {
        used += 1
        return Physical.tables + (used - 1) * pageSize
    }

    private var levels: Int { setting.isLong ? 4 : setting.hasPAE ? 3 : 2 }
    private var entryBytes: UInt64 { setting.hasPAE ? 8 : 4 }
    private var indexBits: UInt64 { setting.hasPAE ? 9 : 10 }

    private func load(_ address: UInt64) -> UInt64 {
        (0..<entryBytes).reduce(0) { $0 | UInt64(bytes[Int(address - Physical.tables + $1)]) << ($1 * 8) }
    }

    private mutating func store(_ value: UInt64, at address: UInt64) {
        for index in 0..<entryBytes {
            bytes[Int(address - Physical.tables + index)] = UInt8(truncatingIfNeeded: value >> (index * 8))
        }
    }

    /// The guest-physical address of the entry for `linear` in the table of `level` (1 is the lowest), whose tables
    /// are made if need be.
    private mutating func entry(_ linear: UInt64, level: Int) -> UInt64 {
        var table = root
        var current = levels
        while true {
            let shift = 12 + indexBits * UInt64(current - 1)
            let index = (linear >> shift) & ((1 << indexBits) - 1)
            let address = table + index * entryBytes
            if current == level { return address }
            if load(address) & Bits.present == 0 {
                store(allocate() | Bits.present | Bits.writable | Bits.user, at: address)
            }
            table = load(address) & ~0xfff & ~Bits.noExecute
            current -= 1
        }
    }

    private mutating func map(_ linear: UInt64, _ physical: UInt64, _ rights: UInt64) {
        let usable = setting.hasPAE ? rights : rights & ~Bits.noExecute
        store(physical | Bits.present | usable, at: entry(linear, level: 1))
    }

    private mutating func mapLarge(_ linear: UInt64, _ physical: UInt64, _ rights: UInt64) {
        store(physical | Bits.present | Bits.large | rights, at: entry(linear, level: 2))
    }

    /// The guest-physical address of the entry of the page at `linear`.
    mutating func leaf(_ linear: UInt64) -> UInt64 { entry(linear, level: 1) }

    // MARK: What programs see

    private mutating func mapAll() {
        mapLarge(setting.kernelBase, 0, Bits.writable | Bits.global)
        mapWindow(Linear.low, swapped: false)
        mapWindow(Linear.second, swapped: true)
        if setting.isLong { mapWindow(Linear.high, swapped: true) }
        for index in UInt64(0)..<4 {
            map(
                Linear.low + Linear.alias + index * pageSize, Physical.code + index * pageSize,
                Bits.user | Bits.writable | Bits.noExecute)
        }
        map(Linear.low + Linear.pageTable, leaf(Linear.low) & ~0xfff, Bits.writable)
        for (number, base) in Linear.conflicts.enumerated() {
            for (page, frame) in [(DataPage.plain0, DataPage.plain1), (DataPage.plain1, DataPage.plain0)] {
                let target = number == 0 ? frame : page == DataPage.plain0 ? page : DataPage.made
                map(
                    base + Linear.data + page * pageSize, Physical.data + target * pageSize, Bits.user | Bits.writable)
            }
        }
        if setting.hasPAE {
            mapLarge(Linear.large, Physical.large, Bits.user | Bits.writable)
        } else {
            mapLarge(Linear.large, 0, Bits.user)
        }
    }

    private mutating func mapWindow(_ base: UInt64, swapped: Bool) {
        for index in UInt64(0)..<4 {
            map(base + index * pageSize, Physical.code + index * pageSize, Bits.user)
        }
        let stack = Linear.stack + base
        for index in UInt64(0)..<2 {
            map(stack + index * pageSize, Physical.stack + index * pageSize, Bits.user | Bits.writable)
        }
        for page in UInt64(0)..<8 where page != DataPage.absent {
            var frame = Physical.data + page * pageSize
            if swapped && page <= DataPage.plain1 { frame ^= pageSize }
            if page == DataPage.device { frame = Physical.device }
            var rights = Bits.user | Bits.writable
            if page == DataPage.readOnly { rights &= ~Bits.writable }
            if page == DataPage.supervisor { rights &= ~Bits.user }
            if page == DataPage.noExecute { rights |= Bits.noExecute }
            map(base + Linear.data + page * pageSize, frame, rights)
        }
    }
}
