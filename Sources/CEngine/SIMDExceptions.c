// MXCSR around the floating-point operations: they run with every exception masked, and unmasked ones are found by the
// flags that they raised.
#include <string.h>

#include "SIMDOperations.h"

enum : uint32_t {
    MXCSR_FLAGS = 0x3f,
    MXCSR_INVALID = 1 << 0, MXCSR_DENORMAL = 1 << 1, MXCSR_DIVIDE_BY_ZERO = 1 << 2,
    MXCSR_OVERFLOW = 1 << 3, MXCSR_UNDERFLOW = 1 << 4, MXCSR_PRECISION = 1 << 5,
    MXCSR_BEFORE = MXCSR_INVALID | MXCSR_DENORMAL | MXCSR_DIVIDE_BY_ZERO, // found before the computation
    MXCSR_DENORMALS_ARE_ZEROS = 1 << 6,
    MXCSR_MASK_SHIFT = 7,
    MXCSR_MASKS = MXCSR_FLAGS << MXCSR_MASK_SHIFT,
    MXCSR_FLUSH_TO_ZERO = 1 << 15,
    MXCSR_HOST = MXCSR_MASKS,
};

static inline uint32_t get_mxcsr(void) {
    uint32_t value;
    __asm__ volatile("stmxcsr %0" : "=m"(value) : : "memory");
    return value;
}

