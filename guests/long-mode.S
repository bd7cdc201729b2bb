// 64-bit mode: what is undefined there, segments, system registers, interrupts and IRETQ, IST, gates, entering and leaving
// long mode, compatibility mode.
#include "lib.inc"
START_LONG

#define VEC 0x41
// GATE64 vector, selector, label, access, ist: a gate of the 64-bit IDT.
.macro GATE64 vector, selector, label, access, ist=0
    movl $\label, idt64 + 16 * (\vector)
    movw $(\selector), idt64 + 16 * (\vector) + 2
    movl $(((\access) << 8) | (\ist)), idt64 + 16 * (\vector) + 4
    movl $0, idt64 + 16 * (\vector) + 8
.endm
.macro RESETGATE64 vector, access=0x8e
    GATE64 "\vector", CS64, stubs64 + 8 * (\vector), "\access"
.endm
// A 16-byte descriptor in two slots.
.macro SETDESC16 n, base, limit, access
    SETDESC "\n", "\base", "\limit", "\access"
    movl $0, gdt + SLOT + 8 * (\n) + 8
    movl $0, gdt + SLOT + 8 * (\n) + 12
.endm
.macro SETGATE16 n, selector, offset, access
    SETGATE "\n", "\selector", "\offset", "\access"
    movl $0, gdt + SLOT + 8 * (\n) + 8
    movl $0, gdt + SLOT + 8 * (\n) + 12
.endm
.macro FAR_JUMP selector, label         // from 64-bit code
    pushq $(\selector)
    pushq $\label
    lretq
.endm
// IRETQ with this frame must fault.
.macro IRETQ_FAULT name, vector, error, rip, cs, flags, rsp, ss
    TRY
    pushq $\ss
    pushq $\rsp
    pushq $\flags
    pushq $\cs
    pushq $\rip
    AT
    iretq
    EXPECT "\name", \vector, \error
.endm
.macro READ_MSR msr
    movl $\msr, %ecx
    rdmsr
.endm
.macro WRITE_MSR msr, low, high=0
    movl $\msr, %ecx
    movl $\low, %eax
    movl $\high, %edx
    wrmsr
.endm

