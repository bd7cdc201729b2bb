// 32-bit protected mode: call, interrupt and trap gates, stack switches, RET and IRET between rings, failing deliveries.
#include "lib.inc"
START_PROTECTED

#define CODE1 (SEL(8) + 1)              /* ring 1 code and data */
#define DATA1 (SEL(9) + 1)
#define CONFORMING SEL(10)
#define VEC 0x41                        /* vector of the tests' own */
#define IDT_ERROR(v) ((v) * 8 + 2)

// Outer call through gate 0 from ring 3 to ring 1 that must fail.
.macro INNER_STACK name, selector, vector, error
    movl $\selector, tss32 + 16
    FAULT3 "\name", \vector, \error, lcall $(SEL(0) + 3), $0
.endm
// Far RET and IRET at ring 0 with a frame for ring 3.
.macro RETURN name, cs, eip, ss, vector, error
    TRY
    pushl $\ss
    pushl $RING3_TOP
    pushl $\cs
    pushl $\eip
    AT
    lretl
    EXPECT "RETF: \name", \vector, \error
    TRY
    pushl $\ss
    pushl $RING3_TOP
    pushl $2
    pushl $\cs
    pushl $\eip
    AT
    iretl
    EXPECT "IRET: \name", \vector, \error
.endm
// Software interrupt, then #UD, through the gate that was just set at VEC and is copied to vector 6.
.macro DELIVER name, vector, error
    FAULT "INT n: \name", \vector, \error, int $VEC
    movl idt32 + 8 * VEC, %eax
    movl %eax, idt32 + 8 * UD
    movl idt32 + 8 * VEC + 4, %eax
    movl %eax, idt32 + 8 * UD + 4
.endm

main:
    SETDESC 8, 0, 0xfffff, 0xba, 0xc
    SETDESC 9, 0, 0xfffff, 0xb2, 0xc
    SETDESC 10, 0, 0xfffff, 0x9e, 0xc
    // ---- Call gates within ring 0 ------------------------------------------------------------------------------
    SETGATE 0, CS32, gate_same, 0x8c
    movl $0, %ebx
    lcall $SEL(0), $0xdeadbeef
1:  CHECK "call gate: pushes 8 bytes", "%ebx", STACK_TOP - 8
    CHECK "call gate: return EIP", "%ecx", 1b
    CHECK "call gate: return CS", "%edx", CS32
    SETGATE 0, CS32, gate_same16, 0x84
    movw $0xffff, gdt + SLOT + 6        // the high offset means nothing in a 16-bit gate
    lcall $SEL(0), $0
1:  CHECK "16-bit call gate: pushes 4 bytes", "%ebx", STACK_TOP - 4
    CHECK "16-bit call gate: return CS:IP", "%ecx", (CS32 << 16) + 1b
    SETGATE 0, CS32, 1f, 0x8c
    TRY
    ljmp $SEL(0), $0
    ud2
