// SYSCALL, SYSRET, SYSENTER and SYSEXIT in long mode, from 64-bit and from compatibility code; vendors differ.
#include "lib.inc"
START_LONG

#define SAVED 0x700
.macro WRITE_MSR msr, low, high=0
    movl $\msr, %ecx
    movl $\low, %eax
    movl $\high, %edx
    wrmsr
.endm

main:
    FAULT3 "SYSCALL without SCE", UD, NONE, syscall
    FAULT "SYSRET without SCE", UD, NONE, sysretq
    WRITE_MSR EFER, EFER_LME | EFER_SCE
    WRITE_MSR STAR, 0, ((CS32_3 - 3) << 16) + CS64
    WRITE_MSR LSTAR, 0
    movl $LSTAR, %ecx
    movl $entry64, %eax
    xorl %edx, %edx
    wrmsr
    movl $CSTAR, %ecx
    movl $entry_compat, %eax
    wrmsr
    WRITE_MSR FMASK, FL_IF | FL_TF | FL_CF
    movl $FMASK, %ecx
    rdmsr
    CHECK "FMASK", "%eax", FL_IF | FL_TF | FL_CF

    // ---- SYSCALL and SYSRETQ -----------------------------------------------------------------------------------------------
    movl $FL_IOPL | FL_IF | FL_CF | FL_AC | 2, user_flags
    TRY
    call enter_ring3_64
    syscall
1:  movl %cs, %eax
    movl %ss, %edx
    mov %rsp, %rsi
    pushfq
    pop %rdi
    int $SYS_VECTOR
    EXPECT_ANY_IP "SYSCALL and SYSRETQ", SYS_VECTOR
    CHECK "RCX: return RIP", SAVED, 1b
    CHECK "R11: RFLAGS", SAVED+8, FL_IOPL | FL_IF | FL_CF | FL_AC | 2
    CHECK "RFLAGS: masked", SAVED+16, FL_IOPL | FL_AC | 2
    CHECK "CS", SAVED+24, CS64
    CHECK "SS", SAVED+32, CS64+8
    CHECK "RSP stays", SAVED+40, RING3_TOP
    CHECK "SYSRETQ: CS", "%eax", CS64_3
    CHECK "SYSRETQ: SS", "%edx", DS32_3
    CHECK "SYSRETQ: RSP stays", "%esi", RING3_TOP
    CHECK "SYSRETQ: RFLAGS from R11", "%edi", FL_IOPL | FL_IF | FL_CF | FL_AC | 2
    movl $2, user_flags
    FAULT3 "SYSRET at ring 3", GP, 0, sysretq
    TRY
    movl $1f, %ecx
    movl $FL_RF | FL_VM | FL_NT | FL_IOPL | FL_CF | 0x8028, %r11d
    sysretq
1:  pushfq
    pop %rdi
    int $SYS_VECTOR
    EXPECT_ANY_IP "SYSRETQ: flags", SYS_VECTOR
    CHECK "no RF, no VM, bit 1 set", "%edi", FL_NT | FL_IOPL | FL_CF | 2
    TRY
    movl $1f, %ecx
    movl $2, %r11d
    sysretl
BITS32
1:  movl %cs, %eax
    movl %ss, %edx
    movl $DS32_3, %ecx
    movl %ecx, %ds
    int $SYS_VECTOR
BITS64
    EXPECT_ANY_IP "SYSRETL to compatibility mode", SYS_VECTOR
    CHECK "SYSRETL: CS", "%eax", CS32_3
    CHECK "SYSRETL: SS", "%edx", DS32_3
    TRY
    mov $0xabcdef0000000000, %rcx
    movl $1f, %eax
    or %rax, %rcx
    movl $2, %r11d
    sysretl
BITS32
1:  nop
    int $SYS_VECTOR
BITS64
    EXPECT_ANY_IP "SYSRETL uses ECX", SYS_VECTOR
    // A return address that is not canonical: Intel faults at ring 0, AMD at ring 3.
    cmpb $0, vendor_amd
    jne 1f
    TRY
    mov $0x0000800000000000, %rcx
    movl $2, %r11d
    AT
    sysretq
    EXPECT "SYSRETQ: RCX not canonical (Intel)", GP, 0
    CHECK "faults at ring 0", rec_cs, CS64
    jmp 2f
1:  TRY
    mov $0x0000800000000000, %rcx
    movl $2, %r11d
    sysretq
    EXPECT_ANY_IP "SYSRETQ: RCX not canonical (AMD)", GP, 0
    CHECK "faults at ring 3", rec_cs, CS64_3
2:  TRY
    movl $FL_TF | 2, user_flags
    call enter_ring3_64
    syscall
1:  nop
    EXPECT_ANY_IP "single step over SYSCALL", DB
    movl $2, user_flags
    // SYSCALL at ring 0, from where a debugger's stub may call it.
    movl $entry_ring0, %eax
    movl $LSTAR, %ecx
    xorl %edx, %edx
    wrmsr
    xorl %ebx, %ebx
    TRY
    syscall
1:  nop
    EXPECT_ANY_IP "SYSCALL at ring 0", 0xff
    CHECK "reaches its target", "%ebx", 0x77
    movl $DS64, %eax
    movl %eax, %ss
    // Attributes do not come from the GDT.
    WRITE_MSR STAR, 0, ((CS32_3 - 3) << 16) + SEL(30)
    xorl %ebx, %ebx
    TRY
    syscall
1:  movl %cs, %esi
    movl %ss, %edi
    push %rax
    pushq $CS64
    pushq $2f
    lretq
