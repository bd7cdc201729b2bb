// Runs one instruction on the host CPU from a fully given state and captures the state after it: the oracle
// of the differential test of instruction semantics. Linux on x86-64 only; one thread.
//
// The code runs in this process at CPL 3. It ends at an INT3 behind the instruction or at a fault; the signal
// handler copies the interrupted context and jumps back to the caller without a sigreturn.
#ifndef CHOSTCPU_H
#define CHOSTCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// State of the host CPU before and after an instruction. `fx` is an image of FXSAVE64.
typedef struct __attribute__((aligned(16))) HostState {
    uint8_t fx[512];
    uint64_t gpr[16];   // RAX RCX RDX RBX RSP RBP RSI RDI R8 … R15
    uint64_t rip;
    uint64_t rflags;    // TF must be clear
    uint16_t es, cs, ss, ds, fs, gs;
    uint16_t pad[2];
    // After the instruction:
    uint64_t errorCode;
    uint64_t cr2;       // meaningful after a page fault
    uint32_t vector;    // of the exception that ended it: 3 for the INT3 behind it
    uint32_t signal;
} HostState;

/// The pages of the window, as indices into the backing memory. The window lies at two linear addresses; the upper one,
/// for 64-bit code, has each pair of pages the other way round, so that lost upper address bits show.
enum {
    HOST_PAGE_DATA0, HOST_PAGE_DATA1,   // readable, writable
    HOST_PAGE_CONST,                    // read-only
    HOST_PAGE_STACK0, HOST_PAGE_STACK1, // readable, writable
    HOST_PAGE_CODE,                     // executable
    HOST_PAGE_COUNT
};

/// Linear addresses. Between the runs of pages nothing is mapped.
#define HOST_WINDOW_LOW 0x20000000ull
#define HOST_WINDOW_HIGH 0x345620000000ull
enum {
    HOST_OFFSET_DATA = 0x4000, // DATA0, DATA1, CONST
    HOST_OFFSET_STACK = 0x8000, // STACK0, STACK1
    HOST_OFFSET_CODE = 0xc000, // CODE
};

/// Selectors for HostState. Those of the local descriptor table are made by hostcpu_start.
enum {
    HOST_CS64 = 0x33, HOST_CS32 = 0x23, HOST_DS = 0x2b, // of the kernel's GDT: flat
    HOST_LDT_CODE16 = 0x07,  // base HOST_WINDOW_LOW, limit FFFF
    HOST_LDT_CODE32 = 0x0f,  // base HOST_WINDOW_LOW, limit FFFF
    HOST_LDT_DATA16 = 0x17,  // base HOST_WINDOW_LOW, limit FFFF, B clear
    HOST_LDT_DATA32 = 0x1f,  // base HOST_WINDOW_LOW, limit FFFF, B set
    HOST_LDT_FS = 0x27,      // base HOST_WINDOW_LOW + HOST_FS_SHIFT, 4 GB
    HOST_LDT_GS = 0x2f,      // base HOST_WINDOW_LOW + HOST_GS_SHIFT, 4 GB
    HOST_LDT_SHORT = 0x37,   // base HOST_WINDOW_LOW, limit HOST_SHORT_LIMIT, B clear
    HOST_LDT_DOWN = 0x3f,    // base HOST_WINDOW_LOW, expand-down, limit HOST_DOWN_LIMIT, B clear
    HOST_LDT_CONST = 0x47,   // base HOST_WINDOW_LOW, limit FFFF, read-only
    HOST_LDT_ENTRIES = 9,
    HOST_FS_SHIFT = 0x1230,
    HOST_GS_SHIFT = 0x2348,
    HOST_SHORT_LIMIT = 0x57ff,
    HOST_DOWN_LIMIT = 0x47ff,
};

/// Installs the window, the local descriptor table and the signal handlers. Returns NULL, or what failed.
const char *_Nullable hostcpu_start(void);

/// Whether the kernel made the segments of the local descriptor table (it may be built without 16-bit segments).
bool hostcpu_has_ldt(void);

/// Whether the host follows AMD where the vendors differ.
bool hostcpu_is_amd(void);

/// Whether the host is itself a guest, whose hypervisor may take part in exceptions.
bool hostcpu_is_virtual(void);

/// The state block that hostcpu_run reads and replaces. It lives as long as the process.
HostState *hostcpu_state(void);

/// The window's backing memory, HOST_PAGE_COUNT pages, writable. It lives as long as the process.
uint8_t *hostcpu_memory(void);

/// Runs from the state block until an exception.
void hostcpu_run(void);

/// Names what runs now, for the line on standard error that a crash or the watchdog leaves. The form is copied.
void hostcpu_note(const char *_Nullable form, int number);

/// Kills the process with a line on standard error unless called again in time: the tested code loops.
void hostcpu_set_watchdog(unsigned seconds);

#pragma clang assume_nonnull end
#endif