1:  EXPECT_ANY_IP "JMP through a call gate", 0xff
    SETGATE 0, CS32, gate_same, 0x8c, 3
    lcall $SEL(0), $0
    CHECK "call gate: no parameters without a stack switch", "%ebx", STACK_TOP - 8
    FAULT "gate DPL 0, RPL 3", GP, SEL(0), lcall $(SEL(0) + 3), $0
    SETGATE 0, CS32, gate_same, 0x0c
    FAULT "gate not present", NP, SEL(0), lcall $SEL(0), $0
    FAULT "JMP, gate not present", NP, SEL(0), ljmp $SEL(0), $0
    FAULT "gate not present, RPL 3", GP, SEL(0), lcall $(SEL(0) + 3), $0
    SETGATE 0, 0, gate_same, 0x8c
    FAULT "gate with null selector", GP, 0, lcall $SEL(0), $0
    SETGATE 0, DS32, gate_same, 0x8c
    FAULT "gate to data", GP, DS32, lcall $SEL(0), $0
    SETGATE 0, 0x1ff8, gate_same, 0x8c
    FAULT "gate past the GDT", GP, 0x1ff8, lcall $SEL(0), $0
    SETDESC 1, 0, 0xfffff, 0x1a, 0xc
    SETGATE 0, SEL(1), gate_same, 0x8c
    FAULT "gate to absent code", NP, SEL(1), lcall $SEL(0), $0
    SETGATE 0, CS32_3, gate_same, 0x8c
    FAULT "gate to ring 3", GP, CS32_3 & ~3, lcall $SEL(0), $0
    SETGATE 0, SEL(0), gate_same, 0x8c
    FAULT "gate to a gate", GP, SEL(0), lcall $SEL(0), $0
    SETDESC 1, 0, 0xfff, 0x9a, 4
    SETGATE 0, SEL(1), 0x1000, 0x8c
    FAULT "gate past the code limit", GP, 0, lcall $SEL(0), $0
    FAULT "JMP, gate past the code limit", GP, 0, ljmp $SEL(0), $0

    // ---- Call gates from ring 3 --------------------------------------------------------------------------------
    SETGATE 0, CS32, gate_inner, 0xec, 2
    TRY
    calll enter_ring3_32
    pushl $0x11111111
    pushl $0x22222222
    lcall $(SEL(0) + 3), $0
1:  movl %esp, %edi
    movl %cs, %esi
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3 to 0 and back", SYS_VECTOR
    CHECK "new ESP", "0x700", RING0_TOP - 24
    CHECK "return EIP", "0x704", 1b
    CHECK "return CS", "0x708", CS32_3
    CHECK "first parameter", "0x70c", 0x22222222
    CHECK "second parameter", "0x710", 0x11111111
    CHECK "old ESP", "0x714", RING3_TOP - 8
    CHECK "old SS", "0x718", DS32_3
    CHECKW "new SS", "0x71c", DS32
    CHECKW "new CS", "0x720", CS32
    CHECK "RET 8 drops the parameters outside too", "%edi", RING3_TOP
    CHECK "CS after the return", "%esi", CS32_3
    SETGATE 0, CS32 + 3, gate_inner, 0xec, 0
    TRY
    calll enter_ring3_32
    subl $8, %esp
    lcall $(SEL(0) + 3), $0
    int $SYS_VECTOR
    EXPECT_ANY_IP "RPL in the gate's selector is ignored", GP, 0
    CHECK "new ESP without parameters", "0x700", RING0_TOP - 16
    SETGATE 0, CS32, gate_inner16, 0xe4, 2
    TRY
    calll enter_ring3_32
    pushw $0x1111
    pushw $0x2222
    lcall $(SEL(0) + 3), $0
