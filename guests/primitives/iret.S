// IRET to the same ring, with the frame's pushes.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
    HIGH_ADDRESS 2f
1:
#if WIDTH == 64
    mov %rsp, %rdx
    pushq $DS64
    push %rdx
    pushq $2
    pushq $CS64
    push %rax
    iretq
#else
    pushl $2
    pushl $CS32
    pushl %eax
    iretl
#endif
2:  decl %ebx
    jnz 1b
    ret
