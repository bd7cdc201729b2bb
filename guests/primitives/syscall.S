// SYSCALL from ring 3 to a handler that returns at once by SYSRET.
// Operations: 1000
// Widths: 64
#include "primitive.inc"
prepare:
    movl $EFER, %ecx
    rdmsr
    orl $EFER_SCE, %eax
    wrmsr
    movl $STAR, %ecx
    xorl %eax, %eax
    movl $((CS32_3 - 3) << 16) + CS64, %edx
    wrmsr
    movl $LSTAR, %ecx
    movl $system_call + HIGH, %eax
    movl $0xffffffff, %edx
    wrmsr
    movl $FMASK, %ecx
    xorl %edx, %edx
    xorl %eax, %eax
    wrmsr
finished:
    ret
system_call:
    sysretq
operations:
    movl $user, %eax
    jmp call_ring3
user:
1:  syscall
    decl %ebx
    jnz 1b
    int $SYS_VECTOR
