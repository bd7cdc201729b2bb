// The kernels under which the random programs of the block differential run: they record each exception and interrupt,
// let the program go on after it, and change page tables, modes and control registers at its request.
#ifndef CBLOCKGUEST_H
#define CBLOCKGUEST_H

// Guest-physical addresses. The kernel's linear window maps them from BLOCKGUEST_BASE64 or BLOCKGUEST_BASE32 up.
#define BLOCKGUEST_BASE64 0xffffffff80000000
#define BLOCKGUEST_BASE32 0xc0000000
#define BLOCKGUEST_IDT 0x1000
#define BLOCKGUEST_GDT 0x2000
#define BLOCKGUEST_TSS 0x2800
#define BLOCKGUEST_KERNEL 0x3000       // one stub for each vector, then the code that they share
#define BLOCKGUEST_STUB_BYTES 16
#define BLOCKGUEST_PARAMETERS 0x5000
#define BLOCKGUEST_STACK_TOP 0x7000    // of exceptions from CPL 3
#define BLOCKGUEST_STACK_TOP2 0x8000   // of all exceptions in long mode
#define BLOCKGUEST_LOG 0x8000          // 128 records of 64 bytes
#define BLOCKGUEST_LOG_RECORDS 128
#define BLOCKGUEST_RESUME 0x10000      // for each byte of code, the offset of the instruction to go on with
#define BLOCKGUEST_CODE_BYTES 0x4000

// Offsets in the parameters, 8 bytes each.
#define BLOCKGUEST_LOG_COUNT 0x00      // records written so far
#define BLOCKGUEST_LOG_LIMIT 0x08      // so many faults end the program
#define BLOCKGUEST_CODE_BASE 0x10      // linear addresses of the two windows of code
#define BLOCKGUEST_CODE_BASE2 0x18
#define BLOCKGUEST_MAIN_CS 0x20
#define BLOCKGUEST_MAIN_SS 0x28
#define BLOCKGUEST_MAIN_STACK 0x30
#define BLOCKGUEST_SERVICES 0x100      // 16 of 32 bytes: kind, address, value, linear address

// Vectors.
#define BLOCKGUEST_EXIT 3
#define BLOCKGUEST_FIRST_SERVICE 0x80
#define BLOCKGUEST_SERVICE_COUNT 16

// Kinds of services.
#define BLOCKGUEST_RELOAD_CR3 1
#define BLOCKGUEST_CHANGE 2            // exclusive-or of the value into the 32-bit word at the address
#define BLOCKGUEST_CHANGE_INVLPG 3     // … and INVLPG of the linear address
#define BLOCKGUEST_CHANGE_CR3 4        // … and CR3 reloaded
#define BLOCKGUEST_XOR_CS 5            // exclusive-or of the value into what the program goes on with
#define BLOCKGUEST_XOR_RIP 6
#define BLOCKGUEST_XOR_FLAGS 7
#define BLOCKGUEST_XOR_CR0 8
#define BLOCKGUEST_XOR_CR4 9
#define BLOCKGUEST_INVLPG_RDI 10

#ifndef __ASSEMBLER__
#pragma clang assume_nonnull begin

extern const unsigned char blockguest_kernel64[], blockguest_kernel64_end[], blockguest_kernel64_syscall[];
extern const unsigned char blockguest_kernel32[], blockguest_kernel32_end[];

/// The kernels as constant bytes of the executable, and their lengths.
static inline const unsigned char *blockguest_kernel(int is64) {
    return is64 ? blockguest_kernel64 : blockguest_kernel32;
}
static inline long blockguest_kernel_bytes(int is64) {
    return is64 ? blockguest_kernel64_end - blockguest_kernel64 : blockguest_kernel32_end - blockguest_kernel32;
}
/// Where SYSCALL enters the 64-bit kernel, from its start.
static inline long blockguest_syscall_offset(void) { return blockguest_kernel64_syscall - blockguest_kernel64; }

#pragma clang assume_nonnull end
#endif
#endif
