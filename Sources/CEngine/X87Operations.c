#include <string.h>

#include "X87Internal.h"

// The host's x87 status keeps the guest's sticky flags from one operation to the next, since clearing them costs
// hundreds of cycles. That is sound as long as the guest has the same flags set and masks them all; otherwise
// `begin` clears them. An unmasked exception is left pending only until FNSTSW has shown it: FNCLEX takes it
// back before an instruction that would report it.

enum : uint16_t { HOST_CONTROL = 0x37f };

/// Prepares the host for one operation under `control`.
static inline void begin(uint32_t environment, uint16_t control) {
    uint16_t status;
    __asm__ volatile("fnstsw %0" : "=a"(status));
    uint32_t stale = status & X87_EXCEPTIONS;
    if (__builtin_expect(stale & (~(environment >> X87_STATUS_SHIFT) | (~environment & X87_EXCEPTIONS ? ~0u : 0)), 0)) {
        __asm__ volatile("fnclex");
    }
    if (__builtin_expect(control != HOST_CONTROL, 0)) __asm__ volatile("fldcw %0" : : "m"(control));
}

static inline void end(uint16_t control) {
    const uint16_t host = HOST_CONTROL;
    if (__builtin_expect(control != HOST_CONTROL, 0)) __asm__ volatile("fldcw %0" : : "m"(host));
}

/// The control word with every exception masked, for operations whose unmasked exceptions only suppress the result.
static inline uint16_t masked(uint32_t environment) { return (uint16_t)(environment | X87_EXCEPTIONS); }

// Reads the status and takes back an unmasked exception.
#define STATUS "fnstsw %[status]\n\ttestb $0x80, %b[status]\n\tjz 1f\n\tfnclex\n1:\t"

/// Runs host instructions on a register and a source in memory.
#define RUN(control, instructions, destination, value)                              \
    uint16_t status;                                                                \
    begin(environment, (uint16_t)(control));                                        \
    __asm__ volatile(instructions : [status] "=a"(status), [d] "+m"(destination) : [s] "m"(value) : "cc"); \
    end((uint16_t)(control))

#define REGISTER(pointer) (*(X87Register *)(pointer))
#define SOURCE(type) (*(const type *)source)

#define FLAGS_AND(conditions) return status & (X87_EXCEPTIONS | (conditions))

// MARK: Arithmetic

#define BINARY(name, instruction, conditions)                                                              \
    X87_OPERATION(name) {                                                                                  \
        RUN(environment,                                                                                   \
            "fldt %[s]\n\tfldt %[d]\n\t" instruction "\n\t" STATUS "fstpt %[d]\n\tfstp %%st(0)",             \
            REGISTER(destination), SOURCE(X87Register));                                                   \
        FLAGS_AND(conditions);                                                                             \
    }

#define WITH_MEMORY(name, instruction, type)                                             \
    X87_OPERATION(name) {                                                                \
        RUN(environment, "fldt %[d]\n\t" instruction " %[s]\n\t" STATUS "fstpt %[d]",    \
            REGISTER(destination), SOURCE(type));                                        \
        FLAGS_AND(X87_C1);                                                               \
    }

