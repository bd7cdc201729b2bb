#include "SIMDOperations.h"

#include <emmintrin.h>
#include <string.h>

// Operands are copied in and out without alignment. `source` of an operation with an immediate count is the
// operation's own immediate field, which has 16 readable bytes.

static inline __m128i load(const void *source) { return _mm_loadu_si128(source); }
static inline __m128i load64(const void *source) { return _mm_loadl_epi64(source); }
static inline __m128i load32(const void *source) { return _mm_loadu_si32(source); }
static inline void store(void *destination, __m128i value) { _mm_storeu_si128(destination, value); }
static inline void store64(void *destination, __m128i value) { _mm_storel_epi64(destination, value); }

// Loads as many bytes as the instruction reads: what follows a source in memory may not be there.
#define LOAD_16 load
#define LOAD_8 load64
#define LOAD_4 load32

#define UNUSED __attribute__((unused))
#define OPERATION(name) void name(void *destination, UNUSED const void *source, UNUSED uint32_t immediate)

// MARK: Integers

#define XMM_INTEGER(name)                                   \
    OPERATION(sse_##name) {                                 \
        __m128i a = load(destination);                      \
        __asm__(#name " %1, %0" : "+x"(a) : "x"(load(source))); \
        store(destination, a);                              \
    }

#define INTEGER(name)                                         \
    XMM_INTEGER(name)                                         \
    OPERATION(mmx_##name) {                                   \
        __m128i a = load64(destination);                      \
        __asm__(#name " %1, %0" : "+x"(a) : "x"(load64(source))); \
        store64(destination, a);                              \
    }

// With both MMX operands in one XMM register, the XMM operation on it and itself has the MMX result as either half.
#define JOINING(name)                                                                \
    XMM_INTEGER(name)                                                                \
    OPERATION(mmx_##name) {                                                          \
        __m128i a = _mm_unpacklo_epi64(load64(destination), load64(source));         \
        __asm__(#name " %0, %0" : "+x"(a));                                          \
        store64(destination, a);                                                     \
    }

#define HIGH(name, low)                                              \
    XMM_INTEGER(name)                                                \
    OPERATION(mmx_##name) {                                          \
        __m128i a = _mm_srli_epi64(load64(destination), 32);         \
        __m128i b = _mm_srli_epi64(load64(source), 32);              \
        __asm__(#low " %1, %0" : "+x"(a) : "x"(b));                  \
        store64(destination, a);                                     \
    }

SIMD_INTEGER(INTEGER)
SIMD_JOINING(JOINING)
SIMD_HIGH(HIGH)
SIMD_XMM_INTEGER(XMM_INTEGER)
XMM_INTEGER(pshufb)

OPERATION(mmx_pshufb) {
    __m128i a = load64(destination);
    __m128i selectors = _mm_and_si128(load64(source), _mm_set1_epi8((char)0x87));
    __asm__("pshufb %1, %0" : "+x"(a) : "x"(selectors));
    store64(destination, a);
}

/// `size` bytes starting at byte `count` of `high`:`low`, zeros beyond.
static inline void align_right(uint8_t *destination, const uint8_t *source, uint32_t size, uint32_t count) {
    uint8_t joined[64] = {0};
    memcpy(joined, source, size);
    memcpy(joined + size, destination, size);
    memcpy(destination, joined + (count < 2 * size ? count : 2 * size), size);
}

OPERATION(sse_palignr) { align_right(destination, source, 16, immediate & 0xff); }
OPERATION(mmx_palignr) { align_right(destination, source, 8, immediate & 0xff); }

OPERATION(sse_pshufd) {
    uint32_t from[4], to[4];
    memcpy(from, source, 16);
    for (int i = 0; i < 4; i++) to[i] = from[(immediate >> (2 * i)) & 3];
    memcpy(destination, to, 16);
}

static inline void shuffle_words(void *destination, const void *source, uint32_t immediate) {
    uint16_t from[4], to[4];
    memcpy(from, source, 8);
    for (int i = 0; i < 4; i++) to[i] = from[(immediate >> (2 * i)) & 3];
    memcpy(destination, to, 8);
}

OPERATION(mmx_pshufw) { shuffle_words(destination, source, immediate); }

OPERATION(sse_pshuflw) {
    memmove((uint8_t *)destination + 8, (const uint8_t *)source + 8, 8);
    shuffle_words(destination, source, immediate);
}

OPERATION(sse_pshufhw) {
    memmove(destination, source, 8);
    shuffle_words((uint8_t *)destination + 8, (const uint8_t *)source + 8, immediate);
}

OPERATION(sse_shufps) {
    uint32_t a[4], b[4];
    memcpy(a, destination, 16);
    memcpy(b, source, 16);
    uint32_t to[4] = {
        a[immediate & 3], a[(immediate >> 2) & 3], b[(immediate >> 4) & 3], b[(immediate >> 6) & 3]};
    memcpy(destination, to, 16);
}

OPERATION(sse_shufpd) {
    uint64_t a[2], b[2];
    memcpy(a, destination, 16);
    memcpy(b, source, 16);
    uint64_t to[2] = {a[immediate & 1], b[(immediate >> 1) & 1]};
    memcpy(destination, to, 16);
}

/// The count of a byte shift; 16 and more clear the register.
static inline uint32_t shift_count(uint32_t immediate) {
    return (immediate & 0xff) < 16 ? immediate & 0xff : 16;
}

OPERATION(sse_pslldq) {
    uint8_t wide[32] = {0};
    memcpy(wide + 16, destination, 16);
    memcpy(destination, wide + 16 - shift_count(immediate), 16);
}

OPERATION(sse_psrldq) {
    uint8_t wide[32] = {0};
    memcpy(wide, destination, 16);
    memcpy(destination, wide + shift_count(immediate), 16);
}

static inline void store_general(void *destination, uint64_t value) { memcpy(destination, &value, 8); }

OPERATION(sse_pmovmskb) { store_general(destination, (uint32_t)_mm_movemask_epi8(load(source))); }
OPERATION(mmx_pmovmskb) { store_general(destination, (uint32_t)_mm_movemask_epi8(load64(source))); }
OPERATION(sse_movmskps) { store_general(destination, (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(load(source)))); }
OPERATION(sse_movmskpd) { store_general(destination, (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(load(source)))); }

// MARK: Floating point, under MXCSR

#define FLOAT(name, bytes)                                               \
    OPERATION(sse_##name) {                                              \
        __m128i a = load(destination);                                   \
        __asm__ volatile(#name " %1, %0" : "+x"(a) : "x"(LOAD_##bytes(source))); \
        store(destination, a);                                           \
    }
SIMD_FLOAT(FLOAT)

#define COMPARE_CASE(name, predicate) \
    case predicate: __asm__ volatile(#name " $" #predicate ", %1, %0" : "+x"(a) : "x"(b)); break;
#define COMPARE(name, bytes)                                             \
    OPERATION(sse_##name) {                                              \
        __m128i a = load(destination), b = LOAD_##bytes(source);         \
        switch (immediate & 7) {                                         \
            COMPARE_CASE(name, 0) COMPARE_CASE(name, 1) COMPARE_CASE(name, 2) COMPARE_CASE(name, 3) \
            COMPARE_CASE(name, 4) COMPARE_CASE(name, 5) COMPARE_CASE(name, 6) COMPARE_CASE(name, 7) \
        }                                                                \
        store(destination, a);                                           \
    }
SIMD_COMPARE(COMPARE)

#define COMPARE_FLAGS(name, bytes)                                       \
    OPERATION(sse_##name) {                                              \
        int carry, parity, zero;                                         \
        __asm__ volatile(#name " %4, %3"                                 \
                         : "=@ccc"(carry), "=@ccp"(parity), "=@ccz"(zero) \
                         : "x"(load(destination)), "x"(LOAD_##bytes(source))); \
        store_general(destination, (uint64_t)(carry | parity << 2 | zero << 6)); \
    }
SIMD_COMPARE_FLAGS(COMPARE_FLAGS)

#define TO_GENERAL(name, bytes)                                                   \
    OPERATION(sse_##name##32) {                                                   \
        uint32_t value;                                                           \
        __asm__ volatile(#name " %1, %0" : "=r"(value) : "x"(LOAD_##bytes(source))); \
        store_general(destination, value);                                        \
    }                                                                             \
    OPERATION(sse_##name##64) {                                                   \
        uint64_t value;                                                           \
        __asm__ volatile(#name " %1, %0" : "=r"(value) : "x"(LOAD_##bytes(source))); \
        store_general(destination, value);                                        \
    }
SIMD_TO_GENERAL(TO_GENERAL)

#define FROM_GENERAL(name)                                                        \
    OPERATION(sse_##name##32) {                                                   \
        __m128i a = load(destination);                                            \
        uint32_t value;                                                           \
        memcpy(&value, source, 4);                                                \
        __asm__ volatile(#name "l %1, %0" : "+x"(a) : "r"(value));                \
        store(destination, a);                                                    \
    }                                                                             \
    OPERATION(sse_##name##64) {                                                   \
        __m128i a = load(destination);                                            \
        uint64_t value;                                                           \
        memcpy(&value, source, 8);                                                \
        __asm__ volatile(#name "q %1, %0" : "+x"(a) : "r"(value));                \
        store(destination, a);                                                    \
    }
SIMD_FROM_GENERAL(FROM_GENERAL)

#define TO_MMX(name, packed, bytes)                                               \
    OPERATION(mmx_##name) {                                                       \
        __m128i a;                                                                \
        __asm__ volatile(#packed " %1, %0" : "=x"(a) : "x"(LOAD_##bytes(source))); \
        store64(destination, a);                                                  \
    }
SIMD_TO_MMX(TO_MMX)

OPERATION(sse_cvtpi2ps) {
    __m128i a;
    __asm__ volatile("cvtdq2ps %1, %0" : "=x"(a) : "x"(load64(source)));
    store64(destination, a);
}

// MARK: Approximations

enum : uint32_t {
    FLOAT_SIGN = 0x80000000, FLOAT_INFINITY = 0x7f800000, FLOAT_QUIET = 0x00400000, FLOAT_INDEFINITE = 0xffc00000,
    FLOAT_FRACTION = 0x007fffff, FLOAT_ONE = 0x00800000,
};

/// RCPPS: the reciprocal rounded to 13 significant bits (relative error below 2^-13; the SDM allows 1.5 * 2^-12).
/// Denormal operands count as zero and denormal results become zero, whatever MXCSR says.
static uint32_t reciprocal(uint32_t x) {
    uint32_t sign = x & FLOAT_SIGN, exponent = (x >> 23) & 0xff;
    if (exponent == 0xff) return x & FLOAT_FRACTION ? x | FLOAT_QUIET : sign;
    if (exponent == 0) return sign | FLOAT_INFINITY;
    uint32_t significand = (x & FLOAT_FRACTION) | FLOAT_ONE;
    uint32_t quotient = (uint32_t)((((uint64_t)1 << 36) + significand / 2) / significand); // 2^12 < quotient <= 2^13
    // Adding lets a quotient of 2^13 carry into the exponent.
    int32_t biased = 253 - (int32_t)exponent;
    uint32_t result = ((uint32_t)(biased - 1) << 23) + (quotient << 11);
    return biased < 0 || result < FLOAT_ONE ? sign : sign | result;
}

/// RSQRTPS: the reciprocal square root, rounded to 13 significant bits or better.
static uint32_t reciprocal_square_root(uint32_t x) {
    uint32_t sign = x & FLOAT_SIGN, exponent = (x >> 23) & 0xff;
    if (exponent == 0xff && (x & FLOAT_FRACTION)) return x | FLOAT_QUIET;
    if (exponent == 0) return sign | FLOAT_INFINITY;
    if (sign) return FLOAT_INDEFINITE;
    if (exponent == 0xff) return 0;
    // x = significand * 2^power with an even power.
    uint64_t significand = (x & FLOAT_FRACTION) | FLOAT_ONE;
    int32_t power = (int32_t)exponent - 150;
    if (power & 1) significand <<= 1, power -= 1;
    uint64_t square = ((uint64_t)1 << 56) / significand, root = 0; // 2^31 < square <= 2^33
    for (uint64_t bit = 1 << 17; bit; bit >>= 1) {
        if ((root | bit) * (root | bit) <= square) root |= bit;
    }
    // result = root * 2^(-28 - power / 2), with root in [2^15.5, 2^16.5]: round to a multiple of 8.
    root = (root + 4) & ~(uint64_t)7;
    int32_t top = root >> 16 ? 16 : 15;
    uint32_t biased = (uint32_t)(top - 28 - power / 2 + 127);
    return (biased << 23) | ((uint32_t)(root << (23 - top)) & FLOAT_FRACTION);
}

#define APPROXIMATION(name, function)                                      \
    OPERATION(sse_##name##ps) {                                            \
        uint32_t values[4];                                                \
        memcpy(values, source, 16);                                        \
        for (int i = 0; i < 4; i++) values[i] = function(values[i]);       \
        memcpy(destination, values, 16);                                   \
    }                                                                      \
    OPERATION(sse_##name##ss) {                                            \
        uint32_t value;                                                    \
        memcpy(&value, source, 4);                                         \
        value = function(value);                                           \
        memcpy(destination, &value, 4);                                    \
    }
APPROXIMATION(rcp, reciprocal)
APPROXIMATION(rsqrt, reciprocal_square_root)
