// MMX, SSE, SSE2, SSE3 and SSSE3 operations, each a SIMDFunction around the host's own instruction.
//
// Only integer instructions and correctly rounded floating-point ones are used, which every x86-64 CPU with SSSE3
// computes alike; RCPPS and RSQRTPS, which are not, are worked out in integers.
#ifndef CENGINE_SIMD_OPERATIONS_H
#define CENGINE_SIMD_OPERATIONS_H

#include "CPUState.h"

#pragma clang assume_nonnull begin

// Integer instructions of which the MMX form is the low half of the XMM form.
#define SIMD_INTEGER(X) \
    X(paddb) X(paddw) X(paddd) X(paddq) X(paddsb) X(paddsw) X(paddusb) X(paddusw) \
    X(psubb) X(psubw) X(psubd) X(psubq) X(psubsb) X(psubsw) X(psubusb) X(psubusw) \
    X(pand) X(pandn) X(por) X(pxor) X(pavgb) X(pavgw) \
    X(pcmpeqb) X(pcmpeqw) X(pcmpeqd) X(pcmpgtb) X(pcmpgtw) X(pcmpgtd) \
    X(pmaxsw) X(pmaxub) X(pminsw) X(pminub) \
    X(pmaddwd) X(pmulhuw) X(pmulhw) X(pmullw) X(pmuludq) X(psadbw) \
    X(psllw) X(pslld) X(psllq) X(psraw) X(psrad) X(psrlw) X(psrld) X(psrlq) \
    X(punpcklbw) X(punpcklwd) X(punpckldq) \
    X(pabsb) X(pabsw) X(pabsd) X(pmaddubsw) X(pmulhrsw) X(psignb) X(psignw) X(psignd)

// Integer instructions whose result's lower half comes from the first operand and upper half from the second.
#define SIMD_JOINING(X) \
    X(packsswb) X(packssdw) X(packuswb) X(phaddw) X(phaddd) X(phaddsw) X(phsubw) X(phsubd) X(phsubsw)

// Integer instructions that interleave the upper halves, with the one that does so for the lower halves.
#define SIMD_HIGH(X) X(punpckhbw, punpcklbw) X(punpckhwd, punpcklwd) X(punpckhdq, punpckldq)

// Integer instructions that exist for XMM registers only.
#define SIMD_XMM_INTEGER(X) X(punpcklqdq) X(punpckhqdq)

// Floating-point instructions with two XMM operands, under MXCSR, of which they read 16, 8 or 4 bytes from the source.
#define SIMD_FLOAT(X) \
    X(addps, 16) X(addpd, 16) X(addss, 4) X(addsd, 8) X(subps, 16) X(subpd, 16) X(subss, 4) X(subsd, 8) \
    X(mulps, 16) X(mulpd, 16) X(mulss, 4) X(mulsd, 8) X(divps, 16) X(divpd, 16) X(divss, 4) X(divsd, 8) \
    X(minps, 16) X(minpd, 16) X(minss, 4) X(minsd, 8) X(maxps, 16) X(maxpd, 16) X(maxss, 4) X(maxsd, 8) \
    X(sqrtps, 16) X(sqrtpd, 16) X(sqrtss, 4) X(sqrtsd, 8) \
    X(addsubps, 16) X(addsubpd, 16) X(haddps, 16) X(haddpd, 16) X(hsubps, 16) X(hsubpd, 16) \
    X(cvtdq2ps, 16) X(cvtps2dq, 16) X(cvttps2dq, 16) X(cvtdq2pd, 8) X(cvtps2pd, 8) X(cvtpd2ps, 16) \
    X(cvtpd2dq, 16) X(cvttpd2dq, 16) X(cvtss2sd, 4) X(cvtsd2ss, 8)

// Comparisons that select one of eight predicates by their immediate, under MXCSR.
#define SIMD_COMPARE(X) X(cmpps, 16) X(cmppd, 16) X(cmpss, 4) X(cmpsd, 8)