static inline void set_mxcsr(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory"); }

// MARK: Precision of unmasked overflows and underflows

// A masked overflow or denormal result counts as inexact. An unmasked one is inexact only if rounding with an unbounded
// exponent loses something (SDM volume 1, 4.9.1.4 and 4.9.1.5). The x87's wider exponents and its precision
// control give just that.

typedef enum Pairing { LANE_BY_LANE, HORIZONTAL, ALTERNATING, CONVERSION } Pairing;

/// An operation whose result can overflow or underflow.
typedef struct Rounded {
    SIMDFunction function;
    char operation;
    uint8_t bytes, lanes;
    Pairing pairing;
} Rounded;

#define SIZES(name, operation)                                                                     \
    {sse_##name##ps, operation, 4, 4, LANE_BY_LANE}, {sse_##name##ss, operation, 4, 1, LANE_BY_LANE}, \
    {sse_##name##pd, operation, 8, 2, LANE_BY_LANE}, {sse_##name##sd, operation, 8, 1, LANE_BY_LANE}

static const Rounded rounded[] = {
    SIZES(add, '+'), SIZES(sub, '-'), SIZES(mul, '*'), SIZES(div, '/'),
    {sse_haddps, '+', 4, 4, HORIZONTAL}, {sse_haddpd, '+', 8, 2, HORIZONTAL},
    {sse_hsubps, '-', 4, 4, HORIZONTAL}, {sse_hsubpd, '-', 8, 2, HORIZONTAL},
    {sse_addsubps, '-', 4, 4, ALTERNATING}, {sse_addsubpd, '-', 8, 2, ALTERNATING},
    {sse_cvtpd2ps, '+', 8, 2, CONVERSION}, {sse_cvtsd2ss, '+', 8, 1, CONVERSION},
};

/// A lane as a double, which holds any float.
static double lane(const uint8_t *vector, int index, int bytes, uint32_t mxcsr) {
    double wide = 0;
    uint64_t bits = 0, exponents = bytes == 4 ? 0x7f800000 : 0x7ff0000000000000;
    memcpy(&bits, vector + index * bytes, (size_t)bytes);
    if ((mxcsr & MXCSR_DENORMALS_ARE_ZEROS) && !(bits & exponents)) return 0;
    if (bytes == 8) {
        memcpy(&wide, &bits, 8);
    } else {
        float narrow;
        memcpy(&narrow, &bits, 4);
        __asm__ volatile("cvtss2sd %1, %0" : "=x"(wide) : "x"(narrow));
    }
    return wide;
}

/// Whether a op b is inexact with `bytes` of precision and an unbounded exponent.
static bool is_inexact(char operation, double a, double b, int bytes) {
    const uint16_t host = 0x37f;
    uint16_t control = bytes == 4 ? 0x07f : 0x27f, status;
#define RUN(instruction)                                                                        \
    __asm__ volatile("fnclex\n\tfldcw %[control]\n\tfldl %[a]\n\t" instruction " %[b]\n\tfnstsw %[status]\n\t" \
                     "fstp %%st(0)\n\tfldcw %[host]"                                            \
                     : [status] "=a"(status)                                                    \
                     : [control] "m"(control), [host] "m"(host), [a] "m"(a), [b] "m"(b))
    switch (operation) {
    case '+': RUN("faddl"); break;
    case '-': RUN("fsubl"); break;
    case '*': RUN("fmull"); break;
    default: RUN("fdivl"); break;
    }
#undef RUN
    return status & MXCSR_PRECISION;
}

/// Whether any lane of the result is inexact in that sense.
static bool any_inexact(SIMDFunction function, const uint8_t *a, const uint8_t *b, uint32_t mxcsr) {
    for (size_t row = 0; row < sizeof rounded / sizeof *rounded; row++) {
        Rounded r = rounded[row];
        if (r.function != function) continue;
        int half = r.lanes / 2;
        for (int i = 0; i < r.lanes; i++) {
            const uint8_t *pair = i < half ? a : b;
            int first = i % (half ? half : 1) * 2;
            char operation = r.pairing == ALTERNATING && i % 2 ? '+' : r.operation;
            bool inexact =
                r.pairing == HORIZONTAL
                    ? is_inexact(operation, lane(pair, first, r.bytes, mxcsr), lane(pair, first + 1, r.bytes, mxcsr),
                                 r.bytes)
                : r.pairing == CONVERSION
                    ? is_inexact(operation, lane(b, i, 8, mxcsr), 0, 4)
                    : is_inexact(operation, lane(a, i, r.bytes, mxcsr), lane(b, i, r.bytes, mxcsr), r.bytes);
            if (inexact) return true;
        }
        return false;
    }
    return true;
}

// MARK: Running

/// Runs with everything masked and returns the exception flags that this operation alone raised.
static uint32_t run_masked(
    uint32_t mxcsr, SIMDFunction function, void *destination, const void *source, uint32_t immediate) {
    set_mxcsr((mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS);
    function(destination, source, immediate);
    uint32_t raised = get_mxcsr() & MXCSR_FLAGS;
    set_mxcsr(MXCSR_HOST);
    return raised;
}

/// With some exception unmasked. A masked underflow needs an inexact result, an unmasked one only a tiny result:
/// flushing to zero tells, since it happens to every tiny result.
static __attribute__((noinline)) bool run_unmasked(
    CPUState *cpu, SIMDFunction function, void *destination, const void *source, uint32_t immediate) {
    uint32_t mxcsr = cpu->mxcsr;
    uint32_t unmasked = ~(mxcsr >> MXCSR_MASK_SHIFT) & MXCSR_FLAGS;
    uint8_t result[16], probe[16];
    uint32_t raised = 0;
    if (unmasked & MXCSR_UNDERFLOW) {
        memcpy(probe, destination, 16);
        raised = run_masked(mxcsr | MXCSR_FLUSH_TO_ZERO, function, probe, source, immediate) & MXCSR_UNDERFLOW;
        mxcsr &= ~MXCSR_FLUSH_TO_ZERO;
    }
    memcpy(result, destination, 16);
    raised |= run_masked(mxcsr, function, result, source, immediate);
    uint32_t range = raised & (MXCSR_OVERFLOW | MXCSR_UNDERFLOW);
    if (raised & unmasked & MXCSR_BEFORE) {
        raised &= MXCSR_BEFORE;
    } else if (range && !(range & ~unmasked) && (raised & MXCSR_PRECISION)
               && !any_inexact(function, destination, source, mxcsr)) {
        raised &= ~(uint32_t)MXCSR_PRECISION;
    }
    cpu->mxcsr |= raised;
    if (raised & unmasked) return false;
    memcpy(destination, result, 16);
    return true;
}

// The host's MXCSR keeps the guest's sticky flags from one operation to the next, which nothing else reads, so that
// loading it is rarely needed; its control bits are always put back.
bool simd_run(
    CPUState *cpu, SIMDFunction function, void *destination, const void *source, uint32_t immediate) {
    uint32_t guest = cpu->mxcsr;
    if (__builtin_expect((guest & MXCSR_MASKS) != MXCSR_MASKS, 0)) {
        return run_unmasked(cpu, function, destination, source, immediate);
    }
    if (get_mxcsr() != guest) set_mxcsr(guest);
    function(destination, source, immediate);
    cpu->mxcsr = get_mxcsr();
    if ((guest & ~MXCSR_FLAGS) != MXCSR_HOST) set_mxcsr(MXCSR_HOST);
    return true;
}