main:
    // ---- Undefined in 64-bit mode --------------------------------------------------------------------------------------------
    .irp opcode, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0xce, 0xd6
    FAULT "opcode \opcode", UD, NONE, .byte \opcode
    .endr
    FAULT "opcode 82", UD, NONE, .byte 0x82, 0xc0, 1
    FAULT "AAM", UD, NONE, .byte 0xd4, 10
    FAULT "AAD", UD, NONE, .byte 0xd5, 10
    FAULT "far CALL direct", UD, NONE, .byte 0x9a, 0, 0, 0, 0, 0, 0
    FAULT "far JMP direct", UD, NONE, .byte 0xea, 0, 0, 0, 0, 0, 0
    FAULT "UD2", UD, NONE, ud2
    FAULT "MOV to CS", UD, NONE, .byte 0x8e, 0xc8
    FAULT "RDFSBASE without CR4.FSGSBASE", UD, NONE, .byte 0xf3, 0x48, 0x0f, 0xae, 0xc0
    FAULT "LOCK NOP", UD, NONE, .byte 0xf0, 0x90
    FAULT "REX before LOCK", UD, NONE, .byte 0x48, 0xf0, 0x90
    FAULT "16 bytes", GP, 0, .byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x48,0x90
    FAULT3 "ring 3: CLI", GP, 0, cli
    FAULT3 "ring 3: HLT", GP, 0, hlt
    FAULT3 "ring 3: MOV from CR8", GP, 0, mov %cr8, %rax
    FAULT3 "ring 3: SWAPGS", GP, 0, swapgs
    FAULT3 "ring 3: WRMSR", GP, 0, wrmsr
    FAULT3 "ring 3: OUT", GP, 0, outb %al, $0x80
    FAULT3 "ring 3: LGDT", GP, 0, lgdt gdt_pointer
    movw $104, tss64 + 102
    movw $104 + 17, gdt + TSS_SEL
    movl $0x8900, gdt + TSS_SEL + 4
    movl $TSS_SEL, %eax
    ltr %ax
    NOFAULT3 "ring 3: OUT, bitmap clear", outb %al, $0x80
    orb $1, tss64 + 104 + 16
    FAULT3 "ring 3: OUT, bitmap set", GP, 0, outb %al, $0x80

    // ---- Addresses and operands --------------------------------------------------------------------------------------------------
    movl $0x600dcafe, 0x700
    movl $0x600dcafe, data_word
    mov $-1, %rax
    movl data_word(%rip), %eax
    CHECKQ "RIP-relative; 32-bit results clear the high half", "%rax", 0x600dcafe
    .byte 0x67
    movl data_word(%rip), %ebx
    CHECK "EIP-relative with 67h", "%ebx", 0x600dcafe
    movl $0xfffffffc, %edx
    .byte 0x67, 0x8b, 0x9a              // movl 704(%edx): wraps at 4 GB
    .long 0x704
    CHECK "32-bit address wraps at 4 GB", "%ebx", 0x600dcafe
    movabsl 0x700, %eax
    CHECK "64-bit moffs", "%eax", 0x600dcafe
    movl $0x80000000, %eax
    movslq %eax, %rbx
    CHECKQ "MOVSXD", "%rbx", 0xffffffff80000000
    mov %rsp, %rbx
    pushw $0x1234
    sub %rsp, %rbx
    CHECK "66h PUSH moves RSP by 2", "%ebx", 2
    add $2, %rsp
    mov %rsp, %rbx
    pushq $-2
    sub %rsp, %rbx
    CHECK "PUSH moves RSP by 8", "%ebx", 8
    pop %rax
    CHECKQ "PUSH sign-extends", "%rax", 0xfffffffffffffffe
    push %fs
    pop %rax
    CHECK "PUSH FS", "%eax", 0
    mov %rsp, %rbx
    enter $16, $0
    mov %rbp, %rcx
    leave
    sub %rsp, %rbx
    CHECK "ENTER and LEAVE", "%ebx", 0
    mov $0x123456789abcdef0, %rcx
    movl $0x700, %ebx
    movl $0, %eax
    FAULT "CMPXCHG8B with LOCK on a register", UD, NONE, .byte 0xf0, 0x0f, 0xc7, 0xc8
    push %rbx
    movl $1, %eax
    cpuid
    pop %rbx
    testl $0x2000, %ecx
    jz 1f
    movl $0x708, %edi
    FAULT "CMPXCHG16B misaligned", GP, 0, cmpxchg16b (%rdi)
