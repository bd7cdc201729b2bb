// F2XM1, FYL2X, FYL2XP1, FSIN, FCOS, FSINCOS, FPTAN and FPATAN in 128-bit integers: one definition for every host.
//
// Each result is the true value to some 110 bits, rounded once to 64 under the rounding control, so nearly always the
// correctly rounded one. As on processors, all but the trivial results count as inexact, the trigonometric
// functions reduce by a pi of 66 bits (SDM volume 1, 8.3.8), and precision control does not apply.
#include "X87Internal.h"

typedef unsigned __int128 Wide;

#define WIDE(high, low) ((Wide)(high) << 64 | (low))
#define WIDE_TOP WIDE(X87_INTEGER_BIT, 0)

/// mantissa * 2^(exponent - 127), with the mantissa's top bit set.
typedef struct Real {
    Wide mantissa;
    int32_t exponent;
    bool negative;
} Real;

static const Wide LN2 = WIDE(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af);    // ln 2, a fraction of 2^128
static const Wide LOG2E = WIDE(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e88);  // log2 e, times 2^127
static const Wide PI = WIDE(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1);     // pi, times 2^126
static const Wide SQRT2 = WIDE(0xb504f333f9de6484, 0x597d89b3754abe9f);  // sqrt 2, times 2^127
static const Wide REDUCTION_PI = WIDE(0xc, 0x90fdaa22168c234c);          // the 66-bit pi, times 2^66

// MARK: Arithmetic

/// The upper half of the product: a product of fractions of 2^128.
static inline Wide multiply(Wide a, Wide b) {
    uint64_t ah = (uint64_t)(a >> 64), al = (uint64_t)a, bh = (uint64_t)(b >> 64), bl = (uint64_t)b;
    Wide middle1 = (Wide)ah * bl, middle2 = (Wide)al * bh;
    Wide carry = ((Wide)al * bl >> 64) + (uint64_t)middle1 + (uint64_t)middle2;
    return (Wide)ah * bh + (middle1 >> 64) + (middle2 >> 64) + (carry >> 64);
}

static inline int leading_zeros(Wide value) {
    uint64_t high = (uint64_t)(value >> 64);
    return high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)value);
}

/// A number of the given nonzero mantissa, normalized.
static inline Real normalized(bool negative, int32_t exponent, Wide mantissa) {
    int shift = leading_zeros(mantissa);
    return (Real){mantissa << shift, exponent - shift, negative};
}

/// A finite nonzero register.
static inline Real real_from(X87Register value) {
    int exponent = x87_exponent(value) ? x87_exponent(value) : 1;
    return normalized(x87_is_negative(value), exponent - X87_BIAS, (Wide)value.significand << 64);
}

static inline Real real_multiply(Real a, Real b) {
    return normalized(a.negative != b.negative, a.exponent + b.exponent + 1, multiply(a.mantissa, b.mantissa));
}

static Real real_divide(Real a, Real b) {
    // Long division of the mantissas, a one-bit quotient first: a / b is in (1/2, 2).
    Wide remainder = a.mantissa, quotient = 0;
    int32_t exponent = a.exponent - b.exponent;
    bool carry = false;
    if (remainder < b.mantissa) {
        carry = remainder >> 127;
        remainder <<= 1;
        exponent -= 1;
    }
    for (int bit = 127;; bit--) {
        if (carry || remainder >= b.mantissa) {
            remainder -= b.mantissa;
            quotient |= (Wide)1 << bit;
        }
        if (bit == 0) break;
        carry = remainder >> 127;
        remainder <<= 1;
    }
    return (Real){quotient, exponent, a.negative != b.negative};
}

/// A positive number as a multiple of 2^-scale, cut; it must be below 2^(128 - scale).
static inline Wide real_fixed(Real value, int scale) {
    int shift = 127 - scale - value.exponent;
    return shift >= 128 ? 0 : value.mantissa >> shift;
}

// MARK: Rounding

