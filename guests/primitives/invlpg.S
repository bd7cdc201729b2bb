// INVLPG of a page that is not mapped, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  invlpg AREA
    decl %ebx
    jnz 1b
    ret