2:  nop
    movl $DS64, %eax
    movl %eax, %ss
    EXPECT_ANY_IP "SYSCALL needs no descriptors", 0xff
    CHECK "CS from STAR", "%esi", SEL(30)
    CHECK "SS from STAR", "%edi", SEL(31)
    movl $STACK_TOP, %esp
    WRITE_MSR STAR, 0, ((CS32_3 - 3) << 16) + CS64

    // ---- From compatibility mode ---------------------------------------------------------------------------------------------
    movl $CS32_3, user_cs64
    cmpb $0, vendor_amd
    jne 1f
    TRY
    call enter_ring3_64
    AT
    syscall
    EXPECT "SYSCALL in compatibility mode (Intel)", UD
    jmp 2f
1:  TRY
    call enter_ring3_64
BITS32
    syscall
1:  movl %cs, %eax
    int $SYS_VECTOR
BITS64
    EXPECT_ANY_IP "SYSCALL in compatibility mode (AMD)", SYS_VECTOR
    CHECK "goes to CSTAR in 64-bit mode", SAVED+24, CS64
    CHECK "ECX: return EIP", SAVED, 1b
    CHECK "SYSRETL: back in compatibility mode", "%eax", CS32_3
2:  movl $CS64_3, user_cs64

    // ---- SYSENTER --------------------------------------------------------------------------------------------------------------
    movl $1, %eax
    cpuid
    testl $0x800, %edx
    jnz 1f
    SKIP "SYSENTER", "not in CPUID"
    FINISH
1:  WRITE_MSR IA32_SYSENTER_CS, CS32
    WRITE_MSR IA32_SYSENTER_ESP, RING0_TOP-0x200, 0xffff8000
    movl $IA32_SYSENTER_EIP, %ecx
    movl $sysenter_entry, %eax
    xorl %edx, %edx
    wrmsr
    cmpb $0, vendor_amd
    je 1f
    FAULT3 "SYSENTER in 64-bit mode (AMD)", UD, NONE, sysenter
    FAULT "SYSEXIT in 64-bit mode (AMD)", UD, NONE, sysexitl
    FINISH
1:  movl $IA32_SYSENTER_ESP, %ecx
    rdmsr
    CHECK "IA32_SYSENTER_ESP has 64 bits", "%edx", 0xffff8000
    movl $IA32_SYSENTER_EIP, %ecx
    movl $0x00008000, %edx
    FAULT "IA32_SYSENTER_EIP not canonical", GP, 0, wrmsr
    movl $FL_IF | 2, user_flags
    TRY
    call enter_ring3_64
    lea 1f(%rip), %r8
    sysenter
1:  movl %cs, %eax
    movl %ss, %edx
    mov %rsp, %rsi
    int $SYS_VECTOR
    EXPECT_ANY_IP "SYSENTER and SYSEXITQ", SYS_VECTOR
    CHECKW "SYSENTER: CS", SAVED+24, CS32
    CHECKW "SYSENTER: SS", SAVED+32, DS32
    CHECKQ "SYSENTER: RSP", SAVED+40, 0xffff800000010e00
    CHECK "SYSENTER clears IF", SAVED+16, 2
    CHECK "SYSEXITQ: CS", "%eax", CS64_3
    CHECK "SYSEXITQ: SS", "%edx", DS64_3
    CHECK "SYSEXITQ: RSP", "%esi", RING3_TOP-0x40
    movl $2, user_flags
    TRY
    movl $1f, %edx
    movl $RING3_TOP-0x80, %ecx
    sysexitl
BITS32
1:  movl %cs, %eax
    movl %ss, %edx
    movl %esp, %esi
    movl $DS32_3, %ecx
    movl %ecx, %ds
    int $SYS_VECTOR
BITS64
    EXPECT_ANY_IP "SYSEXIT to compatibility mode", SYS_VECTOR
    CHECK "SYSEXIT: CS", "%eax", CS32_3
    CHECK "SYSEXIT: SS", "%edx", DS32_3
    CHECK "SYSEXIT: ESP", "%esi", RING3_TOP-0x80
    mov $0x0000800000000000, %rdx
    FAULT "SYSEXITQ: RIP not canonical", GP, 0, sysexitq
    movl $CS32_3, user_cs64
    TRY
    call enter_ring3_64
    movl $1f, %eax                      // the same bytes in both modes
    .byte 0x0f, 0x34
1:  nop
    EXPECT_ANY_IP "SYSENTER from compatibility mode", SYS_VECTOR
    CHECKW "its CS", SAVED+24, CS32
    FINISH

save:
    mov %rcx, SAVED
    mov %r11, SAVED+8
    pushfq
    popq SAVED+16
    movl %cs, %eax
    mov %rax, SAVED+24
    movl %ss, %eax
    mov %rax, SAVED+32
    lea 8(%rsp), %rax
    mov %rax, SAVED+40
    ret
entry64:
    call save
    sysretq
entry_compat:
    call save
    sysretl
entry_ring0:
    movl $0x77, %ebx
    jmp *%rcx
sysenter_entry:
    mov %rsp, SAVED+40
    movl $RING0_TOP-0x300, %esp
    pushfq
    popq SAVED+16
    movl %cs, %eax
    mov %rax, SAVED+24
    movl %ss, %eax
    mov %rax, SAVED+32
    cmpl $CS32_3, user_cs64
    je 1f
    mov %r8, %rdx
    movl $RING3_TOP-0x40, %ecx
    sysexitq
1:  int $SYS_VECTOR
