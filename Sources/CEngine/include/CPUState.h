// The virtual CPU's whole architectural state and the decoded instruction, as flat C structs.
//
// They are C so that their layout is fixed: decoded instructions name registers by byte offset, and the
// shims and generated code address the same bytes. One CPUState lives at one address for the life of
// its Processor, which allocates and frees it.
#ifndef CENGINE_CPU_STATE_H
#define CENGINE_CPU_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SWIFT_NAME(name) __attribute__((swift_name(#name)))
#pragma clang assume_nonnull begin

typedef struct CPUState CPUState;
typedef struct Operation Operation;

/// Executes one decoded instruction and returns the next operation to run, or NULL to return to the run loop with
/// `rip` and `count` exact.
typedef Operation *_Nullable (*Handler)(CPUState *cpu, Operation *operation);

/// One MMX or SSE operation on the host: `destination` is read and written, `source` read, 16 bytes each (8 for MMX).
typedef void (*SIMDFunction)(void *destination, const void *source, uint32_t immediate);

/// One x87 operation in `environment` (control word, and status word from bit 16). `destination` is one or two
/// X87Registers, or 16 bytes of room for what a store writes. Returns exception flags and condition codes as in the
/// status word; the destination is unchanged if an exception is unmasked that suppresses the result.
typedef uint32_t (*X87Function)(uint32_t environment, void *destination, const void *source);

/// A segment register with its hidden part (SDM volume 3, 3.4.3).
typedef struct SegmentRegister {
    uint64_t base;
    uint32_t limit;       // in bytes, granularity applied: the last valid offset
    uint16_t selector;
    uint16_t attributes;  // bits 0-7: the access byte (type, S, DPL, P); bits 12-15: AVL, L, D/B, G
} SegmentRegister;

/// GDTR or IDTR.
typedef struct DescriptorTable {
    uint64_t base;
    uint16_t limit;
} DescriptorTable;

/// One page of the private cache of the data TLB. Tags hold the linear page address, or ~0 for none.
typedef struct DataCacheEntry {
    uint64_t readTag;
    uint64_t writeTag;
    uint64_t addend;  // host address minus linear address
    uint64_t page;    // host address of the page
} DataCacheEntry;

/// One entry of the modelled TLB.
typedef struct TLBEntry {
    uint64_t tag;    // linear page address (aligned to the entry's page size) with bit 0 set; 0 when empty
    uint64_t frame;  // physical page address with TLBFlags in its low bits
} TLBEntry;

/// An x87 register: the 80-bit value, in the first ten bytes; the rest is zero.
typedef struct X87Register {
    uint64_t significand;
    uint16_t signExponent;
    uint16_t pad[3];
} X87Register;

typedef struct __attribute__((aligned(16))) XMMRegister {
    uint64_t low, high;
} XMMRegister;

/// An event of the guest, as the sink receives it. `Event` in Swift documents the fields by kind.
typedef struct EventRecord {
    uint64_t count;    // position: counts retired before the instruction
    uint64_t address;  // linear address of the instruction
    uint64_t operand;
    uint64_t value;
    uint8_t kind;
    uint8_t ring;
    uint8_t size;
    uint8_t flags;
    uint32_t detail;
} EventRecord;

/// A decoded instruction: 64 bytes. Operand fields are filled by the decoder for each shape of operands.
struct Operation {
    Handler handler;
    void *source;          // a register inside CPUState, or this operation's own `immediate`
    uint64_t immediate;
    uint64_t displacement; // RIP-relative ones are already relative to the block's start
    uint64_t addressMask;  // of the effective address: 16, 32 or 64 ones
    union {
        Operation *_Nullable link;       // direct branches and block ends: the successor's first operation
        Handler _Nullable inner;         // sensitive instructions: what the reporting handler calls
        SIMDFunction _Nullable simd;     // MMX and SSE instructions
        X87Function _Nullable x87;       // x87 instructions
    };
    uint16_t destination;  // byte offsets into CPUState
    uint16_t base;
    uint16_t index;
    uint16_t segmentBase;
    uint16_t offset;       // of the instruction from the block's start
    uint8_t remaining;     // instructions from this one to the block's end, itself included
    uint8_t length;        // in bytes, 1 to 15
    uint8_t scale;         // shift count of the index
    uint8_t segment;       // SegmentIndex of the memory operand
    uint8_t flags;         // OperationFlags
    uint8_t kind;          // EventKind of a sensitive instruction
};