#define ARITHMETIC(name)                                           \
    BINARY(f##name, "f" #name " %%st(1), %%st", X87_C1)            \
    WITH_MEMORY(f##name##_single, "f" #name "s", uint32_t)         \
    WITH_MEMORY(f##name##_double, "f" #name "l", uint64_t)         \
    WITH_MEMORY(fi##name##_word, "fi" #name "s", uint16_t)         \
    WITH_MEMORY(fi##name##_doubleword, "fi" #name "l", uint32_t)
X87_ARITHMETIC(ARITHMETIC)

BINARY(fscale, "fscale", X87_C1)

#define UNARY(name)                                                              \
    X87_OPERATION(name) {                                                        \
        RUN(environment, "fldt %[d]\n\t" #name "\n\t" STATUS "fstpt %[d]",       \
            REGISTER(destination), environment);                                 \
        FLAGS_AND(X87_C1);                                                       \
    }
UNARY(fsqrt)
UNARY(frndint)

// MARK: Remainders

static BINARY(fprem_once, "fprem", X87_CONDITIONS)
static BINARY(fprem1_once, "fprem1", X87_CONDITIONS)

/// The exponent of a finite nonzero number's leading bit, with the format's bias.
static inline int leading_exponent(X87Register value) {
    int exponent = x87_exponent(value);
    return (exponent ? exponent : 1) - __builtin_clzll(value.significand);
}

static inline bool is_finite_nonzero(X87Register value) {
    return x87_exponent(value) != X87_EXPONENT && value.significand && !x87_is_nan_or_unsupported(value);
}

/// FPREM and FPREM1 reduce the exponent difference by less than 64 and set C2 if that was not all. By how much is left
/// to the CPU, so that one step is defined here: by 32 + (difference mod 32), which makes the step a whole remainder of
/// the same dividend by a larger divisor.
static uint32_t remainder_step(uint32_t environment, void *destination, const void *source, X87Function whole) {
    X87Register dividend = REGISTER(destination), divisor = SOURCE(X87Register);
    if (x87_is_nan_or_unsupported(dividend) || x87_is_nan_or_unsupported(divisor) || x87_is_infinity(dividend)
        || x87_is_zero(divisor)) {
        // There is no quotient: C0 and C3 stay the guest's.
        uint32_t conditions = (environment >> X87_STATUS_SHIFT) & (X87_C0 | X87_C3);
        return (whole(environment, destination, source) & X87_EXCEPTIONS) | conditions;
    }
    if (!is_finite_nonzero(dividend) || !is_finite_nonzero(divisor)) return whole(environment, destination, source);
    int difference = leading_exponent(dividend) - leading_exponent(divisor);
    if (difference < 64) return whole(environment, destination, source);

    uint32_t denormal = x87_is_denormal(dividend) || x87_is_denormal(divisor) ? X87_DENORMAL : 0;
    if (x87_unmasked(environment, denormal)) return denormal;
    int exponent = leading_exponent(dividend) - ((difference & 31) | 32);
    uint64_t significand = divisor.significand << __builtin_clzll(divisor.significand);
    if (exponent < 1) {
        significand >>= 1 - exponent; // exact: the product is a multiple of the smallest denormal
        exponent = 0;
    }
    divisor = x87_value(false, exponent, significand);
    uint32_t status = x87_fprem_once(environment, destination, &divisor);
    return (status & X87_EXCEPTIONS) | denormal | X87_C2;
}

X87_OPERATION(fprem) { return remainder_step(environment, destination, source, x87_fprem_once); }
X87_OPERATION(fprem1) { return remainder_step(environment, destination, source, x87_fprem1_once); }

// MARK: Comparisons

#define COMPARE(name, instruction)                                                                     \
    X87_OPERATION(name) {                                                                              \
        RUN(masked(environment),                                                                       \
            "fldt %[s]\n\tfldt %[d]\n\t" instruction "\n\tfnstsw %[status]\n\tfstp %%st(0)\n\tfstp %%st(0)", \
            REGISTER(destination), SOURCE(X87Register));                                               \
        FLAGS_AND(X87_C0 | X87_C2 | X87_C3);                                                           \
    }

#define COMPARE_WITH_MEMORY(name, instruction, type)                                                   \
    X87_OPERATION(name) {                                                                              \
        RUN(masked(environment), "fldt %[d]\n\t" instruction " %[s]\n\tfnstsw %[status]\n\tfstp %%st(0)", \
            REGISTER(destination), SOURCE(type));                                                      \
        FLAGS_AND(X87_C0 | X87_C2 | X87_C3);                                                           \
    }

COMPARE(fcom, "fcom %%st(1)")
COMPARE(fucom, "fucom %%st(1)")
COMPARE_WITH_MEMORY(fcom_single, "fcoms", uint32_t)
COMPARE_WITH_MEMORY(fcom_double, "fcoml", uint64_t)
COMPARE_WITH_MEMORY(ficom_word, "ficoms", uint16_t)
COMPARE_WITH_MEMORY(ficom_doubleword, "ficoml", uint32_t)

X87_OPERATION(ftst) {
    RUN(masked(environment), "fldt %[d]\n\tftst\n\tfnstsw %[status]\n\tfstp %%st(0)", REGISTER(destination),
        environment);
    FLAGS_AND(X87_C0 | X87_C2 | X87_C3);
}

// MARK: Loads and stores

typedef struct PackedDecimal { uint8_t bytes[10]; } PackedDecimal;

// An unmasked invalid operation suppresses a load; a denormal operand does not.
#define LOAD(name, instruction, type)                                                          \
    X87_OPERATION(name) {                                                                      \
        bool suppressible = x87_unmasked(environment, X87_INVALID);                            \
        X87Register previous = {0};                                                            \
        if (suppressible) previous = REGISTER(destination);                                    \
        RUN(masked(environment), instruction " %[s]\n\tfnstsw %[status]\n\tfstpt %[d]",          \
            REGISTER(destination), SOURCE(type));                                              \
        if (suppressible && (status & X87_INVALID)) REGISTER(destination) = previous;          \
        return status & X87_EXCEPTIONS;                                                        \
    }

LOAD(fld_single, "flds", uint32_t)
LOAD(fld_double, "fldl", uint64_t)
LOAD(fild_word, "filds", uint16_t)
LOAD(fild_doubleword, "fildl", uint32_t)
LOAD(fild_quadword, "fildll", uint64_t)
LOAD(fbld, "fbld", PackedDecimal)

#define CONSTANT(name)                                                                        \
    X87_OPERATION(name) {                                                                     \
        RUN(masked(environment), #name "\n\tfnstsw %[status]\n\tfstpt %[d]", REGISTER(destination), environment); \
        return 0;                                                                             \
    }

CONSTANT(fld1)
CONSTANT(fldl2t)
CONSTANT(fldl2e)
CONSTANT(fldpi)
CONSTANT(fldlg2)
CONSTANT(fldln2)
CONSTANT(fldz)

// An unmasked overflow or underflow suppresses these stores, and an unmasked underflow needs only a tiny result.
#define STORE_FLOAT(name, instruction, type)                                                  \
    X87_OPERATION(name) {                                                                     \
        RUN(environment, "fldt %[s]\n\t" instruction " %[d]\n\t" STATUS "fstp %%st(0)",       \
            *(type *)destination, SOURCE(X87Register));                                       \
        FLAGS_AND(X87_C1);                                                                    \
    }

STORE_FLOAT(fst_single, "fsts", uint32_t)
STORE_FLOAT(fst_double, "fstl", uint64_t)

#define STORE_INTEGER(name, instruction, type)                                                \
    X87_OPERATION(name) {                                                                     \
        RUN(masked(environment), "fldt %[s]\n\t" instruction " %[d]\n\tfnstsw %[status]",     \
            *(type *)destination, SOURCE(X87Register));                                       \
        FLAGS_AND(X87_C1);                                                                    \
    }

STORE_INTEGER(fist_word, "fistps", uint16_t)
STORE_INTEGER(fist_doubleword, "fistpl", uint32_t)
STORE_INTEGER(fist_quadword, "fistpll", uint64_t)
STORE_INTEGER(fisttp_word, "fisttps", uint16_t)
STORE_INTEGER(fisttp_doubleword, "fisttpl", uint32_t)
STORE_INTEGER(fisttp_quadword, "fisttpll", uint64_t)
STORE_INTEGER(fbstp, "fbstp", PackedDecimal)

/// FXTRACT is exact: the exponent of ST0 replaces it, the significand is pushed.
X87_OPERATION(fxtract) {
    X87Register value = SOURCE(X87Register), exponent, significand;
    uint32_t status = 0;
    if (x87_is_nan_or_unsupported(value)) {
        significand = value;
        status = x87_fadd(environment, &significand, &value) & X87_EXCEPTIONS;
        exponent = significand;
    } else if (x87_is_infinity(value)) {
        significand = value;
        exponent = x87_value(false, X87_EXPONENT, X87_INTEGER_BIT);
    } else if (x87_is_zero(value)) {
        status = X87_ZERO_DIVIDE;
        significand = value;
        exponent = x87_value(true, X87_EXPONENT, X87_INTEGER_BIT);
    } else {
        if (x87_is_denormal(value)) status = X87_DENORMAL;
        int32_t power = leading_exponent(value) - X87_BIAS;
        uint64_t bits = value.significand << __builtin_clzll(value.significand);
        significand = x87_value(x87_is_negative(value), X87_BIAS, bits);
        memset(&exponent, 0, sizeof exponent);
        (void)x87_fild_doubleword(environment | X87_EXCEPTIONS, &exponent, &power);
    }
    if (x87_unmasked(environment, status & (X87_INVALID | X87_DENORMAL | X87_ZERO_DIVIDE))) return status;
    ((X87Register *)destination)[0] = exponent;
    ((X87Register *)destination)[1] = significand;
    return status;
}
