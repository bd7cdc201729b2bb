// x87 operations, each an X87Function.
//
// Exact and correctly rounded ones run the host's instruction under the guest's control word. The transcendental
// ones, in which CPUs differ, are worked out in 128-bit integers.
#ifndef CENGINE_X87_OPERATIONS_H
#define CENGINE_X87_OPERATIONS_H

#include "CPUState.h"

#pragma clang assume_nonnull begin

#define X87_DECLARE(name) uint32_t x87_##name(uint32_t environment, void *destination, const void *source);

// destination = destination op source, where the source is a register or a memory operand of the named type.
#define X87_ARITHMETIC(X) X(add) X(sub) X(subr) X(mul) X(div) X(divr)
#define X87_DECLARE_ARITHMETIC(name)                            \
    X87_DECLARE(f##name) X87_DECLARE(f##name##_single) X87_DECLARE(f##name##_double) \
    X87_DECLARE(fi##name##_word) X87_DECLARE(fi##name##_doubleword)
X87_ARITHMETIC(X87_DECLARE_ARITHMETIC)

// Comparisons of the destination with the source, into C0, C2 and C3. The destination is only read.
X87_DECLARE(fcom)
X87_DECLARE(fcom_single)
X87_DECLARE(fcom_double)
X87_DECLARE(ficom_word)
X87_DECLARE(ficom_doubleword)
X87_DECLARE(fucom)
X87_DECLARE(ftst)

// destination = op destination, or of destination and source for FSCALE and the remainders.
X87_DECLARE(fsqrt)
X87_DECLARE(frndint)
X87_DECLARE(fscale)
X87_DECLARE(fprem)
X87_DECLARE(fprem1)
X87_DECLARE(f2xm1)
X87_DECLARE(fsin)
X87_DECLARE(fcos)

// destination (ST1) = op of ST1 and source (ST0).
X87_DECLARE(fyl2x)
X87_DECLARE(fyl2xp1)
X87_DECLARE(fpatan)

// Two results of source (ST0): first what replaces it, then what is pushed.
X87_DECLARE(fsincos)
X87_DECLARE(fptan)
X87_DECLARE(fxtract)

// Loads: the destination becomes the memory operand's value, or a constant under the rounding control.
X87_DECLARE(fld_single)
X87_DECLARE(fld_double)
X87_DECLARE(fild_word)
X87_DECLARE(fild_doubleword)
X87_DECLARE(fild_quadword)
X87_DECLARE(fbld)
X87_DECLARE(fld1)
X87_DECLARE(fldl2t)
X87_DECLARE(fldl2e)
X87_DECLARE(fldpi)
X87_DECLARE(fldlg2)
X87_DECLARE(fldln2)
X87_DECLARE(fldz)

// Stores: the destination becomes the source, an X87Register, in the format of memory.
X87_DECLARE(fst_single)
X87_DECLARE(fst_double)
X87_DECLARE(fist_word)
X87_DECLARE(fist_doubleword)
X87_DECLARE(fist_quadword)
X87_DECLARE(fisttp_word)
X87_DECLARE(fisttp_doubleword)
X87_DECLARE(fisttp_quadword)
X87_DECLARE(fbstp)

#pragma clang assume_nonnull end
#endif