struct CPUState {
    uint64_t gpr[16];      // must stay first: register offsets are number * 8
    uint64_t zero;         // always 0: stands for an absent base or index register
    uint64_t rip;          // exact whenever the run loop is entered
    uint64_t blockRIP;     // RIP of the running block's first instruction
    uint64_t count;        // virtual time, with the whole of the running block already charged
    uint64_t position;     // counts retired before what runs now; kept by slow paths and read by events
    uint64_t deadline;     // a block that would pass this count is run step by step up to it
    uint64_t flagResult;   // arithmetic flags, kept as the last result …
    uint64_t flagCarries;  // … and its carries: see Flags.swift
    uint64_t flags;        // the other RFLAGS bits: TF, IF, DF, IOPL, NT, RF, VM, AC, VIF, VIP, ID
    uint64_t linearMask;   // of linear addresses: 32 or 64 ones
    uint64_t stackMask;    // of RSP: 16, 32 or 64 ones
    uint64_t stackBase;    // what RSP is relative to: the base of SS, or 0 in 64-bit code
    DataCacheEntry *dataCache; // CPU_DATA_CACHE_ENTRIES entries of the current privilege, owned by the Processor
    SegmentRegister segments[8]; // ES CS SS DS FS GS LDTR TR

    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t efer;
    uint64_t dr[8];
    DescriptorTable gdtr, idtr;
    uint64_t pdptr[4];     // PAE page-directory pointers, loaded with CR3

    uint64_t star, lstar, cstar, syscallMask, kernelGSBase;
    uint64_t sysenterCS, sysenterESP, sysenterEIP;
    uint64_t tscOffset, tscAux, pat, apicBase, miscEnable, smbase;
    uint64_t syscfg, hwcr;  // AMD's own
    uint64_t performance[8]; // AMD's PerfEvtSel0-3 and PerfCtr0-3
    uint64_t mtrrDefaultType, mtrrFixed[11], mtrrVariable[16];

    X87Register fpr[8];    // physical registers R0-R7
    XMMRegister xmm[16];
    uint16_t fcw, fsw, ftw, fop; // fsw holds TOP in its place; ftw has a tag by physical register: 3 empty, 0 not
    uint32_t mxcsr;
    uint16_t fcs, fds;
    uint64_t fip, fdp;

    // What the run loop must look at. `pending` are bits of PendingFlags; `faultVector` and so on describe an exception
    // to deliver, meaningful while PendingFlags.fault is set.
    uint32_t pending;
    uint32_t faultCode;
    uint8_t faultVector;
    bool faultHasCode;
    uint8_t faultIsSoftware; // 0, or the instruction's kind: INT n, INT3, INTO, INT1
    uint8_t cpl;
    uint32_t mode;         // ModeKey of the running code
    uint64_t faultAddress; // goes to CR2 for a page fault; of software interrupts, where to return to
    uint64_t pendingDebug; // DR6 bits of a debug exception not yet delivered
    uint8_t interruptShadow; // 0, or 1 after STI, 2 after MOV SS or POP SS: for one instruction
    bool nmiBlocked, nmiPending, halted, inSMM, interruptLine, smiPending, spareFlag;

    Operation *_Nullable patched;   // operation whose handler is diverted so that the block ends after the current one
    Handler _Nullable patchedHandler;
    uint64_t scratch[4];            // a memory operand that cannot be accessed in place is updated here
    uint64_t scratchAddress;        // its linear address
    EventRecord *_Nullable events;  // the sink's buffer, NULL with no sink attached
    uint32_t eventCount, eventCapacity;
    uint64_t eventCounts[128];      // by EventKind; the last one is 1 while INS or OUTS is left between two elements
    // What finding the next block needs, all owned by the Processor and valid as long as it lives.
    TLBEntry *fetchEntries;         // the fetch TLB: 1,024 small, then 64 large entries
    uint32_t *blockBuckets;         // the block cache's hash: arena slot of the first block in each bucket
    void *blockArena;
    uint64_t physicalMask;          // of physical addresses: the model's width, without bit 20 while A20 is masked
    void *processor;                // unretained Processor that owns this state
    // Arithmetic flags as translated code leaves them: LAHF's byte in bits 8-15 (bit 9 always set), OF in bit 0; 0
    // while `flagResult` and `flagCarries` have them. Always 0 outside translated code.
    uint16_t hostFlags;
    uint64_t groupAddress;          // host address of the accesses that translated code probed for together
    uint64_t idleNanoseconds;       // of the clock, for translated code to read the time-stamp counter
    uint64_t kernelIndirectBranches; // and returns at CPL 0 to 2; in translated code only counted for a model
    uint8_t *_Nullable callMarks;   // of the CallMarks in use, a byte for each four of RAM; NULL without any
    uint64_t callMarksRAM, callMarksSize; // host address and bytes of the RAM that they are for
};

