#define _GNU_SOURCE
#include "CCalibrate.h"
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

uint64_t calibrate_ticks(void) {
    uint32_t low, high;
    // LFENCE lets what is before end first.
    __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}

void calibrate_cpuid(uint32_t leaf, uint32_t registers[4]) {
    __cpuid_count(leaf, 0, registers[0], registers[1], registers[2], registers[3]);
}

// The counter is in EDI; the bodies may use every other register of the clobber list, and the stack.
#define TIMED(before, body, after)                                                                                    \
    do {                                                                                                              \
        start = calibrate_ticks();                                                                                    \
        __asm__ volatile(before "\n\t.balign 64\n1:\n\t.rept 16\n\t" body "\n\t.endr\n\t"                             \
                                after "\n\tdecl %%edi\n\tjnz 1b"                                                      \
                         : "+D"(iterations), "+S"(memory)                                                             \
                         : "d"(selector)                                                                              \
                         : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");                            \
        end = calibrate_ticks();                                                                                      \
    } while (0)

uint64_t calibrate_loop(enum calibrate_loop loop, uint32_t iterations) {
    uint64_t start = 0, end = 0;
    void *words[8] = {0};
    void **memory = words;
    uint32_t selector;
    words[0] = words;
    __asm__ volatile("movl %%ss, %0" : "=r"(selector));
    switch (loop) {
    case CALIBRATE_EMPTY: TIMED("", "", ""); break;
    case CALIBRATE_MIX:
        // Twelve: three loads, two stores, a multiplication, five simple ones, a branch that is never taken.
        TIMED("xorl %%r8d, %%r8d",
              "movq 8(%%rsi), %%rax\n\taddq $3, %%rax\n\tmovq %%rax, 16(%%rsi)\n\tmovq 24(%%rsi), %%rcx\n\t"
              "leaq 1(%%rcx,%%rax), %%rcx\n\txorq %%rcx, %%r9\n\timulq $5, %%r9, %%r9\n\ttestq %%r8, %%r8\n\t"
              "jnz 9f\n\tmovq 32(%%rsi), %%r10\n\tandl $255, %%r10d\n\tmovq %%r10, 40(%%rsi)\n9:",
              "");
        break;
    case CALIBRATE_PUSHF: TIMED("", "pushfq", "addq $128, %%rsp"); break;
    case CALIBRATE_PUSHF_POPF: TIMED("", "pushfq\n\tpopfq", ""); break;
    case CALIBRATE_RDTSC: TIMED("movl %%edx, %%r8d", "rdtsc", "movl %%r8d, %%edx"); break;
    case CALIBRATE_CPUID_0:
        TIMED("movl %%edx, %%r8d", "xorl %%eax, %%eax\n\tcpuid", "movl %%r8d, %%edx");
        break;
    case CALIBRATE_CPUID_1: TIMED("movl %%edx, %%r8d", "movl $1, %%eax\n\tcpuid", "movl %%r8d, %%edx"); break;
    case CALIBRATE_PAUSE: TIMED("", "pause", ""); break;
    case CALIBRATE_CALL_RETURN: TIMED("jmp 3f\n2:\n\tret\n3:", "call 2b", ""); break;
    case CALIBRATE_NOP: TIMED("", "nop", ""); break;
    case CALIBRATE_LONG_NOP: TIMED("", ".byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0", ""); break;
    case CALIBRATE_LOAD: TIMED("", "movq (%%rsi), %%rax", ""); break;
    case CALIBRATE_STORE: TIMED("", "movq %%rax, 8(%%rsi)", ""); break;
    case CALIBRATE_LOAD_LATENCY: TIMED("", "movq (%%rsi), %%rsi", ""); break;
    case CALIBRATE_LAR: TIMED("", "lar %%dx, %%eax", ""); break;
    case CALIBRATE_LSL: TIMED("", "lsl %%dx, %%eax", ""); break;
    case CALIBRATE_VERR: TIMED("", "verr %%dx", ""); break;
    case CALIBRATE_VERW: TIMED("", "verw %%dx", ""); break;
    case CALIBRATE_SEGMENT_LOAD: TIMED("", "movl %%edx, %%es", ""); break;
    case CALIBRATE_SEGMENT_STORE: TIMED("", "movl %%es, %%eax", ""); break;
    case CALIBRATE_LOOPS: break;
    }
    if (loop == CALIBRATE_SEGMENT_LOAD) __asm__ volatile("movl %0, %%es" ::"r"(0));
    return end - start;
}

uint64_t calibrate_missing_mix(const uint8_t *data, uint32_t bytes, uint32_t iterations) {
    // Goes on from run to run: a branch predictor learns a sequence of thousands that begins again each time.
    static uint64_t state = 0x9e3779b97f4a7c15;
    uint64_t sum = 0;
    uint32_t mask = bytes - 1;
    uint64_t start = calibrate_ticks();
    // Seven for a random number (xorshift), two for the load, three for the branch (of which one may be skipped), two
    // for the loop.
    __asm__ volatile(
        "1:\n\tmovq %0, %%rax\n\tshlq $13, %%rax\n\txorq %%rax, %0\n\tmovq %0, %%rax\n\tshrq $7, %%rax\n\t"
        "xorq %%rax, %0\n\tmovl %k0, %%ecx\n\tandl %k3, %%ecx\n\tmovzbl (%4,%%rcx), %%ecx\n\ttestb $16, %b0\n\t"
        "jz 2f\n\taddq %%rcx, %1\n2:\n\tdecl %2\n\tjnz 1b"
        : "+r"(state), "+r"(sum), "+r"(iterations)
        : "r"(mask), "r"(data)
        : "rax", "rcx", "memory", "cc");
    return calibrate_ticks() - start;
}

uint64_t calibrate_chase(void *const *first, uint32_t loads) {
    uint64_t start = calibrate_ticks();
    __asm__ volatile("1:\n\tmovq (%0), %0\n\tdecl %1\n\tjnz 1b" : "+r"(first), "+r"(loads)::"memory", "cc");
    return calibrate_ticks() - start;
}

uint64_t calibrate_system_calls(uint32_t calls) {
    uint64_t start = calibrate_ticks();
    while (calls--) syscall(SYS_getppid);
    return calibrate_ticks() - start;
}

// Each faulting instruction below has two bytes.
static void skip(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

uint64_t calibrate_signals(int signal, uint32_t faults) {
    struct sigaction action = {0}, before;
    action.sa_sigaction = skip;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, &before) != 0) return 0;
    uint64_t start = calibrate_ticks();
    for (; faults; faults--) {
        if (signal == SIGSEGV) {
            __asm__ volatile(".byte 0x8b, 0x00" ::"a"(0ul) : "memory");                    // movl (%rax), %eax
        } else if (signal == SIGFPE) {
            __asm__ volatile(".byte 0xf7, 0xf1" ::"a"(1), "d"(0), "c"(0) : "cc");          // divl %ecx
        } else {
            __asm__ volatile("ud2");
        }
    }
    uint64_t ticks = calibrate_ticks() - start;
    sigaction(signal, &before, 0);
    return ticks;
}

uint64_t calibrate_round_trips(uint32_t trips) {
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) != 0) return 0;
    if (pipe(back) != 0) {
        close(there[0]), close(there[1]);
        return 0;
    }
    pid_t child = fork();
    if (child == 0) {
        close(there[1]), close(back[0]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
        _exit(0);
    }
    close(there[0]), close(back[1]);
    uint64_t ticks = 0;
    if (child > 0) {
        // The first one wakes the other process up for the first time.
        int works = write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
        uint64_t start = calibrate_ticks();
        for (; works && trips; trips--) works = write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
        if (works) ticks = calibrate_ticks() - start;
    }
    close(there[1]), close(back[0]);
    if (child > 0) waitpid(child, 0, 0);
    return ticks;
}

void calibrate_pin(int pinned) {
    static cpu_set_t before;
    static int have;
    if (pinned) {
        int cpu = sched_getcpu();
        cpu_set_t one;
        if (cpu < 0 || sched_getaffinity(0, sizeof before, &before) != 0) return;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        have = sched_setaffinity(0, sizeof one, &one) == 0;
    } else if (have) {
        sched_setaffinity(0, sizeof before, &before);
        have = 0;
    }
}