/// Rounds mantissa.high with the rest as what follows, by rounding control. The increment, 0 or 1.
static inline uint32_t rounding_increment(uint32_t environment, bool negative, Wide mantissa) {
    uint64_t kept = (uint64_t)(mantissa >> 64), rest = (uint64_t)mantissa;
    switch ((environment >> X87_ROUNDING_SHIFT) & 3) {
    case 0: return rest > X87_INTEGER_BIT || (rest == X87_INTEGER_BIT && (kept & 1));
    case 1: return negative && rest;
    case 2: return !negative && rest;
    default: return 0;
    }
}

/// What an overflow becomes: infinity, or the largest number if rounding goes towards zero.
static X87Register overflowed(uint32_t environment, bool negative, uint32_t *status) {
    uint32_t control = (environment >> X87_ROUNDING_SHIFT) & 3;
    *status |= X87_OVERFLOW;
    if (control == 3 || control == (negative ? 2 : 1)) {
        *status &= ~(uint32_t)X87_C1;
        return x87_value(negative, X87_EXPONENT - 1, ~(uint64_t)0);
    }
    *status |= X87_C1;
    return x87_value(negative, X87_EXPONENT, X87_INTEGER_BIT);
}

/// Rounds an inexact value into a register, with the flags of it added to `status`. An unmasked overflow or
/// underflow scales the exponent by 24576 (SDM volume 1, 8.5.4 and 8.5.5).
static uint32_t finish(uint32_t environment, Real value, uint32_t status, X87Register *result) {
    const int scaling = 24576;
    int32_t exponent = value.exponent + X87_BIAS;
    uint32_t increment = rounding_increment(environment, value.negative, value.mantissa);
    uint64_t significand = (uint64_t)(value.mantissa >> 64) + increment;
    bool carried = increment && significand == 0;
    status |= X87_PRECISION;

    if (exponent + carried <= 0 && !x87_unmasked(environment, X87_UNDERFLOW)) {
        int shift = 1 - exponent;
        Wide mantissa = shift < 128 ? value.mantissa >> shift : 0;
        if (shift >= 128 || mantissa << shift != value.mantissa) mantissa |= 1;
        increment = rounding_increment(environment, value.negative, mantissa);
        significand = (uint64_t)(mantissa >> 64) + increment;
        *result = x87_value(value.negative, significand >> 63 ? 1 : 0, significand);
        return status | X87_UNDERFLOW | (increment ? X87_C1 : 0);
    }
    if (carried) {
        significand = X87_INTEGER_BIT;
        exponent += 1;
    }
    if (increment) status |= X87_C1;
    if (exponent <= 0) {
        status |= X87_UNDERFLOW;
        exponent += scaling;
    } else if (exponent >= X87_EXPONENT) {
        if (!x87_unmasked(environment, X87_OVERFLOW)) {
            *result = overflowed(environment, value.negative, &status);
            return status;
        }
        status |= X87_OVERFLOW;
        exponent -= scaling;
    }
    *result = x87_value(value.negative, exponent, significand);
    return status;
}

// MARK: Series

// 2^128 / n! and 2^128 / (2n + 1), rounded down.
#define INVERSE(divisor) (~(Wide)0 / (divisor))
#define F12 ((Wide)479001600)
#define F20 ((Wide)2432902008176640000)
#define F25 (F20 * 21 * 22 * 23 * 24 * 25)
#define F30 (F25 * 26 * 27 * 28 * 29 * 30)
static const Wide inverse_factorial[] = {
    0, 0, INVERSE(2), INVERSE(6), INVERSE(24), INVERSE(120), INVERSE(720), INVERSE(5040), INVERSE(40320),
    INVERSE(362880), INVERSE(3628800), INVERSE(39916800), INVERSE(F12), INVERSE(F12 * 13), INVERSE(F12 * 13 * 14),
    INVERSE(F12 * 13 * 14 * 15), INVERSE(F12 * 13 * 14 * 15 * 16), INVERSE(F12 * 13 * 14 * 15 * 16 * 17),
    INVERSE(F12 * 13 * 14 * 15 * 16 * 17 * 18), INVERSE(F20 / 20), INVERSE(F20), INVERSE(F20 * 21),
    INVERSE(F20 * 21 * 22), INVERSE(F25 / 25 / 24), INVERSE(F25 / 25), INVERSE(F25), INVERSE(F25 * 26),
    INVERSE(F25 * 26 * 27), INVERSE(F25 * 26 * 27 * 28), INVERSE(F30 / 30), INVERSE(F30), INVERSE(F30 * 31),
};

