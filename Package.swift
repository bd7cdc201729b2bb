// swift-tools-version: 6.0
import PackageDescription

// Swift 6 language mode isolates top-level globals to the main actor, which puts a check into the
// engine's hot paths; the engine owns its one thread, so these targets stay in mode 5.
// Run-time exclusivity checks on class properties cost a call each; one thread and no reentrant
// access to a property under modification make them pointless there. Bounds and overflow checks stay.
let engineSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v5), .unsafeFlags(["-enforce-exclusivity=unchecked"]),
]

let package = Package(
    name: "trapline",
    products: [.executable(name: "trapline", targets: ["trapline"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0"),
    ],
    targets: [
        .systemLibrary(name: "CZydis", providers: [.apt(["libzydis-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .target(name: "CEngine", cSettings: [.unsafeFlags(["-O2", "-fno-strict-aliasing"])]),
        .target(name: "CBuiltinGuest"),
        // What `calibrate` times; its loops use the stack below the stack pointer.
        .target(name: "CCalibrate", cSettings: [.unsafeFlags(["-O2", "-mno-red-zone"])]),
        .target(
            name: "VMM", dependencies: ["CEngine", "CBuiltinGuest", "CZydis", "CXXHash"],
            swiftSettings: engineSettings),
        .target(
            name: "Tracer", dependencies: ["VMM", "CEngine", "CZstd", "CXXHash"], swiftSettings: engineSettings),
        .target(
            name: "Replayer", dependencies: ["Tracer", "VMM", "CEngine"],
            // In the executable itself, so that no file has to be found at run time.
            resources: ["pentium4", "prescott", "skylake", "zen3"].map { .embedInCode("Costs/Tables/\($0).json") },
            swiftSettings: engineSettings),
        .target(
            name: "Analyzer",
            dependencies: [
                "Replayer", "Tracer", "VMM", "CEngine", "CZydis", "CXXHash",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ],
            exclude: ["Export/Perfetto.proto"],
            // Also in the executable itself.
            resources: ["page.html", "page.css", "page.js", "flame.js", "charts.js"].map {
                .embedInCode("Report/Page/\($0)")
            },
            swiftSettings: engineSettings),
        .executableTarget(
            name: "trapline",
            dependencies: [
                "VMM", "Tracer", "Replayer", "Analyzer", "CEngine", "CCalibrate",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: engineSettings),
        .testTarget(name: "CommandTests", dependencies: ["trapline", "Replayer"], swiftSettings: engineSettings),
        .testTarget(
            name: "TracerTests", dependencies: ["Tracer", "Replayer", "VMM", "CEngine"], swiftSettings: engineSettings),
        .testTarget(
            name: "AnalyzerTests", dependencies: ["Analyzer", "Replayer", "Tracer", "VMM", "CEngine"],
            swiftSettings: engineSettings),
        .testTarget(name: "ReplayerTests", dependencies: ["Replayer", "VMM"], swiftSettings: engineSettings),
        .testTarget(name: "VMMTests", dependencies: ["VMM"], swiftSettings: engineSettings),
        // Runs instructions on the host CPU and on the engine; started by HostDifferentialTests.
        .target(
            name: "CHostCPU", path: "Tests/CHostCPU",
            cSettings: [.unsafeFlags(["-O2", "-fno-stack-protector"])]),
        // What the differential tests share: instruction forms, their encodings, and values for them.
        .target(
            name: "DifferentialSupport", dependencies: ["VMM", "CEngine", "CZydis", "CHostCPU"],
            path: "Tests/DifferentialSupport", swiftSettings: engineSettings),
        .executableTarget(
            name: "hostdiff", dependencies: ["DifferentialSupport"], path: "Tests/hostdiff",
            swiftSettings: engineSettings),
        // Runs random programs in both engines and on the host CPU; started by BlockDifferentialTests.
        .target(name: "CBlockGuest", path: "Tests/CBlockGuest"),
        .executableTarget(
            name: "blockdiff", dependencies: ["DifferentialSupport", "CBlockGuest", "CHostCPU"],
            path: "Tests/blockdiff",
            swiftSettings: engineSettings),
        .target(name: "DifferentialRun", path: "Tests/DifferentialRun"),
        .testTarget(
            name: "HostDifferentialTests", dependencies: ["DifferentialRun"], swiftSettings: engineSettings),
        .testTarget(
            name: "BlockDifferentialTests", dependencies: ["DifferentialRun"], swiftSettings: engineSettings),
    ]
)
