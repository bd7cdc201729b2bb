// SYSCALL from ring 3 to a handler that returns at once by SYSRET.
// Operations: 1000
// Widths: 64
#include "primitive.inc"
#include "syscall.inc"
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