/// 1/first! - z/(first + step)! + z^2/(first + 2 step)! - …, or with plus signs throughout, up to 1/31!; z below 0.7.
static Wide factorial_series(Wide z, int first, int step, bool alternating) {
    int n = first;
    while (n + step <= 31) n += step;
    Wide sum = inverse_factorial[n];
    while (n > first) {
        n -= step;
        Wide product = multiply(z, sum);
        sum = inverse_factorial[n] + (alternating ? -product : product);
    }
    return sum;
}

/// 1/3 - z/5 + z^2/7 - …, or with plus signs throughout, of `terms` terms.
static Wide odd_series(Wide z, int terms, bool alternating) {
    Wide sum = 0;
    for (int n = terms; n >= 1; n--) {
        Wide product = multiply(z, sum);
        sum = INVERSE(2 * (Wide)n + 1) + (alternating ? -product : product);
    }
    return sum;
}

/// 1 - fraction / 2^128. A fraction too small to show still makes the result less than 1.
static inline Real one_minus(Wide fraction) { return normalized(false, -1, -(fraction ? fraction : 1)); }

// MARK: Special operands

/// Handles NaNs and unsupported encodings of `a` and `b` as FADD does: the SDM has one rule for all instructions.
/// Returns whether there were any.
static bool handle_nan(uint32_t environment, X87Register *a, X87Register b, uint32_t *status) {
    if (!x87_is_nan_or_unsupported(*a) && !x87_is_nan_or_unsupported(b)) return false;
    *status = x87_fadd(environment, a, &b) & X87_EXCEPTIONS;
    return true;
}

static inline uint32_t invalid(uint32_t environment, X87Register *result) {
    if (!x87_unmasked(environment, X87_INVALID)) *result = x87_value(true, X87_EXPONENT, (uint64_t)3 << 62);
    return X87_INVALID;
}

static inline uint32_t denormal_flag(X87Register a, X87Register b) {
    return x87_is_denormal(a) || x87_is_denormal(b) ? X87_DENORMAL : 0;
}

static inline X87Register zero(bool negative) { return x87_value(negative, 0, 0); }
static inline X87Register infinity(bool negative) { return x87_value(negative, X87_EXPONENT, X87_INTEGER_BIT); }
static const X87Register ONE = {X87_INTEGER_BIT, X87_BIAS, {0}};

// MARK: Exponential and logarithm

X87_OPERATION(f2xm1) {
    X87Register *result = destination, x = *result;
    uint32_t status = 0;
    if (handle_nan(environment, result, x, &status)) return status;
    if (x87_is_zero(x)) return 0;
    if (x87_is_infinity(x)) {
        if (x87_is_negative(x)) *result = x87_value(true, X87_BIAS, X87_INTEGER_BIT);
        return 0;
    }
    if (x87_exponent(x) >= X87_BIAS) {
        // Outside (-1, 1): only -1 and 1 have a defined result; the operand stays otherwise.
        if (x.signExponent == (X87_SIGN | X87_BIAS) && x.significand == X87_INTEGER_BIT) result->signExponent -= 1;
        return X87_PRECISION;
    }
    status = denormal_flag(x, x);
    if (x87_unmasked(environment, status)) return status;
    // 2^x - 1 = y (1 ± y/2! + y^2/3! ± …) with y = |x| ln 2.
    Real y = real_multiply(real_from(x), (Real){LN2, -1, false});
    y.negative = false;
    Wide fraction = real_fixed(y, 128);
    Wide rest = multiply(fraction, factorial_series(fraction, 2, 1, x87_is_negative(x)));
    Real factor = x87_is_negative(x) ? one_minus(rest) : (Real){WIDE_TOP | rest >> 1 | 1, 0, false};
    Real value = real_multiply(y, factor);
    value.negative = x87_is_negative(x);
    return finish(environment, value, status, result);
}

