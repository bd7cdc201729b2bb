// SYSCALL from ring 3, whose page tables are others than the kernel's: SWAPGS and MOV to CR3 on each way.
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
    swapgs
    movl $ROOT, %eax
    mov %rax, %cr3
    movl $USER_ROOT, %eax
    mov %rax, %cr3
    swapgs
    sysretq
operations:
    movl $USER_ROOT, %eax
    mov %rax, %cr3
    movl $user, %eax
    call call_ring3
    movl $ROOT, %eax
    mov %rax, %cr3
    ret
user:
1:  syscall
    decl %ebx
    jnz 1b
    int $SYS_VECTOR