1:  movl %esp, %edi
    int $SYS_VECTOR
    EXPECT_ANY_IP "16-bit gate, ring 3 to 0 and back", SYS_VECTOR
    CHECK "16-bit gate: new ESP", "0x700", RING0_TOP - 12
    CHECK "16-bit gate: return CS:IP", "0x704", (CS32_3 << 16) + 1b
    CHECK "16-bit gate: parameters", "0x708", 0x11112222
    CHECK "16-bit gate: old SS:SP", "0x70c", (DS32_3 << 16) + 0x2ffc
    CHECK "16-bit gate: RET 4", "%edi", 0x3000
    SETGATE 0, CS32, gate_same, 0x8c
    FAULT3 "ring 3: gate DPL 0", GP, SEL(0), lcall $(SEL(0) + 3), $0
    SETGATE 0, CS32, gate_same, 0xec
    FAULT3 "ring 3: JMP to inner code", GP, CS32, ljmp $(SEL(0) + 3), $0
    SETGATE 0, CONFORMING, gate_conforming, 0xec, 2
    TRY
    calll enter_ring3_32
    lcall $(SEL(0) + 3), $0
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3: conforming gate", SYS_VECTOR
    CHECK "stays at ring 3", "%ecx", CONFORMING + 3
    CHECK "on the same stack", "%ebx", RING3_TOP - 8

    // ---- Ring 1: what can be wrong with the inner stack ---------------------------------------------------------
    movl $RING0_TOP - 0x800, tss32 + 12
    movl $DATA1, tss32 + 16
    SETGATE 0, CODE1, gate_ring1, 0xec
    TRY
    calll enter_ring3_32
    lcall $(SEL(0) + 3), $0
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3 to 1 and back", SYS_VECTOR
    CHECK "CS of ring 1", "%ecx", CODE1
    CHECK "SS of ring 1", "%edx", DATA1
    CHECK "ESP of ring 1", "%ebx", RING0_TOP - 0x800 - 16
    SETGATE 1, CS32, gate_ring0_from1, 0xac
    SETGATE 0, CODE1, gate_ring1_to0, 0xec
    TRY
    calll enter_ring3_32
    lcall $(SEL(0) + 3), $0
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3 to 1 to 0 and back", SYS_VECTOR
    CHECK "ring 0 sees ring 1's SS", "%edx", DATA1
    CHECK "ring 0's ESP", "%ebx", RING0_TOP - 16
    SETGATE 0, CODE1, gate_ring1, 0xec
    SETDESC 2, 0, 0xfffff, 0x32, 0xc    // DPL 1, absent
    SETDESC 3, 0, 0xfffff, 0xb0, 0xc    // DPL 1, read-only
    SETDESC 4, 0, 0x00fff, 0xb2, 0x4    // DPL 1, 4 KB
    SETDESC 5, 0, 0xfffff, 0xba, 0xc    // DPL 1, code
    INNER_STACK "inner SS null", 0, TS, 0
    INNER_STACK "inner SS null with RPL", 1, TS, 0
    INNER_STACK "inner SS with RPL 0", SEL(9), TS, SEL(9)
    INNER_STACK "inner SS with RPL 3", SEL(9) + 3, TS, SEL(9)
    INNER_STACK "inner SS with DPL 0", DS32 + 1, TS, DS32
    INNER_STACK "inner SS with DPL 3", 0x20 + 1, TS, 0x20
    INNER_STACK "inner SS past the GDT", 0x1ff9, TS, 0x1ff8
    INNER_STACK "inner SS read-only", SEL(3) + 1, TS, SEL(3)
    INNER_STACK "inner SS code", SEL(5) + 1, TS, SEL(5)
    INNER_STACK "inner SS absent", SEL(2) + 1, SS, SEL(2)
    INNER_STACK "inner stack too small", SEL(4) + 1, SS, SEL(4)
    CHECK "ESP of ring 3 is unchanged", "rec_sp", RING3_TOP
    movl $DATA1, tss32 + 16
    // TSS limit 15: ESP0 and SS0 are within, ESP1 is not.
    movl $0x8900, gdt + TSS_SEL + 4
    movw $15, gdt + TSS_SEL
    movw $TSS_SEL, %ax
    ltr %ax
    FAULT3 "TSS ends before the inner stack", TS, TSS_SEL, lcall $(SEL(0) + 3), $0
    movl $0x8900, gdt + TSS_SEL + 4
    movw $103, gdt + TSS_SEL
    movw $TSS_SEL, %ax
    ltr %ax

    // ---- RET and IRET outward ----------------------------------------------------------------------------------
    SETDESC 2, 0, 0xfffff, 0x72, 0xc    // DPL 3 data, absent
    SETDESC 3, 0, 0xfffff, 0xf0, 0xc    // DPL 3 data, read-only
    SETDESC 4, 0, 0xfffff, 0x7a, 0xc    // DPL 3 code, absent
    SETDESC 5, 0, 0x00fff, 0xfa, 0x4    // DPL 3 code, 4 KB
    RETURN "CS null", 0, main, DS32_3, GP, 0
    RETURN "CS null with RPL", 3, main, DS32_3, GP, 0
    RETURN "CS past the GDT", 0x1ffb, main, DS32_3, GP, 0x1ff8
    RETURN "CS data", DS32_3, main, DS32_3, GP, 0x20
    RETURN "CS RPL 3, DPL 0", CS32 + 3, main, DS32_3, GP, CS32
    RETURN "CS RPL 0, DPL 3", 0x18, main, DS32_3, GP, 0x18
    RETURN "CS absent", SEL(4) + 3, main, DS32_3, NP, SEL(4)
    RETURN "SS null", CS32_3, main, 0, GP, 0
    RETURN "SS null with RPL", CS32_3, main, 3, GP, 0
    RETURN "SS past the GDT", CS32_3, main, 0x1ffb, GP, 0x1ff8
    RETURN "SS RPL 0", CS32_3, main, 0x20, GP, 0x20
    RETURN "SS DPL 0", CS32_3, main, DS32 + 3, GP, DS32
    RETURN "SS read-only", CS32_3, main, SEL(3) + 3, GP, SEL(3)
    RETURN "SS absent", CS32_3, main, SEL(2) + 3, SS, SEL(2)
    RETURN "EIP past the limit", SEL(5) + 3, 0x1000, DS32_3, GP, 0
    TRY
    movl $DS32, %eax
    movl %eax, %ds
    movl %eax, %gs
    movl $DS32_3, %eax
    movl %eax, %es
    movl $CONFORMING, %eax
    movl %eax, %fs
    pushl $DS32_3
    pushl $RING3_TOP
    pushl $8
    pushl $7
    pushl $CS32_3
    pushl $1f
    lretl $8
