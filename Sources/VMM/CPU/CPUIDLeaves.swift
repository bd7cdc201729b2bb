/// Feature bits of CPUID leaf 1, EDX (SDM volume 2, CPUID).
package enum CPUIDFeature {
    package static let fpu: UInt32 = 1 << 0, de: UInt32 = 1 << 2, pse: UInt32 = 1 << 3, tsc: UInt32 = 1 << 4
    package static let msr: UInt32 = 1 << 5, pae: UInt32 = 1 << 6, mce: UInt32 = 1 << 7, cx8: UInt32 = 1 << 8
    package static let apic: UInt32 = 1 << 9, sep: UInt32 = 1 << 11, mtrr: UInt32 = 1 << 12, pge: UInt32 = 1 << 13
    package static let mca: UInt32 = 1 << 14, cmov: UInt32 = 1 << 15, pat: UInt32 = 1 << 16, pse36: UInt32 = 1 << 17
    package static let clflush: UInt32 = 1 << 19, mmx: UInt32 = 1 << 23, fxsr: UInt32 = 1 << 24
    package static let sse: UInt32 = 1 << 25, sse2: UInt32 = 1 << 26, selfSnoop: UInt32 = 1 << 27
    // Leaf 1, ECX.
    package static let sse3: UInt32 = 1 << 0, cx16: UInt32 = 1 << 13
    // Leaf 0x80000001, EDX.
    package static let syscall: UInt32 = 1 << 11, nx: UInt32 = 1 << 20, rdtscp: UInt32 = 1 << 27
    package static let longMode: UInt32 = 1 << 29
    // Leaf 0x80000001, ECX.
    package static let lahf64: UInt32 = 1 << 0
    // Leaf 0x80000007, EDX: the time-stamp counter runs at a constant rate in every state.
    package static let invariantTSC: UInt32 = 1 << 8
}

/// The table of CPUID answers of a model.
struct CPUIDLeaves {
    static let features: UInt32 = 1, extendedBase: UInt32 = 0x8000_0000, extendedFeatures: UInt32 = 0x8000_0001

    /// Answers by leaf, in ascending order; those without a row are zero.
    private let rows: [(leaf: UInt32, answer: CPUIDAnswer)]
    /// Cache descriptions by subleaf of leaf 4, on processors that have it.
    private let caches: [CPUIDAnswer]
    /// A leaf beyond the last answers as the last basic one (Intel), or with zeros (AMD).
    private let repeatsLastBasic: Bool

    func answer(_ leaf: UInt32, subleaf: UInt32) -> CPUIDAnswer {
        if leaf == 4, !caches.isEmpty {
            return subleaf < UInt32(caches.count) ? caches[Int(subleaf)] : CPUIDAnswer()
        }
        if let row = rows.first(where: { $0.leaf == leaf }) { return row.answer }
        let lastBasic = rows[0].answer.eax
        let lastExtended = rows.first { $0.leaf == CPUIDLeaves.extendedBase }?.answer.eax ?? 0
        let inRange = leaf <= lastBasic || (leaf >= CPUIDLeaves.extendedBase && leaf <= lastExtended)
        guard repeatsLastBasic, !inRange, leaf != lastBasic else { return CPUIDAnswer() }
        return answer(lastBasic, subleaf: subleaf)
    }

    // MARK: The models

    private static let common =
        CPUIDFeature.fpu | CPUIDFeature.de | CPUIDFeature.pse | CPUIDFeature.tsc
        | CPUIDFeature.msr | CPUIDFeature.pae | CPUIDFeature.mce | CPUIDFeature.cx8 | CPUIDFeature.sep
        | CPUIDFeature.mtrr | CPUIDFeature.pge | CPUIDFeature.mca | CPUIDFeature.cmov | CPUIDFeature.pat
        | CPUIDFeature.pse36 | CPUIDFeature.clflush | CPUIDFeature.mmx | CPUIDFeature.fxsr | CPUIDFeature.sse
        | CPUIDFeature.sse2
    /// The bits of leaf 1, EDX, that AMD repeats in leaf 0x80000001.
    private static let repeatedByAMD: UInt32 = 0x0183_f3ff
    /// Leaf 1, EBX: CLFLUSH lines of 64 bytes, one logical processor, APIC identifier 0.
    private static let processorInfo: UInt32 = 8 << 8 | 1 << 16
    /// Leaf 0x80000008, EAX: 40 physical and 48 linear address bits.
    private static let addressSizes64: UInt32 = 48 << 8 | 40

