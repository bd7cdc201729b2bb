// CPUID of leaf 0, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
    movl %ebx, %esi
1:  xorl %eax, %eax
    cpuid
    decl %esi
    jnz 1b
    ret
