// PUSHF and POPF, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  pushf
    popf
    decl %ebx
    jnz 1b
    ret