// Comparisons into ZF, PF and CF, under MXCSR: the destination's first 8 bytes become these bits of RFLAGS.
#define SIMD_COMPARE_FLAGS(X) X(comiss, 4) X(ucomiss, 4) X(comisd, 8) X(ucomisd, 8)

// Conversions into a general register, under MXCSR: the destination's first 8 bytes become its value.
#define SIMD_TO_GENERAL(X) X(cvtss2si, 4) X(cvttss2si, 4) X(cvtsd2si, 8) X(cvttsd2si, 8)

// Conversions from a general register, under MXCSR.
#define SIMD_FROM_GENERAL(X) X(cvtsi2ss) X(cvtsi2sd)

// Conversions of packed floats to the two integers of an MMX register, under MXCSR, and the XMM ones they rest on.
#define SIMD_TO_MMX(X) \
    X(cvtps2pi, cvtps2dq, 8) X(cvttps2pi, cvttps2dq, 8) X(cvtpd2pi, cvtpd2dq, 16) X(cvttpd2pi, cvttpd2dq, 16)

#define SIMD_DECLARE(name) void name(void *destination, const void *source, uint32_t immediate);
#define SIMD_DECLARE_SSE(name) SIMD_DECLARE(sse_##name)
#define SIMD_DECLARE_BOTH(name) SIMD_DECLARE(sse_##name) SIMD_DECLARE(mmx_##name)
#define SIMD_DECLARE_PAIR(name, other) SIMD_DECLARE_BOTH(name)
#define SIMD_DECLARE_READING(name, bytes) SIMD_DECLARE(sse_##name)
#define SIMD_DECLARE_SIZES_READING(name, bytes) SIMD_DECLARE_SIZES(name)
#define SIMD_DECLARE_SIZES(name) SIMD_DECLARE(sse_##name##32) SIMD_DECLARE(sse_##name##64)
#define SIMD_DECLARE_MMX(name, other, bytes) SIMD_DECLARE(mmx_##name)

SIMD_INTEGER(SIMD_DECLARE_BOTH)
SIMD_JOINING(SIMD_DECLARE_BOTH)
SIMD_HIGH(SIMD_DECLARE_PAIR)
SIMD_XMM_INTEGER(SIMD_DECLARE_SSE)
SIMD_FLOAT(SIMD_DECLARE_READING)
SIMD_COMPARE(SIMD_DECLARE_READING)
SIMD_COMPARE_FLAGS(SIMD_DECLARE_READING)
SIMD_TO_GENERAL(SIMD_DECLARE_SIZES_READING)
SIMD_FROM_GENERAL(SIMD_DECLARE_SIZES)
SIMD_TO_MMX(SIMD_DECLARE_MMX)
SIMD_DECLARE_BOTH(pshufb)
SIMD_DECLARE_BOTH(palignr)
SIMD_DECLARE_BOTH(pmovmskb)
SIMD_DECLARE_SSE(pshufd)
SIMD_DECLARE_SSE(pshuflw)
SIMD_DECLARE_SSE(pshufhw)
SIMD_DECLARE(mmx_pshufw)
SIMD_DECLARE_SSE(shufps)
SIMD_DECLARE_SSE(shufpd)
SIMD_DECLARE_SSE(pslldq)
SIMD_DECLARE_SSE(psrldq)
SIMD_DECLARE_SSE(movmskps)
SIMD_DECLARE_SSE(movmskpd)
SIMD_DECLARE_SSE(cvtpi2ps)
SIMD_DECLARE_SSE(rcpps)
SIMD_DECLARE_SSE(rcpss)
SIMD_DECLARE_SSE(rsqrtps)
SIMD_DECLARE_SSE(rsqrtss)

/// Runs a floating-point operation under the guest's MXCSR, whose exception flags it updates. False if an exception
/// is unmasked (SDM volume 1, 11.5): the destination, of which 16 bytes must be accessible, is then unchanged.
bool simd_run(
    CPUState *cpu, SIMDFunction function, void *destination, const void *source, uint32_t immediate);

#pragma clang assume_nonnull end
#endif
