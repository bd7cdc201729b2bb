// SYSCALL from ring 3, whose page tables are others than the kernel's: SWAPGS and MOV to CR3 on each way.
// Operations: 1000
// Widths: 64
#include "primitive.inc"
#include "syscall.inc"
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
