#pragma once
#include <stdint.h>

// What `trapline calibrate` times: pieces of code that user mode can run, in ticks of the time-stamp counter.

/// Loops of sixteen repetitions of something and the loop's own two instructions.
enum calibrate_loop {
    /// Nothing but the loop.
    CALIBRATE_EMPTY,
    /// CALIBRATE_MIX_INSTRUCTIONS instructions of a common mix, which hit the caches and predict well.
    CALIBRATE_MIX,
    CALIBRATE_PUSHF,
    CALIBRATE_PUSHF_POPF,
    CALIBRATE_RDTSC,
    CALIBRATE_CPUID_0,
    CALIBRATE_CPUID_1,
    CALIBRATE_PAUSE,
    CALIBRATE_CALL_RETURN,
    /// One-byte NOPs.
    CALIBRATE_NOP,
    /// NOPs of nine bytes.
    CALIBRATE_LONG_NOP,
    CALIBRATE_LOAD,
    CALIBRATE_STORE,
    /// Loads that each need the one before.
    CALIBRATE_LOAD_LATENCY,
    CALIBRATE_LAR,
    CALIBRATE_LSL,
    CALIBRATE_VERR,
    CALIBRATE_VERW,
    /// MOV to ES.
    CALIBRATE_SEGMENT_LOAD,
    /// MOV from ES.
    CALIBRATE_SEGMENT_STORE,
    CALIBRATE_LOOPS
};
#define CALIBRATE_REPETITIONS 16
#define CALIBRATE_MIX_INSTRUCTIONS 12
/// Instructions of one iteration of calibrate_missing_mix.
#define CALIBRATE_MISSING_INSTRUCTIONS 14

/// Ticks of `iterations` iterations of a loop.
uint64_t calibrate_loop(enum calibrate_loop loop, uint32_t iterations);

/// Ticks of iterations that each mispredict half of the time and load from anywhere in `bytes` bytes (a power of two).
uint64_t calibrate_missing_mix(const uint8_t *data, uint32_t bytes, uint32_t iterations);

/// Ticks of a chain of loads: `first` holds the address of the next one, and so on.
uint64_t calibrate_chase(void *const *first, uint32_t loads);

/// Ticks of system calls that do next to nothing.
uint64_t calibrate_system_calls(uint32_t calls);

/// Ticks of faults, each of which goes to a signal handler and returns behind the instruction.
/// - signal: SIGSEGV, SIGFPE or SIGILL.
uint64_t calibrate_signals(int signal, uint32_t faults);

/// Ticks of bytes sent to a second process and back, on one CPU: two switches each. 0 if there is no second process.
uint64_t calibrate_round_trips(uint32_t trips);

/// A virtual machine of the host's KVM that runs a loop of one instruction.
struct calibrate_kvm;
/// NULL with `errno` set if there is none.
struct calibrate_kvm *calibrate_kvm_open(void);
/// Ticks of `iterations` CPUIDs (which the kernel emulates) or OUTs (which it passes to user space), after which it
/// halts; 0 with `errno` set if that did not happen.
uint64_t calibrate_kvm_run(struct calibrate_kvm *kvm, int out, uint32_t iterations);
void calibrate_kvm_close(struct calibrate_kvm *kvm);

/// Stays on the CPU that it is on; then on all that it could be on before.
void calibrate_pin(int pinned);

/// The registers that CPUID leaves: EAX, EBX, ECX, EDX.
void calibrate_cpuid(uint32_t leaf, uint32_t registers[4]);

uint64_t calibrate_ticks(void);