1:  movl $0x704, %edi
    FAULT "MOVAPS misaligned", GP, 0, movaps (%rdi), %xmm0
    NOFAULT "MOVUPS misaligned", movups (%rdi), %xmm0
    FAULT "FXSAVE misaligned", GP, 0, fxsave (%rdi)

    // ---- Segments -----------------------------------------------------------------------------------------------------------------
    xorl %eax, %eax
    NOFAULT "null SS at ring 0", movl %eax, %ss
    movl $3, %eax
    FAULT "null SS with RPL 3", GP, 0, movl %eax, %ss
    movl $DS64, %eax
    movl %eax, %ss
    xorl %eax, %eax
    FAULT3 "null SS at ring 3", GP, 0, movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    TRY
    movl 0x700, %ebx
    EXPECT_ANY_IP "access with null DS", 0xff
    movl $DS64, %eax
    movl %eax, %ds
    movl %eax, %es
    SETDESC 0, 0x30000, 0, 0x90, 0      // read-only, one byte, base 30000
    movl $SEL(0), %eax
    movl %eax, %ds
    TRY
    movl $0x12345678, 0x704
    EXPECT_ANY_IP "DS: base, limit and type mean nothing", 0xff
    movl $DS64, %eax
    movl %eax, %ds
    CHECK "the store went to its address", "0x704", 0x12345678
    NOFAULT "CS override, store", .byte 0x2e, 0x89, 0x04, 0x25, 0x08, 0x07, 0, 0
    SETDESC 0, 0x812300, 0xfffff, 0x92, 0xc
    movl $0x13572468, 0x812340
    movl $SEL(0), %eax
    movl %eax, %fs
    CHECK "FS: base from its descriptor", "%fs:0x40", 0x13572468
    READ_MSR FS_BASE
    CHECK "FS base in the MSR", "%eax", 0x812300
    WRITE_MSR GS_BASE, 0x812310
    CHECK "GS base from the MSR", "%gs:0x30", 0x13572468
    WRITE_MSR KERNEL_GS_BASE, 0x812320, 0xffff8000
    swapgs
    READ_MSR GS_BASE
    CHECK "SWAPGS: GS base, low", "%eax", 0x812320
    CHECK "SWAPGS: GS base, high", "%edx", 0xffff8000
    READ_MSR KERNEL_GS_BASE
    CHECK "SWAPGS: KernelGSBase", "%eax", 0x812310
    movl $SEL(0), %eax
    movl %eax, %gs
    READ_MSR GS_BASE
    CHECK "loading GS clears the high half", "%edx", 0
    CHECK "loading GS sets the low half", "%eax", 0x812300
    xorl %eax, %eax
    movl %eax, %gs
    READ_MSR GS_BASE
    cmpb $0, vendor_amd
    jne 1f
    CHECK "null GS clears the base (Intel)", "%eax", 0
    jmp 2f
1:  CHECK "null GS keeps the base (AMD)", "%eax", 0x812300
2:  xorl %eax, %eax
    movl %eax, %fs
    WRITE_MSR FS_BASE, 0
    WRITE_MSR GS_BASE, 0
    SETDESC 0, 0, 0xfffff, 0x12, 0xc
    movl $SEL(0), %eax
    FAULT "DS not present", NP, SEL(0), movl %eax, %ds
    FAULT "SS not present", SS, SEL(0), movl %eax, %ss
    SETDESC 0, 0, 0xfffff, 0x98, 0xa
    FAULT "DS execute-only", GP, SEL(0), movl %eax, %ds
    movl $0x1ff8, %eax
    FAULT "ES past the GDT", GP, 0x1ff8, movl %eax, %es
    // LAR, LSL: system types.
    xorl %ebx, %ebx
    xorl %esi, %esi
    movl $15, %ecx
1:  SETDESC16 0, 0, 0xffff, 0x80
    orb %cl, gdt + SLOT + 5
    movl $SEL(0), %eax
    larl %eax, %edx
    jnz 2f
    btsl %ecx, %ebx
2:  lsll %eax, %edx
    jnz 3f
    btsl %ecx, %esi