    static func amd64(signature: UInt32, apic: Bool) -> CPUIDLeaves {
        let features = common | (apic ? CPUIDFeature.apic : 0)
        let extended =
            (features & repeatedByAMD) | CPUIDFeature.syscall | CPUIDFeature.nx | CPUIDFeature.rdtscp
            | CPUIDFeature.longMode
        return CPUIDLeaves(
            rows: [
                (0, vendor("AuthenticAMD", last: 1)),
                (
                    1,
                    CPUIDAnswer(
                        eax: signature, ebx: processorInfo, ecx: CPUIDFeature.sse3 | CPUIDFeature.cx16,
                        edx: features)
                ),
                (extendedBase, vendor("AuthenticAMD", last: 0x8000_0008)),
                (extendedFeatures, CPUIDAnswer(eax: signature, ecx: CPUIDFeature.lahf64, edx: extended)),
            ] + brand("Trapline Virtual CPU x86-64") + [
                // TLBs and first-level caches: 64 KB each, 2-way, 64-byte lines.
                (0x8000_0005, CPUIDAnswer(eax: 0xff08_ff08, ebx: 0xff20_ff20, ecx: 0x4002_0140, edx: 0x4002_0140)),
                // Second level: 512 KB, 16-way.
                (0x8000_0006, CPUIDAnswer(eax: 0, ebx: 0x4200_4200, ecx: 0x0200_8140, edx: 0)),
                (0x8000_0007, CPUIDAnswer(edx: CPUIDFeature.invariantTSC)),
                (0x8000_0008, CPUIDAnswer(eax: addressSizes64)),
            ],
            caches: [], repeatsLastBasic: false)
    }

    static func intel64(signature: UInt32, apic: Bool) -> CPUIDLeaves {
        let features = common | CPUIDFeature.selfSnoop | (apic ? CPUIDFeature.apic : 0)
        let extended = CPUIDFeature.syscall | CPUIDFeature.nx | CPUIDFeature.rdtscp | CPUIDFeature.longMode
        return CPUIDLeaves(
            rows: [
                (0, vendor("GenuineIntel", last: 4)),
                (
                    1,
                    CPUIDAnswer(
                        eax: signature, ebx: processorInfo, ecx: CPUIDFeature.sse3 | CPUIDFeature.cx16,
                        edx: features)
                ),
                // 32 KB first-level caches, a 2 MB second level, TLBs.
                (2, CPUIDAnswer(eax: 0x05b0_b101, ebx: 0x0056_57f0, ecx: 0, edx: 0x2cb4_307d)),
                (extendedBase, vendorless(last: 0x8000_0008)),
                (extendedFeatures, CPUIDAnswer(ecx: CPUIDFeature.lahf64, edx: extended)),
            ] + brand("Trapline Virtual CPU x86-64 (Intel)") + [
                (0x8000_0006, CPUIDAnswer(ecx: 0x0800_7040)),
                (0x8000_0007, CPUIDAnswer(edx: CPUIDFeature.invariantTSC)),
                (0x8000_0008, CPUIDAnswer(eax: addressSizes64)),
            ],
            caches: [
                cache(type: 1, level: 1, ways: 8, kilobytes: 32), cache(type: 2, level: 1, ways: 8, kilobytes: 32),
                cache(type: 3, level: 2, ways: 8, kilobytes: 2048),
            ],
            repeatsLastBasic: true)
    }

    static func pentium4(signature: UInt32, apic: Bool) -> CPUIDLeaves {
        CPUIDLeaves(
            rows: [
                (0, vendor("GenuineIntel", last: 2)),
                // Brand index 9: Pentium 4.
                (
                    1,
                    CPUIDAnswer(
                        eax: signature, ebx: processorInfo | 9,
                        edx: common | CPUIDFeature.selfSnoop | (apic ? CPUIDFeature.apic : 0))
                ),
                // An 8 KB data cache, a 512 KB second level, TLBs, a 12 K-uop trace cache.
                (2, CPUIDAnswer(eax: 0x665b_5001, ebx: 0, ecx: 0, edx: 0x007b_7040)),
                (extendedBase, vendorless(last: 0x8000_0004)),
                (extendedFeatures, CPUIDAnswer()),
            ] + brand("Trapline Virtual CPU Pentium 4"),
            caches: [], repeatsLastBasic: true)
    }

    // MARK: Pieces

    /// Four characters as a little-endian register.
    private static func word(_ text: [UInt8], _ index: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(text[index * 4 + $1]) << UInt32($1 * 8) }
    }

    private static func vendor(_ name: String, last: UInt32) -> CPUIDAnswer {
        let text = Array(name.utf8)
        return CPUIDAnswer(eax: last, ebx: word(text, 0), ecx: word(text, 2), edx: word(text, 1))
    }

    private static func vendorless(last: UInt32) -> CPUIDAnswer { CPUIDAnswer(eax: last) }

    /// Leaves 0x80000002 to 4: the brand string, padded with zeros.
    private static func brand(_ name: String) -> [(leaf: UInt32, answer: CPUIDAnswer)] {
        let text = Array(name.utf8) + [UInt8](repeating: 0, count: 48 - name.utf8.count)
        return (0..<3).map { leaf in
            (
                0x8000_0002 + UInt32(leaf),
                CPUIDAnswer(
                    eax: word(text, leaf * 4), ebx: word(text, leaf * 4 + 1), ecx: word(text, leaf * 4 + 2),
                    edx: word(text, leaf * 4 + 3))
            )
        }
    }

    /// A row of leaf 4: 64-byte lines, one thread, one core.
    private static func cache(type: UInt32, level: UInt32, ways: UInt32, kilobytes: UInt32) -> CPUIDAnswer {
        CPUIDAnswer(eax: type | level << 5 | 1 << 8, ebx: (ways - 1) << 22 | 63, ecx: kilobytes * 16 / ways - 1)
    }
}
