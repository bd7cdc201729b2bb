// What the two files of x87 operations share.
#ifndef CENGINE_X87_INTERNAL_H
#define CENGINE_X87_INTERNAL_H

#include "X87Operations.h"

enum : uint32_t {
    X87_INVALID = 1 << 0, X87_DENORMAL = 1 << 1, X87_ZERO_DIVIDE = 1 << 2,
    X87_OVERFLOW = 1 << 3, X87_UNDERFLOW = 1 << 4, X87_PRECISION = 1 << 5,
    X87_EXCEPTIONS = 0x3f,
    X87_C0 = 1 << 8, X87_C1 = 1 << 9, X87_C2 = 1 << 10, X87_C3 = 1 << 14,
    X87_CONDITIONS = X87_C0 | X87_C1 | X87_C2 | X87_C3,
    X87_STATUS_SHIFT = 16,    // of the status word in an environment
    X87_ROUNDING_SHIFT = 10,
};

enum : uint16_t { X87_SIGN = 0x8000, X87_EXPONENT = 0x7fff, X87_BIAS = 0x3fff };

#define X87_INTEGER_BIT ((uint64_t)1 << 63)

#define X87_OPERATION(name)                                                                 \
    uint32_t x87_##name(__attribute__((unused)) uint32_t environment, void *destination, \
                        __attribute__((unused)) const void *source)

static inline int x87_exponent(X87Register value) { return value.signExponent & X87_EXPONENT; }

static inline bool x87_is_negative(X87Register value) { return value.signExponent & X87_SIGN; }

static inline bool x87_is_zero(X87Register value) { return x87_exponent(value) == 0 && value.significand == 0; }

/// Denormals and pseudo-denormals, which raise the denormal-operand exception.
static inline bool x87_is_denormal(X87Register value) { return x87_exponent(value) == 0 && value.significand != 0; }

static inline bool x87_is_infinity(X87Register value) {
    return x87_exponent(value) == X87_EXPONENT && value.significand == X87_INTEGER_BIT;
}

/// NaNs, and the encodings that are not supported since the 387.
static inline bool x87_is_nan_or_unsupported(X87Register value) {
    if (x87_exponent(value) == 0) return false;
    return !(value.significand & X87_INTEGER_BIT)
        || (x87_exponent(value) == X87_EXPONENT && value.significand != X87_INTEGER_BIT);
}

static inline X87Register x87_value(bool negative, int exponent, uint64_t significand) {
    return (X87Register){significand, (uint16_t)((negative ? X87_SIGN : 0) | exponent), {0}};
}

/// Whether any of `flags` is unmasked.
static inline bool x87_unmasked(uint32_t environment, uint32_t flags) { return flags & ~environment & X87_EXCEPTIONS; }

#endif