3:  decl %ecx
    jns 1b
    CHECK "LAR: system types in long mode", "%ebx", 0x1a04
    CHECK "LSL: system types in long mode", "%esi", 0x0a04
    SETDESC16 2, 0, 103, 0x89
    movl $0x1f00, gdt + SLOT + 16 + 12  // S and type of the upper half
    movl $SEL(2), %eax
    FAULT "LTR: upper half has a type", GP, SEL(2), ltr %ax
    SETDESC16 2, 0, 103, 0x81
    FAULT "LTR of a 16-bit TSS", GP, SEL(2), ltr %ax
    SETDESC16 2, 0, 103, 0x09
    FAULT "LTR not present", NP, SEL(2), ltr %ax
    movl $TSS_SEL, %eax
    FAULT "LTR busy", GP, TSS_SEL, ltr %ax
    SETDESC16 2, 0x31000, 0x17, 0x82
    movl $0, gdt + SLOT + 16 + 8
    movl $SEL(2), %eax
    NOFAULT "LLDT", lldt %ax
    movl $DESC_LO(0x812300, 0xfffff), 0x31008
    movl $DESC_HI(0x812300, 0xfffff, 0x92, 0xc), 0x3100c
    movl $0x0c, %eax
    movl %eax, %fs
    CHECK "FS from the LDT", "%fs:0x40", 0x13572468
    movl $0x8000, gdt + SLOT + 16 + 8
    movl $SEL(2), %eax
    FAULT "LLDT: base not canonical", GP, SEL(2), lldt %ax
    xorl %eax, %eax
    movl %eax, %fs
    lldt %ax

    // ---- System registers ---------------------------------------------------------------------------------------------------------------
    mov $0x100000011, %rax
    FAULT "MOV to CR0, bit 32", GP, 0, mov %rax, %cr0
    mov $0x100000000, %rax
    FAULT "MOV to CR4, bit 32", GP, 0, mov %rax, %cr4
    FAULT "MOV to DR7, bit 32", GP, 0, mov %rax, %dr7
    FAULT "MOV to DR6, bit 32", GP, 0, mov %rax, %dr6
    mov $0x123456789abcdef0, %rax
    mov %rax, %dr0
    mov %dr0, %rbx
    CHECKQ "DR0 has 64 bits", "%rbx", 0x123456789abcdef0
    mov %rax, %cr2
    mov %cr2, %rbx
    CHECKQ "CR2 has 64 bits", "%rbx", 0x123456789abcdef0
    mov %cr4, %rax
    and $~CR4_PAE, %rax
    FAULT "clearing CR4.PAE", GP, 0, mov %rax, %cr4
    mov %cr0, %rax
    and $0x7fffffff, %rax
    FAULT "clearing CR0.PG in 64-bit mode", GP, 0, mov %rax, %cr0
    READ_MSR EFER
    CHECK "EFER: LME and LMA", "%eax", EFER_LME | EFER_LMA
    andl $~EFER_LME, %eax
    FAULT "clearing EFER.LME while paging", GP, 0, wrmsr
    movl $1, %eax
    cpuid
    testl $0x200, %edx
    jz 1f
    movl $15, %eax
    mov %rax, %cr8
    mov %cr8, %rbx
    CHECK "CR8", "%ebx", 15
    movl $0x29003, PDPT + 24
    movl $0, PDPT + 28
    movl $0xfee00083, 0x29000 + 0x1f7 * 8
    movl $0, 0x29000 + 0x1f7 * 8 + 4
    movl $0xfee00080, %edi
    CHECK "CR8 is the APIC's task priority", "(%rdi)", 0xf0
1:  movl $16, %eax
    FAULT "MOV to CR8, reserved bit", GP, 0, mov %rax, %cr8
    xorl %eax, %eax
    mov %rax, %cr8
    sgdt 0x700
    mov 0x702, %rbx
    movl $gdt, %eax
    sub %rax, %rbx
    CHECKQ "SGDT has a 64-bit base", "%rbx", 0
    mov $0x00008000, %rax
    shl $32, %rax
    movw $0x1ff, 0x710
    mov %rax, 0x712
    FAULT "LGDT: base not canonical", GP, 0, lgdt 0x710
    FAULT "LIDT: base not canonical", GP, 0, lidt 0x710
    smsw %rbx
    mov %cr0, %rax
    sub %rbx, %rax
    CHECKQ "SMSW of 64 bits is CR0", "%rax", 0

    // ---- Interrupts -----------------------------------------------------------------------------------------------------------------------
    GATE64 VEC, CS64, int_probe, 0x8e
    mov %rsp, %rbx
    sub $5, %rsp
    int $VEC