1:  movl %esp, %esi
    int $SYS_VECTOR
    EXPECT_ANY_IP "RETF 8 to ring 3", SYS_VECTOR
    CHECK "clears DS of ring 0", "rec_ds", 0
    CHECK "keeps ES of ring 3", "rec_es", DS32_3
    CHECK "keeps FS that conforms", "rec_fs", CONFORMING
    CHECK "clears GS of ring 0", "rec_gs", 0
    CHECK "RETF 8 adds to the outer ESP", "%esi", RING3_TOP + 8
    TRY
    movl $DS32, %eax
    movl %eax, %fs
    movl $DATA1, %eax
    movl %eax, %gs
    pushl $DS32_3
    pushl $RING3_TOP
    pushl $FL_IOPL | FL_CF
    pushl $CS32_3
    pushl $1f
    iretl
1:  pushfl
    popl %esi
    pushl $0
    popfl
    pushfl
    popl %edi
    pushl $2                            // IRET at ring 3 does not change IOPL
    pushl $CS32_3
    pushl $2f
    iretl
2:  pushfl
    popl %ebp
    int $SYS_VECTOR
    EXPECT_ANY_IP "IRET to ring 3", SYS_VECTOR
    CHECK "IRET clears FS of ring 0", "rec_fs", 0
    CHECK "IRET clears GS of ring 1", "rec_gs", 0
    CHECK "IRET at ring 0 sets IOPL", "%esi", FL_IOPL | FL_CF | 2
    CHECK "POPF at ring 3 keeps IOPL", "%edi", FL_IOPL | 2
    CHECK "IRET at ring 3 keeps IOPL", "%ebp", FL_IOPL | 2
    TRY
    calll enter_ring3_32
    pushl $CS32
    pushl $main
    AT
    lretl
    EXPECT "ring 3: RETF inward", GP, CS32
    TRY
    calll enter_ring3_32
    pushl $2
    pushl $CS32
    pushl $main
    AT
    iretl
    EXPECT "ring 3: IRET inward", GP, CS32
    TRY
    calll enter_ring3_32
    sti
    EXPECT_ANY_IP "STI above IOPL", GP, 0
    movl $FL_IOPL | 2, user_flags
    TRY
    calll enter_ring3_32
    sti
    pushfl
    popl %esi
    cli
    pushfl
    popl %edi
    pushl $FL_IF
    popfl
    pushfl
    popl %ebp
    cli
    int $SYS_VECTOR
    EXPECT_ANY_IP "STI and CLI within IOPL", SYS_VECTOR
    CHECK "STI", "%esi", FL_IOPL | FL_IF | 2
    CHECK "CLI", "%edi", FL_IOPL | 2
    CHECK "POPF sets IF", "%ebp", FL_IOPL | FL_IF | 2
    movl $2, user_flags
    TRY
    calll enter_ring3_32
    pushl $FL_IF | FL_IOPL
    popfl
    pushfl
    popl %esi
    int $SYS_VECTOR
    EXPECT_ANY_IP "POPF above IOPL", SYS_VECTOR
    CHECK "changes neither IF nor IOPL", "%esi", 2
    // 16-bit IRET and RETF outward.
    TRY
    pushw $DS32_3
    pushw $0x1f00
    pushw $2
    pushw $CS32_3
    pushw $1f
    iretw
