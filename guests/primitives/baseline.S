// The loop of the other guests around nothing at all, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  decl %ebx
    jnz 1b
    ret