1:  add $5, %rsp
    CHECKQ "interrupt frame is aligned to 16", 0x700, STACK_TOP-16-40
    mov 0x710, %rbx
    movl $1b, %eax
    sub %rax, %rbx
    CHECKQ "RIP", "%rbx", 0
    CHECKQ "CS", 0x718, CS64
    CHECKQ "RSP as it was", 0x728, STACK_TOP-5
    CHECKQ "SS", 0x730, DS64
    CHECKQ "SS inside is unchanged at the same ring", 0x708, DS64
    GATE64 VEC, CS64, int_probe, 0xee
    TRY
    call enter_ring3_64
    int $VEC
    movl %cs, %ebx
    movl %ss, %ecx
    int $SYS_VECTOR
    EXPECT_ANY_IP "INT n from ring 3", SYS_VECTOR
    CHECKQ "on RSP0", 0x700, RING0_TOP-40
    CHECKQ "SS inside is null", 0x708, 0
    CHECKQ "RSP of ring 3", 0x728, RING3_TOP
    CHECKQ "SS of ring 3", 0x730, DS32_3
    CHECK "CS back at ring 3", "%ebx", CS64_3
    CHECK "SS back at ring 3", "%ecx", DS32_3
    GATE64 VEC, CS64, int_probe, 0xee, 1
    int $VEC
    CHECKQ "IST 1 at ring 0", 0x700, IST1_TOP-40
    CHECKQ "IST: SS is unchanged", 0x708, DS64
    TRY
    call enter_ring3_64
    int $VEC
    int $SYS_VECTOR
    EXPECT_ANY_IP "IST 1 from ring 3", SYS_VECTOR
    CHECKQ "IST 1's stack", 0x700, IST1_TOP-40
    GATE64 VEC, CS64, int_probe, 0x8e
    FAULT3 "gate DPL 0 from ring 3", GP, VEC*8+2, int $VEC
    FAULT "vector past the IDT", GP, 0x99*8+2, int $0x99
    GATE64 VEC, CS64, int_probe, 0x0e
    FAULT "gate not present", NP, VEC*8+2, int $VEC
    GATE64 VEC, CS64, int_probe, 0x86
    FAULT "16-bit gate", GP, VEC*8+2, int $VEC
    GATE64 VEC, CS64, int_probe, 0x85
    FAULT "task gate", GP, VEC*8+2, int $VEC
    GATE64 VEC, CS32, int_probe, 0x8e
    FAULT "gate to compatibility mode", GP, CS32, int $VEC
    GATE64 VEC, 0, int_probe, 0x8e
    FAULT "gate with a null selector", GP, 0, int $VEC
    GATE64 VEC, CS64_3, int_probe, 0x8e
    FAULT "gate to ring 3", GP, CS64_3-3, int $VEC
    GATE64 UD, CS32, int_probe, 0x8e
    FAULT "#UD's gate to compatibility mode", GP, CS32+1, ud2
    RESETGATE64 UD
    movb $0x0e, idt64 + 16 * GP + 5
    movl $0x1ff8, %eax
    FAULT "#GP whose gate is absent: double fault", DF, 0, movl %eax, %es
    RESETGATE64 GP
    GATE64 VEC, CS64, int_probe, 0x8e
    movl $0x8000, idt64 + 16 * VEC + 8
    FAULT "gate's offset not canonical", GP, 0, int $VEC
    RESETGATE64 VEC

    // ---- IRETQ and far transfers -------------------------------------------------------------------------------------------------------------
    TRY
    pushq $0
    pushq $STACK_TOP-0x40
    pushq $FL_CF | 2
    pushq $CS64
    pushq $1f
    iretq