/// What translated code addresses relative to the state block: one allocation of CPU_REGION_SIZE bytes.
enum : int {
    CPU_DATA_CACHE_ENTRIES = 4096,
    CPU_REGION_SUPERVISOR_CACHE = 4096,
    CPU_REGION_USER_CACHE = CPU_REGION_SUPERVISOR_CACHE + CPU_DATA_CACHE_ENTRIES * 32,
    CPU_REGION_DISABLED_CACHE = CPU_REGION_USER_CACHE + CPU_DATA_CACHE_ENTRIES * 32,
    // 512 pairs of flagResult and flagCarries
    CPU_REGION_FLAGS = CPU_REGION_DISABLED_CACHE + CPU_DATA_CACHE_ENTRIES * 32,
    CPU_JUMP_CACHE_ENTRIES = 16384,
    CPU_REGION_JUMP_CACHE = CPU_REGION_FLAGS + 512 * 16,
    CPU_REGION_SIZE = CPU_REGION_JUMP_CACHE + CPU_JUMP_CACHE_ENTRIES * 16,
};

/// Where translated code for one target of a branch begins.
typedef struct JumpCacheEntry {
    uint64_t rip;
    uint32_t code;  // host address
    uint32_t mode;  // ModeKey; ~0 when empty
} JumpCacheEntry;

/// Sets every byte of the state to zero, pointers included.
static inline void cpu_clear(CPUState *cpu) { __builtin_memset(cpu, 0, sizeof *cpu); }

/// Sets everything to zero that RESET# touches: all but the virtual count and what belongs to the host.
static inline void cpu_reset(CPUState *cpu) {
    CPUState old = *cpu;
    cpu_clear(cpu);
    cpu->count = old.count;
    cpu->position = old.position;
    cpu->dataCache = old.dataCache;
    __builtin_memcpy(&cpu->events, &old.events, sizeof(CPUState) - offsetof(CPUState, events));
}

static inline SegmentRegister *cpu_segment(CPUState *cpu, int index) { return &cpu->segments[index & 7]; }
static inline uint64_t *cpu_gpr(CPUState *cpu, int index) { return &cpu->gpr[index & 15]; }
static inline XMMRegister *cpu_xmm(CPUState *cpu, int index) { return &cpu->xmm[index & 15]; }
static inline X87Register *cpu_fpr(CPUState *cpu, int index) { return &cpu->fpr[index & 7]; }
static inline uint64_t *cpu_dr(CPUState *cpu, int index) { return &cpu->dr[index & 7]; }
static inline uint64_t *cpu_pdptr(CPUState *cpu, int index) { return &cpu->pdptr[index & 3]; }
static inline uint64_t *cpu_mtrr_fixed(CPUState *cpu, int index) { return &cpu->mtrrFixed[index % 11]; }
static inline uint64_t *cpu_mtrr_variable(CPUState *cpu, int index) { return &cpu->mtrrVariable[index & 15]; }
static inline uint64_t *cpu_performance(CPUState *cpu, int index) { return &cpu->performance[index & 7]; }
static inline uint64_t *cpu_leaves_transfer(CPUState *cpu) { return &cpu->eventCounts[127]; }
static inline uint64_t *cpu_event_count(CPUState *cpu, int kind) { return &cpu->eventCounts[kind & 127]; }

/// An operation with all operand fields zero. `place` stands in for the operand pointer until one is set.
static inline Operation operation_blank(Handler handler, void *place) {
    Operation operation = {.handler = handler, .source = place};
    return operation;
}

enum : int {
    CPU_OFFSET_ZERO = offsetof(CPUState, zero),
    CPU_OFFSET_BLOCK_RIP = offsetof(CPUState, blockRIP),
    CPU_OFFSET_SEGMENTS = offsetof(CPUState, segments),
    CPU_OFFSET_XMM = offsetof(CPUState, xmm),
    CPU_OFFSET_FPR = offsetof(CPUState, fpr),
    CPU_OFFSET_SCRATCH = offsetof(CPUState, scratch),
};

_Static_assert(sizeof(Operation) == 64, "an operation is one cache line");
_Static_assert(sizeof(CPUState) <= CPU_REGION_SUPERVISOR_CACHE, "the state block fits before the caches");
_Static_assert(sizeof(DataCacheEntry) == 32 && sizeof(JumpCacheEntry) == 16, "entries are indexed by shifts");

#pragma clang assume_nonnull end
#endif
