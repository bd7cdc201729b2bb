// MOV to CR8, at ring 0.
// Operations: 1000
// Widths: 64
#include "primitive.inc"
prepare:
finished:
    ret
operations:
    xorl %eax, %eax
1:  mov %rax, %cr8
    decl %ebx
    jnz 1b
    ret