1:  mov %rsp, %rbx
    movl %ss, %ecx
    movl $DS64, %eax
    movl %eax, %ss
    EXPECT_ANY_IP "IRETQ to ring 0 with null SS", 0xff
    CHECKQ "IRETQ at the same ring loads RSP", "%rbx", STACK_TOP-0x40
    CHECK "and SS", "%ecx", 0
    movl $STACK_TOP, %esp
    IRETQ_FAULT "IRETQ to ring 3, null SS with RPL 3", GP, 0, main, CS64_3, 2, RING3_TOP, 3
    IRETQ_FAULT "IRETQ to compatibility mode, null SS", GP, 0, main, CS32, 2, RING3_TOP, 0
    IRETQ_FAULT "IRETQ: CS null", GP, 0, main, 0, 2, STACK_TOP, DS64
    IRETQ_FAULT "IRETQ: CS data", GP, DS64, main, DS64, 2, STACK_TOP, DS64
    IRETQ_FAULT "IRETQ: SS RPL 3 at ring 0", GP, DS32_3-3, main, CS64, 2, STACK_TOP, DS32_3
    IRETQ_FAULT "IRETQ: SS DPL 0 at ring 3", GP, DS64, main, CS64_3, 2, STACK_TOP, DS64+3
    SETDESC 0, 0, 0xfffff, 0x9a, 0xe    // L and D
    IRETQ_FAULT "IRETQ: CS with L and D", GP, SEL(0), main, SEL(0), 2, STACK_TOP, DS64
    SETDESC 0, 0, 0xfffff, 0x1a, 0xa
    IRETQ_FAULT "IRETQ: CS not present", NP, SEL(0), main, SEL(0), 2, STACK_TOP, DS64
    mov $0x0000800000000000, %rbx
    TRY
    pushq $DS64
    pushq $STACK_TOP
    pushq $2
    pushq $CS64
    push %rbx
    AT
    iretq
    EXPECT "IRETQ: RIP not canonical", GP, 0
    TRY
    pushq $FL_NT | 2
    popfq
    pushq $DS64
    pushq $STACK_TOP
    pushq $2
    pushq $CS64
    pushq $main
    AT
    iretq
    EXPECT "IRETQ with NT set", GP, 0
    TRY
    mov %rsp, %rcx
    sub $20, %rsp
    movl $DS64, 16(%rsp)
    movl $STACK_TOP-0x80, 12(%rsp)
    movl $2, 8(%rsp)
    movl $CS64, 4(%rsp)
    movl $1f, (%rsp)
    .byte 0xcf                          // IRETD
1:  mov %rsp, %rbx
    EXPECT_ANY_IP "IRETD in 64-bit mode", 0xff
    CHECKQ "loads ESP too", "%rbx", STACK_TOP-0x80
    movl $STACK_TOP, %esp
    mov %rsp, %rcx
    pushq $DS64
    push %rcx
    pushq $FL_VM | 2
    pushq $CS64
    pushq $1f
    iretq
1:  CHECKF "IRETQ ignores VM", FL_VM, 0
    movl $1f, 0x700
    movw $CS64, 0x704
    ljmpl *0x700
1:  movl %cs, %eax
    CHECK "far JMP m16:32", "%eax", CS64
    movl $far_target, 0x700
    lcalll *0x700
    CHECK "far CALL m16:32", "%ebx", 8
    cmpb $0, vendor_amd
    jne 1f
    mov $far_target64, %rax
    mov %rax, 0x700
    movw $CS64, 0x708
    .byte 0x48
    lcalll *0x700
    CHECK "far CALL m16:64 (Intel)", "%ebx", 16
1:  movl $main, 0x700
    movw $TSS_SEL, 0x704
    FAULT "far JMP to a TSS", GP, TSS_SEL, ljmpl *0x700
    movw $0, 0x704
    FAULT "far JMP null", GP, 0, ljmpl *0x700
    SETDESC 0, 0, 0xfffff, 0x9a, 0xe
    movw $SEL(0), 0x704
    FAULT "far JMP, CS with L and D", GP, SEL(0), ljmpl *0x700

    // ---- 64-bit call gates ---------------------------------------------------------------------------------------------------------------------
    SETGATE16 2, CS64, gate_target, 0xec
    movw $SEL(2), 0x704
    lcalll *0x700
    CHECK "call gate at ring 0: two quadwords", "%ebx", 16
    movw $SEL(2) + 3, 0x704
    TRY
    call enter_ring3_64
    lcalll *0x700
