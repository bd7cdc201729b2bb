// RDTSC, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  rdtsc
    decl %ebx
    jnz 1b
    ret