1:  movl %esp, %esi
    int $SYS_VECTOR
    EXPECT_ANY_IP "IRETW to ring 3", SYS_VECTOR
    CHECKW "its SP", "%si", 0x1f00

    // ---- Interrupt and trap gates ------------------------------------------------------------------------------
    SETIDT VEC, CS32, int_probe, 0x8e
    pushl $FL_IF | FL_NT | FL_AC | FL_CF | 2
    popfl
    int $VEC
1:  cli
    CHECKF "IRET restores NT and AC", FL_NT | FL_AC, FL_NT | FL_AC
    pushl $2
    popfl
    CHECK "interrupt gate: flags inside", "%ecx", FL_AC | FL_CF | 2
    CHECK "interrupt gate: flags pushed", "%edx", FL_IF | FL_NT | FL_AC | FL_CF | 2
    CHECK "interrupt gate: EIP pushed", "%ebx", 1b
    CHECK "interrupt gate: three doublewords", "%esi", STACK_TOP - 12
    SETIDT VEC, CS32, int_probe, 0x8f
    sti
    int $VEC
    cli
    CHECK "trap gate leaves IF", "%ecx", FL_IF | 2
    SETIDT VEC, CS32, int_probe16, 0x86
    sti
    int $VEC
1:  cli
    CHECK "16-bit interrupt gate: CS:IP", "%ebx", (CS32 << 16) + 1b
    CHECK "16-bit interrupt gate: FLAGS", "%edx", FL_IF | 2
    CHECK "16-bit interrupt gate: three words", "%esi", STACK_TOP - 6
    CHECK "16-bit interrupt gate clears IF", "%ecx", 2
    SETIDT VEC, CS32, int_probe16, 0x87
    sti
    int $VEC
    cli
    CHECK "16-bit trap gate leaves IF", "%ecx", FL_IF | 2
    SETIDT GP, CS32, error_probe16, 0x86
    movl $0x1ff8, %eax
    movl $1f, %edi
77: movl %eax, %fs
1:  CHECKW "16-bit gate pushes a 16-bit error code", "%bx", 0x1ff8
    shrl $16, %ebx
    CHECK "and IP above it", "%ebx", 77b
    RESETIDT GP
    SETIDT VEC, CS32, int_probe, 0xee
    TRY
    calll enter_ring3_32
    int $VEC