1:  movl %ss, %edi
    mov %rsp, %rsi
    int $SYS_VECTOR
    EXPECT_ANY_IP "call gate from ring 3", SYS_VECTOR
    CHECKQ "call gate: RSP0", "%rcx", RING0_TOP-32
    CHECK "call gate: SS is null", "%edx", 0
    CHECKQ "call gate: return CS", 0x718, CS64_3
    CHECKQ "call gate: RSP of ring 3", 0x720, RING3_TOP
    CHECKQ "call gate: SS of ring 3", 0x728, DS32_3
    CHECK "call gate: SS after the return", "%edi", DS32_3
    CHECKQ "call gate: RSP after the return", "%rsi", RING3_TOP
    movl $0x1f00, gdt + SLOT + 16 + 12
    FAULT "call gate: upper half has a type", GP, SEL(2), lcalll *0x700
    SETGATE16 2, CS32, gate_target, 0xec
    FAULT "call gate to compatibility mode", GP, CS32, lcalll *0x700
    SETGATE16 2, CS64, gate_target, 0x6c
    FAULT "call gate not present", NP, SEL(2), lcalll *0x700
    SETGATE16 2, CS64, gate_target, 0xe4
    FAULT "16-bit call gate", GP, SEL(2), lcalll *0x700
    SETGATE16 2, CS64, gate_target, 0xe5
    FAULT "task gate", GP, SEL(2), lcalll *0x700

    // ---- Compatibility mode ------------------------------------------------------------------------------------------------------------------------
    TRY
    FAR_JUMP CS32, compat_code
compat_back:
    EXPECT_ANY_IP "compatibility mode and back", 0xff
    CHECK "INC by 40h", "0x700", 6
    CHECK "PUSHA", "0x704", 32
    CHECK "32-bit PUSH", "0x708", 4
    CHECK "segment base", "0x70c", 0x13572468
    CHECK "SMSW: PG", "0x710", CR0_PG
    CHECK "address wraps at 4 GB", "0x714", 0x600dcafe
    CHECK "CS", "0x718", CS32
    SETDESC 1, 0x812300, 0xff, 0x92, 4
    TRY
    FAR_JUMP CS32, 1f
BITS32
1:  movl $SEL(1), %eax
    movl %eax, %es
    AT
    movb %es:0x100, %al
BITS64
    EXPECT "limit in compatibility mode", GP, 0
    CHECKQ "its CS", rec_cs, CS32
    TRY
    FAR_JUMP CS32, 1f
BITS32
1:  xorl %eax, %eax
    movl %eax, %es
    AT
    movb %es:0x100, %al
BITS64
    EXPECT "null segment in compatibility mode", GP, 0
    TRY
    FAR_JUMP CS32, 1f
BITS32
1:  xorl %eax, %eax
    AT
    movl %eax, %ss
BITS64
    EXPECT "null SS in compatibility mode", GP, 0
    TRY
    FAR_JUMP CS32, 1f
BITS32
1:  AT
    ljmp $TSS_SEL, $0
BITS64
    EXPECT "task switch in long mode", GP, TSS_SEL
    TRY
    FAR_JUMP CS32, 1f
BITS32
1:  AT
    .byte 0x0f, 0x01, 0xf8              // SWAPGS
BITS64
    EXPECT "SWAPGS in compatibility mode", UD
    TRY
    FAR_JUMP CS32, 1f
BITS32
1:  movb $0x7f, %al
    incb %al
    into
    AT
BITS64
    EXPECT "INTO in compatibility mode", OF
    TRY
    FAR_JUMP CS16, 1f
BITS16
1:  movw $0xfff0, %bx
    movw $0x0712, %si
    movw (%bx,%si), %ax                 // wraps to 702
    ljmpl $CS64, $1f
BITS64
1:  EXPECT_ANY_IP "16-bit code in long mode", 0xff
    movl 0x700, %ebx
    shrl $16, %ebx
    cmpw %ax, %bx
    sete %al
    CHECKB "16-bit address", "%al", 1
    // Ring 3, 32-bit code.
    movl $CS32_3, user_cs64
    TRY
    call enter_ring3_64
BITS32
    movl %ds, %ecx                      // IRETQ to an outer ring took the data segments of ring 0 away
    movl $DS32_3, %eax
    movl %eax, %ds
    movl $0x1234, 0x700
    pushl $0x77
    movl %esp, %ebx
    int $SYS_VECTOR
BITS64
    EXPECT_ANY_IP "32-bit ring 3 code", SYS_VECTOR
    CHECKQ "its CS in the frame", rec_cs, CS32_3
    CHECK "its ESP", "%ebx", RING3_TOP-4
    CHECK "its DS is null", "%ecx", 0
    TRY
    call enter_ring3_64
