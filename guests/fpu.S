// x87, MMX and SSE in 32-bit protected mode: device-not-available, undefined without OSFXSR, numeric exceptions as #MF,
// as IRQ 13 and as #XM, FXSAVE's alignment.
#include "lib.inc"
START_PROTECTED

.macro CR0_BITS set, clear
    movl %cr0, %eax
    orl $(\set), %eax
    andl $~(\clear), %eax
    movl %eax, %cr0
.endm
.macro CR4_BITS set, clear
    movl %cr4, %eax
    orl $(\set), %eax
    andl $~(\clear), %eax
    movl %eax, %cr4
.endm
#define MXCSR_MASKED 0x1f80

main:
    movl $1, %eax
    cpuid
    movl %edx, features
    CR0_BITS CR0_NE | CR0_MP, CR0_EM | CR0_TS
    CR4_BITS 0, CR4_OSFXSR | CR4_OSXMMEXCPT
    // ---- EM, MP, TS ---------------------------------------------------------------------------------------------------
    fninit
    CR0_BITS CR0_EM, 0
    FAULT "x87 with EM", NM, NONE, fnop
    FAULT "FNINIT with EM", NM, NONE, fninit
    FAULT "FNSTSW with EM", NM, NONE, fnstsw %ax
    NOFAULT "WAIT with EM", fwait
    CR0_BITS CR0_TS, CR0_EM | CR0_MP
    FAULT "x87 with TS", NM, NONE, fld1
    FAULT "FNSTCW with TS", NM, NONE, fnstcw 0x700
    NOFAULT "WAIT with TS, MP clear", fwait
    CR0_BITS CR0_MP, 0
    FAULT "WAIT with TS and MP", NM, NONE, fwait
    clts
    NOFAULT "WAIT with MP alone", fwait
    NOFAULT "x87 with MP alone", fld1
    CR0_BITS CR0_TS, 0
    FAULT3 "x87 with TS at ring 3", NM, NONE, fld1
    clts

    testl $0x800000, features           // MMX
    jz no_mmx
    NOFAULT "MMX", paddb %mm0, %mm0
    CR0_BITS CR0_TS, 0
    FAULT "MMX with TS", NM, NONE, paddb %mm0, %mm0
    FAULT "EMMS with TS", NM, NONE, emms
    CR0_BITS CR0_EM, 0
    FAULT "MMX with EM", UD, NONE, paddb %mm0, %mm0
    FAULT "EMMS with EM", UD, NONE, emms
    CR0_BITS 0, CR0_EM | CR0_TS
    emms
no_mmx:
    testl $0x1000000, features          // FXSR
    jz no_fxsr
    movl $0x800, %edi
    NOFAULT "FXSAVE", fxsave (%edi)
    movl $0x808, %edi
    FAULT "FXSAVE misaligned", GP, 0, fxsave (%edi)
    FAULT "FXRSTOR misaligned", GP, 0, fxrstor (%edi)
    movl $0x800, %edi
    CR0_BITS CR0_TS, 0
    FAULT "FXSAVE with TS", NM, NONE, fxsave (%edi)
    CR0_BITS CR0_EM, CR0_TS
    FAULT "FXRSTOR with EM", NM, NONE, fxrstor (%edi)
    FAULT "FXSAVE with a register", UD, NONE, .byte 0x0f, 0xae, 0xc0
    CR0_BITS 0, CR0_EM
    testl $0x2000000, features          // SSE
    jz no_fxsr
    FAULT "SSE without OSFXSR", UD, NONE, addps %xmm0, %xmm0
    FAULT "SSE2 without OSFXSR", UD, NONE, addpd %xmm0, %xmm0
    FAULT "LDMXCSR without OSFXSR", UD, NONE, ldmxcsr 0x700
    FAULT "SSE2 integer without OSFXSR", UD, NONE, paddb %xmm0, %xmm0
    NOFAULT "SFENCE without OSFXSR", sfence
    NOFAULT "PREFETCH without OSFXSR", prefetcht0 0x700
    CR4_BITS CR4_OSFXSR, 0
    NOFAULT "SSE", addps %xmm0, %xmm0
    CR0_BITS CR0_TS, 0
    FAULT "SSE with TS", NM, NONE, addps %xmm0, %xmm0
    FAULT "STMXCSR with TS", NM, NONE, stmxcsr 0x700
    NOFAULT "SFENCE with TS", sfence
    CR0_BITS CR0_EM, 0
    FAULT "SSE with EM and TS", UD, NONE, addps %xmm0, %xmm0
    CR0_BITS 0, CR0_EM | CR0_TS
    movl $0x10000, 0x700
    FAULT "LDMXCSR: reserved bit", GP, 0, ldmxcsr 0x700
    movl $0x800, %edi
    fxsave (%edi)
    movl 0x800 + 28, %eax
    orl $0xffff, %eax
    CHECK "MXCSR_MASK has no bit above 15", "%eax", 0xffff
    movl $0x80000000, 0x800 + 24
    FAULT "FXRSTOR: reserved bit of MXCSR", GP, 0, fxrstor (%edi)
    movl $MXCSR_MASKED, 0x800 + 24
    NOFAULT "FXRSTOR", fxrstor (%edi)
    FAULT "MOVAPS misaligned", GP, 0, movaps 0x704, %xmm0
    FAULT "ADDPS misaligned", GP, 0, addps 0x704, %xmm0
    NOFAULT "ADDSS misaligned", addss 0x702, %xmm0

    // ---- SSE exceptions ------------------------------------------------------------------------------------------------------
    movl $MXCSR_MASKED, 0x700
    ldmxcsr 0x700
    movl $0x3f800000, 0x710             // 1.0
    movl $0, 0x714
    movss 0x710, %xmm0
    NOFAULT "DIVSS by 0, masked", divss 0x714, %xmm0
    stmxcsr 0x704
    CHECK "MXCSR.ZE", "0x704", MXCSR_MASKED + 4
    movl $MXCSR_MASKED & ~0x200, 0x700  // zero-divide unmasked
    ldmxcsr 0x700
    movss 0x710, %xmm0
    FAULT "DIVSS by 0 without OSXMMEXCPT", UD, NONE, divss 0x714, %xmm0
    CR4_BITS CR4_OSXMMEXCPT, 0
    ldmxcsr 0x700
    movss 0x710, %xmm0
    FAULT "DIVSS by 0 with OSXMMEXCPT", XM, NONE, divss 0x714, %xmm0
    stmxcsr 0x704
    CHECK "its flag", "0x704", (MXCSR_MASKED & ~0x200) + 4
    movd %xmm0, %ebx
    CHECK "its destination is untouched", "%ebx", 0x3f800000
    NOFAULT "a set flag alone raises nothing", addss %xmm0, %xmm0
    FAULT3 "DIVSS by 0 at ring 3", XM, NONE, divss 0x714, %xmm0
    movl $MXCSR_MASKED & ~0x204, 0x700
    movl $MXCSR_MASKED & ~0x80, 0x700   // invalid unmasked
    ldmxcsr 0x700
    movl $0x7fa00000, 0x718             // signalling NaN
    FAULT "invalid operation", XM, NONE, addss 0x718, %xmm0
    FAULT "UCOMISS of a signalling NaN", XM, NONE, ucomiss 0x718, %xmm0
    movl $0x7fc00000, 0x718
    ldmxcsr 0x700
    NOFAULT "UCOMISS of a quiet NaN", ucomiss 0x718, %xmm0
    FAULT "COMISS of a quiet NaN", XM, NONE, comiss 0x718, %xmm0
    movl $MXCSR_MASKED, 0x700
    ldmxcsr 0x700