1:  int $SYS_VECTOR
    EXPECT_ANY_IP "INT n from ring 3", SYS_VECTOR
    CHECK "five doublewords on the ring 0 stack", "%esi", RING0_TOP - 20
    CHECK "EIP of ring 3", "%ebx", 1b
    CHECK "CS of ring 3", "0x704", CS32_3
    CHECK "ESP of ring 3", "0x70c", RING3_TOP
    CHECK "SS of ring 3", "0x710", DS32_3
    SETIDT VEC, CONFORMING, int_probe, 0xee
    TRY
    calll enter_ring3_32
    int $VEC
    int $SYS_VECTOR
    EXPECT_ANY_IP "INT n to conforming code", SYS_VECTOR
    CHECK "stays on the ring 3 stack", "%esi", RING3_TOP - 12
    SETIDT VEC, CODE1, int_probe, 0xee
    TRY
    calll enter_ring3_32
    int $VEC
    int $SYS_VECTOR
    EXPECT_ANY_IP "INT n to ring 1", SYS_VECTOR
    CHECK "on the ring 1 stack", "%esi", RING0_TOP - 0x800 - 20
    movl $0, tss32 + 16
    FAULT3 "INT n, inner SS null", TS, 0, int $VEC
    movl $SEL(9), tss32 + 16
    FAULT3 "INT n, inner SS with RPL 0", TS, SEL(9), int $VEC
    SETIDT UD, CODE1, int_probe, 0x8e
    FAULT3 "exception, inner SS with RPL 0", TS, SEL(9) + 1, ud2
    movl $DATA1, tss32 + 16
    RESETIDT UD

    // ---- Who may use a gate ------------------------------------------------------------------------------------
    SETIDT VEC, CS32, int_probe, 0x8e
    FAULT3 "INT n, gate DPL 0", GP, IDT_ERROR(VEC), int $VEC
    SETIDT VEC, CS32, int_probe, 0x6e
    FAULT3 "INT n, gate absent", NP, IDT_ERROR(VEC), int $VEC
    SETIDT VEC, CS32, int_probe, 0x0e
    FAULT3 "INT n, gate absent and DPL 0", GP, IDT_ERROR(VEC), int $VEC
    FAULT3 "INT n past the IDT limit", GP, IDT_ERROR(0x99), int $0x99
    FAULT "INT n past the IDT limit, ring 0", GP, IDT_ERROR(0x99), int $0x99
    TRY
    calll enter_ring3_32
    int3
    AT
    EXPECT "INT3 from ring 3", BP
    movb $0x8e, idt32 + 8 * BP + 5
    FAULT3 "INT3, gate DPL 0", GP, IDT_ERROR(BP), int3
    FAULT3 "INT 3 (CD 03), gate DPL 0", GP, IDT_ERROR(BP), .byte 0xcd, 3
    movb $0xee, idt32 + 8 * BP + 5
    TRY
    calll enter_ring3_32
    movb $0x7f, %al
    incb %al
    into
    AT
    EXPECT "INTO from ring 3", OF
    movb $0x8e, idt32 + 8 * OF + 5
    TRY
    calll enter_ring3_32
    movb $0x7f, %al
    incb %al
    AT
    into
    EXPECT "INTO, gate DPL 0", GP, IDT_ERROR(OF)
    TRY
    calll enter_ring3_32
    .byte 0xf1
    AT
    EXPECT "INT1 ignores the gate's DPL", DB
    FAULT3 "INT 1 (CD 01), gate DPL 0", GP, IDT_ERROR(1), int $1
    FAULT3 "UD2 ignores the gate's DPL", UD, NONE, ud2

    // ---- Deliveries that fail ----------------------------------------------------------------------------------
    SETIDT VEC, CS32, int_probe, 0x0e
    DELIVER "gate absent", NP, IDT_ERROR(VEC)
    FAULT "#UD: gate absent", NP, IDT_ERROR(UD) + 1, ud2
    SETIDT VEC, CS32, int_probe, 0x8c
    DELIVER "gate of type C", GP, IDT_ERROR(VEC)
    FAULT "#UD: gate of type C", GP, IDT_ERROR(UD) + 1, ud2
    SETIDT VEC, CS32, int_probe, 0x9e
    DELIVER "gate with S set", GP, IDT_ERROR(VEC)
    SETIDT VEC, 0, int_probe, 0x8e
    DELIVER "selector null", GP, 0
    FAULT "#UD: selector null", GP, 1, ud2
    SETIDT VEC, DS32, int_probe, 0x8e
    DELIVER "selector of data", GP, DS32
    FAULT "#UD: selector of data", GP, DS32 + 1, ud2
    SETIDT VEC, 0x1ff8, int_probe, 0x8e
    DELIVER "selector past the GDT", GP, 0x1ff8
    FAULT "#UD: selector past the GDT", GP, 0x1ff9, ud2
    SETDESC 1, 0, 0xfffff, 0x1a, 0xc
    SETIDT VEC, SEL(1), int_probe, 0x8e
    DELIVER "code absent", NP, SEL(1)
    FAULT "#UD: code absent", NP, SEL(1) + 1, ud2
    SETIDT VEC, CS32_3, int_probe, 0x8e
    DELIVER "code of ring 3", GP, CS32_3 & ~3
    FAULT "#UD: code of ring 3", GP, (CS32_3 & ~3) + 1, ud2
    SETDESC 1, 0, 0xfff, 0x9a, 4
    SETIDT VEC, SEL(1), 0x1000, 0x8e
    DELIVER "offset past the limit", GP, 0
    FAULT "#UD: offset past the limit", GP, 1, ud2
    RESETIDT UD
    // Contributory exceptions become a double fault.
    movb $0x0e, idt32 + 8 * GP + 5
    movl $0x1ff8, %eax
    FAULT "#GP whose gate is absent: double fault", DF, 0, movl %eax, %fs
    movb $0x0e, idt32 + 8 * NP + 5
    FAULT "absent gate whose #NP is absent: double fault", DF, 0, movl %eax, %fs
    RESETIDT NP
    RESETIDT GP
    movb $0x0e, idt32 + 8 * DE + 5
    xorl %ecx, %ecx
    FAULT "#DE whose gate is absent: double fault", DF, 0, divl %ecx
    RESETIDT DE
    movb $0x0e, idt32 + 8 * BP + 5
    FAULT "INT3 whose gate is absent: no double fault", NP, IDT_ERROR(BP), int3
    RESETIDT BP, 0xee
    movw $8 * (DF + 1) - 1, idt32_pointer
    lidtl idt32_pointer
    movl $0x1ff8, %eax
    FAULT "#GP past the IDT limit: double fault", DF, 0, movl %eax, %fs
    FAULT "INT n past this IDT limit: double fault", DF, 0, int $VEC
    movw $VECTORS * 8 - 1, idt32_pointer
    lidtl idt32_pointer
    FINISH