/// 2/ln 2 * atanh(f) = log2((1 + f) / (1 - f)), for |f| < 0.18.
static Real log2_of_ratio(Real f) {
    Wide square = real_fixed(real_multiply(f, f), 128);
    Wide rest = multiply(square, odd_series(square, 25, false));
    Real series = {WIDE_TOP | rest >> 1 | 1, 0, false};
    return real_multiply(real_multiply(f, series), (Real){LOG2E, 1, false});
}

/// The base-2 logarithm of a positive number; false if it is zero.
static bool real_log2(Real x, Real *result) {
    // x = m * 2^e with m in (1/sqrt 2, sqrt 2].
    int32_t e = x.exponent;
    Wide half = x.mantissa >> 1; // m / 2 as a fraction of 2^127 …
    Real numerator, denominator;
    bool above = x.mantissa <= SQRT2;
    if (!above) e += 1;
    if (x.mantissa == WIDE_TOP) {
        if (e == 0) return false;
        *result = normalized(e < 0, 127, (Wide)(e < 0 ? -e : e));
        return true;
    }
    if (above) {
        numerator = normalized(false, 0, x.mantissa - WIDE_TOP);
        denominator = normalized(false, 1, half + (WIDE_TOP >> 1));
    } else {
        numerator = normalized(true, -1, -x.mantissa);
        denominator = normalized(false, 0, half + WIDE_TOP);
    }
    Real fraction = log2_of_ratio(real_divide(numerator, denominator));
    if (e == 0) {
        *result = fraction;
        return true;
    }
    const int scale = 112; // |e| < 2^15
    Wide whole = (Wide)(e < 0 ? -e : e) << scale, part = real_fixed(fraction, scale);
    bool same = fraction.negative == (e < 0);
    *result = normalized(e < 0, 127 - scale, same ? whole + part : whole - part);
    return true;
}

/// y * `logarithm`.
static uint32_t finish_log(uint32_t environment, X87Register *y, Real logarithm, uint32_t status) {
    return finish(environment, real_multiply(real_from(*y), logarithm), status, y);
}

X87_OPERATION(fyl2x) {
    X87Register *y = destination, x = *(const X87Register *)source;
    uint32_t status = 0;
    if (handle_nan(environment, y, x, &status)) return status;
    bool negative = x87_is_negative(*y);
    if (x87_is_zero(x)) {
        if (x87_is_zero(*y)) return invalid(environment, y);
        if (!x87_is_infinity(*y)) {
            if (x87_unmasked(environment, X87_ZERO_DIVIDE)) return X87_ZERO_DIVIDE;
            status = X87_ZERO_DIVIDE;
        }
        *y = infinity(!negative);
        return status;
    }
    if (x87_is_negative(x)) return invalid(environment, y);
    bool isOne = x.signExponent == X87_BIAS && x.significand == X87_INTEGER_BIT;
    if ((x87_is_infinity(x) && x87_is_zero(*y)) || (x87_is_infinity(*y) && isOne)) return invalid(environment, y);
    status = denormal_flag(x, *y);
    if (x87_unmasked(environment, status)) return status;

    bool below = x87_exponent(x) < X87_BIAS; // x < 1: the logarithm is negative
    if (x87_is_infinity(x) || x87_is_infinity(*y)) *y = infinity(negative != below);
    else if (x87_is_zero(*y) || isOne) *y = zero(negative != below);
    else {
        Real logarithm;
        (void)real_log2(real_from(x), &logarithm);
        return finish_log(environment, y, logarithm, status);
    }
    return status;
}

/// log2(1 + x) for x above -1 and not zero.
static Real real_log2_plus_1(Real x) {
    Real sum, logarithm;
    if (x.exponent < -2) {
        // (1 + f) / (1 - f) = 1 + x with f = x / (2 + x).
        Wide small = real_fixed(x, 126);
        sum = normalized(false, 1, x.negative ? WIDE_TOP - small : WIDE_TOP + small);
        return log2_of_ratio(real_divide(x, sum));
    }
    if (x.negative) sum = normalized(false, -1, -real_fixed(x, 128));
    else if (x.exponent < 0) sum = (Real){WIDE_TOP + real_fixed(x, 127), 0, false};
    else if (x.exponent > 126) sum = x;
    else {
        // x and 1 as multiples of 2^(exponent - 126).
        sum = normalized(false, x.exponent + 1, (x.mantissa >> 1) + ((Wide)1 << (126 - x.exponent)));
    }
    (void)real_log2(sum, &logarithm);
    return logarithm;
}