no_fxsr:
    // ---- x87 exceptions: #MF ---------------------------------------------------------------------------------------------------
    fninit
    fnstcw 0x700
    CHECKW "control word after FNINIT", "0x700", 0x37f
    movw $0x37b, 0x700                  // zero-divide unmasked
    fldcw 0x700
    fld1
    fldz
    TRY
    fdivrp %st, %st(1)                  // 1 / 0: pending
    fnstsw %ax
    movl %eax, %ebx
    AT
    fwait
    EXPECT "WAIT raises the pending exception", MF
    andl $0x8084, %ebx
    CHECK "status word: ES, ZE, B", "%ebx", 0x8084
    FAULT "the next waiting instruction raises it", MF, NONE, fld1
    NOFAULT "FNSTSW does not", fnstsw %ax
    NOFAULT "FNSTCW does not", fnstcw 0x700
    FAULT "FSTSW's WAIT does", MF, NONE, .byte 0x9b
    FAULT "MMX raises it", MF, NONE, paddb %mm0, %mm0
    NOFAULT "SSE does not", addps %xmm0, %xmm0
    FAULT3 "at ring 3", MF, NONE, fld1
    CR0_BITS CR0_TS, 0
    FAULT "#NM before #MF", NM, NONE, fld1
    clts
    NOFAULT "FNCLEX clears it", fnclex
    NOFAULT "then nothing is pending", fwait
    movw $0x37f, 0x700
    fninit
    fldcw 0x700
    fld1
    fldz
    fdivrp %st, %st(1)
    movw $0x37b, 0x700
    NOFAULT "unmasking a set flag raises nothing itself", fldcw 0x700
    FAULT "but the next instruction does", MF, NONE, fwait
    fninit
    FAULT "x87 undefined opcode", UD, NONE, .byte 0xd9, 0xd1

    // ---- x87 exceptions with CR0.NE clear: IRQ 13 and port F0 ---------------------------------------------------------------------
    CR0_BITS 0, CR0_NE
    SETIDT 0x2d, CS32, irq13, 0x8e
    movl $0, counter
    movb $0xfb, %al
    outb %al, $0x21
    movb $0xdf, %al
    outb %al, $0xa1
    movl $1, %eax
    cpuid
    testl $0x200, %edx
    jz 1f
    movl $0x14f, 0xfee000f0             // through the local APIC's LINT0
    movl $0x700, 0xfee00350
1:  fninit
    movw $0x37b, 0x700
    fldcw 0x700
    fld1
    fldz
    fdivrp %st, %st(1)
    sti
    fwait                               // freezes until IRQ 13
    nop
    cli
    CHECK "FERR# raises IRQ 13", "counter", 1
    CHECK "before the waiting instruction ends", "at_fwait", 1
    fninit
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    CR0_BITS CR0_NE, 0
    FINISH

irq13:
    pushl %eax
    incl counter
    movl $1, at_fwait
    fnclex
    xorb %al, %al
    outb %al, $0xf0
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popl %eax
    iretl
    .data
features: .long 0
counter: .long 0
at_fwait: .long 0