BITS32
    AT
    cli
BITS64
    EXPECT "CLI in it", GP, 0
    SETGATE16 2, CS64, gate_target, 0xec
    TRY
    call enter_ring3_64
BITS32
    lcall $(SEL(2) + 3), $0
1:  int $SYS_VECTOR
BITS64
    EXPECT_ANY_IP "64-bit call gate from 32-bit ring 3 code", SYS_VECTOR
    CHECKQ "its return CS", 0x718, CS32_3
    movl $CS64_3, user_cs64

    // ---- Leaving long mode and coming back -----------------------------------------------------------------------------------------------------------
    FAR_JUMP CS32, leave_long
BITS32
leave_long:
    movl $DS32, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl $EFER, %ecx
    rdmsr
    CHECK "paging off clears LMA", "%eax", EFER_LME
    lidtl idt32_pointer
    movl %cr4, %eax
    andl $~CR4_PAE, %eax
    movl %eax, %cr4
    movl %cr0, %eax
    orl $CR0_PG, %eax
    FAULT "paging on with LME but without PAE", GP, 0, movl %eax, %cr0
    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    // LME cleared: PAE paging of 32-bit mode works on the same directory.
    movl $EFER, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    movl $PD0 + 1, 0x28000
    movl $0, 0x28004
    movl $0, 0x28008
    movl $0, 0x2800c
    movl $0, 0x28010
    movl $0, 0x28014
    movl $0, 0x28018
    movl $0, 0x2801c
    movl $0x28000, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    CHECK "32-bit PAE paging after long mode", "0x812340", 0x13572468
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl $PML4, %eax
    movl %eax, %cr3
    movl $EFER, %ecx
    movl $EFER_LME, %eax
    xorl %edx, %edx
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    ljmp $CS64, $1f
BITS64
1:  lidt idt64_pointer
    READ_MSR EFER
    CHECK "long mode again", "%eax", EFER_LME | EFER_LMA
    NOFAULT3 "ring 3 again", nop
    FINISH

int_probe:
    mov %rsp, 0x700
    push %rsi
    push %rdi
    push %rcx
    movl %ss, %esi
    mov %rsi, 0x708
    lea 24(%rsp), %rsi
    movl $0x710, %edi
    movl $5, %ecx
    rep movsq
    pop %rcx
    pop %rdi
    pop %rsi
    iretq
far_target:
    movl $STACK_TOP, %ebx
    subl %esp, %ebx
    lretl
far_target64:
    movl $STACK_TOP, %ebx
    subl %esp, %ebx
    lretq
gate_target:
    movl $STACK_TOP, %ebx
    subl %esp, %ebx
    mov %rsp, %rcx
    movl %ss, %edx
    mov (%rsp), %rax
    mov %rax, 0x710
    mov 8(%rsp), %rax
    mov %rax, 0x718
    mov 16(%rsp), %rax
    mov %rax, 0x720
    mov 24(%rsp), %rax
    mov %rax, 0x728
    lretq

BITS32
compat_code:
    movl $5, %eax
    incl %eax
    movl %eax, 0x700
    movl %esp, %ebx
    pushal
    subl %esp, %ebx
    movl %ebx, 0x704
    popal
    movl %esp, %ebx
    pushl $0x55
    subl %esp, %ebx
    movl %ebx, 0x708
    popl %eax
    SETDESC 1, 0x812300, 0xff, 0x92, 4
    movl $SEL(1), %eax
    movl %eax, %es
    movl %es:0x40, %eax
    movl %eax, 0x70c
    movl $DS64, %eax
    movl %eax, %es
    smswl %eax
    andl $CR0_PG, %eax
    movl %eax, 0x710
    movl $0x600dcafe, data_word
    movl $data_word + 0x10, %edx
    movl 0xfffffff0(%edx), %eax
    movl %eax, 0x714
    movl $0, 0x718
    movw %cs, 0x718
    ljmp $CS64, $compat_back
    .data
data_word: .long 0, 0