X87_OPERATION(fyl2xp1) {
    X87Register *y = destination, x = *(const X87Register *)source;
    uint32_t status = 0;
    if (handle_nan(environment, y, x, &status)) return status;
    bool negative = x87_is_negative(*y) != x87_is_negative(x);
    if ((x87_is_infinity(x) && (x87_is_negative(x) || x87_is_zero(*y)))
        || (x87_is_infinity(*y) && x87_is_zero(x))) return invalid(environment, y);
    status = denormal_flag(x, *y);
    if (x87_unmasked(environment, status)) return status;

    if (x87_is_infinity(x) || x87_is_infinity(*y)) *y = infinity(negative);
    else if (x87_is_zero(x) || x87_is_zero(*y)) *y = zero(negative);
    else if (x87_is_negative(x) && x87_exponent(x) >= X87_BIAS) {
        // 1 + x is not positive: the operand is the result, its own definition where the SDM has none.
        *y = x;
        return status | X87_PRECISION;
    } else {
        return finish_log(environment, y, real_log2_plus_1(real_from(x)), status);
    }
    return status;
}

// MARK: Trigonometry

/// Sine and cosine of a finite nonzero operand below 2^63 in magnitude.
static void real_sine_cosine(X87Register operand, Real *sine, Real *cosine) {
    Real r = real_from(operand);
    r.negative = false;
    uint64_t quadrant = 0;
    bool swap = false;
    if (r.exponent >= -1) {
        // In units of 2^-67: the remainder by pi/2, then its distance from the nearer multiple.
        Wide remainder = r.mantissa >> 64;
        for (int bit = 0; bit < r.exponent + 4; bit++) {
            remainder <<= 1;
            quadrant <<= 1;
            if (remainder >= REDUCTION_PI) {
                remainder -= REDUCTION_PI;
                quadrant |= 1;
            }
        }
        swap = remainder > REDUCTION_PI / 2;
        if (swap) remainder = REDUCTION_PI - remainder;
        r = normalized(false, 127 - 67, remainder);
    }
    // Below 2^-68 the sine is its angle, in every rounding mode, as on processors.
    Wide square = real_fixed(real_multiply(r, r), 128);
    Real s = r;
    if (r.exponent >= -68) s = real_multiply(r, one_minus(multiply(square, factorial_series(square, 3, 2, true))));
    Real c = one_minus(multiply(square, factorial_series(square, 2, 2, true)));
    if (swap != (quadrant & 1)) {
        *sine = c;
        *cosine = s;
    } else {
        *sine = s;
        *cosine = c;
    }
    sine->negative = (quadrant & 2) != 0;
    cosine->negative = ((quadrant + 1) & 2) != 0;
    if (x87_is_negative(operand)) sine->negative = !sine->negative;
}

/// What the trigonometric functions have in common: returns true, with the status, if there is nothing to compute.
static bool handle_angle(uint32_t environment, X87Register *x, uint32_t *status) {
    if (handle_nan(environment, x, *x, status)) return true;
    if (x87_is_infinity(*x)) {
        *status = invalid(environment, x);
        return true;
    }
    if (x87_exponent(*x) >= X87_BIAS + 63) {
        *status = X87_C2;
        return true;
    }
    *status = denormal_flag(*x, *x);
    return x87_unmasked(environment, *status);
}

X87_OPERATION(fsin) {
    X87Register *x = destination;
    uint32_t status = 0;
    if (handle_angle(environment, x, &status) || x87_is_zero(*x)) return status;
    Real sine, cosine;
    real_sine_cosine(*x, &sine, &cosine);
    return finish(environment, sine, status, x);
}