gate_same:
    movl %esp, %ebx
    movl (%esp), %ecx
    movl 4(%esp), %edx
    lretl
gate_same16:
    movl %esp, %ebx
    movl (%esp), %ecx
    lretw
gate_inner:
    movl %esp, 0x700
    movl %esp, %esi
    movl $0x704, %edi
    movl $6, %ecx
    movl $DS32, %eax
    movl %eax, %es
    rep movsl
    movw %ss, 0x71c
    movw %cs, 0x720
    lretl $8
gate_inner16:
    movl %esp, 0x700
    movl %esp, %esi
    movl $0x704, %edi
    movl $3, %ecx
    movl $DS32, %eax
    movl %eax, %es
    rep movsl
    lretw $4
gate_conforming:
    movl %cs, %ecx
    movl %esp, %ebx
    lretl
gate_ring1:
    movl %cs, %ecx
    movl %ss, %edx
    movl %esp, %ebx
    lretl
gate_ring1_to0:
    lcall $(SEL(1) + 1), $0
    lretl
gate_ring0_from1:
    movl 12(%esp), %edx
    movl %esp, %ebx
    lretl
int_probe:                              // ESI: ESP, EBX: EIP, ECX: flags inside, EDX: flags pushed; 700: the frame
    movl %esp, %esi
    movl (%esp), %ebx
    movl 8(%esp), %edx
    movl %ebx, 0x700
    movl 4(%esp), %ecx
    movl %ecx, 0x704
    movl 12(%esp), %ecx
    movl %ecx, 0x70c
    movl 16(%esp), %ecx
    movl %ecx, 0x710
    pushfl
    popl %ecx
    iretl
int_probe16:
    movl %esp, %esi
    movl (%esp), %ebx
    movzwl 4(%esp), %edx
    pushfl
    popl %ecx
    iretw
error_probe16:                          // EBX: error code and IP; goes on at EDI
    popl %ebx
    movl $STACK_TOP, %esp
    jmp *%edi