X87_OPERATION(fcos) {
    X87Register *x = destination;
    uint32_t status = 0;
    if (handle_angle(environment, x, &status)) return status;
    if (x87_is_zero(*x)) {
        *x = ONE;
        return status;
    }
    Real sine, cosine;
    real_sine_cosine(*x, &sine, &cosine);
    return finish(environment, cosine, status, x);
}

X87_OPERATION(fsincos) {
    X87Register *results = destination, x = *(const X87Register *)source;
    uint32_t status = 0;
    if (handle_angle(environment, &x, &status)) {
        results[0] = results[1] = x;
        return status;
    }
    results[0] = x;
    results[1] = ONE;
    if (x87_is_zero(x)) return status;
    Real sine, cosine;
    real_sine_cosine(x, &sine, &cosine);
    status = finish(environment, sine, status, &results[0]);
    return finish(environment, cosine, status & ~(uint32_t)X87_C1, &results[1]);
}

X87_OPERATION(fptan) {
    X87Register *results = destination, x = *(const X87Register *)source;
    uint32_t status = 0;
    if (handle_angle(environment, &x, &status)) {
        results[0] = results[1] = x;
        return status;
    }
    results[0] = x;
    results[1] = ONE;
    if (x87_is_zero(x)) return status;
    Real sine, cosine;
    real_sine_cosine(x, &sine, &cosine);
    return finish(environment, real_divide(sine, cosine), status, &results[0]);
}

/// t (1 - t^2/3 + t^4/5 - …), for t below 0.42.
static Real arctangent_series(Real t) {
    Wide square = real_fixed(real_multiply(t, t), 128);
    return real_multiply(t, one_minus(multiply(square, odd_series(square, 52, true))));
}

/// The arc tangent of t in (0, 1]. A small one keeps its relative precision.
static Real real_arctangent(Real t) {
    const Wide tangent = WIDE(0xd413cccfe7799211, 0x65f626cdd52afa7c); // tan(pi/8), times 2^129
    if (t.exponent < -2 || (t.exponent == -2 && t.mantissa <= tangent)) return arctangent_series(t);
    // pi/4 - atan((1 - t) / (1 + t))
    Wide fixed = real_fixed(t, 126), one = (Wide)1 << 126;
    if (fixed == one) return normalized(false, 1, PI >> 2);
    Real u = real_divide(normalized(false, 1, one - fixed), normalized(false, 1, one + fixed));
    return normalized(false, 1, (PI >> 2) - real_fixed(arctangent_series(u), 126));
}

X87_OPERATION(fpatan) {
    X87Register *y = destination, x = *(const X87Register *)source;
    uint32_t status = 0;
    if (handle_nan(environment, y, x, &status)) return status;
    status = denormal_flag(x, *y);
    if (x87_unmasked(environment, status)) return status;

    bool negative = x87_is_negative(*y), left = x87_is_negative(x);
    bool steep;          // |y| > |x|: the angle is measured from the vertical axis
    Wide offset = 0;     // an angle to that axis or diagonal that is known without a quotient, times 2^126
    Real angle = {0, 0, false};
    if (x87_is_zero(*y) || (x87_is_infinity(x) && !x87_is_infinity(*y))) {
        if (!left) {
            *y = zero(negative);
            return status;
        }
        steep = false;
    } else if (x87_is_zero(x) || (x87_is_infinity(*y) && !x87_is_infinity(x))) {
        steep = true;
    } else if (x87_is_infinity(x)) {
        steep = false;
        offset = PI >> 2;
    } else {
        Real a = real_from(*y), b = real_from(x);
        a.negative = b.negative = false;
        steep = a.exponent > b.exponent || (a.exponent == b.exponent && a.mantissa > b.mantissa);
        angle = real_arctangent(steep ? real_divide(b, a) : real_divide(a, b));
        if (!steep && !left) {
            angle.negative = negative;
            return finish(environment, angle, status, y);
        }
        offset = real_fixed(angle, 126);
    }
    // Counted from the positive horizontal axis.
    Wide sum = !steep ? (left ? PI - offset : offset) : left ? (PI >> 1) + offset : (PI >> 1) - offset;
    Real value = normalized(negative, 1, sum);
    return finish(environment, value, status, y);
}
